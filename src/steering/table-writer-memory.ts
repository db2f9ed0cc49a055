/**
 * Steering table, writing primitives: what table-writer.ts does to one buffer. Layout and publishing: table-layout.ts.
 */
import {
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
  STATE_FREE,
  STATE_MASK,
  TABLE_MAGIC,
  TABLE_VERSION,
  tableBytes,
} from './table-layout.js';
import { SteeringTable } from './table.js';

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

export function insertAddress({ words, addressMask, addressShift }: SteeringTable, address: number, index: number): void {
  if (isCrowded(words[H_ADDRESSES], addressMask)) return;
  let slot = Math.imul(address, HASH_MULTIPLIER) >>> addressShift;
  while (words[HEADER_WORDS + 2 * slot + 1] !== 0) slot = (slot + 1) & addressMask;
  Atomics.store(words, HEADER_WORDS + 2 * slot, address);
  Atomics.store(words, HEADER_WORDS + 2 * slot + 1, index);
  Atomics.add(words, H_ADDRESSES, 1);
}

export function markWhole(table: SteeringTable, address: number): void {
  if (table.address(address) === 0) return;
  const { words, addressMask, addressShift } = table;
  let slot = Math.imul(address, HASH_MULTIPLIER) >>> addressShift;
  while (words[HEADER_WORDS + 2 * slot] !== address) slot = (slot + 1) & addressMask;
  Atomics.or(words, HEADER_WORDS + 2 * slot + 1, ADDRESS_WHOLE);
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

export function forEachLive({ words, base, mask }: SteeringTable, visit: (key: number, value: number) => void): void {
  for (let at = base; at <= base + 2 * mask; at += 2) {
    const value = Atomics.load(words, at + 1);
    if (words[at] !== 0 && (value & STATE_MASK) !== STATE_FREE) visit(words[at], value);
  }
}
