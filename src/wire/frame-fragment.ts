/**
 * Splitting of IPv4 frames, for tests: what a router on the way does (RFC 791 §3.2).
 */
import { checksum } from './checksum.js';
import {
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_IPV4,
  ETHERTYPE_OLD_QINQ,
  ETHERTYPE_SERVICE_VLAN,
  ETHERTYPE_VLAN,
  VLAN_TAG_BYTES,
} from './ethernet.js';
import { DONT_FRAGMENT, fail, wholeWords } from './frame-layers.js';
import { IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS } from './ipv4.js';

/**
 * Splits a built IPv4 frame: same id, offsets in units of 8, and in later fragments only the options whose copied bit
 * is set. Padding is dropped; a fragment can be split again.
 * @param mtu the most bytes of a packet, IPv4 header included.
 * @returns complete frames in order; one copy when the packet fits.
 * @throws BerthError ERR_FRAME_BUILDER when DF is set, `mtu` has no room for 8 bytes, or the frame is not IPv4.
 */
export function fragment(frame: Uint8Array, mtu: number): Uint8Array[] {
  const input = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let ip = ETHERNET_HEADER_BYTES;
  while (ip <= frame.length && isTag(input.getUint16(ip - 2))) ip += VLAN_TAG_BYTES;
  const whole = ip + IPV4_MIN_HEADER_BYTES <= frame.length && input.getUint16(ip - 2) === ETHERTYPE_IPV4;
  const header = whole ? (frame[ip] & 15) * 4 : 0;
  const total = whole ? input.getUint16(ip + 2) : 0;
  if (header < IPV4_MIN_HEADER_BYTES || total < header || ip + total > frame.length) {
    return fail('only a complete IPv4 frame can be fragmented');
  }
  if (total <= mtu) return [frame.slice(0, ip + total)];
  const flags = input.getUint16(ip + 6);
  if ((flags & DONT_FRAGMENT) !== 0) return fail(`${total} bytes do not fit into ${mtu} and DF is set`);

  const copied = wholeWords(copiedOptions(frame.subarray(ip + IPV4_MIN_HEADER_BYTES, ip + header)));
  const frames: Uint8Array[] = [];
  for (let done = header; done < total; ) {
    const options = done === header ? frame.subarray(ip + IPV4_MIN_HEADER_BYTES, ip + header) : copied;
    const ownHeader = IPV4_MIN_HEADER_BYTES + options.length;
    const last = total - done <= mtu - ownHeader;
    const size = last ? total - done : Math.floor((mtu - ownHeader) / 8) * 8;
    if (size <= 0) return fail(`an MTU of ${mtu} leaves no room for data`);
    const part = new Uint8Array(ip + ownHeader + size);
    part.set(frame.subarray(0, ip + IPV4_MIN_HEADER_BYTES));
    part.set(options, ip + IPV4_MIN_HEADER_BYTES);
    part.set(frame.subarray(ip + done, ip + done + size), ip + ownHeader);
    const view = new DataView(part.buffer);
    view.setUint8(ip, 0x40 | (ownHeader / 4));
    view.setUint16(ip + 2, ownHeader + size);
    view.setUint16(ip + 6, (flags + (done - header) / 8) | (last ? 0 : MORE_FRAGMENTS));
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, checksum(part, ip, ownHeader));
    frames.push(part);
    done += size;
  }
  return frames;
}

function isTag(etherType: number): boolean {
  return etherType === ETHERTYPE_VLAN || etherType === ETHERTYPE_SERVICE_VLAN || etherType === ETHERTYPE_OLD_QINQ;
}

/** The options that later fragments repeat: type bit 7 (RFC 791 §3.1). Stops at the end of the list or at nonsense. */
function copiedOptions(options: Uint8Array): number[] {
  const kept: number[] = [];
  for (let at = 0; at < options.length && options[at] !== 0; ) {
    const length = options[at] === 1 ? 1 : (options[at + 1] ?? 0);
    if (length === 0 || at + length > options.length) break;
    if ((options[at] & 0x80) !== 0) kept.push(...options.subarray(at, at + length));
    at += length;
  }
  return kept;
}
