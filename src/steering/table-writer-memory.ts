/**
 * Steering table, writing primitives: what table-writer.ts does to one buffer. Layout and publishing: table-layout.ts.
 */
import {
  ACTIVE,
  ADDRESS_INDEX_MASK,
  ADDRESS_LEFT,
  ADDRESS_USED,
  ADDRESS_WHOLE,
  H_ADDRESS_CAPACITY,
  H_ADDRESSES,
  H_CAPACITY,
  H_GENERATION,
  H_KEYS,
  H_MAGIC,
  H_VERSION,
  HASH_MULTIPLIER,
  HEADER_WORDS,
  IMPLICIT,
  type Proto,
  STATE_FREE,
  STATE_IN_USE,
  STATE_LEASED,
  STATE_MASK,
  TABLE_MAGIC,
  TABLE_VERSION,
  tableBytes,
} from './table-layout.js';
import { SteeringTable } from './table.js';

type AddressFlag = typeof ADDRESS_WHOLE | typeof ADDRESS_LEFT | typeof ADDRESS_USED;

export function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, atLeast)));
}

export function createTable(addressCapacity: number, capacity: number, generation: number): SteeringTable {
  const buffer = new SharedArrayBuffer(tableBytes(addressCapacity, capacity));
  const words = new Uint32Array(buffer);
  words[H_MAGIC] = TABLE_MAGIC;
  words[H_VERSION] = TABLE_VERSION;
  words[H_GENERATION] = generation;
  words[H_ADDRESS_CAPACITY] = addressCapacity;
  words[H_CAPACITY] = capacity;
  return new SteeringTable(buffer);
}

/** No key is added to a buffer past 3/4: one that is being left must never fill up under a slow reader. */
function isCrowded(used: number, mask: number): boolean {
  return 4 * (used + 1) > 3 * (mask + 1);
}

/** Word index of the address's pair, or of the empty one in its place. */
function pairOf({ words, addressMask, addressShift }: SteeringTable, address: number): number {
  let slot = Math.imul(address, HASH_MULTIPLIER) >>> addressShift;
  for (;;) {
    const at = HEADER_WORDS + 2 * slot;
    if (words[at + 1] === 0 || words[at] === address) return at;
    slot = (slot + 1) & addressMask;
  }
}

/** The index that the address has here, or had before it left; 0 where it has no pair. */
export function indexOf(table: SteeringTable, address: number): number {
  return table.words[pairOf(table, address) + 1] & ADDRESS_INDEX_MASK;
}

/** The address is ours, under `index`. A buffer that an older reader is in, and where it left under another one, stays without it. */
export function insertAddress(table: SteeringTable, address: number, index: number): void {
  const { words, addressMask } = table;
  const at = pairOf(table, address);
  if (words[at + 1] === 0) {
    if (isCrowded(words[H_ADDRESSES], addressMask)) return;
    Atomics.store(words, at, address);
    Atomics.add(words, H_ADDRESSES, 1);
  } else if ((words[at + 1] & ADDRESS_INDEX_MASK) !== index) return;
  Atomics.store(words, at + 1, index);
}

export function markAddress(table: SteeringTable, address: number, flag: AddressFlag): void {
  const at = pairOf(table, address);
  if (table.words[at + 1] !== 0) Atomics.or(table.words, at + 1, flag);
}

export function unmarkAddress(table: SteeringTable, address: number, flag: AddressFlag): void {
  const at = pairOf(table, address);
  if (table.words[at + 1] !== 0) Atomics.and(table.words, at + 1, ~flag);
}

/** Writes the entry: the key first if it is new, the value last. */
export function putInto({ words, base, mask, shift }: SteeringTable, key: number, value: number): void {
  let slot = Math.imul(key, HASH_MULTIPLIER) >>> shift;
  while (words[base + 2 * slot] !== 0 && words[base + 2 * slot] !== key) slot = (slot + 1) & mask;
  const at = base + 2 * slot;
  if (words[at] === 0) {
    if (isCrowded(words[H_KEYS], mask)) return;
    Atomics.store(words, at, key);
    Atomics.add(words, H_KEYS, 1);
  }
  Atomics.store(words, at + 1, value >>> 0);
}

/** Visits every pair, also of addresses that have left; `entry` is its second word. */
export function forEachPair({ words, base }: SteeringTable, visit: (address: number, entry: number) => void): void {
  for (let at = HEADER_WORDS; at < base; at += 2) if (words[at + 1] !== 0) visit(words[at], words[at + 1]);
}

export function forEachLive({ words, base, mask }: SteeringTable, visit: (key: number, value: number) => void): void {
  for (let at = base; at <= base + 2 * mask; at += 2) {
    const value = Atomics.load(words, at + 1);
    if (words[at] !== 0 && (value & STATE_MASK) !== STATE_FREE) visit(words[at], value);
  }
}

/** Indices of the addresses on which something is in use. */
export function indicesInUse(table: SteeringTable): Set<number> {
  const used = new Set<number>();
  forEachLive(table, (key, value) => {
    if ((value & STATE_MASK) === STATE_IN_USE) used.add(key >>> 17);
  });
  return used;
}

/** Writes what is live in `old` into `fresh`, and the addresses that have not left. */
export function copyLive(old: SteeringTable, fresh: SteeringTable): void {
  forEachPair(old, (address, entry) => {
    if ((entry & ADDRESS_LEFT) !== 0) return;
    insertAddress(fresh, address, entry & ADDRESS_INDEX_MASK);
    for (const flag of [ADDRESS_WHOLE, ADDRESS_USED] as const) if ((entry & flag) !== 0) markAddress(fresh, address, flag);
  });
  forEachLive(old, (key, value) => putInto(fresh, key, value));
}

/**
 * Ends implicit uses of `proto` that are not ACTIVE, takes ACTIVE from the others, and returns how many have ended. `takeActive` says
 * whether one was active elsewhere; `ending` is called before one ends.
 */
export function sweepIdle({ words, base, mask }: SteeringTable, proto: Proto, takeActive: (key: number) => boolean, ending: (key: number) => void): number {
  let ended = 0;
  for (let at = base; at <= base + 2 * mask; at += 2) {
    const key = words[at];
    const value = words[at + 1];
    if (key === 0 || (value & IMPLICIT) === 0 || ((key >>> 16) & 1) !== proto) continue;
    const wasActive = takeActive(key) || (value & ACTIVE) !== 0;
    if (!wasActive) ending(key);
    const next = wasActive ? value & ~ACTIVE : (value & ~(STATE_MASK | IMPLICIT)) | STATE_LEASED;
    if (Atomics.compareExchange(words, at + 1, value, next >>> 0) === value && !wasActive) ended++;
  }
  return ended;
}
