/**
 * Capture files for tests: built byte by byte from the specifications, with code that shares nothing with src/io; and a
 * way to read one back whole.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BerthError } from '../../src/base/errors.js';
import { openCapture } from '../../src/io/capture-reader.js';
import { FrameSlots } from '../../src/io/frame-io.js';

/** A frame as a test gives it and gets it back. `length` 0 and no bytes: not Ethernet. */
export interface TestFrame {
  bytes: Buffer;
  wire: number;
  seconds: number;
  nanoseconds: number;
}

/** A file, and where in it each record ends, with the number of frames that end there (0 or 1). */
export interface TestFile {
  bytes: Buffer;
  records: { start: number; end: number; frames: number }[];
}

export function frame(size: number, options: Partial<Omit<TestFrame, 'bytes'>> = {}): TestFrame {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + size) & 0xff;
  return { bytes, wire: size, seconds: 1_700_000_000, nanoseconds: 1000, ...options };
}

class Writer {
  readonly parts: Buffer[] = [];
  readonly little: boolean;
  constructor(little: boolean) {
    this.little = little;
  }
  u16(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(2);
      if (this.little) part.writeUInt16LE(value);
      else part.writeUInt16BE(value);
      this.parts.push(part);
    }
    return this;
  }
  u32(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(4);
      if (this.little) part.writeUInt32LE(value);
      else part.writeUInt32BE(value);
      this.parts.push(part);
    }
    return this;
  }
  u64(value: bigint): this {
    const part = Buffer.alloc(8);
    if (this.little) part.writeBigUInt64LE(BigInt.asUintN(64, value));
    else part.writeBigUInt64BE(BigInt.asUintN(64, value));
    this.parts.push(part);
    return this;
  }
  /** Bytes, padded with 0xee to a multiple of 4. */
  padded(bytes: Uint8Array): this {
    this.parts.push(Buffer.from(bytes), Buffer.alloc(-bytes.length & 3, 0xee));
    return this;
  }
  done(): Buffer {
    return Buffer.concat(this.parts);
  }
}

export interface PcapOptions {
  little?: boolean;
  nanoseconds?: boolean;
  /** The whole link-type field. */
  link?: number;
  minor?: number;
}

export function pcapFile(frames: TestFrame[], options: PcapOptions = {}): TestFile {
  const { little = true, nanoseconds = false, link = 1, minor = 4 } = options;
  const header = new Writer(little).u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4).u16(2, minor).u32(0, 0, 65535, link).done();
  const parts = [header];
  const records = [];
  let at = header.length;
  for (const { bytes, wire, seconds, nanoseconds: ns } of frames) {
    const record = new Writer(little).u32(seconds, nanoseconds ? ns : Math.floor(ns / 1000), bytes.length, wire).done();
    parts.push(record, bytes);
    records.push({ start: at, end: at + 16 + bytes.length, frames: 1 });
    at += 16 + bytes.length;
  }
  return { bytes: Buffer.concat(parts), records };
}

export interface InterfaceOptions {
  link?: number;
  snapLength?: number;
  tsresol?: number;
  tsoffset?: bigint;
  fcslen?: number;
}

/** Writes pcapng blocks one after another. */
export class PcapngBuilder {
  readonly file: TestFile = { bytes: Buffer.alloc(0), records: [] };
  readonly #parts: Buffer[] = [];
  #at = 0;
  #little = true;

  done(): TestFile {
    return { ...this.file, bytes: Buffer.concat(this.#parts) };
  }

  /** Any bytes, well formed or not. */
  raw(bytes: Buffer, frames = 0): this {
    this.#parts.push(bytes);
    this.file.records.push({ start: this.#at, end: this.#at + bytes.length, frames });
    this.#at += bytes.length;
    return this;
  }

  block(type: number, body: Buffer, frames = 0): this {
    const length = 12 + body.length;
    const head = new Writer(this.#little).u32(type, length).done();
    return this.raw(Buffer.concat([head, body, new Writer(this.#little).u32(length).done()]), frames);
  }

  section(little: boolean, options = Buffer.alloc(0), major = 1): this {
    this.#little = little;
    const body = new Writer(little).u32(0x1a2b3c4d).u16(major, 0).u64(-1n).done();
    return this.block(0x0a0d0d0a, Buffer.concat([body, options]));
  }

  interface({ link = 1, snapLength = 0, tsresol, tsoffset, fcslen }: InterfaceOptions = {}): this {
    const body = new Writer(this.#little).u16(link, 0).u32(snapLength);
    if (tsresol !== undefined) body.u16(2, 3).padded(Buffer.from('eth')).u16(9, 1).padded(Uint8Array.of(tsresol));
    if (fcslen !== undefined) body.u16(13, 1).padded(Uint8Array.of(fcslen));
    if (tsoffset !== undefined) body.u16(14, 8).u64(tsoffset);
    if (body.parts.length > 3) body.u16(0, 0);
    return this.block(1, body.done());
  }

  enhanced(index: number, ticks: bigint, bytes: Buffer, wire = bytes.length, options = Buffer.alloc(0)): this {
    const body = new Writer(this.#little).u32(index, Number(ticks >> 32n), Number(ticks & 0xffffffffn), bytes.length, wire).padded(bytes).done();
    return this.block(6, Buffer.concat([body, options]), 1);
  }

  obsolete(index: number, ticks: bigint, bytes: Buffer, wire = bytes.length): this {
    const body = new Writer(this.#little).u16(index, 0xffff).u32(Number(ticks >> 32n), Number(ticks & 0xffffffffn), bytes.length, wire);
    return this.block(2, body.padded(bytes).done(), 1);
  }

  simple(bytes: Buffer, wire = bytes.length): this {
    return this.block(3, new Writer(this.#little).u32(wire).padded(bytes).done(), 1);
  }
}

/** What the reader should say of ticks: exact, by whole numbers. */
export function timeOf(ticks: bigint, tsresol = 6, tsoffset = 0n): { seconds: number; nanoseconds: number } {
  let exponent = BigInt(tsresol & 0x7f);
  if (tsresol >= 0x80 && exponent > 30n) {
    ticks >>= exponent - 30n;
    exponent = 30n;
  }
  const rate = tsresol >= 0x80 ? 2n ** exponent : 10n ** exponent;
  return {
    seconds: Number(BigInt.asUintN(32, ticks / rate + tsoffset)),
    nanoseconds: Number(((ticks % rate) * 1_000_000_000n) / rate),
  };
}

export interface ReadResult {
  frames: TestFrame[];
  error: BerthError | null;
  notEthernet: number;
  /** The most memory that was lent. */
  lent: number;
}

/** Reads a capture to its end, copying the frames. Fails if reading does not come to an end. */
export async function readAll(path: string, capacity = 7, windowBytes?: number): Promise<ReadResult> {
  const reader = await openCapture(path, windowBytes === undefined ? {} : { windowBytes });
  const slots = new FrameSlots(capacity);
  const frames: TestFrame[] = [];
  let lent = 0;
  try {
    for (let turns = 0; await reader.read(slots); turns++) {
      if (turns > 1e6) throw new Error('reading does not end');
      lent = Math.max(lent, slots.bytes.length);
      for (let i = 0; i < slots.count; i++) {
        const bytes = Buffer.from(slots.bytes.subarray(slots.offset[i], slots.offset[i] + slots.length[i]));
        if (bytes.length !== slots.length[i]) throw new Error(`frame ${frames.length + i} lies outside the memory lent`);
        frames.push({ bytes, wire: slots.wireLength[i], seconds: slots.seconds[i], nanoseconds: slots.nanoseconds[i] });
      }
    }
    if ((await reader.read(slots)) || slots.count !== 0) throw new Error('read() gives frames after the end');
    return { frames, error: reader.error, notEthernet: reader.notEthernet, lent };
  } finally {
    await reader.close();
  }
}

/** A line a frame, equal where the frames are: to compare many bytes at once, for which toEqual() takes seconds. */
export function summary(frames: TestFrame[]): string[] {
  return frames.map(({ bytes, wire, seconds, nanoseconds }) => `${bytes.length} of ${wire} at ${seconds}.${nanoseconds}: ${createHash('sha1').update(bytes).digest('hex')}`);
}

/** A directory of its own for a test file; remove it with the function returned. */
export function temporaryDirectory(): { path: (name: string) => string; remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'berth-capture-'));
  return { path: (name) => join(directory, name), remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** Whether a program can be run; prints the reason for what is then skipped. */
export function hasTool(name: string, versionFlag = '--version'): boolean {
  try {
    execFileSync(name, [versionFlag], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn(`skipped: ${name} is not installed`);
    return false;
  }
}
