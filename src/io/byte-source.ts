/**
 * Where the bytes of a capture file come from: a regular file or a pipe. Gzip on top of either: gzip-source.ts.
 *
 * Order        front to back, once; nothing here or above seeks, except that a regular file can be read anew.
 * Waiting      a regular file is read synchronously (a page-cache copy, no promise); a pipe waits in the event loop,
 *              not in a thread of the pool: a thread that waits for a writer would keep the process from ending.
 * Errors       never thrown by read(): it returns 0 and `failure` says why.
 */
import { close, fstat, open, readSync, type Stats } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { BerthError, fileReason } from '../base/errors.js';

export interface ByteSource {
  /** Bytes read from the file itself (compressed ones, if it is compressed). */
  readonly bytesRead: number;
  /** What ended the stream early, once read() has returned 0; null: the plain end of the file. */
  readonly failure: Error | null;
  /**
   * Copies the next bytes to `into[at …]`, at most to its end.
   *
   * @returns how many, at least 1; or 0 when nothing more will come
   */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /** Lets the next read() begin at the front of the file again; absent where that cannot be. */
  rewind?(): void;
  close(): Promise<void>;
}

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);

/**
 * Opens a regular file or a named pipe (for a pipe: waits for its writer).
 *
 * @returns the source, and the file's size in bytes (undefined for a pipe)
 * @throws BerthError ERR_CAPTURE_OPEN
 */
export async function openByteSource(path: string): Promise<{ source: ByteSource; totalBytes: number | undefined }> {
  let fd: number;
  let stats: Stats;
  try {
    fd = await openFile(path, 'r');
    stats = await statFile(fd);
  } catch (cause) {
    throw new BerthError('ERR_CAPTURE_OPEN', `${path}: cannot be opened (${fileReason(cause)}); name a capture that this user may read`, { cause });
  }
  if (stats.isFile()) return { source: new FileSource(fd), totalBytes: stats.size };
  if (stats.isFIFO()) return { source: new PipeSource(fd), totalBytes: undefined };
  await closeFile(fd);
  const kind = stats.isDirectory() ? 'a directory' : 'neither a file nor a pipe';
  throw new BerthError('ERR_CAPTURE_OPEN', `${path}: is ${kind}: name a capture file or a pipe`);
}

class FileSource implements ByteSource {
  bytesRead = 0;
  failure: Error | null = null;
  readonly #fd: number;
  #open = true;

  constructor(fd: number) {
    this.#fd = fd;
  }

  read(into: Uint8Array, at: number): number {
    if (!this.#open || this.failure !== null) return 0;
    try {
      const got = readSync(this.#fd, into, at, into.length - at, this.bytesRead);
      this.bytesRead += got;
      return got;
    } catch (cause) {
      this.failure = cause as Error;
      return 0;
    }
  }

  rewind(): void {
    this.bytesRead = 0;
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await closeFile(this.#fd);
  }
}

class PipeSource implements ByteSource {
  bytesRead = 0;
  failure: Error | null = null;
  readonly #socket: Socket;
  readonly #chunks: ChunkReader;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#socket.on('error', (error) => (this.failure ??= error));
    this.#chunks = new ChunkReader(this.#socket);
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    for (;;) {
      const got = this.#chunks.take(into, at);
      if (got > 0 || this.#chunks.over) {
        this.bytesRead += got;
        return got;
      }
      await this.#chunks.event();
    }
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once('close', () => resolve()).destroy();
    });
  }
}

/** Pulls the chunks of a paused stream into somebody else's buffer. */
export class ChunkReader {
  readonly #stream: Readable;
  #chunk: Buffer | null = null;
  #chunkAt = 0;
  #wake: (() => void) | null = null;

  constructor(stream: Readable) {
    this.#stream = stream;
    const wake = (): void => this.wake();
    stream.on('readable', wake).on('end', wake).on('error', wake).on('close', wake);
  }

  /** True when the stream has ended, failed or been closed, and everything it gave is taken. */
  get over(): boolean {
    return this.#chunk === null && (this.#stream.readableEnded || this.#stream.destroyed);
  }

  /** Copies what has arrived to `into[at …]`; returns how many bytes, 0 if nothing waits. */
  take(into: Uint8Array, at: number): number {
    this.#chunk ??= this.#stream.read() as Buffer | null;
    const chunk = this.#chunk;
    if (chunk === null) return 0;
    const got = chunk.copy(into, at, this.#chunkAt);
    this.#chunkAt += got;
    if (this.#chunkAt === chunk.length) {
      this.#chunk = null;
      this.#chunkAt = 0;
    }
    return got;
  }

  /** Resolves at the stream's next sign of life, or at wake(). */
  event(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  wake(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
