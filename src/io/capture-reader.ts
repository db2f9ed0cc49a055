/**
 * Capture files, read front to back: pcap and pcapng, plain or gzip, a file or a pipe; told apart by content.
 *
 * Memory       a window of WINDOW_BYTES on the file, whatever its size; frames are described where they lie in it and
 *              are borrowed until the next read(). Nothing is allocated a frame.
 * Cost         a frame of 64 bytes from the page cache: 17 ns (pcap), 26 (pcapng, microseconds), 38 (nanoseconds): one
 *              synchronous read of a large piece, then a plain loop. Only a pipe and gzip make promises, one a piece.
 * Damage       never throws out of read(): the frames before it are delivered, then read() says false and `error` why.
 * Frame sizes  at most 262144 captured bytes, as in libpcap; more is damage.
 * Not here     writing (pcap-writer.ts), what a frame is (dataplane/parse.ts).
 */
import type { BerthError } from '../base/errors.js';
import { openByteSource, type ByteSource } from './byte-source.js';
import { CapturePlace } from './capture-place.js';
import { CaptureWindow, DECODE_DAMAGED, LINK_ETHERNET, type CaptureFormat } from './capture-window.js';
import type { FrameSlots } from './frame-io.js';
import { GzipSource } from './gzip-source.js';
import { PCAP_HEADER_BYTES, PcapFormat } from './pcap-format.js';
import { PcapngFormat, SECTION_HEAD_BYTES } from './pcapng-format.js';

/** Large enough that the call and the left-over record are noise, small enough to stay in a second-level cache. */
const WINDOW_BYTES = 512 * 1024;
/** Enough of the file to know what it is. */
const MAGIC_BYTES = 12;

/**
 * Opens a capture file and reads its header.
 *
 * @param options.windowBytes  memory to begin with, at least 64; for tests
 * @throws BerthError ERR_CAPTURE_OPEN (missing, not readable, a directory), ERR_CAPTURE_FORMAT (not a capture, or of an
 *         unknown version), ERR_CAPTURE_LINKTYPE (a pcap of something other than Ethernet), ERR_CAPTURE_TRUNCATED (ends
 *         in its header), ERR_CAPTURE_MALFORMED (corrupt gzip before any header), ERR_CAPTURE_READ
 */
export async function openCapture(path: string, options: { windowBytes?: number } = {}): Promise<CaptureReader> {
  const { source: file, totalBytes } = await openByteSource(path);
  let source: ByteSource = file;
  try {
    const window = new CaptureWindow(Math.max(64, options.windowBytes ?? WINDOW_BYTES));
    await fill(window, source, MAGIC_BYTES);
    const isGzip = window.end >= 2 && window.view.getUint16(0) === 0x1f8b;
    if (isGzip) {
      source = new GzipSource(file, window.bytes.slice(0, window.end));
      window.end = 0;
      await fill(window, source, MAGIC_BYTES);
    }
    const where = new CapturePlace(path, isGzip);
    const format = await readHeader(where, window, source);
    return new CaptureReader(where, source, totalBytes, window, format);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Reads frames from an open capture. */
export class CaptureReader {
  /** Bytes of the file on disk, compressed if it is; undefined for a pipe. */
  readonly totalBytes: number | undefined;
  readonly format: 'pcap' | 'pcapng';
  readonly isGzip: boolean;
  readonly #where: CapturePlace;
  readonly #source: ByteSource;
  readonly #window: CaptureWindow;
  readonly #decoder: CaptureFormat;
  #over = false;
  #error: BerthError | null = null;

  /** For openCapture(). */
  constructor(where: CapturePlace, source: ByteSource, totalBytes: number | undefined, window: CaptureWindow, decoder: CaptureFormat) {
    this.#where = where;
    this.#source = source;
    this.totalBytes = totalBytes;
    this.#window = window;
    this.#decoder = decoder;
    this.format = decoder.name;
    this.isGzip = where.isGzip;
  }

  /** Bytes read from disk so far: up to `totalBytes`, for a progress bar. */
  get bytesRead(): number {
    return this.#source.bytesRead;
  }

  /** What ended the reading early; null while there is no such thing. */
  get error(): BerthError | null {
    return this.#error;
  }

  /** Frames so far of interfaces that are not Ethernet (pcapng): described with length 0. */
  get notEthernet(): number {
    return this.#decoder.notEthernet;
  }

  /** Link types of the interfaces described so far, each once. */
  get linkTypes(): ReadonlySet<number> {
    return this.#decoder.linkTypes;
  }

  /**
   * Describes the next frames, up to `slots.capacity`, fewer where the window ends. They are borrowed until the next
   * read() or close().
   *
   * @returns whether there are any (`slots.count` > 0). false: the end, or damage (see `error`). A promise only for
   *          gzip and pipes; read() must not be called again before it resolves. It never rejects.
   */
  read(slots: FrameSlots): boolean | Promise<boolean> {
    slots.count = 0;
    if (slots.capacity === 0) return false;
    while (!this.#over) {
      if (this.#decode(slots)) return true;
      const more = this.#more();
      if (typeof more !== 'boolean') return this.#readLater(slots, more);
    }
    return false;
  }

  /** Closes the file. What was lent must no longer be used. */
  async close(): Promise<void> {
    this.#over = true;
    await this.#source.close();
  }

  async #readLater(slots: FrameSlots, first: Promise<boolean>): Promise<boolean> {
    await first;
    while (!this.#over) {
      if (this.#decode(slots)) return true;
      await this.#more();
    }
    return false;
  }

  /** Fills `slots` from the window. @returns whether there is a frame */
  #decode(slots: FrameSlots): boolean {
    const window = this.#window;
    const status = this.#decoder.decode(window, slots);
    // Frames first; the next call comes to the same damage again.
    if (slots.count > 0) {
      slots.lend(window.bytes);
      return true;
    }
    if (status === DECODE_DAMAGED) {
      this.#fail(this.#where.error('MALFORMED', window.base + window.start, this.#decoder.damage));
    }
    return false;
  }

  /** Reads on, unless it is over. @returns whether there was more */
  #more(): boolean | Promise<boolean> {
    if (this.#over) return false;
    const got = this.#window.refill(this.#source, this.#decoder.need);
    if (typeof got !== 'number') return got.then((count) => this.#arrived(count));
    return this.#arrived(got);
  }

  #arrived(count: number): boolean {
    if (count > 0) return true;
    if (this.#over) return false;
    this.#over = true;
    const { start, end, base } = this.#window;
    const { need, skippingFrom, skippingLength } = this.#decoder;
    const isSkipping = skippingFrom >= 0;
    const from = isSkipping ? skippingFrom : base + start;
    const there = base + end - from;
    const { failure } = this.#source;
    if (failure !== null) this.#error = this.#where.sourceError(failure, from, there);
    else if (there > 0) {
      this.#error = this.#where.error('TRUNCATED', from, `the file ends after ${there} bytes of a record, expected at least ${isSkipping ? skippingLength : need}`);
    }
    return false;
  }

  #fail(error: BerthError): void {
    this.#over = true;
    this.#error = error;
  }
}

/** Reads until the window holds `bytes` bytes or the source ends. */
async function fill(window: CaptureWindow, source: ByteSource, bytes: number): Promise<void> {
  while (window.end < bytes) {
    if ((await window.refill(source, bytes)) === 0) return;
  }
}

/** Finds out the format from the file's first bytes, and checks the file header. */
async function readHeader(where: CapturePlace, window: CaptureWindow, source: ByteSource): Promise<CaptureFormat> {
  if (window.end >= 4 && PcapFormat.matches(window.view)) {
    await requireBytes(where, window, source, PCAP_HEADER_BYTES);
    const format = new PcapFormat(window.view);
    const { majorVersion: major, minorVersion: minor } = format;
    if (major !== 2 || minor < 4) throw where.formatError(`it is pcap of version ${major}.${minor}, which is not 2.4`);
    if (format.linkType !== LINK_ETHERNET) throw where.linkTypeError(format.linkType);
    window.start = PCAP_HEADER_BYTES;
    return format;
  }
  const isSection = window.end >= 4 && window.view.getUint32(0) === 0x0a0d0d0a;
  if (isSection) {
    await requireBytes(where, window, source, SECTION_HEAD_BYTES);
    if (PcapngFormat.matches(window.view)) return new PcapngFormat();
  }
  if (source.failure !== null) throw where.sourceError(source.failure, 0, window.end);
  throw where.unknownFormat(window.bytes.subarray(0, Math.min(window.end, MAGIC_BYTES)));
}

async function requireBytes(where: CapturePlace, window: CaptureWindow, source: ByteSource, bytes: number): Promise<void> {
  await fill(window, source, bytes);
  if (window.end >= bytes) return;
  if (source.failure !== null) throw where.sourceError(source.failure, 0, window.end);
  throw where.error('TRUNCATED', 0, `the file ends after ${window.end} bytes of its header, expected ${bytes}`);
}
