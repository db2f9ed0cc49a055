/**
 * The encoders behind frame-builder.ts: one function a header, from options with defaults to bytes.
 *
 * Checked      every value against the width of its field; ERR_FRAME_BUILDER says which one and what was expected.
 * Checksums    are worked out unless the options carry one.
 * Not here     the order of layers, Ethernet and tags (frame-builder.ts), splitting (frame-fragment.ts).
 */
import { BerthError } from '../base/errors.js';
import { parseIpv4, parseMac } from './address.js';
import {
  ARP_BYTES,
  ARP_ETHERNET_IPV4,
  ARP_LENGTHS,
  ARP_REPLY,
  ARP_REQUEST,
  ARP_SENDER_IP,
  ARP_SENDER_MAC,
  ARP_TARGET_IP,
} from './arp.js';
import { checksum, pseudoHeaderSum } from './checksum.js';
import { ICMP_HEADER_BYTES } from './icmp.js';
import { FRAGMENT_OFFSET_MASK, IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS, PROTOCOL_TCP, PROTOCOL_UDP } from './ipv4.js';
import { TCP_MIN_HEADER_BYTES, TCP_SYN } from './tcp.js';
import { UDP_HEADER_BYTES } from './udp.js';

export const DONT_FRAGMENT = 0x4000;
const ARP_TARGET_MAC = 18;

/** Documentation addresses (RFC 5737) and locally administered MACs, used where none is given. */
export const DEFAULT_SOURCE_IP = '198.51.100.7';
export const DEFAULT_DESTINATION_IP = '192.0.2.10';
export const DEFAULT_SOURCE_MAC = '02:00:5e:10:00:07';
export const DEFAULT_DESTINATION_MAC = '02:00:5e:10:00:10';

/** Text is taken as UTF-8. */
export type Bytes = Uint8Array | readonly number[] | string;

/** RFC 791 §3.1. `options` are padded with zeros to whole words; `fragmentOffset` is in bytes, a multiple of 8. */
export interface Ipv4Options {
  readonly src?: string;
  readonly dst?: string;
  readonly ttl?: number;
  readonly tos?: number;
  readonly id?: number;
  readonly options?: Bytes;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  readonly fragmentOffset?: number;
  readonly version?: number;
  readonly ihl?: number;
  readonly totalLength?: number;
  readonly checksum?: number;
}
/** RFC 9293 §3.1. `flags` default to SYN; `options` are padded with zeros; `dataOffset` is in 32-bit words. */
export interface TcpOptions {
  readonly seq?: number;
  readonly ack?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly options?: Bytes;
  readonly payload?: Bytes;
  readonly dataOffset?: number;
  readonly checksum?: number;
}
/** RFC 768. */
export interface UdpOptions {
  readonly payload?: Bytes;
  readonly length?: number;
  readonly checksum?: number;
}
/** RFC 826. Sender MAC: the frame's source; target MAC: zeros in a request, the frame's destination in a reply. */
export interface ArpOptions {
  readonly senderMac?: string;
  readonly senderIp?: string;
  readonly targetMac?: string;
  readonly targetIp?: string;
}

/** What stands behind the IPv4 header; the addresses are numbers in host order, for the pseudo header. */
export interface Upper {
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly encode: (payload: Uint8Array, source: number, destination: number) => Uint8Array;
}

/** The whole packet: header, options and what `upper` encodes. */
export function encodeIpv4(ip: Ipv4Options, upper: Upper): Uint8Array {
  const source = address(ip.src ?? DEFAULT_SOURCE_IP);
  const destination = address(ip.dst ?? DEFAULT_DESTINATION_IP);
  const options = wholeWords(ip.options);
  const body = upper.encode(upper.payload, source, destination);
  const header = IPV4_MIN_HEADER_BYTES + options.length;
  const offset = ip.fragmentOffset ?? 0;
  if (offset % 8 !== 0) return fail(`fragment offset: got ${offset}, expected a multiple of 8`);
  const packet = new Uint8Array(header + body.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, (field('version', ip.version ?? 4, 15) << 4) | field('ihl', ip.ihl ?? header / 4, 15));
  view.setUint8(1, field('tos', ip.tos ?? 0, 255));
  view.setUint16(2, field('total length', ip.totalLength ?? packet.length, 0xffff));
  view.setUint16(4, field('id', ip.id ?? 1, 0xffff));
  const flags = (ip.dontFragment ? DONT_FRAGMENT : 0) | (ip.moreFragments ? MORE_FRAGMENTS : 0);
  view.setUint16(6, flags | field('fragment offset', offset / 8, FRAGMENT_OFFSET_MASK));
  view.setUint8(8, field('ttl', ip.ttl ?? 64, 255));
  view.setUint8(9, upper.protocol);
  view.setUint32(12, source);
  view.setUint32(16, destination);
  packet.set(options, IPV4_MIN_HEADER_BYTES);
  view.setUint16(10, field('checksum', ip.checksum ?? checksum(packet, 0, header), 0xffff));
  packet.set(body, header);
  return packet;
}

export function encodeTcp(sourcePort: number, destinationPort: number, options: TcpOptions): Upper['encode'] {
  return (payload, source, destination) => {
    const extra = wholeWords(options.options);
    const segment = new Uint8Array(TCP_MIN_HEADER_BYTES + extra.length + payload.length);
    const view = new DataView(segment.buffer);
    view.setUint16(0, field('source port', sourcePort, 0xffff));
    view.setUint16(2, field('destination port', destinationPort, 0xffff));
    view.setUint32(4, field('seq', options.seq ?? 1, 0xffffffff));
    view.setUint32(8, field('ack', options.ack ?? 0, 0xffffffff));
    view.setUint8(12, field('data offset', options.dataOffset ?? 5 + extra.length / 4, 15) << 4);
    view.setUint8(13, field('flags', options.flags ?? TCP_SYN, 0xff));
    view.setUint16(14, field('window', options.window ?? 64240, 0xffff));
    segment.set(extra, TCP_MIN_HEADER_BYTES);
    segment.set(payload, TCP_MIN_HEADER_BYTES + extra.length);
    const pseudo = pseudoHeaderSum(source, destination, PROTOCOL_TCP, segment.length);
    view.setUint16(16, field('checksum', options.checksum ?? checksum(segment, 0, segment.length, pseudo), 0xffff));
    return segment;
  };
}

export function encodeUdp(sourcePort: number, destinationPort: number, options: UdpOptions): Upper['encode'] {
  return (payload, source, destination) => {
    const datagram = new Uint8Array(UDP_HEADER_BYTES + payload.length);
    const view = new DataView(datagram.buffer);
    view.setUint16(0, field('source port', sourcePort, 0xffff));
    view.setUint16(2, field('destination port', destinationPort, 0xffff));
    view.setUint16(4, field('length', options.length ?? datagram.length, 0xffff));
    datagram.set(payload, UDP_HEADER_BYTES);
    const pseudo = pseudoHeaderSum(source, destination, PROTOCOL_UDP, view.getUint16(4));
    const sum = checksum(datagram, 0, datagram.length, pseudo) || 0xffff;
    view.setUint16(6, field('checksum', options.checksum ?? sum, 0xffff));
    return datagram;
  };
}

/** RFC 792; `rest` is bytes 4 … 7, big-endian. */
export function encodeIcmp(type: number, code: number, rest: number): Upper['encode'] {
  return (data) => {
    const message = new Uint8Array(ICMP_HEADER_BYTES + data.length);
    const view = new DataView(message.buffer);
    view.setUint8(0, field('ICMP type', type, 255));
    view.setUint8(1, field('ICMP code', code, 255));
    view.setUint32(4, field('rest of header', rest, 0xffffffff));
    message.set(data, ICMP_HEADER_BYTES);
    view.setUint16(2, checksum(message, 0, message.length));
    return message;
  };
}

/** `source` and `destination` are the MACs of the frame around it. */
export function encodeArp(
  request: boolean,
  options: ArpOptions,
  source: Uint8Array,
  destination: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(ARP_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ARP_ETHERNET_IPV4);
  view.setUint16(4, ARP_LENGTHS);
  view.setUint16(6, request ? ARP_REQUEST : ARP_REPLY);
  bytes.set(options.senderMac === undefined ? source : mac(options.senderMac), ARP_SENDER_MAC);
  view.setUint32(ARP_SENDER_IP, address(options.senderIp ?? DEFAULT_SOURCE_IP));
  if (options.targetMac !== undefined) bytes.set(mac(options.targetMac), ARP_TARGET_MAC);
  else if (!request) bytes.set(destination, ARP_TARGET_MAC);
  view.setUint32(ARP_TARGET_IP, address(options.targetIp ?? DEFAULT_DESTINATION_IP));
  return bytes;
}

/** A copy of the bytes. */
export function toBytes(bytes: Bytes): Uint8Array {
  return typeof bytes === 'string' ? new TextEncoder().encode(bytes) : Uint8Array.from(bytes);
}

/** Bytes of options, padded with zeros ("end of option list") to a multiple of 4. */
export function wholeWords(bytes: Bytes = []): Uint8Array {
  const given = toBytes(bytes);
  const padded = new Uint8Array(Math.ceil(given.length / 4) * 4);
  padded.set(given);
  return padded;
}

/** `value` if it is a whole number that its field can hold. */
export function field(name: string, value: number, maximum: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= maximum) return value;
  return fail(`${name}: got ${value}, expected a whole number from 0 to ${maximum}`);
}

function address(text: string): number {
  return parseIpv4(text) ?? fail(`"${text}" is not an IPv4 address like 192.0.2.10`);
}

export function mac(text: string): Uint8Array {
  return parseMac(text) ?? fail(`"${text}" is not a MAC address like 02:00:5e:10:00:01`);
}

export function fail(message: string): never {
  throw new BerthError('ERR_FRAME_BUILDER', message);
}
