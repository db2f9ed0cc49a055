/**
 * Writes a classic pcap: little-endian, nanoseconds, Ethernet, snapshot length 262144. tcpdump and tshark read it.
 *
 * Memory       one buffer of BUFFER_BYTES; frames are copied, so what is lent is free when write() returns.
 * Copying      frames of up to LOOP_BYTES by 32-bit words, with nothing allocated; longer ones by TypedArray.set(), which
 *              needs a view of the frame (dead at once). It is the one exception to "nothing a frame": 1514 bytes take
 *              55 ns so and 900 ns by words (Node 20), and writing must not be what a replay waits for.
 * Waiting      synchronous, once a full buffer. What is in the buffer is in the file only after flush() or close().
 * Errors       ERR_CAPTURE_WRITE, thrown by whichever call meets it; after it the file is as far as it came and write()
 *              throws it again, while close() only closes.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { BerthError, fileReason, newFileReason } from '../base/errors.js';
import { LINK_ETHERNET, MAX_CAPTURED_BYTES } from './capture-window.js';
import { PCAP_HEADER_BYTES, PCAP_MAGIC_NANOSECONDS, PCAP_RECORD_BYTES } from './pcap-format.js';

const BUFFER_BYTES = 512 * 1024;
/** Up to here a loop is no slower than a view and set(): 64 bytes take about 45 ns either way. */
const LOOP_BYTES = 96;

export class PcapWriter {
  readonly path: string;
  /** Frames and bytes taken so far, file header included. */
  frames = 0;
  bytes = PCAP_HEADER_BYTES;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  #used = 0;
  #fd: number;
  #failure: BerthError | null = null;
  #source: Uint8Array = this.#buffer;
  #sourceView: DataView = this.#view;

  /**
   * Creates the file, or empties it.
   *
   * @throws BerthError ERR_CAPTURE_WRITE
   */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'w');
    } catch (cause) {
      throw new BerthError('ERR_CAPTURE_WRITE', `${path}: cannot be created (${newFileReason(cause)}); name a place that this user may write to`, { cause });
    }
    const view = this.#view;
    view.setUint32(0, PCAP_MAGIC_NANOSECONDS, true);
    view.setUint16(4, 2, true);
    view.setUint16(6, 4, true);
    view.setUint32(16, MAX_CAPTURED_BYTES, true);
    view.setUint32(20, LINK_ETHERNET, true);
    this.#used = PCAP_HEADER_BYTES;
  }

  /**
   * Adds a frame. More than 262144 bytes are cut to that; `wireLength` then still says how long it was.
   *
   * @param bytes       borrowed until the call returns
   * @param offset      of the frame's first byte (the destination MAC) in `bytes`
   * @param length      bytes of it to write; they must lie in `bytes`
   * @param wireLength  bytes it had on the wire
   * @param seconds, nanoseconds  time of capture, since 1970
   * @throws BerthError ERR_CAPTURE_WRITE; RangeError for a frame that is not inside `bytes`
   */
  write(bytes: Uint8Array, offset: number, length: number, wireLength: number, seconds: number, nanoseconds: number): void {
    const captured = Math.min(length, MAX_CAPTURED_BYTES);
    if (offset < 0 || length < 0 || offset + captured > bytes.length) {
      throw new RangeError(`got a frame of ${length} bytes at ${offset}, expected it inside ${bytes.length} bytes`);
    }
    if (this.#used + PCAP_RECORD_BYTES + captured > BUFFER_BYTES || this.#failure !== null) this.flush();
    const view = this.#view;
    const at = this.#used;
    const body = at + PCAP_RECORD_BYTES;
    view.setUint32(at, seconds, true);
    view.setUint32(at + 4, nanoseconds, true);
    view.setUint32(at + 8, captured, true);
    view.setUint32(at + 12, wireLength, true);
    if (captured > LOOP_BYTES) this.#buffer.set(bytes.subarray(offset, offset + captured), body);
    else this.#copyWords(bytes, offset, captured, body);
    this.#used = body + captured;
    this.frames++;
    this.bytes += PCAP_RECORD_BYTES + captured;
  }

  #copyWords(bytes: Uint8Array, offset: number, length: number, to: number): void {
    if (bytes !== this.#source) {
      this.#source = bytes;
      this.#sourceView = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    const source = this.#sourceView;
    const view = this.#view;
    const end = offset + length;
    let at = to;
    let from = offset;
    for (; end - from >= 4; from += 4, at += 4) view.setInt32(at, source.getInt32(from, true), true);
    for (; from < end; from++, at++) view.setUint8(at, source.getUint8(from));
  }

  /** Writes to the file what is in the buffer. @throws BerthError ERR_CAPTURE_WRITE */
  flush(): void {
    if (this.#failure !== null) throw this.#failure;
    try {
      let done = 0;
      while (done < this.#used) done += writeSync(this.#fd, this.#buffer, done, this.#used - done);
      this.#used = 0;
    } catch (cause) {
      this.#failure = new BerthError('ERR_CAPTURE_WRITE', `${this.path}: cannot be written (${fileReason(cause)}); make room, or name another place`, { cause });
      throw this.#failure;
    }
  }

  /** Writes the rest and closes the file; once it is closed, does nothing. @throws BerthError ERR_CAPTURE_WRITE */
  close(): void {
    if (this.#fd < 0) return;
    try {
      if (this.#failure === null) this.flush();
    } finally {
      const fd = this.#fd;
      this.#fd = -1;
      this.#failure ??= new BerthError('ERR_CAPTURE_WRITE', `${this.path}: is closed`);
      closeSync(fd);
    }
  }
}
