/**
 * Steering table, writer side: the only code that inserts, removes and grows. One writer a table.
 *
 * Costs        a change of state is one atomic store (or compare-and-swap, so that an indication by the data plane
 *              is not overwritten); inserts and removals happen only when leases change.
 * Growing      when more than half of the slots hold a key, the live entries are copied into a new buffer:
 *
 *                  old: ──── written ────────┬─ superseded ─┬─ last reader left: merge, forget
 *                  new:      copy ─ publish ─┴─ written ────┴──────────────────────────────────
 *
 *              While readers are still in the old buffer every change goes to both. What the data plane swapped in
 *              the old one meanwhile (D7) is carried over when the last reader has left it.
 * Addresses    that nobody needs any more leave, marked as such at once; the next rebuild is without them, and their indices are
 *              used again when all readers are (address-indices.ts).
 * Length       every change goes to all buffers that a reader may be in, and to the follower, in one order: it is seen here at once.
 * Ownership    the buffers belong to everyone who holds them; the writer holds every buffer that a reader may be in.
 */
import { AddressIndices } from './address-indices.js';
import {
  ACTIVE,
  ADDRESS_INDEX_MASK,
  ADDRESS_LEFT,
  ADDRESS_USED,
  ADDRESS_WHOLE,
  H_ADDRESS_CAPACITY,
  H_ADDRESSES,
  H_IMPLIED,
  H_KEYS,
  H_SUPERSEDED,
  IMPLICIT,
  keyOf,
  LINK_SHIFT,
  MAX_ADDRESSES,
  MAY_IMPLY,
  type Proto,
  STATE_FREE,
  STATE_IN_USE,
  STATE_LEASED,
  STATE_MAPPED,
  STATE_MASK,
  STATE_QUARANTINED,
  wildcardKey,
} from './table-layout.js';
import type { TableFollower } from './table-follower.js';
import { copyLive, createTable, forEachLive, forEachPair, indexOf, indicesInUse, insertAddress, markAddress, powerOfTwo, putInto, sweepIdle, unmarkAddress } from './table-writer-memory.js';
import { MISS, probe, type SteeringTable } from './table.js';
import { BerthError } from '../base/errors.js';

/** Hands a new buffer to every reader; each answers with `TableWriter.adopted(reader, generation)`. */
export type Publish = (buffer: SharedArrayBuffer, generation: number) => void;

export interface TableWriterOptions {
  /** Endpoints expected; the table grows by itself past them. */
  endpoints?: number;
  addresses?: number;
  publish?: Publish;
  follower?: TableFollower | undefined;
}

export class TableWriter {
  private table: SteeringTable;
  /** Older buffers that some reader may still be in, with the readers that have not left. */
  private retiring: { table: SteeringTable; readers: Set<number> }[] = [];
  private readonly readers = new Set<number>();
  private readonly publish: Publish;
  private readonly follower: TableFollower | undefined;
  private readonly indices = new AddressIndices();
  private readonly leastPairs: number;
  private readonly leastSlots: number;
  private live = 0;

  constructor(options: TableWriterOptions = {}) {
    this.publish = options.publish ?? (() => undefined);
    this.follower = options.follower;
    this.leastSlots = powerOfTwo(2 * (options.endpoints ?? 1024));
    this.leastPairs = powerOfTwo(2 * (options.addresses ?? 8));
    this.table = createTable(this.leastPairs, this.leastSlots, 1);
  }

  /** The buffer that a new reader starts from. */
  get buffer(): SharedArrayBuffer {
    return this.table.words.buffer as SharedArrayBuffer;
  }

  get generation(): number {
    return this.table.generation;
  }

  /** Endpoints that are leased, in use or quarantined (a wildcard counts as one). */
  get endpoints(): number {
    return this.live;
  }

  /** A reader that will be told of new buffers. It starts in `buffer`. */
  addReader(reader: number): void {
    this.readers.add(reader);
  }

  removeReader(reader: number): void {
    this.readers.delete(reader);
    for (const old of this.retiring) old.readers.delete(reader);
    this.forgetLeft();
  }

  /** `reader` has left every buffer older than `generation`. */
  adopted(reader: number, generation: number): void {
    for (const old of this.retiring) if (old.table.generation < generation) old.readers.delete(reader);
    this.forgetLeft();
  }

  /** Makes `address` one of ours and returns its index (1 …). */
  addAddress(address: number): number {
    const known = this.table.address(address) & ADDRESS_INDEX_MASK;
    if (known !== 0) return known;
    const index = indexOf(this.table, address) || this.freshIndex();
    this.follower?.address(address, index);
    for (const table of this.writable()) insertAddress(table, address, index);
    return index;
  }

  /** The address is not ours any more, and nothing of it leased to anybody. Returns the index that it had; 0 where it was not ours. */
  removeAddress(address: number): number {
    const index = this.table.address(address) & ADDRESS_INDEX_MASK;
    if (index === 0) return 0;
    forEachLive(this.table, (key) => {
      if (key >>> 17 === index) this.free(key);
    });
    for (const table of this.writable()) markAddress(table, address, ADDRESS_LEFT);
    this.follower?.addressLeft(address);
    return index;
  }

  /** Sets aside the endpoint for `link`. `mayImply`: the guest's own frame may indicate its use (D7). */
  lease(address: number, proto: Proto, port: number, link: number, mayImply: boolean): void {
    if (port === 0) throw new BerthError('ERR_PORT_SET', 'port 0 cannot be leased: it stands for a whole address');
    this.put(keyOf(this.addAddress(address), proto, port), STATE_LEASED | (mayImply ? MAY_IMPLY : 0) | (link << LINK_SHIFT));
  }

  /** Sets aside the whole `address` for `link`: every port of it that has no entry of its own. */
  leaseWhole(address: number, link: number, mayImply: boolean): void {
    const index = this.addAddress(address);
    for (const table of this.writable()) {
      markAddress(table, address, ADDRESS_WHOLE);
      unmarkAddress(table, address, ADDRESS_USED);
    }
    this.put(wildcardKey(index), STATE_LEASED | (mayImply ? MAY_IMPLY : 0) | (link << LINK_SHIFT));
  }

  /** Sets aside the endpoint for the mapped guest on `link`, in use from now on until it is quarantined or released. */
  map(address: number, proto: Proto, port: number, link: number): void {
    if (port === 0) throw new BerthError('ERR_PORT_SET', 'port 0 cannot be mapped: it stands for a whole address');
    this.put(keyOf(this.addAddress(address), proto, port), STATE_MAPPED | (link << LINK_SHIFT));
  }

  /** Leased → in use, one atomic store; also confirms an implicit use. False if it is not leased, or in quarantine. */
  use(address: number, proto: Proto, port: number): boolean {
    const isUsed = this.change(this.keyAt(address, proto, port), STATE_IN_USE);
    if (isUsed) for (const table of this.writable()) table.markUsed(address);
    return isUsed;
  }

  useWhole(address: number): boolean {
    return this.use(address, 0, 0);
  }

  /** In use → leased. False if nothing is leased there, or it is in quarantine. */
  endUse(address: number, proto: Proto, port: number): boolean {
    return this.change(this.keyAt(address, proto, port), STATE_LEASED);
  }

  quarantine(address: number, proto: Proto, port: number): boolean {
    return this.change(this.keyAt(address, proto, port), STATE_QUARANTINED);
  }

  /** The endpoint belongs to nobody again; its slot stays for the next lease of the same endpoint. */
  release(address: number, proto: Proto, port: number): boolean {
    return this.free(this.keyAt(address, proto, port));
  }

  /**
   * Ends implicit uses of `proto` that saw no frame since the last call: call it once an idle time-out.
   * Returns how many ended.
   */
  sweepIdle(proto: Proto): number {
    const { follower } = this;
    const ended = sweepIdle(
      this.table,
      proto,
      (key) => follower?.takeActive(key) ?? false,
      (key) => follower?.taken(key),
    );
    this.settleUsed();
    // Also for one that a frame has kept up meanwhile: it is to be steered again.
    Atomics.store(this.table.words, H_IMPLIED, 1);
    return ended;
  }

  /** Takes ADDRESS_USED from the addresses on which nothing is in use any more: after uses have ended. Two steps a slot of the table. */
  settleUsed(): void {
    const before = indicesInUse(this.table);
    this.forEachAddress((table, address, index) => {
      if (!before.has(index)) unmarkAddress(table, address, ADDRESS_USED);
    });
    const after = indicesInUse(this.table); // the data plane may have begun one meanwhile
    this.forEachAddress((table, address, index) => {
      if (after.has(index)) table.markUsed(address);
    });
  }

  /** Whether implicit uses may have begun or ended since the last call. Those that there are have been told to the follower then. */
  takeImplied(): boolean {
    if (Atomics.exchange(this.table.words, H_IMPLIED, 0) === 0) return false;
    forEachLive(this.table, (key, value) => {
      if ((value & IMPLICIT) !== 0) this.follower?.steered(key, value >>> LINK_SHIFT, true);
    });
    return true;
  }

  /** Visits every implicit use, with the link that it is of. */
  forEachImplicit(visit: (address: number, proto: Proto, port: number, link: number) => void): void {
    const addresses: number[] = [];
    forEachPair(this.table, (address, entry) => (addresses[entry & ADDRESS_INDEX_MASK] = address));
    forEachLive(this.table, (key, value) => {
      if ((value & IMPLICIT) !== 0) visit(addresses[key >>> 17], ((key >>> 16) & 1) as Proto, key & 0xffff, value >>> LINK_SHIFT);
    });
  }

  /** Leased → in use, as if the guest's own frame had done it; port 0 is the wildcard. False unless it is leased to `link`, and may. */
  imply(address: number, proto: Proto, port: number, link: number): boolean {
    const { words, base, mask, shift } = this.table;
    const at = probe(words, base, mask, shift, this.keyAt(address, proto, port));
    const leased = (STATE_LEASED | MAY_IMPLY | (link << LINK_SHIFT)) >>> 0;
    const isImplied = at !== MISS && Atomics.compareExchange(words, at, leased, (leased & ~STATE_MASK) | STATE_IN_USE | IMPLICIT | ACTIVE) === leased;
    if (!isImplied) return false;
    this.table.markUsed(address);
    Atomics.store(words, H_IMPLIED, 1);
    return true;
  }

  private forEachAddress(visit: (table: SteeringTable, address: number, index: number) => void): void {
    for (const table of this.writable()) forEachPair(table, (address, entry) => visit(table, address, entry & ADDRESS_INDEX_MASK));
  }

  private keyAt(address: number, proto: Proto, port: number): number {
    const index = this.table.address(address) & ADDRESS_INDEX_MASK;
    return index === 0 ? 0 : keyOf(index, proto, port);
  }

  private *writable(): Generator<SteeringTable> {
    yield this.table;
    for (const old of this.retiring) yield old.table;
  }

  /** An index for an address that has no pair, with room for that in the newest buffer. */
  private freshIndex(): number {
    const { words } = this.table;
    if (this.indices.areTaken || 2 * (words[H_ADDRESSES] + 1) > words[H_ADDRESS_CAPACITY]) this.rebuild();
    const index = this.indices.take();
    if (index === 0) throw new BerthError('ERR_TABLE_FULL', `the steering table holds ${MAX_ADDRESSES} addresses; lease fewer, or run a daemon a NIC`);
    return index;
  }

  private put(key: number, value: number): void {
    this.follower?.taken(key);
    const before = probe(this.table.words, this.table.base, this.table.mask, this.table.shift, key);
    if (before === MISS && 2 * (this.table.words[H_KEYS] + 1) > this.table.mask + 1) this.rebuild();
    if (before === MISS || (this.table.words[before] & STATE_MASK) === STATE_FREE) this.live++;
    for (const table of this.writable()) putInto(table, key, value);
  }

  private free(key: number): boolean {
    const freed = this.change(key, STATE_FREE);
    if (freed) {
      this.live--;
      this.follower?.freed(key);
    }
    return freed;
  }

  /** Moves the entry to `state`, keeping link and policy; a swap by the data plane meanwhile is seen, not overwritten. */
  private change(key: number, state: number): boolean {
    if (key === 0) return false;
    let changed = false;
    let link = 0;
    if (this.follower !== undefined && state !== STATE_IN_USE && this.isLive(key)) this.follower.taken(key);
    for (const { words, base, mask, shift } of this.writable()) {
      const at = probe(words, base, mask, shift, key);
      if (at === MISS) continue;
      for (;;) {
        const value = Atomics.load(words, at);
        const before = value & STATE_MASK;
        // D1: from quarantine the only way is to free; a late message changes nothing.
        if (before === STATE_FREE || (before === STATE_QUARANTINED && state !== STATE_FREE)) break;
        // In use for as long as it is mapped. Who follows would forward its frames as they are.
        if (before === STATE_MAPPED && state !== STATE_QUARANTINED && state !== STATE_FREE) break;
        const next = state === STATE_FREE ? 0 : ((value & ~(STATE_MASK | IMPLICIT | ACTIVE)) | state) >>> 0;
        if (Atomics.compareExchange(words, at, value, next) === value) {
          changed = true;
          link = value >>> LINK_SHIFT;
          break;
        }
      }
    }
    if (changed && state === STATE_IN_USE) this.follower?.steered(key, link, false);
    return changed;
  }

  private isLive(key: number): boolean {
    const { words, base, mask, shift } = this.table;
    const at = probe(words, base, mask, shift, key);
    return at !== MISS && (words[at] & STATE_MASK) !== STATE_FREE;
  }

  /** A new buffer without tombstones, at most 3/8 full so that the next rebuild is far, with room for one address more. */
  private rebuild(): void {
    const old = this.table;
    let ours = 0;
    forEachPair(old, (_address, entry) => {
      if ((entry & ADDRESS_LEFT) === 0) ours++;
      else this.indices.drop(entry & ADDRESS_INDEX_MASK, old.generation + 1);
    });
    const fresh = createTable(powerOfTwo(Math.max(this.leastPairs, 2 * (ours + 1))), powerOfTwo(Math.max(this.leastSlots, (this.live * 8) / 3)), old.generation + 1);
    copyLive(old, fresh);
    this.table = fresh;
    this.retiring.push({ table: old, readers: new Set(this.readers) });
    this.publish(this.buffer, fresh.generation);
    Atomics.store(old.words, H_SUPERSEDED, 1);
    this.forgetLeft();
  }

  /** Drops buffers that no reader is in any more, after carrying over the indications made in them; indices that only they had are free. */
  private forgetLeft(): void {
    const left = this.retiring.filter((old) => old.readers.size === 0);
    if (left.length === 0) return;
    this.retiring = this.retiring.filter((old) => old.readers.size > 0);
    const { words, base, mask, shift } = this.table;
    for (const old of left) {
      forEachLive(old.table, (key, value) => {
        if ((value & IMPLICIT) === 0) return;
        const at = probe(words, base, mask, shift, key);
        const leased = (value & ~(STATE_MASK | IMPLICIT | ACTIVE)) | STATE_LEASED;
        if (at !== MISS) Atomics.compareExchange(words, at, leased >>> 0, value);
        Atomics.store(words, H_IMPLIED, 1);
      });
    }
    this.settleUsed();
    this.indices.release(this.retiring[0]?.table.generation ?? this.generation);
  }
}
