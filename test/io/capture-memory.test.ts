/**
 * A capture of any size is read in constant memory, and a frame costs no allocation: 256 MiB plain and gzip.
 *
 * The file is one stretch of records written over and over (as gzip: members), so making it takes a fraction of a second.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { openCapture } from '../../src/io/capture-reader.js';
import { FrameSlots } from '../../src/io/frame-io.js';
import { frame, pcapFile, PcapngBuilder, temporaryDirectory } from './capture-files.js';

const temporary = temporaryDirectory();
afterAll(temporary.remove);

const REPEATS = 256;
const SIZES = Array.from({ length: 2000 }, (_, i) => (i % 3 === 0 ? 1514 : 60 + (i % 200)));

/** The head of the file, and about 1 MiB of records to repeat. */
function parts(format: 'pcap' | 'pcapng'): { head: Buffer; records: Buffer } {
  if (format === 'pcap') {
    const { bytes } = pcapFile(SIZES.map((size) => frame(size)));
    return { head: bytes.subarray(0, 24), records: bytes.subarray(24) };
  }
  const file = new PcapngBuilder().section(true).interface({ tsresol: 9 });
  SIZES.forEach((size, i) => file.enhanced(0, 1_700_000_000_000_000_000n + BigInt(i), frame(size).bytes));
  const { bytes } = file.done();
  const headBytes = file.file.records[1].end;
  return { head: bytes.subarray(0, headBytes), records: bytes.subarray(headBytes) };
}

describe('memory', () => {
  it.each([
    ['pcap', false],
    ['pcapng', false],
    ['pcap', true],
  ] as const)('does not grow with the file: %s, gzip %s', async (format, isGzip) => {
    const path = temporary.path('large');
    const { head, records } = parts(format);
    const repeats = Math.ceil((REPEATS << 20) / records.length);
    const pack = (bytes: Buffer): Buffer => (isGzip ? gzipSync(bytes, { level: 1 }) : bytes);
    const packed = pack(records);
    const fd = openSync(path, 'w');
    writeSync(fd, pack(head));
    for (let i = 0; i < repeats; i++) writeSync(fd, packed);
    closeSync(fd);

    const reader = await openCapture(path);
    const slots = new FrameSlots(1024);
    const lent = new Set<Uint8Array>();
    let frames = 0;
    let before = 0;
    let most = 0;
    for (let turn = 0; await reader.read(slots); turn++) {
      frames += slots.count;
      lent.add(slots.bytes);
      if (turn === 300) before = process.memoryUsage().rss;
      if (turn % 100 === 0) most = Math.max(most, process.memoryUsage().rss);
    }
    expect(reader.error).toBeNull();
    expect(frames).toBe(repeats * SIZES.length);
    expect(before).toBeGreaterThan(0);
    expect([...lent].map((bytes) => bytes.length)).toEqual([512 * 1024]);
    // zlib's chunks of output are garbage until V8 gets round to them.
    expect((most - before) / 1e6).toBeLessThan(isGzip ? 64 : 16);
    await reader.close();
    rmSync(path);
  });
});
