/**
 * Address book: which addresses of the pools are whose, and which one the next guest gets, or ports of which. Pure: clock and loads go in,
 * records come out.
 *
 *     unused ──▶ leased ──▶ quarantined ──time──▶ unused          (D1, D3; whether it is in use the steering table says)
 *                ◀──same guest──┘
 *
 * One guest    one address, or one block of ports of one, for as long as the guest is there. What is quarantined after it is its own again
 *              when it returns and wishes the same.
 * By ports     an address has a record for each block of it; while it has one, it is nobody's own. An address that has room for a block
 *              comes before an unused one, which may still be a guest's own.
 * Cost         of a choice: a step a pool, and one for each block that is leased there where ports are wished. Guests, classes and unused
 *              addresses are counted as they come and go.
 * Not here     the store, the steering table, ARP: pools/floating.ts.
 */
import { ANY_POOL, type AddressWish } from '../../base/config-pools.js';
import { BerthError } from '../../base/errors.js';
import { FreeAddresses } from './free-addresses.js';
import type { AddressPool } from './address-pools.js';
import { policyOf } from './policies.js';
import { type Candidate, select } from './policy.js';
import { freeBlocks } from './port-blocks.js';
import type { PortRange } from '../../wire/port-set.js';

/** What is kept of a lease of an address, or of a block of its ports. Times are wall clock, ms. */
export interface AddressRecord {
  readonly guest: string;
  /** the ports, in both protocols; null: the address is the guest's own */
  readonly block: PortRange | null;
  readonly state: 'leased' | 'quarantined';
  readonly since: number;
  /** end of the quarantine; 0 while it is leased */
  readonly until: number;
  /** of the guest */
  readonly class: string | null;
  /** why it was chosen over the others */
  readonly words: readonly string[];
  /** the MAC under which the neighbours were told of the address's use; null: they were not, since the guest has it */
  readonly announced: string | null;
}

export interface AddressLease {
  readonly address: number;
  readonly record: AddressRecord;
}

/** What a network carries and could, in bits a second. */
export interface Rates {
  readonly load: number;
  readonly speed: number;
}

export interface Choice {
  readonly address: number;
  /** null: the whole address */
  readonly block: PortRange | null;
  readonly pool: AddressPool;
  readonly words: readonly string[];
}

interface Shelf {
  readonly pool: AddressPool;
  readonly free: FreeAddresses;
  /** Addresses that are leased by ports. */
  readonly byPorts: Set<number>;
  guests: number;
}

/** Where the next guest could have what it wishes, and for how many of its kind there is room. */
interface Room {
  readonly address: number;
  readonly block: PortRange | null;
  readonly count: number;
}

export class AddressBook {
  /** By address, none of them empty: one, or one for each block. */
  readonly records = new Map<number, readonly AddressRecord[]>();
  private readonly shelves: readonly Shelf[];
  private readonly byGuest = new Map<string, AddressLease>();
  /** Guests by class, by network. */
  private readonly classes = new Map<string, Map<string, number>>();

  constructor(pools: readonly AddressPool[]) {
    this.shelves = pools.map((pool) => ({ pool, free: new FreeAddresses(pool.ranges), byPorts: new Set(), guests: 0 }));
    for (const { network } of pools) this.classes.set(network, new Map());
  }

  /** The pool that has the address. */
  poolOf(address: number): AddressPool | undefined {
    return this.shelfOf(address)?.pool;
  }

  /** What the guest has, or what is quarantined after it. */
  leaseOf(guest: string): AddressLease | undefined {
    return this.byGuest.get(guest);
  }

  recordsOf(address: number): readonly AddressRecord[] {
    return this.records.get(address) ?? [];
  }

  /** The record of the whole address, or of the block. */
  recordOf(address: number, block: PortRange | null): AddressRecord | undefined {
    return this.recordsOf(address).find((record) => isSame(record.block, block));
  }

  /** The address, or the record's block of it, has this record, whatever was kept of it. False for an address that is in no pool. */
  set(address: number, record: AddressRecord): boolean {
    const shelf = this.shelfOf(address);
    if (shelf === undefined) return false;
    this.take(shelf, address, record.block);
    this.records.set(address, [...this.recordsOf(address), record]);
    if (record.state === 'leased' || this.byGuest.get(record.guest)?.record.state !== 'leased') this.byGuest.set(record.guest, { address, record });
    shelf.free.take(address);
    if (record.block !== null) shelf.byPorts.add(address);
    this.count(shelf, record, 1);
    return true;
  }

  /**
   * The address that the guest would get, or the block of one: its own where it has what it may keep, else the best.
   * ERR_NO_POOL for a pool that is not there, ERR_POOL_FULL, ERR_POOL_CLASS where no pool is for the guest's class.
   */
  choose(guest: string, wish: AddressWish, ratesOf: (network: string) => Rates): Choice {
    const shelves = this.shelves.filter(({ pool }) => wish.name === ANY_POOL || pool.name === wish.name);
    if (shelves.length === 0) throw new BerthError('ERR_NO_POOL', `guest ${guest}: there is no pool${wish.name === ANY_POOL ? '' : ` ${wish.name}`}; ${this.names()}`);
    const own = this.byGuest.get(guest);
    const kept = own === undefined || !fits(own.record, wish) ? undefined : shelves.find(({ free }) => free.has(own.address));
    if (own !== undefined && kept !== undefined) return { address: own.address, block: own.record.block, pool: kept.pool, words: own.record.words };
    const rooms = new Map(shelves.map((shelf) => [shelf, this.roomIn(shelf, wish.ports)]));
    const open = shelves.filter((shelf) => rooms.get(shelf) !== null && !isFull(shelf));
    const closed = (shelf: Shelf): string => describeClosed(shelf, wish.ports);
    if (open.length === 0) throw new BerthError('ERR_POOL_FULL', `guest ${guest}: ${shelves.map(closed).join('; ')}; remove a guest, wait for the end of a quarantine, or add addresses`);
    const { name, policy } = policyOf(wish.policy ?? shelves.find(({ pool }) => pool.policy !== null)?.pool.policy ?? 'first-fit');
    const selection = select(name, policy, open.map((shelf) => this.candidate(shelf, rooms.get(shelf) as Room, ratesOf)), wish);
    if (selection === null) throw new BerthError('ERR_POOL_CLASS', `guest ${guest}: no pool with an unused address is for ${wish.class === null ? 'guests without a class' : `class ${wish.class}`}; ${this.names()}`);
    const best = open.find(({ pool }) => pool.name === selection.candidate.pool) as Shelf;
    const { address, block } = rooms.get(best) as Room;
    const full = shelves.filter((shelf) => !open.includes(shelf)).map((shelf) => `Not ${closed(shelf)}.`);
    return { address, block, pool: best.pool, words: [...selection.words, ...full] };
  }

  /** The record of a guest that has what was chosen from now on; it holds when it is set. */
  leased(guest: string, { address, block, words }: Omit<Choice, 'pool'>, served: string | null, now: number): AddressRecord {
    // Who shares an address with a guest that the neighbours know of need not be announced.
    const known = this.recordsOf(address).find((one) => one.announced !== null && (one.guest === guest || one.state === 'leased'));
    return { guest, block, state: 'leased', since: now, until: 0, class: served, words, announced: known?.announced ?? null };
  }

  /** The address, or the block of it, has no record any more; without one the address is unused. */
  free(address: number, block: PortRange | null): void {
    const shelf = this.shelfOf(address);
    if (shelf === undefined) return;
    this.take(shelf, address, block);
    if (this.records.has(address)) return;
    shelf.byPorts.delete(address);
    shelf.free.give(address);
  }

  /** Takes the record away, if there is one. */
  private take(shelf: Shelf, address: number, block: PortRange | null): void {
    const before = this.recordOf(address, block);
    if (before === undefined) return;
    this.count(shelf, before, -1);
    if (this.byGuest.get(before.guest)?.record === before) this.byGuest.delete(before.guest);
    const rest = this.recordsOf(address).filter((record) => record !== before);
    if (rest.length === 0) this.records.delete(address);
    else this.records.set(address, rest);
  }

  private roomIn({ free, byPorts }: Shelf, ports: number | null): Room | null {
    const unused = free.first();
    if (ports === null) return unused === null ? null : { address: unused, block: null, count: free.count };
    const each = freeBlocks([], ports);
    let found = unused === null ? null : { address: unused, block: each.first };
    let count = free.count * each.count;
    let isShared = false;
    for (const address of byPorts) {
      const blocks = freeBlocks(this.recordsOf(address).flatMap(({ block }) => block ?? []), ports);
      count += blocks.count;
      if (blocks.first === null || isShared) continue;
      isShared = true;
      found = { address, block: blocks.first };
    }
    return found === null ? null : { ...found, count };
  }

  /** Only those that have their address count as guests. */
  private count(shelf: Shelf, { state, class: served }: AddressRecord, by: number): void {
    if (state !== 'leased') return;
    shelf.guests += by;
    const classes = this.classes.get(shelf.pool.network);
    if (served !== null) classes?.set(served, (classes.get(served) ?? 0) + by);
  }

  private candidate({ pool, guests }: Shelf, { count }: Room, ratesOf: (network: string) => Rates): Candidate {
    const { name, network } = pool;
    const maxGuests = pool.maxGuests ?? guests + count;
    const { load, speed } = ratesOf(network);
    return { pool: name, network, load, speed: pool.speed ?? speed, guests, maxGuests, class: pool.class, classes: this.classes.get(network) as Map<string, number> };
  }

  private shelfOf(address: number): Shelf | undefined {
    return this.shelves.find(({ free }) => free.has(address));
  }

  private names(): string {
    return this.shelves.length === 0 ? 'add one under `pools`' : `there are ${this.shelves.map(({ pool }) => (pool.class === null ? pool.name : `${pool.name} (class ${pool.class})`)).join(', ')}`;
  }
}

function isFull({ pool, guests }: Shelf): boolean {
  return pool.maxGuests !== null && guests >= pool.maxGuests;
}

function describeClosed(shelf: Shelf, ports: number | null): string {
  const { name, network, maxGuests } = shelf.pool;
  const why = isFull(shelf) ? `it has its ${maxGuests} guests` : ports === null ? 'no address of it is unused' : `no address of it has a block of ${ports} ports free`;
  return `pool ${name} on ${network}: ${why}`;
}

function isSame(a: PortRange | null, b: PortRange | null): boolean {
  return a?.first === b?.first && a?.last === b?.last;
}

/** Whether what the guest has is what it wishes, if it is of the right pool. */
export function fits({ block }: AddressRecord, { ports }: AddressWish): boolean {
  return ports === (block === null ? null : block.last - block.first + 1);
}
