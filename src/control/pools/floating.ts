/**
 * Floating addresses: the address book of a daemon that runs, with its store, the loads of the networks, and the uses that are announced.
 *
 *     choose ─▶ take: store, then book ─▶ (plan, host and table: guests.ts) ─▶ look: announced when used ─▶ release, free
 *
 * Durable      what is taken or released is in the store when the call returns: the same guest has the same address after a crash at any
 *              instant, and a quarantine lasts its time over restarts.
 * Loads        sampled once a second, as long as there are pools at all.
 * Speeds       as the pool says; else what the kernel says of the NIC; else DEFAULT_SPEED, with a warning.
 */
import { ANY_POOL, type AddressWish } from '../../base/config.js';
import { BerthError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { bytesByInterface, type Interface, linkSpeed } from '../../io/interfaces.js';
import { formatIpv4 } from '../../wire/address.js';
import type { PortRange } from '../../wire/port-set.js';
import type { Departed } from '../lease-plan.js';
import type { AddressRecords } from '../store.js';
import { AddressBook, type AddressLease, type AddressRecord, type Choice, fits, type Rates } from './address-book.js';
import type { AddressPool } from './address-pools.js';
import { AddressUse, type UseParts } from './address-use.js';
import { LoadSampler } from './load-sampler.js';

const SAMPLE_MS = 1000;
/** Between the two samples that a first choice needs. */
const FIRST_SAMPLE_MS = 250;
/** Bits a second. */
const DEFAULT_SPEED = 1e9;

export class FloatingAddresses {
  readonly book: AddressBook;
  readonly startedAt = Date.now();
  private readonly nics: ReadonlyMap<string, Interface>;
  private readonly log: Log;
  private readonly sampler = new LoadSampler();
  private readonly speeds = new Map<string, number>();
  private store: AddressRecords | null = null;
  private uses: AddressUse | null = null;
  private timer: NodeJS.Timeout | null = null;

  /** `nics`: by the names of their networks. */
  constructor(pools: readonly AddressPool[], nics: ReadonlyMap<string, Interface>, log: Log) {
    this.book = new AddressBook(pools);
    this.nics = nics;
    this.log = log;
    for (const { name, network, speed } of pools) if (speed === null) this.speeds.set(network, this.speedOf(network, name));
  }

  /**
   * Takes up what the store has: a guest keeps what it has if `wishes` still has it and it is what is wished; anything else that was leased
   * is quarantined from now on. Returns what is quarantined.
   */
  restore(store: AddressRecords, wishes: ReadonlyMap<string, AddressWish>, quarantineMs: number): AddressLease[] {
    this.store = store;
    const now = Date.now();
    for (const [address, value] of store.addresses()) {
      const records = (Array.isArray(value) ? value : [value]).map((one) => checkRecord(address, one)); // of earlier versions, one alone
      const pool = this.book.poolOf(address);
      if (pool === undefined) {
        this.log.warn(`${formatIpv4(address)}, which guest ${records.map(({ guest }) => guest).join(', ')} had, is in no pool any more`);
        store.removeAddress(address);
        continue;
      }
      for (const record of records) this.book.set(address, record);
      for (const record of records) {
        const wish = wishes.get(record.guest);
        const isKept = wish !== undefined && fits(record, wish) && (wish.name === ANY_POOL || wish.name === pool.name);
        if (record.state === 'quarantined' && record.until <= now) this.drop(address, record);
        else if (record.state === 'leased' && !isKept) this.keep(address, { ...record, state: 'quarantined', since: now, until: now + quarantineMs });
      }
    }
    return [...this.book.records].flatMap(([address, records]) => records.filter(({ state }) => state === 'quarantined').map((record) => ({ address, record })));
  }

  /** Begins to sample; resolves when the loads are known. */
  async watchLoads(): Promise<void> {
    this.sample();
    this.timer = setInterval(() => this.sample(), SAMPLE_MS);
    await new Promise((resolve) => setTimeout(resolve, FIRST_SAMPLE_MS));
    this.sample();
  }

  /** Begins to look for uses. */
  watchUses(parts: Pick<UseParts, 'isInUse' | 'announce'>): void {
    const macOf = (network: string): string => this.nics.get(network)?.mac ?? '';
    this.uses = new AddressUse({ ...parts, book: this.book, macOf, keep: (address, record) => this.keep(address, record) });
  }

  look(): void {
    this.uses?.look(Date.now());
  }

  /** As AddressBook.choose. */
  choose(guest: string, wish: AddressWish): Choice {
    return this.book.choose(guest, wish, (network) => this.ratesOf(network));
  }

  /** The guest has what was chosen; the result undoes it. */
  take(guest: string, choice: Choice, wish: AddressWish): () => void {
    const { address, block } = choice;
    const before = this.book.recordOf(address, block);
    if (before?.state === 'leased') return () => undefined;
    const record = this.book.leased(guest, choice, wish.class, Date.now());
    this.keep(address, record);
    return () => {
      if (before === undefined) this.drop(address, record);
      else this.keep(address, before);
    };
  }

  /** What the guest has is quarantined. */
  release(guest: string, since: number, until: number): void {
    const lease = this.book.leaseOf(guest);
    if (lease !== undefined) this.keep(lease.address, { ...lease.record, state: 'quarantined', since, until });
  }

  /** That quarantine is over; nothing happens to what the guest has again. */
  free({ name, addresses, until }: Pick<Departed, 'name' | 'addresses' | 'until'>): void {
    for (const address of addresses) {
      for (const record of this.book.recordsOf(address)) {
        if (record.guest === name && record.state === 'quarantined' && record.until === until) this.drop(address, record);
      }
    }
  }

  /** When the use of the address began; null while it is not in use. */
  usedSince(address: number): number | null {
    return this.uses?.sinceOf(address) ?? null;
  }

  ratesOf(network: string): Rates {
    return { load: this.sampler.loadOf(this.nics.get(network)?.name ?? ''), speed: this.speeds.get(network) ?? DEFAULT_SPEED };
  }

  close(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.uses?.close();
  }

  private keep(address: number, record: AddressRecord): void {
    const others = this.book.recordsOf(address).filter((one) => one !== this.book.recordOf(address, record.block));
    this.store?.putAddress(address, [...others, record]);
    this.book.set(address, record);
  }

  private drop(address: number, { block }: AddressRecord): void {
    const rest = this.book.recordsOf(address).filter((one) => one !== this.book.recordOf(address, block));
    if (rest.length === 0) this.store?.removeAddress(address);
    else this.store?.putAddress(address, rest);
    this.book.free(address, block);
  }

  private sample(): void {
    this.sampler.sample(performance.now(), bytesByInterface());
  }

  private speedOf(network: string, pool: string): number {
    const nic = this.nics.get(network);
    const speed = nic === undefined ? null : linkSpeed(nic);
    if (speed === null) this.log.warn(`the speed of ${nic?.name ?? network} is not known; taken as 1 Gbit/s: set pools.${pool}.speed`);
    return speed ?? DEFAULT_SPEED;
  }
}

/** ERR_STORE_DAMAGED for what is no record. */
function checkRecord(address: number, value: unknown): AddressRecord {
  const { guest, block = null, state, since, until, class: served, words, announced } = (typeof value === 'object' && value !== null ? value : {}) as Partial<Record<keyof AddressRecord, unknown>>;
  const isSound =
    typeof guest === 'string' &&
    isBlock(block) &&
    (state === 'leased' || state === 'quarantined') &&
    typeof since === 'number' &&
    typeof until === 'number' &&
    (served === null || typeof served === 'string') &&
    Array.isArray(words) &&
    words.every((word) => typeof word === 'string') &&
    (announced === null || typeof announced === 'string');
  if (!isSound) throw new BerthError('ERR_STORE_DAMAGED', `the store's record of address ${formatIpv4(address)} is no lease: ${JSON.stringify(value)}; put a copy of the store back, or move it away: its leases are then lost`);
  return { ...(value as AddressRecord), block };
}

function isBlock(block: unknown): block is PortRange | null {
  if (typeof block !== 'object') return false;
  const { first, last } = (block ?? { first: 1, last: 1 }) as Partial<PortRange>;
  return Number.isInteger(first) && Number.isInteger(last) && 1 <= (first as number) && (first as number) <= (last as number) && (last as number) <= 65535;
}
