/** What the writer writes the reader reads; what cannot be written is an error with the path and the cause. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { BerthError } from '../../src/base/errors.js';
import { PcapWriter } from '../../src/io/pcap-writer.js';
import { frame, pcapFile, readAll, summary, temporaryDirectory, type TestFrame } from './capture-files.js';

const temporary = temporaryDirectory();
afterAll(temporary.remove);
const path = temporary.path('written.pcap');

function write(frames: TestFrame[], offset = 0): PcapWriter {
  const writer = new PcapWriter(path);
  for (const { bytes, wire, seconds, nanoseconds } of frames) {
    const memory = Buffer.concat([Buffer.alloc(offset, 1), bytes, Buffer.alloc(3, 2)]);
    writer.write(memory, offset, bytes.length, wire, seconds, nanoseconds);
    memory.fill(0xaa);
  }
  writer.close();
  return writer;
}

const codeOf = (action: () => void): string => {
  try {
    action();
    return 'nothing thrown';
  } catch (error) {
    return (error as BerthError).code;
  }
};

describe('PcapWriter', () => {
  it('writes what the reader gives back', async () => {
    const anyFrame = fc.record({
      bytes: fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 1400, maxLength: 1600 })).map((bytes) => Buffer.from(bytes)),
      wire: fc.integer({ min: 0, max: 0xffffffff }),
      seconds: fc.integer({ min: 0, max: 0xffffffff }),
      nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { maxLength: 20 }), fc.nat(9), async (frames, offset) => {
        const writer = write(frames, offset);
        expect(await readAll(path)).toMatchObject({ frames, error: null });
        expect([writer.frames, writer.bytes]).toEqual([frames.length, statSync(path).size]);
        expect(readFileSync(path).subarray(24)).toEqual(pcapFile(frames, { nanoseconds: true }).bytes.subarray(24));
      }),
    );
  });

  it('writes more than its buffer holds, and frames of every size up to the limit', async () => {
    const frames = [...Array.from({ length: 1000 }, (_, i) => frame(i * 3)), frame(262144), frame(262143), frame(0)];
    write(frames);
    expect(summary((await readAll(path, 100)).frames)).toEqual(summary(frames));
  });

  it.each([262087, 262088, 262089])('fills its buffer to the last byte and no further (%s bytes)', async (size) => {
    // File header, one frame of the longest and this one: 524288 bytes with the second size.
    const frames = [frame(262144), frame(size), frame(60)];
    write(frames);
    expect(summary((await readAll(path)).frames)).toEqual(summary(frames));
  });

  it('cuts a longer frame and says its length', async () => {
    write([frame(262150), frame(60)]);
    const { frames } = await readAll(path);
    expect(frames.map(({ bytes, wire }) => [bytes.length, wire])).toEqual([[262144, 262150], [60, 60]]);
  });

  it('refuses a frame outside the memory it is said to be in', () => {
    const writer = new PcapWriter(path);
    const memory = new Uint8Array(100);
    expect(() => writer.write(memory, 50, 51, 51, 0, 0)).toThrow(RangeError);
    expect(() => writer.write(memory, -1, 10, 10, 0, 0)).toThrow(RangeError);
    expect(() => writer.write(memory, 0, -1, 10, 0, 0)).toThrow(RangeError);
    writer.close();
    expect(statSync(path).size).toBe(24);
  });

  it('says which file cannot be created, and why', () => {
    const missing = temporary.path('missing/file.pcap');
    expect(() => new PcapWriter(missing)).toThrow(expect.objectContaining({ code: 'ERR_CAPTURE_WRITE', message: expect.stringMatching(/missing\/file\.pcap: cannot be created \(its folder is not there\); name a place/) }));
    expect(codeOf(() => new PcapWriter(temporary.path('.')))).toBe('ERR_CAPTURE_WRITE');
  });

  it.skipIf(!existsSync('/dev/full'))('says that the disk is full, once more at each write, and closes (needs /dev/full)', () => {
    const writer = new PcapWriter('/dev/full');
    const { bytes } = frame(1500);
    const fill = (): void => {
      for (let i = 0; i < 1000; i++) writer.write(bytes, 0, 1500, 1500, 0, 0);
    };
    expect(fill).toThrow(/^\/dev\/full: cannot be written \(the disk is full\); make room, or name another place$/);
    expect(codeOf(() => writer.write(bytes, 0, 60, 60, 0, 0))).toBe('ERR_CAPTURE_WRITE');
    expect(codeOf(() => writer.flush())).toBe('ERR_CAPTURE_WRITE');
    writer.close();
    const late = new PcapWriter('/dev/full');
    expect(codeOf(() => late.close())).toBe('ERR_CAPTURE_WRITE');
    late.close();
  });

  it('takes nothing after close', () => {
    const writer = write([]);
    expect(codeOf(() => writer.write(new Uint8Array(60), 0, 60, 60, 0, 0))).toBe('ERR_CAPTURE_WRITE');
    writer.close();
  });
});
