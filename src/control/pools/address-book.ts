/**
 * Address book: which addresses of the pools are whose, and which one the next guest gets. Pure: clock and loads go in, records come out.
 *
 *     unused ──▶ leased ──▶ quarantined ──time──▶ unused          (D1, D3; whether it is in use the steering table says)
 *                ◀──same guest──┘
 *
 * One guest    one address, for as long as the guest is there. What is quarantined after it is its own again when it returns.
 * Cost         of a choice: a step a pool. Guests, classes and unused addresses are counted as they come and go.
 * Not here     the store, the steering table, ARP: pools/floating.ts.
 */
import { ANY_POOL, type AddressWish } from '../../base/config-pools.js';
import { BerthError } from '../../base/errors.js';
import { FreeAddresses } from './free-addresses.js';
import type { AddressPool } from './address-pools.js';
import { policyOf } from './policies.js';
import { type Candidate, select } from './policy.js';

/** What is kept of an address that is not unused. Times are wall clock, ms. */
export interface AddressRecord {
  readonly guest: string;
  readonly state: 'leased' | 'quarantined';
  readonly since: number;
  /** end of the quarantine; 0 while it is leased */
  readonly until: number;
  /** of the guest */
  readonly class: string | null;
  /** why it was chosen over the others */
  readonly words: readonly string[];
  /** the MAC under which the neighbours were told of its use by this guest; null: they were not */
  readonly announced: string | null;
}

/** What a network carries and could, in bits a second. */
export interface Rates {
  readonly load: number;
  readonly speed: number;
}

export interface Choice {
  readonly address: number;
  readonly pool: AddressPool;
  readonly words: readonly string[];
}

interface Shelf {
  readonly pool: AddressPool;
  readonly free: FreeAddresses;
  guests: number;
}

export class AddressBook {
  readonly records = new Map<number, AddressRecord>();
  private readonly shelves: readonly Shelf[];
  private readonly byGuest = new Map<string, number>();
  /** Guests by class, by network. */
  private readonly classes = new Map<string, Map<string, number>>();

  constructor(pools: readonly AddressPool[]) {
    this.shelves = pools.map((pool) => ({ pool, free: new FreeAddresses(pool.ranges), guests: 0 }));
    for (const { network } of pools) this.classes.set(network, new Map());
  }

  /** The pool that has the address. */
  poolOf(address: number): AddressPool | undefined {
    return this.shelfOf(address)?.pool;
  }

  /** The address that the guest has, or that is quarantined after it. */
  addressOf(guest: string): number | undefined {
    return this.byGuest.get(guest);
  }

  /** The address has this record, of whatever was kept of it. False for an address that is in no pool. */
  set(address: number, record: AddressRecord): boolean {
    if (this.shelfOf(address) === undefined) return false;
    this.put(address, record);
    return true;
  }

  /**
   * The address that the guest would get: its own where it has one that it may keep, else the best.
   * ERR_NO_POOL for a pool that is not there, ERR_POOL_FULL, ERR_POOL_CLASS where no pool is for the guest's class.
   */
  choose(guest: string, wish: AddressWish, ratesOf: (network: string) => Rates): Choice {
    const shelves = this.shelves.filter(({ pool }) => wish.name === ANY_POOL || pool.name === wish.name);
    if (shelves.length === 0) throw new BerthError('ERR_NO_POOL', `guest ${guest}: there is no pool${wish.name === ANY_POOL ? '' : ` ${wish.name}`}; ${this.names()}`);
    const own = this.byGuest.get(guest);
    const kept = own === undefined ? undefined : shelves.find(({ free }) => free.has(own));
    if (own !== undefined && kept !== undefined) return { address: own, pool: kept.pool, words: this.records.get(own)?.words ?? [] };
    const open = shelves.filter(({ free, guests, pool }) => free.count > 0 && guests < pool.maxGuests);
    if (open.length === 0) throw new BerthError('ERR_POOL_FULL', `guest ${guest}: ${shelves.map(describeFull).join('; ')}; remove a guest, wait for the end of a quarantine, or add addresses`);
    const { name, policy } = policyOf(wish.policy ?? shelves.find(({ pool }) => pool.policy !== null)?.pool.policy ?? 'first-fit');
    const selection = select(name, policy, open.map((shelf) => this.candidate(shelf, ratesOf)), wish);
    if (selection === null) throw new BerthError('ERR_POOL_CLASS', `guest ${guest}: no pool with an unused address is for ${wish.class === null ? 'guests without a class' : `class ${wish.class}`}; ${this.names()}`);
    const { pool, free } = open.find((shelf) => shelf.pool.name === selection.candidate.pool) as Shelf;
    const full = shelves.filter((shelf) => !open.includes(shelf)).map((shelf) => `Not ${describeFull(shelf)}.`);
    return { address: free.first() as number, pool, words: [...selection.words, ...full] };
  }

  /** The record of a guest that has the chosen address from now on; it holds when it is set. */
  leased(guest: string, { address, words }: Pick<Choice, 'address' | 'words'>, served: string | null, now: number): AddressRecord {
    const before = this.records.get(address);
    return { guest, state: 'leased', since: now, until: 0, class: served, words, announced: before?.guest === guest ? before.announced : null };
  }

  /** The record of an address that is its guest's no more, and nobody else's until then; it holds when it is set. */
  quarantined(address: number, since: number, until: number): AddressRecord {
    return { ...(this.records.get(address) as AddressRecord), state: 'quarantined', since, until };
  }

  /** The address is unused. */
  free(address: number): void {
    const record = this.records.get(address);
    const shelf = this.shelfOf(address);
    if (record === undefined || shelf === undefined) return;
    this.count(shelf, record, -1);
    this.records.delete(address);
    if (this.byGuest.get(record.guest) === address) this.byGuest.delete(record.guest);
    shelf.free.give(address);
  }

  private put(address: number, record: AddressRecord): void {
    const shelf = this.shelfOf(address) as Shelf;
    const before = this.records.get(address);
    if (before !== undefined) this.count(shelf, before, -1);
    this.records.set(address, record);
    this.byGuest.set(record.guest, address);
    shelf.free.take(address);
    this.count(shelf, record, 1);
  }

  /** Only those that have their address count as guests. */
  private count(shelf: Shelf, { state, class: served }: AddressRecord, by: number): void {
    if (state !== 'leased') return;
    shelf.guests += by;
    const classes = this.classes.get(shelf.pool.network);
    if (served !== null) classes?.set(served, (classes.get(served) ?? 0) + by);
  }

  private candidate({ pool, guests }: Shelf, ratesOf: (network: string) => Rates): Candidate {
    const { name, network, maxGuests } = pool;
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

function describeFull({ pool, guests }: Shelf): string {
  return guests < pool.maxGuests ? `pool ${pool.name} on ${pool.network}: no address of it is unused` : `pool ${pool.name} on ${pool.network}: it has its ${pool.maxGuests} guests`;
}
