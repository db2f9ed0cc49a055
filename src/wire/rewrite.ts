/**
 * Rewriting addresses and ports where a frame lies, its checksums kept right by what has changed (RFC 1624, equation 3):
 *
 *     HC' = ~(~HC + ~m + m')        m, m': a 16-bit word before and after; all sums in one's complement
 *
 * Change       a sum of ~m + m' over the words that were replaced, not folded: a small positive number, so that several
 *              replacements are one correction. Order and position of the words do not matter, as long as they begin at even bytes.
 * Partial      a frame whose checksum somebody later computes (virtio 1.2 §5.1.6, VIRTIO_NET_HDR_F_NEEDS_CSUM) has the folded
 *              sum of its pseudo header there, not complemented: addresses are in it, ports are not.
 * Wrong        a checksum that was wrong before is wrong by as much afterwards.
 * Numbers      addresses as signed numbers: one above 2^31 that crosses a call costs an allocation.
 */
import * as ipv4 from './ipv4.js';

// Constants of this module are literals to V8; imported bindings are read, and checked, at every use (bench/README.md).
const { PROTOCOL_TCP } = ipv4;

/** Offsets of the header fields, RFC 791 §3.1, RFC 9293 §3.1, RFC 768, RFC 792. */
const IPV4_CHECKSUM = 10;
const IPV4_ADDRESSES = 12;
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
export const ICMP_CHECKSUM = 2;

/** Which end of a packet: its source or its destination. */
export const SOURCE = 0;
export const DESTINATION = 1;
export type End = typeof SOURCE | typeof DESTINATION;

/** Replaces the 16-bit word at `at`; returns the change. */
export function put16(view: DataView, at: number, word: number): number {
  const change = (view.getUint16(at) ^ 0xffff) + word;
  view.setUint16(at, word);
  return change;
}

/** Replaces the address of one end of the IPv4 header at `l3` and corrects the header's checksum; returns the change of the address alone. */
export function putAddress(view: DataView, l3: number, end: End, address: number): number {
  const at = l3 + IPV4_ADDRESSES + (end << 2);
  const change = put16(view, at, address >>> 16) + put16(view, at + 2, address & 0xffff);
  correct(view, l3 + IPV4_CHECKSUM, change);
  return change;
}

/**
 * Replaces address and port of one end of a TCP or UDP packet with its headers at `l3` and `l4`.
 * @param partial its checksum is partial.
 */
export function putEndpoint(view: DataView, l3: number, l4: number, protocol: number, end: End, address: number, port: number, partial: boolean): void {
  const change = putAddress(view, l3, end, address);
  const portChange = put16(view, l4 + (end << 1), port);
  const at = l4 + (protocol === PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
  if (partial) view.setUint16(at, fold(view.getUint16(at) + change));
  else if (protocol === PROTOCOL_TCP) correct(view, at, change + portChange);
  else correctUdp(view, at, change + portChange);
}

/**
 * The same for a packet that an ICMP error quotes, whose end lies at `limit` and may come before its checksum.
 * @returns the change of all that was written: the correction that the ICMP checksum around it needs.
 */
export function putQuotedEndpoint(view: DataView, l3: number, l4: number, limit: number, protocol: number, end: End, address: number, port: number): number {
  const header = view.getUint16(l3 + IPV4_CHECKSUM);
  const change = putAddress(view, l3, end, address);
  const portChange = put16(view, l4 + (end << 1), port);
  const all = change + portChange + (header ^ 0xffff) + view.getUint16(l3 + IPV4_CHECKSUM);
  const at = l4 + (protocol === PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
  if (at + 2 > limit) return all;
  const before = view.getUint16(at);
  if (protocol === PROTOCOL_TCP) correct(view, at, change + portChange);
  else correctUdp(view, at, change + portChange);
  return all + (before ^ 0xffff) + view.getUint16(at);
}

/** The same for a quoted ICMP echo: its identifier instead of a port. */
export function putQuotedEcho(view: DataView, l3: number, l4: number, end: End, address: number, identifier: number): number {
  const header = view.getUint16(l3 + IPV4_CHECKSUM);
  const change = putAddress(view, l3, end, address);
  const before = view.getUint16(l4 + ICMP_CHECKSUM);
  const identifierChange = put16(view, l4 + 4, identifier);
  correct(view, l4 + ICMP_CHECKSUM, identifierChange);
  return change + identifierChange + (header ^ 0xffff) + view.getUint16(l3 + IPV4_CHECKSUM) + (before ^ 0xffff) + view.getUint16(l4 + ICMP_CHECKSUM);
}

/** Corrects the checksum at `at` by a change. */
export function correct(view: DataView, at: number, change: number): void {
  view.setUint16(at, fold((view.getUint16(at) ^ 0xffff) + change) ^ 0xffff);
}

/** A UDP checksum of 0 is none and stays so; a computed 0 is sent as 0xffff (RFC 768). */
function correctUdp(view: DataView, at: number, change: number): void {
  const before = view.getUint16(at);
  if (before === 0) return;
  const after = fold((before ^ 0xffff) + change) ^ 0xffff;
  view.setUint16(at, after === 0 ? 0xffff : after);
}

/** One's complement sum of the number's 16-bit halves; `sum` below 2^31. */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}
