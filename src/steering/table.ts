/**
 * Steering table, reader side: (address, protocol, port) → link and state.
 *
 * Memory       one SharedArrayBuffer, laid out in table-layout.ts; written by table-writer.ts.
 * Cost         one hash, then linear probing; no allocation, never throws.
 * Concurrency  one writer, many readers, no locks: see "Publishing" in table-layout.ts. A reader that sees a key but
 *              not yet its value reads FREE, which is what the endpoint was a moment before.
 * A miss       is MISS; an address that is not ours has index 0: callers need no special case.
 * Numbers      addresses, keys and entries may be given and come back as signed 32-bit numbers: one above 2^31 that crosses
 *              a call costs an allocation, and the data plane makes none.
 * Not here     expiry and quarantine (the control plane's), adopting a new buffer (dataplane/worker.ts).
 */
import * as tableLayout from './table-layout.js';
import { keyOf, type Proto, wildcardKey } from './table-layout.js';
import { BerthError } from '../base/errors.js';

// Constants of this module are literals to V8; imported bindings are read, and checked, at every use (bench/README.md).
const {
  ADDRESS_INDEX_MASK,
  ADDRESS_LEFT,
  ADDRESS_USED,
  ADDRESS_WHOLE,
  H_ADDRESS_CAPACITY,
  H_CAPACITY,
  H_GENERATION,
  H_MAGIC,
  H_SUPERSEDED,
  H_VERSION,
  HASH_MULTIPLIER,
  HEADER_WORDS,
  PROTO_TCP,
  STATE_FREE,
  STATE_IN_USE,
  STATE_LEASED,
  STATE_MASK,
  TABLE_MAGIC,
  TABLE_VERSION,
} = tableLayout;

/** No entry. Positions are indices into `words`, at least HEADER_WORDS. */
export const MISS = -1;

/**
 * Word index of the value under `key`, or MISS. Ends because at most half of the slots ever hold a key.
 * `base` is the first slot's word, `mask` the slots less one, `shift` 32 less the slots' logarithm.
 */
export function probe(words: Uint32Array, base: number, mask: number, shift: number, key: number): number {
  let slot = Math.imul(key, HASH_MULTIPLIER) >>> shift;
  for (;;) {
    const at = base + (slot << 1);
    const found = words[at] | 0;
    if (found === (key | 0)) return at + 1;
    if (found === 0) return MISS;
    slot = (slot + 1) & mask;
  }
}

/** Word index of what `address`'s pair says: its index and flags, or 0 where it has no pair. */
function probePair(words: Uint32Array, mask: number, shift: number, address: number): number {
  let slot = Math.imul(address, HASH_MULTIPLIER) >>> shift;
  for (;;) {
    const at = HEADER_WORDS + (slot << 1);
    if (words[at + 1] === 0 || (words[at] | 0) === (address | 0)) return at + 1;
    slot = (slot + 1) & mask;
  }
}

export class SteeringTable {
  /** The whole buffer as words; borrowed by the lookup stage for one batch. */
  readonly words: Uint32Array;
  readonly base: number;
  readonly mask: number;
  readonly shift: number;
  readonly addressMask: number;
  readonly addressShift: number;

  /** Looks at `buffer` without copying; refuses one that is not a steering table of this version. */
  constructor(buffer: SharedArrayBuffer) {
    const words = new Uint32Array(buffer);
    if (words[H_MAGIC] !== TABLE_MAGIC || words[H_VERSION] !== TABLE_VERSION) {
      throw new BerthError('ERR_TABLE_FORMAT', `not a steering table of version ${TABLE_VERSION}: header ${words[H_MAGIC]}/${words[H_VERSION]}`);
    }
    this.words = words;
    const addressCapacity = words[H_ADDRESS_CAPACITY];
    const capacity = words[H_CAPACITY];
    this.base = HEADER_WORDS + 2 * addressCapacity;
    this.mask = capacity - 1;
    this.shift = 32 - Math.log2(capacity);
    this.addressMask = addressCapacity - 1;
    this.addressShift = 32 - Math.log2(addressCapacity);
  }

  get generation(): number {
    return this.words[H_GENERATION];
  }

  /** True once a newer buffer has been handed out. One atomic load: ask between batches. */
  get superseded(): boolean {
    return Atomics.load(this.words, H_SUPERSEDED) !== 0;
  }

  /** Index (1 …) of one of our addresses with ADDRESS_WHOLE where it has a wildcard entry, and ADDRESS_USED; 0 for any other. */
  address(address: number): number {
    const entry = this.words[probePair(this.words, this.addressMask, this.addressShift, address)] | 0;
    return (entry & ADDRESS_LEFT) === 0 ? entry : 0;
  }

  /** Whether anything is in use of an address that has a wildcard, and not in quarantine: the wildcard, or a port with an entry of its own. */
  isUsed(address: number): boolean {
    if ((this.address(address) & ADDRESS_USED) === 0) return false;
    const at = this.position(address, PROTO_TCP, 0);
    const state = at === MISS ? STATE_FREE : this.words[at] & STATE_MASK;
    return state === STATE_LEASED || state === STATE_IN_USE;
  }

  /** A use on the address has begun: the mark of it, which only the writer takes away. */
  markUsed(address: number): void {
    const at = probePair(this.words, this.addressMask, this.addressShift, address);
    const entry = this.words[at] | 0;
    if (entry === 0 || (entry & (ADDRESS_LEFT | ADDRESS_USED)) !== 0) return;
    Atomics.or(this.words, at, ADDRESS_USED);
  }

  /**
   * Word index of the endpoint's value: its own entry, else the wildcard of a dedicated address; MISS for neither.
   * `address` as a number in host order, `port` 0 … 65535.
   */
  position(address: number, proto: Proto, port: number): number {
    const entry = this.address(address);
    if (entry === 0) return MISS;
    const index = entry & ADDRESS_INDEX_MASK;
    const at = probe(this.words, this.base, this.mask, this.shift, keyOf(index, proto, port));
    if (at !== MISS && (this.words[at] & STATE_MASK) !== STATE_FREE) return at;
    if ((entry & ADDRESS_WHOLE) === 0) return MISS;
    return probe(this.words, this.base, this.mask, this.shift, wildcardKey(index));
  }

  /** The endpoint's value word; STATE_FREE (0) when nothing is leased there. */
  value(address: number, proto: Proto, port: number): number {
    const at = this.position(address, proto, port);
    const value = at === MISS ? STATE_FREE : Atomics.load(this.words, at);
    if (at === MISS || (value & STATE_MASK) !== STATE_FREE) return value;
    // Released since it was found: the wildcard of a dedicated address may hold for it now.
    const again = this.position(address, proto, port);
    return again === MISS ? STATE_FREE : Atomics.load(this.words, again);
  }
}
