/**
 * Parse stage: reads Ethernet II, up to two VLAN tags, IPv4 with options, and the ports of TCP and UDP.
 *
 * In           slots (offset, length, wireLength) over the source's memory.
 * Out          kind, l3, l4, end, source, destination, ports; see frame-batch.ts.
 * Rules        design §3: ports count only if the whole L4 header lies inside both the captured bytes and the total
 *              length; a total length of 0 means captured before segmentation; a total length past the frame's length
 *              on the wire is malformed, as is a header that does not fit.
 * Cost         no allocation; the common frame (untagged, no options, not a fragment) takes eight reads in a loop of its
 *              own, any other frame a call.
 */
import * as frameBatch from './frame-batch.js';
import type { FrameBatch } from './frame-batch.js';
import * as arp from '../wire/arp.js';
import * as ethernet from '../wire/ethernet.js';
import * as icmp from '../wire/icmp.js';
import * as ipv4 from '../wire/ipv4.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';

// Constants of this module are literals to V8; imported bindings are read, and checked, at every use (bench/README.md).
const {
  FIRST_FRAGMENT,
  KIND_ARP,
  KIND_ICMP,
  KIND_LATER_FRAGMENT,
  KIND_MALFORMED,
  KIND_NOT_IPV4,
  KIND_OTHER_PROTOCOL,
  KIND_OTHER_STATION,
  KIND_SHORT_FRAGMENT,
  KIND_TCP,
  KIND_UDP,
} = frameBatch;
const { ARP_BYTES, ARP_ETHERNET_IPV4, ARP_LENGTHS, ARP_SENDER_IP, ARP_TARGET_IP } = arp;
const {
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_OLD_QINQ,
  ETHERTYPE_SERVICE_VLAN,
  ETHERTYPE_VLAN,
  MAX_VLAN_TAGS,
  VLAN_TAG_BYTES,
} = ethernet;
const { ICMP_HEADER_BYTES } = icmp;
const { FRAGMENT_OFFSET_MASK, IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } = ipv4;
const { TCP_MIN_HEADER_BYTES } = tcp;
const { UDP_HEADER_BYTES } = udp;

/** The station that frames must be for: the NIC's MAC in two parts; `any` for captures, which have no NIC. */
export interface Station {
  readonly any: boolean;
  /** Bytes 0–3 and 4–5 of the MAC, big-endian. */
  readonly high: number;
  readonly low: number;
}

export const ANY_STATION: Station = { any: true, high: 0, low: 0 };

/** `mac` is six bytes. */
export function stationOf(mac: Uint8Array): Station {
  const view = new DataView(mac.buffer, mac.byteOffset, 6);
  return { any: false, high: view.getUint32(0), low: view.getUint16(4) };
}

/** Destination MAC to ports of the shortest frame that the plain loop takes: Ethernet, IPv4 and UDP. */
const PLAIN_BYTES = 42;
/** The bytes 08 00 45: IPv4, version 4 and a header of 20 bytes. Little-endian, so that no frame's bytes need swapping. */
const PLAIN_TYPE = 0x450008;
/** More fragments, or a fragment offset; little-endian. */
const ANY_FRAGMENT = 0xff3f;
/** One test instead of a branch on TCP or UDP that no processor can predict: a third of the stage (bench/README.md). */
const TCP_OR_UDP = (1 << PROTOCOL_TCP) | (1 << PROTOCOL_UDP);

/** Frames a call of the bound loops; see bind(). */
export const RUN = 128;

/** The batch that `parsePlain` was bound to. */
let boundBatch: FrameBatch | undefined;
let parsePlain: (station: Station, from: number, to: number) => number;

export function parse(batch: FrameBatch, station: Station): void {
  if (batch !== boundBatch) {
    boundBatch = batch;
    parsePlain = bind(batch);
  }
  const { count } = batch.slots;
  for (let i = 0; i < count; ) {
    const to = Math.min(i + RUN, count);
    i = parsePlain(station, i, to);
    if (i < to) parseAny(batch, station, i++);
  }
}

/**
 * The loop for plain frames: for our station, untagged, IPv4 without options, whole, TCP or UDP, of lengths that fit.
 * It parses from `from` on and returns the index of the first frame that is none, or `to`.
 *
 * Captured     arrays that a function captures are constants to V8, address and length included, as long as the function
 *              has been made once in the thread. A thread has one engine, so it has been; otherwise the loop is slower.
 * No call      in the loop: it would cost registers on every round. A frame that is not plain ends the loop.
 * `| 0`        keeps arithmetic in 32 bits; without it V8 checks every sum for overflow.
 * RUN          at most so many frames a call: the constants are only in the code that V8 makes for the next call, not in
 *              what it makes for a loop that is already running (on-stack replacement) and may then keep.
 * Numbers      bench/README.md, "What made it fast".
 */
function bind(batch: FrameBatch): (station: Station, from: number, to: number) => number {
  const { slots, kind, l3, l4, end, source, destination, ports } = batch;
  const { offset, length, wireLength } = slots;

  return function parsePlain(station, from, to) {
    const { view } = slots;
    const care = station.any ? 0 : -1;
    const macBytes0to3 = swap(station.high);
    const macBytes2to5 = swap((station.high << 16) | station.low);

    let i = from;
    for (; i < to; i++) {
      const start = offset[i] | 0;
      const captured = length[i] | 0;
      if (captured < PLAIN_BYTES) break;
      if ((((view.getUint32(start, true) ^ macBytes0to3) | (view.getUint32((start + 2) | 0, true) ^ macBytes2to5)) & care) !== 0) break;
      if ((view.getUint32((start + 12) | 0, true) & 0xffffff) !== PLAIN_TYPE) break;
      const total = view.getUint32((start + 16) | 0) >>> 16;
      const flags = view.getUint32((start + 20) | 0, true) | 0;
      const protocol = flags >>> 24;
      if ((flags & ANY_FRAGMENT) !== 0 || protocol > 31 || ((TCP_OR_UDP >>> protocol) & 1) === 0) break;
      const isUdp = (protocol >>> 4) & 1;
      const present = (captured - ETHERNET_HEADER_BYTES) | 0;
      const usable = total < present ? total : present;
      if (usable < ((40 - 12 * isUdp) | 0) || total > ((wireLength[i] - ETHERNET_HEADER_BYTES) | 0)) break;
      const header = (start + ETHERNET_HEADER_BYTES) | 0;
      kind[i] = isUdp;
      l3[i] = header;
      l4[i] = (header + IPV4_MIN_HEADER_BYTES) | 0;
      end[i] = (header + usable) | 0;
      source[i] = view.getUint32((start + 26) | 0);
      destination[i] = view.getUint32((start + 30) | 0);
      ports[i] = view.getUint32((start + 34) | 0);
    }
    return i;
  };
}

/** Reverses the order of the four bytes. */
function swap(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Parses any frame. */
function parseAny(batch: FrameBatch, station: Station, i: number): void {
  const { slots, kind, l3, l4, end, source, destination, ports } = batch;
  const { offset, length, wireLength, view } = slots;
  const { any, high, low } = station;

  const start = offset[i];
  const captured = length[i];
  l3[i] = 0;
  if (captured < ETHERNET_HEADER_BYTES) {
    kind[i] = KIND_MALFORMED;
    return;
  }
  if (!any && (view.getUint8(start) & 1) === 0 && (view.getUint32(start) !== high || view.getUint16(start + 4) !== low)) {
    kind[i] = KIND_OTHER_STATION;
    return;
  }

  let header = start + ETHERNET_HEADER_BYTES;
  const captureEnd = start + captured;
  let etherType = view.getUint16(header - 2);
  if (etherType !== ETHERTYPE_IPV4) {
    for (let tags = 0; tags < MAX_VLAN_TAGS; tags++) {
      if (etherType !== ETHERTYPE_VLAN && etherType !== ETHERTYPE_SERVICE_VLAN && etherType !== ETHERTYPE_OLD_QINQ) break;
      header += VLAN_TAG_BYTES;
      etherType = header > captureEnd ? -1 : view.getUint16(header - 2);
    }
    if (etherType !== ETHERTYPE_IPV4) {
      kind[i] = etherType === -1 ? KIND_MALFORMED : etherType === ETHERTYPE_ARP ? parseArp(batch, i, header, captureEnd) : KIND_NOT_IPV4;
      return;
    }
  }

  const present = captureEnd - header;
  if (present < IPV4_MIN_HEADER_BYTES) {
    kind[i] = KIND_MALFORMED;
    return;
  }
  const first = view.getUint32(header);
  const headerBytes = (first >>> 22) & 0x3c;
  let total = first & 0xffff;
  if (total === 0) total = present;
  if (first >>> 28 !== 4 || headerBytes < IPV4_MIN_HEADER_BYTES || total < headerBytes) {
    kind[i] = KIND_MALFORMED;
    return;
  }
  l3[i] = header;
  source[i] = view.getUint32(header + 12);
  destination[i] = view.getUint32(header + 16);
  const transport = header + headerBytes;
  const usable = total < present ? total : present;
  const limit = header + usable;
  l4[i] = transport;
  end[i] = limit;
  if (transport > captureEnd || total > wireLength[i] - (header - start)) {
    kind[i] = KIND_MALFORMED;
    return;
  }

  const fragment = view.getUint16(header + 6);
  const protocol = view.getUint8(header + 9);
  if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
    const isTcp = protocol === PROTOCOL_TCP;
    if ((fragment & FRAGMENT_OFFSET_MASK) !== 0) {
      kind[i] = KIND_LATER_FRAGMENT;
    } else if (transport + (isTcp ? TCP_MIN_HEADER_BYTES : UDP_HEADER_BYTES) > limit) {
      kind[i] = (fragment & MORE_FRAGMENTS) !== 0 ? KIND_SHORT_FRAGMENT : KIND_MALFORMED;
    } else {
      ports[i] = view.getUint32(transport);
      kind[i] = (isTcp ? KIND_TCP : KIND_UDP) + ((fragment & MORE_FRAGMENTS) !== 0 ? FIRST_FRAGMENT : 0);
    }
  } else if (protocol === PROTOCOL_ICMP) {
    if ((fragment & FRAGMENT_OFFSET_MASK) !== 0) kind[i] = KIND_LATER_FRAGMENT;
    else if (transport + ICMP_HEADER_BYTES > limit) kind[i] = (fragment & MORE_FRAGMENTS) !== 0 ? KIND_SHORT_FRAGMENT : KIND_MALFORMED;
    else kind[i] = KIND_ICMP;
  } else {
    kind[i] = KIND_OTHER_PROTOCOL;
  }
}

/** ARP for IPv4 over Ethernet (RFC 826); any other use of the ethertype counts as not IPv4. */
function parseArp(batch: FrameBatch, i: number, header: number, captureEnd: number): number {
  const { view } = batch.slots;
  if (header + ARP_BYTES > captureEnd) return KIND_MALFORMED;
  if (view.getUint32(header) !== ARP_ETHERNET_IPV4 || view.getUint16(header + 4) !== ARP_LENGTHS) return KIND_NOT_IPV4;
  batch.l3[i] = header;
  batch.source[i] = view.getUint32(header + ARP_SENDER_IP);
  batch.destination[i] = view.getUint32(header + ARP_TARGET_IP);
  return KIND_ARP;
}
