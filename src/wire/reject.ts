/**
 * The answers of the `reject` policy: a TCP reset, or ICMP port unreachable, built from the packet that is refused.
 *
 * Result       a complete IPv4 packet, checksums included, in memory of its own; null when no answer may be sent.
 * Source       the offender's destination, so the sender sees what a closed port of the shared address looks like.
 * IP header    20 bytes, TTL 64, identification 0 and DF: an atomic datagram (RFC 6864 §4.1).
 * Not checked  the offender's own checksums: in a live frame they may be partial. Subnet-directed broadcasts: without
 *              a link header only the caller knows the prefix; with one, the group bit gives them away.
 * Not here     rate limiting (base/rate-limit.ts), sending (io/raw-socket-out.ts).
 */
import { checksum, pseudoHeaderSum } from './checksum.js';
import { ICMP_CODE_PORT_UNREACHABLE, ICMP_HEADER_BYTES, ICMP_UNREACHABLE, isIcmpError } from './icmp.js';
import {
  FRAGMENT_OFFSET_MASK,
  IPV4_MIN_HEADER_BYTES,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from './ipv4.js';
import { TCP_ACK, TCP_FIN, TCP_FLAGS, TCP_MIN_HEADER_BYTES, TCP_RST, TCP_SYN } from './tcp.js';
import { UDP_HEADER_BYTES } from './udp.js';

const DONT_FRAGMENT = 0x4000;
const ANSWER_TTL = 64;
/** The longest ICMP error datagram, IP header included (RFC 1812 §4.3.2.3). */
const MAX_ICMP_ERROR_BYTES = 576;

/** The refused packet. Everything is borrowed for the call. */
export interface Offender {
  readonly bytes: Uint8Array;
  /** Offset in `bytes` of the destination MAC; -1 when the packet comes without a link header. */
  readonly frameOffset: number;
  /** Offset in `bytes` of the IPv4 header. */
  readonly packetOffset: number;
  /** Captured bytes from the IPv4 header on; may include Ethernet padding. */
  readonly captured: number;
  /** IPv4 total length; 0 stands for `captured` (a frame taken before segmentation). */
  readonly totalLength: number;
}

/** Bytes of the packet that really exist: captured and inside the total length. */
function presentBytes({ bytes, packetOffset, captured, totalLength }: Offender): number {
  const inside = Math.min(captured, bytes.length - packetOffset);
  return totalLength === 0 ? inside : Math.min(inside, totalLength);
}

/** True for an address that one host can have: not "this network", loopback, multicast, class E or broadcast. */
function isSingleHost(firstOctet: number): boolean {
  return firstOctet !== 0 && firstOctet !== 127 && firstOctet < 224;
}

/**
 * Whether an answer of any kind is allowed (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7; for resets RFC 9293 §3.10.7.1).
 * @returns false for a TCP reset, an ICMP error, a fragment other than the first, a source or destination that is no
 *   single host, a source equal to the destination (the answer would come back), a link-layer group destination, and
 *   for headers that do not fit.
 */
export function mayReject(offender: Offender): boolean {
  const { bytes, frameOffset, packetOffset: ip } = offender;
  const present = presentBytes(offender);
  if (present < IPV4_MIN_HEADER_BYTES || bytes[ip] >>> 4 !== 4) return false;
  const headerBytes = (bytes[ip] & 15) * 4;
  if (headerBytes < IPV4_MIN_HEADER_BYTES || headerBytes > present) return false;
  if (frameOffset >= 0 && (bytes[frameOffset] & 1) !== 0) return false;
  if ((((bytes[ip + 6] << 8) | bytes[ip + 7]) & FRAGMENT_OFFSET_MASK) !== 0) return false;
  if (!isSingleHost(bytes[ip + 12]) || !isSingleHost(bytes[ip + 16])) return false;
  if (readUint32(bytes, ip + 12) === readUint32(bytes, ip + 16)) return false;

  const transport = ip + headerBytes;
  const left = present - headerBytes;
  switch (bytes[ip + 9]) {
    case PROTOCOL_TCP:
      return left >= TCP_MIN_HEADER_BYTES && (bytes[transport + TCP_FLAGS] & TCP_RST) === 0;
    case PROTOCOL_UDP:
      return left >= UDP_HEADER_BYTES;
    case PROTOCOL_ICMP:
      return left >= ICMP_HEADER_BYTES && !isIcmpError(bytes[transport]);
    default:
      return true;
  }
}

/** The usual answer: a reset to TCP, port unreachable to UDP; null for other protocols and when none is allowed. */
export function rejection(offender: Offender): Uint8Array | null {
  return offender.bytes[offender.packetOffset + 9] === PROTOCOL_TCP ? tcpReset(offender) : portUnreachable(offender);
}

/**
 * The reset that a closed port sends (RFC 9293 §3.10.7.1): `SEQ=SEG.ACK CTL=RST` to a segment with ACK, otherwise
 * `SEQ=0 ACK=SEG.SEQ+SEG.LEN CTL=RST,ACK`, where SEG.LEN counts data, SYN and FIN. In a first fragment only the data
 * of that fragment counts, which still lies in the sender's window.
 * @returns 40 bytes, or null when `mayReject` forbids it, the packet is not TCP or its data offset does not fit.
 */
export function tcpReset(offender: Offender): Uint8Array | null {
  const { bytes, packetOffset: ip, captured, totalLength } = offender;
  if (!mayReject(offender) || bytes[ip + 9] !== PROTOCOL_TCP) return null;
  const tcp = ip + (bytes[ip] & 15) * 4;
  const headerBytes = (bytes[tcp + 12] >>> 4) * 4;
  const dataBytes = (totalLength === 0 ? captured : totalLength) - (tcp - ip) - headerBytes;
  if (headerBytes < TCP_MIN_HEADER_BYTES || dataBytes < 0) return null;

  const flags = bytes[tcp + TCP_FLAGS];
  const hasAck = (flags & TCP_ACK) !== 0;
  const segmentLength = dataBytes + ((flags & TCP_SYN) !== 0 ? 1 : 0) + ((flags & TCP_FIN) !== 0 ? 1 : 0);
  const answer = answerTo(bytes, ip, PROTOCOL_TCP, TCP_MIN_HEADER_BYTES);
  const view = new DataView(answer.buffer);
  const out = IPV4_MIN_HEADER_BYTES;
  answer.set(bytes.subarray(tcp + 2, tcp + 4), out);
  answer.set(bytes.subarray(tcp, tcp + 2), out + 2);
  view.setUint32(out + 4, hasAck ? readUint32(bytes, tcp + 8) : 0);
  view.setUint32(out + 8, hasAck ? 0 : readUint32(bytes, tcp + 4) + segmentLength);
  view.setUint8(out + 12, (TCP_MIN_HEADER_BYTES / 4) << 4);
  view.setUint8(out + TCP_FLAGS, hasAck ? TCP_RST : TCP_RST | TCP_ACK);
  const pseudo = pseudoHeaderSum(view.getUint32(12), view.getUint32(16), PROTOCOL_TCP, TCP_MIN_HEADER_BYTES);
  view.setUint16(out + 16, checksum(answer, out, TCP_MIN_HEADER_BYTES, pseudo));
  return answer;
}

/**
 * ICMP destination unreachable, port unreachable (RFC 792), quoting the offender from its IP header on, unaltered, as
 * far as 576 bytes allow (RFC 1812 §4.3.2.3); its type of service is 0 (RFC 1122 §3.2.2).
 * @returns 28 bytes and the quotation, or null when `mayReject` forbids it or the protocol has no ports.
 */
export function portUnreachable(offender: Offender): Uint8Array | null {
  const { bytes, packetOffset: ip } = offender;
  const protocol = bytes[ip + 9];
  if (!mayReject(offender) || (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP)) return null;
  const room = MAX_ICMP_ERROR_BYTES - IPV4_MIN_HEADER_BYTES - ICMP_HEADER_BYTES;
  const quoted = Math.min(presentBytes(offender), room);
  const answer = answerTo(bytes, ip, PROTOCOL_ICMP, ICMP_HEADER_BYTES + quoted);
  const out = IPV4_MIN_HEADER_BYTES;
  answer[out] = ICMP_UNREACHABLE;
  answer[out + 1] = ICMP_CODE_PORT_UNREACHABLE;
  answer.set(bytes.subarray(ip, ip + quoted), out + ICMP_HEADER_BYTES);
  new DataView(answer.buffer).setUint16(out + 2, checksum(answer, out, ICMP_HEADER_BYTES + quoted));
  return answer;
}

/** A packet with `payloadBytes` of zeros behind a finished header: the offender's addresses, swapped. */
function answerTo(bytes: Uint8Array, ip: number, protocol: number, payloadBytes: number): Uint8Array<ArrayBuffer> {
  const answer = new Uint8Array(IPV4_MIN_HEADER_BYTES + payloadBytes);
  const view = new DataView(answer.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, answer.length);
  view.setUint16(6, DONT_FRAGMENT);
  view.setUint8(8, ANSWER_TTL);
  view.setUint8(9, protocol);
  answer.set(bytes.subarray(ip + 16, ip + 20), 12);
  answer.set(bytes.subarray(ip + 12, ip + 16), 16);
  view.setUint16(10, checksum(answer, 0, IPV4_MIN_HEADER_BYTES));
  return answer;
}

function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}
