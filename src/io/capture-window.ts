/**
 * The stretch of a capture file that is in memory, and what a file format does with it.
 *
 * ```
 *            start                    end
 *   | read … | not yet looked at …… | free … |     bytes
 *   ^ base: where bytes[0] lies in the (inflated) file
 * ```
 * Memory       one buffer, read into in large pieces; only a partial record moves, to the front, before the next read.
 *              It grows if a single record is longer than it, to at most MAX_RECORD_BYTES.
 * Skipping     a format may put `start` past `end`: what lies between is dropped as it arrives, in constant memory.
 */
import type { ByteSource } from './byte-source.js';
import type { FrameSlots } from './frame-io.js';

/** The most bytes of one frame in any capture file: libpcap's MAXIMUM_SNAPLEN. */
export const MAX_CAPTURED_BYTES = 262144;
/** The most bytes that a format may want to see at once: a frame and as much again for headers and options. */
export const MAX_RECORD_BYTES = 2 * MAX_CAPTURED_BYTES;

/** LINKTYPE_ETHERNET. */
export const LINK_ETHERNET = 1;

/** What decode() came back for: the slots are full or more bytes are needed; or the record at `start` is damaged. */
export const DECODE_MORE = 0;
export const DECODE_DAMAGED = 1;

/** A file format: finds frames in the window. */
export interface CaptureFormat {
  readonly name: 'pcap' | 'pcapng';
  /** Bytes from the window's `start` on that the record there takes, as far as is known. */
  readonly need: number;
  /** After DECODE_DAMAGED: what is wrong, as "got …, expected …". */
  readonly damage: string;
  /** Where in the file a record begins of which the rest is being skipped, and its length; -1 when there is none. */
  readonly skippingFrom: number;
  readonly skippingLength: number;
  /** Frames so far that are not Ethernet. */
  readonly notEthernet: number;
  /** The link types described so far, each once. */
  readonly linkTypes: ReadonlySet<number>;
  /** Describes frames from the window's `start` on, in `slots` from `slots.count` on; moves both. @returns DECODE_… */
  decode(window: CaptureWindow, slots: FrameSlots): number;
}

export class CaptureWindow {
  bytes: Uint8Array;
  view: DataView;
  start = 0;
  end = 0;
  base = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  /**
   * Reads more bytes, after making room for a record of `need` bytes at `start`.
   *
   * @returns how many bytes came; 0 at the end of the file
   */
  refill(source: ByteSource, need: number): number | Promise<number> {
    this.#makeRoom(need);
    const got = source.read(this.bytes, this.end);
    if (typeof got !== 'number') return got.then((count) => this.#grown(count));
    return this.#grown(got);
  }

  #grown(count: number): number {
    this.end += count;
    return count;
  }

  #makeRoom(need: number): void {
    const { start, end } = this;
    const rest = Math.max(0, end - start);
    const old = this.bytes;
    if (need > old.length) {
      this.bytes = new Uint8Array(Math.max(need, 2 * old.length));
      this.view = new DataView(this.bytes.buffer);
      this.bytes.set(old.subarray(end - rest, end));
    } else if (start > 0 && rest > 0) {
      old.copyWithin(0, start, end);
    }
    this.base += Math.min(start, end);
    this.start = start - Math.min(start, end);
    this.end = rest;
  }
}
