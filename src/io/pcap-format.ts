/**
 * Classic pcap: a header of 24 bytes, then records of 16 bytes and a frame (draft-ietf-opsawg-pcap).
 *
 * ```
 *   magic  major.minor  0  0  snaplen  link type          seconds  fraction  captured  original  frame …
 *     4       2 + 2     4  4     4         4                 4        4          4         4
 * ```
 * Orders       the magic number says byte order and whether fractions are microseconds or nanoseconds.
 * Link type    the low 16 bits; the high bits may say that frames carry a checksum (FCS): it is cut off both lengths.
 * Cost         no allocation, one pass; a record is four reads and five writes.
 */
import { MAX_CAPTURED_BYTES, DECODE_DAMAGED, DECODE_MORE } from './capture-window.js';
import type { CaptureFormat, CaptureWindow } from './capture-window.js';
import type { FrameSlots } from './frame-io.js';

const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d;
export const PCAP_HEADER_BYTES = 24;
export const PCAP_RECORD_BYTES = 16;

/** Link-type field, high bits: bit 26 says that bits 28 to 31 count the 16-bit words of FCS at the end of a frame. */
const FCS_PRESENT = 0x04000000;

export class PcapFormat implements CaptureFormat {
  readonly name = 'pcap';
  readonly notEthernet = 0;
  readonly skippingFrom = -1;
  readonly skippingLength = 0;
  readonly linkTypes: ReadonlySet<number>;
  readonly linkType: number;
  /** 2.4 in every file of this century. */
  readonly majorVersion: number;
  readonly minorVersion: number;
  need = PCAP_RECORD_BYTES;
  damage = '';
  readonly #littleEndian: boolean;
  readonly #nanosecondsPerUnit: number;
  readonly #fcsBytes: number;

  /** @param view  a view of the file's first PCAP_HEADER_BYTES, at least */
  constructor(view: DataView) {
    const little = isMagic(view.getUint32(0, true));
    this.#littleEndian = little;
    this.#nanosecondsPerUnit = view.getUint32(0, little) === PCAP_MAGIC_NANOSECONDS ? 1 : 1000;
    this.majorVersion = view.getUint16(4, little);
    this.minorVersion = view.getUint16(6, little);
    const link = view.getUint32(20, little);
    this.linkType = link & 0xffff;
    this.linkTypes = new Set([this.linkType]);
    this.#fcsBytes = (link & FCS_PRESENT) !== 0 ? 2 * (link >>> 28) : 0;
  }

  /** Whether a file of at least 4 bytes begins as this format does. */
  static matches(view: DataView): boolean {
    return isMagic(view.getUint32(0, true)) || isMagic(view.getUint32(0, false));
  }

  decode(window: CaptureWindow, slots: FrameSlots): number {
    const { view, end } = window;
    const { capacity, offset, length, wireLength, seconds, nanoseconds } = slots;
    const little = this.#littleEndian;
    const unit = this.#nanosecondsPerUnit;
    const unitsPerSecond = 1e9 / unit;
    const fcs = this.#fcsBytes;
    let at = window.start;
    let count = slots.count;
    let status = DECODE_MORE;
    let need = PCAP_RECORD_BYTES;
    while (count < capacity && end - at >= PCAP_RECORD_BYTES) {
      let captured = view.getUint32(at + 8, little);
      if (captured > MAX_CAPTURED_BYTES) {
        status = DECODE_DAMAGED;
        break;
      }
      const next = at + PCAP_RECORD_BYTES + captured;
      if (next > end) {
        need = PCAP_RECORD_BYTES + captured;
        break;
      }
      let second = view.getUint32(at, little);
      let fraction = view.getUint32(at + 4, little);
      let original = view.getUint32(at + 12, little);
      if (fraction >= unitsPerSecond) {
        second += Math.floor(fraction / unitsPerSecond);
        fraction %= unitsPerSecond;
      }
      if (fcs !== 0) {
        original = Math.max(0, original - fcs);
        captured = Math.min(captured, original);
      }
      offset[count] = at + PCAP_RECORD_BYTES;
      length[count] = captured;
      wireLength[count] = original;
      seconds[count] = second;
      nanoseconds[count] = fraction * unit;
      count++;
      at = next;
    }
    window.start = at;
    slots.count = count;
    this.need = need;
    if (status === DECODE_DAMAGED) this.#describe(view.getUint32(at + 8, little));
    return status;
  }

  #describe(captured: number): void {
    this.damage = `got a captured length of ${captured} bytes, expected at most ${MAX_CAPTURED_BYTES}`;
  }
}

function isMagic(word: number): boolean {
  return word === PCAP_MAGIC_MICROSECONDS || word === PCAP_MAGIC_NANOSECONDS;
}
