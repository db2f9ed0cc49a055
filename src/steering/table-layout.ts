/**
 * Steering table, memory layout: where the control plane (table-writer.ts) and the data plane (table.ts) meet.
 *
 * One SharedArrayBuffer seen as 32-bit words in host byte order:
 *
 *     word 0          16                     16 + 2·A                     16 + 2·A + 2·C
 *     ┌───────────────┬──────────────────────┬────────────────────────────┐
 *     │ header        │ A address pairs      │ C slots                    │
 *     │ 16 words      │ (IPv4, index+flags)  │ (key, value)               │
 *     └───────────────┴──────────────────────┴────────────────────────────┘
 *
 * Two steps keep a slot at 8 bytes: the destination address gives a small index, and the 32-bit key is
 *
 *     31 … 17 address index (1 … 32767)   16 protocol (0 TCP, 1 UDP)   15 … 0 port
 *
 * so that key 0 never occurs and marks an empty slot. Port 0 under protocol 0 is the wildcard of a dedicated address.
 * The value is
 *
 *     31 … 16 link index   5 ACTIVE   4 IMPLICIT   3 MAY_IMPLY   2 … 0 state
 *
 * Publishing   a slot's key is written once in the life of a buffer, before its first value; afterwards only the value
 *              changes. A removed entry keeps its key with the value FREE (the tombstone) and is revived in place when
 *              the same endpoint is leased again. A reader therefore never takes one endpoint's value for another's.
 * Addresses    a pair's address is written once too, with its index. One that is not ours any more keeps its pair, marked LEFT, and
 *              has it back when it returns. A rebuild leaves such pairs out, and the index is another address's only when no
 *              reader is in a buffer from before: whoever holds an index, or a key made of it, got it for this address.
 * Growing      a rebuild makes a new buffer with the next generation; see table-writer.ts.
 * Capacity     slots stay at most half used: 65,536 endpoints fit in 131,072 slots, 1 MiB.
 */
export const TABLE_MAGIC = 0x42525448; // 'BRTH'
export const TABLE_VERSION = 1;

export const HEADER_WORDS = 16;
export const H_MAGIC = 0;
export const H_VERSION = 1;
export const H_GENERATION = 2;
export const H_ADDRESS_CAPACITY = 3;
export const H_CAPACITY = 4;
/** Set to 1 when a newer buffer has been handed to the readers: adopt it before the next batch. */
export const H_SUPERSEDED = 5;
/** Keys written so far (live and tombstones), and addresses: for the writer and for `status`. */
export const H_KEYS = 6;
export const H_ADDRESSES = 7;
/** Set to 1 by the data plane when an implicit use began, cleared by the control plane when it looks. */
export const H_IMPLIED = 8;

export const PROTO_TCP = 0;
export const PROTO_UDP = 1;
export type Proto = typeof PROTO_TCP | typeof PROTO_UDP;

export const MAX_ADDRESSES = 32767;

export const STATE_MASK = 7;
export const STATE_FREE = 0;
export const STATE_LEASED = 1;
export const STATE_IN_USE = 2;
export const STATE_QUARANTINED = 3;
/** In use by a mapped guest: its frames are readdressed (dataplane/mapping.ts), never forwarded as they are. */
export const STATE_MAPPED = 4;
/** The guest's own frame may turn this leased endpoint into a used one (D7). */
export const MAY_IMPLY = 1 << 3;
/** It did: the use ends by idle time-out unless the agent confirms it. */
export const IMPLICIT = 1 << 4;
/** A frame was seen since the writer last cleared the bit (only kept for implicit uses). */
export const ACTIVE = 1 << 5;
export const LINK_SHIFT = 16;

/** In an address pair's second word: this address has a wildcard entry. */
export const ADDRESS_WHOLE = 0x80000000;
/** This address is not ours any more. */
export const ADDRESS_LEFT = 0x40000000;
/** A use of the address, or of a port of it, has begun, and not all of them have ended as far as the writer has looked. */
export const ADDRESS_USED = 0x20000000;
export const ADDRESS_INDEX_MASK = 0x7fff;

/** 2^32 divided by the golden ratio: multiplicative hashing spreads runs of ports evenly. */
export const HASH_MULTIPLIER = 0x9e3779b1;

export function keyOf(addressIndex: number, proto: Proto, port: number): number {
  return ((addressIndex << 17) | (proto << 16) | port) >>> 0;
}

export function wildcardKey(addressIndex: number): number {
  return (addressIndex << 17) >>> 0;
}

/** Bytes of a table for the given numbers of address pairs and slots (both powers of two). */
export function tableBytes(addressCapacity: number, capacity: number): number {
  return (HEADER_WORDS + 2 * addressCapacity + 2 * capacity) * 4;
}
