/**
 * pcapng: blocks of many kinds; frames lie in three of them (draft-ietf-opsawg-pcapng).
 *
 * ```
 *   type  length  body …………………………………………… length      every block; a multiple of 4 bytes, both lengths equal
 *   ENHANCED  body: interface  ticks high  ticks low  captured  original  frame … options …
 *   OBSOLETE  body: interface.drops  ticks high  ticks low  captured  original  frame … options …
 *   SIMPLE    body: original  frame …
 * ```
 * Sections     each header sets the byte order anew and forgets the interfaces.
 * Link types   a frame of an interface that is not Ethernet is described with length 0, and counted: frame numbers stay
 *              those of the file (packet blocks only: tshark numbers custom and journal blocks too).
 * No time      a simple packet has none: it gets that of the frame before it (0 if it is the first).
 * Long blocks  a block of up to MAX_RECORD_BYTES is looked at when it is whole. Of a longer one only the head (with the
 *              frame) is; the rest is dropped as it arrives, and the length at its end compared.
 * Unknown      blocks are skipped. A block that is not well formed ends the reading: nothing after it can be trusted.
 */
import { MAX_CAPTURED_BYTES, MAX_RECORD_BYTES, DECODE_DAMAGED, DECODE_MORE } from './capture-window.js';
import type { CaptureFormat, CaptureWindow } from './capture-window.js';
import type { FrameSlots } from './frame-io.js';
import { PcapngInterfaces } from './pcapng-interfaces.js';

/** Block types. The section header's reads the same in both byte orders. */
const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const OBSOLETE = 2;
const SIMPLE = 3;
const ENHANCED = 6;

/** The parts of a section header up to its options, without the trailing length. */
export const SECTION_HEAD_BYTES = 24;
const BYTE_ORDER = 0x1a2b3c4d;
/** Type, length and, in a section header, byte order: what must be there to go on. */
const BLOCK_HEAD_BYTES = 12;
/** The fixed part of an enhanced or obsolete packet, of a simple one; and of any block's end. */
const PACKET_HEAD_BYTES = 28;
const SIMPLE_HEAD_BYTES = 12;
const TRAILER_BYTES = 4;

/** What #block() and its parts say when a block is dealt with; else DECODE_MORE or DECODE_DAMAGED. */
const DONE = 2;

export class PcapngFormat implements CaptureFormat {
  readonly name = 'pcapng';
  notEthernet = 0;
  need = BLOCK_HEAD_BYTES;
  damage = '';
  skippingFrom = -1;
  skippingLength = 0;
  readonly #interfaces = new PcapngInterfaces();
  #littleEndian = true;
  #lastSeconds = 0;
  #lastNanoseconds = 0;

  get linkTypes(): ReadonlySet<number> {
    return this.#interfaces.linkTypes;
  }

  /** Whether a file of at least 12 bytes begins as this format does. */
  static matches(view: DataView): boolean {
    if (view.getUint32(0, true) !== SECTION) return false;
    return view.getUint32(8, true) === BYTE_ORDER || view.getUint32(8, false) === BYTE_ORDER;
  }

  decode(window: CaptureWindow, slots: FrameSlots): number {
    const { view, end } = window;
    const { capacity, offset, length, wireLength, seconds, nanoseconds } = slots;
    const interfaces = this.#interfaces;
    let at = window.start;
    let count = slots.count;
    let status = DONE;
    while (count < capacity) {
      const little = this.#littleEndian;
      let plain = false;
      if (end - at >= PACKET_HEAD_BYTES && this.skippingFrom < 0 && view.getUint32(at, little) === ENHANCED) {
        const blockLength = view.getUint32(at + 4, little);
        const index = view.getUint32(at + 8, little);
        const captured = view.getUint32(at + 20, little);
        // The common block: whole, well formed, of Ethernet without checksum. #block() sorts out all others.
        plain =
          blockLength <= MAX_RECORD_BYTES &&
          (blockLength & 3) === 0 &&
          blockLength <= end - at &&
          captured <= MAX_CAPTURED_BYTES &&
          captured + PACKET_HEAD_BYTES + TRAILER_BYTES <= blockLength &&
          index < interfaces.count &&
          interfaces.isEthernet[index] === 1 &&
          interfaces.fcsBytes[index] === 0 &&
          view.getUint32(at + blockLength - TRAILER_BYTES, little) === blockLength;
        if (plain) {
          offset[count] = at + PACKET_HEAD_BYTES;
          length[count] = captured;
          wireLength[count] = view.getUint32(at + 24, little);
          interfaces.setTime(slots, count, index, view.getUint32(at + 12, little), view.getUint32(at + 16, little));
          count++;
          at += blockLength;
        }
      }
      if (!plain) {
        window.start = at;
        slots.count = count;
        status = this.#block(window, slots);
        at = window.start;
        count = slots.count;
        if (status !== DONE) break;
      }
    }
    window.start = at;
    slots.count = count;
    if (count > 0) {
      this.#lastSeconds = seconds[count - 1];
      this.#lastNanoseconds = nanoseconds[count - 1];
    }
    return status === DONE ? DECODE_MORE : status;
  }

  /** One block of any kind at the window's start. @returns DECODE_MORE, DECODE_DAMAGED or DONE */
  #block(window: CaptureWindow, slots: FrameSlots): number {
    const { view, start, end } = window;
    const available = end - start;
    if (this.skippingFrom >= 0) return this.#finishSkipping(window, available);
    if (available < BLOCK_HEAD_BYTES) return this.#wants(BLOCK_HEAD_BYTES);
    const type = view.getUint32(start, this.#littleEndian);
    if (type === SECTION) {
      this.#littleEndian = view.getUint32(start + 8, true) === BYTE_ORDER;
      if (view.getUint32(start + 8, this.#littleEndian) !== BYTE_ORDER) {
        return this.#wrong(`got byte-order magic 0x${view.getUint32(start + 8).toString(16)}, expected 0x1a2b3c4d either way round`);
      }
    }
    const little = this.#littleEndian;
    const blockLength = view.getUint32(start + 4, little);
    const least = leastLength(type);
    if (blockLength < least || (blockLength & 3) !== 0) {
      return this.#wrong(`got a block of ${blockLength} bytes, expected a multiple of 4 and at least ${least}`);
    }
    const isLong = blockLength > MAX_RECORD_BYTES;
    if (!isLong && available < blockLength) return this.#wants(blockLength);
    if (!isLong && view.getUint32(start + blockLength - TRAILER_BYTES, little) !== blockLength) {
      return this.#badTrailer(view.getUint32(start + blockLength - TRAILER_BYTES, little), blockLength);
    }
    let status = DONE;
    if (type === ENHANCED || type === OBSOLETE) status = this.#packet(window, slots, type, blockLength);
    else if (type === SIMPLE) status = this.#simplePacket(window, slots, blockLength);
    else if (type === SECTION) status = this.#section(window);
    else if (type === INTERFACE) status = this.#interface(window, blockLength, isLong);
    if (status !== DONE) return status;
    if (isLong) {
      this.skippingFrom = window.base + start;
      this.skippingLength = blockLength;
    }
    window.start = start + blockLength - (isLong ? TRAILER_BYTES : 0);
    return DONE;
  }

  #finishSkipping(window: CaptureWindow, available: number): number {
    if (available < TRAILER_BYTES) return this.#wants(TRAILER_BYTES);
    const trailer = window.view.getUint32(window.start, this.#littleEndian);
    if (trailer !== this.skippingLength) return this.#badTrailer(trailer, this.skippingLength);
    window.start += TRAILER_BYTES;
    this.skippingFrom = -1;
    return DONE;
  }

  #section({ view, start, end }: CaptureWindow): number {
    if (end - start < SECTION_HEAD_BYTES) return this.#wants(SECTION_HEAD_BYTES);
    const major = view.getUint16(start + 12, this.#littleEndian);
    if (major !== 1) return this.#wrong(`got a section of pcapng version ${major}, expected 1`);
    this.#interfaces.clear();
    return DONE;
  }

  #interface({ view, start }: CaptureWindow, blockLength: number, isLong: boolean): number {
    if (isLong) return this.#wrong(`got an interface description of ${blockLength} bytes, expected at most ${MAX_RECORD_BYTES}`);
    const wrong = this.#interfaces.add(view, start, blockLength, this.#littleEndian);
    return wrong === '' ? DONE : this.#wrong(wrong);
  }

  #packet(window: CaptureWindow, slots: FrameSlots, type: number, blockLength: number): number {
    const { view, start, end } = window;
    const little = this.#littleEndian;
    if (end - start < PACKET_HEAD_BYTES) return this.#wants(PACKET_HEAD_BYTES);
    const index = type === ENHANCED ? view.getUint32(start + 8, little) : view.getUint16(start + 8, little);
    const captured = view.getUint32(start + 20, little);
    const { count } = this.#interfaces;
    if (index >= count) return this.#wrong(`got a packet of interface ${index}, expected one of the ${count} described`);
    const status = this.#checkCaptured(window, captured, PACKET_HEAD_BYTES, blockLength);
    if (status !== DONE) return status;
    this.#interfaces.setTime(slots, slots.count, index, view.getUint32(start + 12, little), view.getUint32(start + 16, little));
    this.#add(slots, index, start + PACKET_HEAD_BYTES, captured, view.getUint32(start + 24, little));
    return DONE;
  }

  #simplePacket(window: CaptureWindow, slots: FrameSlots, blockLength: number): number {
    const { view, start } = window;
    if (this.#interfaces.count === 0) return this.#wrong('got a simple packet, expected a description of its interface before it');
    const original = view.getUint32(start + 8, this.#littleEndian);
    const limit = this.#interfaces.snapLength[0];
    const room = blockLength - SIMPLE_HEAD_BYTES - TRAILER_BYTES;
    const captured = Math.min(original, room, limit === 0 ? Infinity : limit);
    const status = this.#checkCaptured(window, captured, SIMPLE_HEAD_BYTES, blockLength);
    if (status !== DONE) return status;
    const slot = slots.count;
    slots.seconds[slot] = slot > 0 ? slots.seconds[slot - 1] : this.#lastSeconds;
    slots.nanoseconds[slot] = slot > 0 ? slots.nanoseconds[slot - 1] : this.#lastNanoseconds;
    this.#add(slots, 0, start + SIMPLE_HEAD_BYTES, captured, original);
    return DONE;
  }

  /** Whether `captured` bytes after a head of `head` bytes are credible and in the window. */
  #checkCaptured({ start, end }: CaptureWindow, captured: number, head: number, blockLength: number): number {
    const most = Math.min(MAX_CAPTURED_BYTES, blockLength - head - TRAILER_BYTES);
    if (captured > most) return this.#wrong(`got a captured length of ${captured} bytes, expected at most ${most}`);
    return end - start < head + captured ? this.#wants(head + captured) : DONE;
  }

  #add(slots: FrameSlots, index: number, at: number, captured: number, original: number): void {
    const slot = slots.count++;
    const isEthernet = this.#interfaces.isEthernet[index] === 1;
    if (!isEthernet) this.notEthernet++;
    const wire = isEthernet ? Math.max(0, original - this.#interfaces.fcsBytes[index]) : original;
    slots.offset[slot] = at;
    slots.length[slot] = !isEthernet ? 0 : wire < original ? Math.min(captured, wire) : captured;
    slots.wireLength[slot] = wire;
  }

  #wants(bytes: number): number {
    this.need = bytes;
    return DECODE_MORE;
  }

  #wrong(damage: string): number {
    this.damage = damage;
    return DECODE_DAMAGED;
  }

  #badTrailer(got: number, expected: number): number {
    return this.#wrong(`got a length of ${got} at the block's end, expected ${expected} as at its front`);
  }
}

/** The fewest bytes that a block of this type takes. */
function leastLength(type: number): number {
  if (type === SECTION) return SECTION_HEAD_BYTES + TRAILER_BYTES;
  if (type === INTERFACE) return 20;
  if (type === ENHANCED || type === OBSOLETE) return PACKET_HEAD_BYTES + TRAILER_BYTES;
  if (type === SIMPLE) return SIMPLE_HEAD_BYTES + TRAILER_BYTES;
  return 12;
}
