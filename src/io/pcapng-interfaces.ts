/**
 * The interfaces of a pcapng section: link type, snapshot length and clock of each, and from clock ticks to time.
 *
 * Shape        a structure of arrays that grows by doubling, to MAX_INTERFACES; emptied by each section header.
 * Clock        if_tsresol is 10^-n or 2^-n seconds a tick, if_tsoffset whole seconds to add. 64-bit ticks are two 32-bit
 *              numbers here. Ticks finer than 10^-9 or 2^-30 seconds are first made coarser, rounding down; then a
 *              division of 64 by 30 bits, in steps that a double holds exactly. Seconds come out modulo 2^32.
 * Not here     the frame checksum length that a single packet's flags may give (epb_flags): if_fcslen only.
 * Source       draft-ietf-opsawg-pcapng §4.2.
 */
import { LINK_ETHERNET } from './capture-window.js';
import type { FrameSlots } from './frame-io.js';

const MAX_INTERFACES = 65536;

const IDB_FIXED_BYTES = 16;
const OPTION_END = 0;
const OPTION_TSRESOL = 9;
const OPTION_FCSLEN = 13;
const OPTION_TSOFFSET = 14;
const MICROSECONDS = 6;
const BINARY = 0x80;

export class PcapngInterfaces {
  count = 0;
  /** Link types of all interfaces of all sections so far. */
  readonly linkTypes = new Set<number>();
  /** 1 where the link type is Ethernet. */
  isEthernet = new Uint8Array(4);
  /** Bytes of frame checksum at the end of each frame. */
  fcsBytes = new Uint8Array(4);
  /** 0: no limit. */
  snapLength = new Uint32Array(4);
  #resolution = new Uint8Array(4);
  /** 1 where ticks must be made coarser first. */
  #isFine = new Uint8Array(4);
  /** The low 32 bits of if_tsoffset. */
  #offset = new Uint32Array(4);
  /** Ticks a second after making coarser (at most 2^30), and nanoseconds in one of those. */
  #rate = new Float64Array(4);
  #nanoseconds = new Float64Array(4);

  clear(): void {
    this.count = 0;
  }

  /**
   * Takes up an interface description block.
   *
   * @param at, length  the whole block in `view`, at least 20 bytes
   * @returns what is wrong with it, '' if nothing
   */
  add(view: DataView, at: number, length: number, little: boolean): string {
    const index = this.count;
    if (index === MAX_INTERFACES) return `got more than ${MAX_INTERFACES} interfaces in a section`;
    if (index === this.isEthernet.length) this.#grow();
    const linkType = view.getUint16(at + 8, little);
    this.linkTypes.add(linkType);
    this.isEthernet[index] = linkType === LINK_ETHERNET ? 1 : 0;
    this.snapLength[index] = view.getUint32(at + 12, little);
    this.fcsBytes[index] = 0;
    this.#offset[index] = 0;
    this.#setResolution(index, MICROSECONDS);
    const wrong = this.#readOptions(index, view, at + IDB_FIXED_BYTES, at + length - 4, little);
    if (wrong === '') this.count++;
    return wrong;
  }

  /** Writes the time of frame `slot`: `high` and `low` are the halves of the tick count, `index` is an interface. */
  setTime(slots: FrameSlots, slot: number, index: number, high: number, low: number): void {
    if (this.#isFine[index] === 1) this.#setFineTime(slots, slot, index, high, low);
    else this.#divide(slots, slot, index, high, low);
  }

  /** Ticks finer than `rate`: makes them coarser by one digit or bit a turn. */
  #setFineTime(slots: FrameSlots, slot: number, index: number, high: number, low: number): void {
    const resolution = this.#resolution[index];
    if (resolution < BINARY) {
      // Past 10^-29 nothing is left of 64 bits; nor past 2^-94.
      for (let digit = Math.min(resolution, 29); digit > 9; digit--) {
        low = Math.floor(((high % 10) * 4294967296 + low) / 10);
        high = Math.floor(high / 10);
      }
    } else {
      for (let bit = Math.min(resolution - BINARY, 94); bit > 30; bit--) {
        low = ((high << 31) | (low >>> 1)) >>> 0;
        high >>>= 1;
      }
    }
    this.#divide(slots, slot, index, high, low);
  }

  #divide(slots: FrameSlots, slot: number, index: number, high: number, low: number): void {
    const rate = this.#rate[index];
    let second: number;
    let rest: number;
    if (high < 0x200000) {
      const ticks = high * 4294967296 + low;
      second = Math.floor(ticks / rate);
      rest = ticks - second * rate;
    } else {
      // What `high` holds beyond `rate` makes multiples of 2^32 seconds, which are dropped.
      const upper = (high - Math.floor(high / rate) * rate) * 65536 + (low >>> 16);
      const upperSeconds = Math.floor(upper / rate);
      const lower = (upper - upperSeconds * rate) * 65536 + (low & 0xffff);
      const lowerSeconds = Math.floor(lower / rate);
      second = upperSeconds * 65536 + lowerSeconds;
      rest = lower - lowerSeconds * rate;
    }
    // Modulo 2^32 before the sum too: past 2^53 it would round.
    slots.seconds[slot] = (second >>> 0) + this.#offset[index];
    slots.nanoseconds[slot] = Math.floor(rest * this.#nanoseconds[index]);
  }

  #readOptions(index: number, view: DataView, from: number, end: number, little: boolean): string {
    let at = from;
    while (end - at >= 4) {
      const code = view.getUint16(at, little);
      const length = view.getUint16(at + 2, little);
      const value = at + 4;
      if (code === OPTION_END) break;
      if (length > end - value) return `got option ${code} of ${length} bytes, expected at most ${end - value}`;
      if (code === OPTION_TSRESOL) {
        if (length !== 1) return `got if_tsresol of ${length} bytes, expected 1`;
        this.#setResolution(index, view.getUint8(value));
      } else if (code === OPTION_TSOFFSET) {
        if (length !== 8) return `got if_tsoffset of ${length} bytes, expected 8`;
        this.#offset[index] = view.getUint32(little ? value : value + 4, little);
      } else if (code === OPTION_FCSLEN) {
        if (length !== 1) return `got if_fcslen of ${length} bytes, expected 1`;
        this.fcsBytes[index] = view.getUint8(value) >>> 3;
      }
      at = value + ((length + 3) & ~3);
    }
    return '';
  }

  #setResolution(index: number, resolution: number): void {
    const exponent = resolution & ~BINARY;
    const rate = resolution < BINARY ? 10 ** Math.min(exponent, 9) : 2 ** Math.min(exponent, 30);
    this.#resolution[index] = resolution;
    this.#isFine[index] = exponent > (resolution < BINARY ? 9 : 30) ? 1 : 0;
    this.#rate[index] = rate;
    this.#nanoseconds[index] = 1e9 / rate;
  }

  #grow(): void {
    const size = 2 * this.isEthernet.length;
    this.isEthernet = enlarged(this.isEthernet, new Uint8Array(size));
    this.fcsBytes = enlarged(this.fcsBytes, new Uint8Array(size));
    this.snapLength = enlarged(this.snapLength, new Uint32Array(size));
    this.#resolution = enlarged(this.#resolution, new Uint8Array(size));
    this.#isFine = enlarged(this.#isFine, new Uint8Array(size));
    this.#offset = enlarged(this.#offset, new Uint32Array(size));
    this.#rate = enlarged(this.#rate, new Float64Array(size));
    this.#nanoseconds = enlarged(this.#nanoseconds, new Float64Array(size));
  }
}

function enlarged<A extends { set(from: A): void }>(from: A, to: A): A {
  to.set(from);
  return to;
}
