/**
 * The inflated bytes of a gzip file, from zlib of Node; concatenated members follow each other as in gzip(1).
 *
 * Memory       one piece of compressed input, one chunk of output and what the stream holds between them, however far
 *              the data blow up: zlib stops at a full chunk until it is taken.
 * Threads      zlib inflates in a thread of Node's pool: the next piece while the reader works on the last.
 * Damage       zlib of Node throws away all that it inflated in the call in which it meets an error, which in a small
 *              file is everything. So a regular file is then inflated a second time up to the same place, there one
 *              byte of input at a time, and what comes before the damage is delivered. A pipe cannot be read again:
 *              up to PIECE_BYTES of its input before the damage are lost.
 */
import { createGunzip, type Gunzip } from 'node:zlib';
import { ChunkReader, type ByteSource } from './byte-source.js';

/** Small enough to go through byte by byte in half a second, large enough that the hand-over to the pool is noise. */
const PIECE_BYTES = 32 * 1024;
const CHUNK_BYTES = 256 * 1024;

export class GzipSource implements ByteSource {
  failure: Error | null = null;
  readonly #inner: ByteSource;
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #gunzip!: Gunzip;
  #chunks!: ChunkReader;
  /** Bytes of input that have been handed to the inflater, and where the piece in its hands begins. */
  #fed = 0;
  #pieceAt = 0;
  #head: Uint8Array | null = null;
  #feeding = false;
  #inputOver = false;
  #endSent = false;
  /** Second pass: the first byte of input to take one by one, and inflated bytes to drop because they were delivered. */
  #carefulFrom = Infinity;
  #drop = 0;
  #delivered = 0;
  #farthest = 0;

  /** @param head  what has been read from `inner` already; used where `inner` cannot be rewound */
  constructor(inner: ByteSource, head: Uint8Array) {
    this.#inner = inner;
    if (inner.rewind !== undefined) inner.rewind();
    else this.#head = head;
    this.#start();
  }

  get bytesRead(): number {
    return Math.max(this.#farthest, this.#inner.bytesRead);
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    for (;;) {
      const got = this.#take(into, at);
      // The next piece goes in before this chunk is worked on: the two overlap.
      if (!this.#feeding && !this.#inputOver && !this.#chunks.over) void this.#feed();
      if (got > 0) return got;
      if (this.#chunks.over) return 0;
      if (this.#inputOver && !this.#feeding && !this.#endSent) {
        // Only now, with nothing in flight: an end in the middle of a member is an error and would take data with it.
        this.#endSent = true;
        this.#gunzip.end();
      }
      await this.#chunks.event();
    }
  }

  async close(): Promise<void> {
    this.#inputOver = true;
    this.#gunzip.destroy();
    await this.#inner.close();
  }

  #start(): void {
    const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
    gunzip.on('error', (error) => this.#failed(error));
    this.#gunzip = gunzip;
    this.#chunks = new ChunkReader(gunzip);
  }

  /** Moves inflated bytes into `into`; those of a second pass that were delivered in the first are dropped. */
  #take(into: Uint8Array, at: number): number {
    for (;;) {
      const got = this.#chunks.take(into, at);
      const dropped = Math.min(got, this.#drop);
      this.#drop -= dropped;
      if (dropped > 0) into.copyWithin(at, at + dropped, at + got);
      if (got > dropped || got === 0) {
        this.#delivered += got - dropped;
        return got - dropped;
      }
    }
  }

  /** Hands the inflater its next piece; returns when it is through with it. */
  async #feed(): Promise<void> {
    const gunzip = this.#gunzip;
    this.#feeding = true;
    this.#pieceAt = this.#fed;
    let piece = this.#head;
    this.#head = null;
    if (piece === null) {
      const into = this.#fed >= this.#carefulFrom ? this.#piece.subarray(0, 1) : this.#piece;
      const got = await this.#inner.read(into, 0);
      piece = into.subarray(0, got);
    }
    if (gunzip !== this.#gunzip || gunzip.destroyed) return;
    this.#fed += piece.length;
    if (piece.length === 0) {
      this.#inputOver = true;
      this.#feeding = false;
      this.#chunks.wake();
      return;
    }
    gunzip.write(piece, () => {
      if (gunzip !== this.#gunzip) return;
      this.#feeding = false;
      // Zero bytes after the last member are padding: zlib leaves them alone and has ended.
      if (gunzip.bytesWritten < this.#fed) this.#inputOver = this.#endSent = true;
      this.#chunks.wake();
    });
  }

  #failed(error: Error): void {
    // Data that just stop are met with nothing in flight: nothing is lost.
    const isTruncated = (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR';
    if (isTruncated || this.failure !== null || this.#inner.rewind === undefined) {
      this.failure ??= this.#inner.failure ?? error;
      return;
    }
    this.failure = error;
    this.#farthest = this.#inner.bytesRead;
    this.#inner.rewind();
    this.#carefulFrom = this.#pieceAt;
    this.#drop = this.#delivered;
    this.#fed = 0;
    this.#feeding = this.#inputOver = this.#endSent = false;
    const waiting = this.#chunks;
    this.#start();
    waiting.wake();
  }
}
