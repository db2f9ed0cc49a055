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
import type { AddressWish } from '../../base/config.js';
import { BerthError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { bytesByInterface, type Interface, linkSpeed } from '../../io/interfaces.js';
import { formatIpv4 } from '../../wire/address.js';
import type { AddressRecords } from '../store.js';
import { AddressBook, type AddressRecord, type Choice, type Rates } from './address-book.js';
import type { AddressPool } from './address-pools.js';
import { AddressUse, type UseParts } from './address-use.js';
import { LoadSampler } from './load-sampler.js';

const SAMPLE_MS = 1000;
/** Between the two samples that a first choice needs. */
const FIRST_SAMPLE_MS = 250;
/** Bits a second. */
const DEFAULT_SPEED = 1e9;

/** An address that waits for its quarantine to end. */
export interface Waiting {
  readonly address: number;
  readonly record: AddressRecord;
}

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
   * Takes up what the store has: a guest keeps its address if `wishes` still has it and it is of the pool that is wished; any other address
   * that was leased is quarantined from now on. Returns what is quarantined.
   */
  restore(store: AddressRecords, wishes: ReadonlyMap<string, AddressWish>, quarantineMs: number): Waiting[] {
    this.store = store;
    const now = Date.now();
    const waiting: Waiting[] = [];
    for (const [address, value] of store.addresses()) {
      const record = checkRecord(address, value);
      const wish = wishes.get(record.guest);
      const pool = this.book.poolOf(address);
      const isOver = record.state === 'quarantined' && record.until <= now;
      if (pool === undefined || isOver) {
        if (pool === undefined) this.log.warn(`${formatIpv4(address)}, which guest ${record.guest} had, is in no pool any more`);
        store.removeAddress(address);
        continue;
      }
      this.book.set(address, record);
      if (record.state === 'leased' && (wish === undefined || (wish.name !== 'any' && wish.name !== pool.name))) this.release(address, now, now + quarantineMs);
      const after = this.book.records.get(address) as AddressRecord;
      if (after.state === 'quarantined') waiting.push({ address, record: after });
    }
    return waiting;
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

  /** The guest has the address; the result undoes it. */
  take(guest: string, choice: Choice, wish: AddressWish): () => void {
    const { address } = choice;
    const before = this.book.records.get(address);
    if (before?.state === 'leased') return () => undefined;
    this.keep(address, this.book.leased(guest, choice, wish.class, Date.now()));
    return () => {
      if (before === undefined) this.drop(address);
      else this.keep(address, before);
    };
  }

  /** The address is quarantined. */
  release(address: number, since: number, until: number): void {
    this.keep(address, this.book.quarantined(address, since, until));
  }

  /** The quarantine of the address is over; nothing happens to one that its guest has again. */
  free(address: number): void {
    if (this.book.records.get(address)?.state === 'quarantined') this.drop(address);
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
    this.store?.putAddress(address, record);
    this.book.set(address, record);
  }

  private drop(address: number): void {
    this.store?.removeAddress(address);
    this.book.free(address);
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
  const { guest, state, since, until, class: served, words, announced } = (typeof value === 'object' && value !== null ? value : {}) as Partial<Record<keyof AddressRecord, unknown>>;
  const isSound =
    typeof guest === 'string' &&
    (state === 'leased' || state === 'quarantined') &&
    typeof since === 'number' &&
    typeof until === 'number' &&
    (served === null || typeof served === 'string') &&
    Array.isArray(words) &&
    words.every((word) => typeof word === 'string') &&
    (announced === null || typeof announced === 'string');
  if (!isSound) throw new BerthError('ERR_STORE_DAMAGED', `the store's record of address ${formatIpv4(address)} is no lease: ${JSON.stringify(value)}; put a copy of the store back, or move it away: its leases are then lost`);
  return value as AddressRecord;
}
