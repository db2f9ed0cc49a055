/** Capture files that are in order: the same frames come back, whatever the format, the order and the sizes. */
import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openCapture } from '../../src/io/capture-reader.js';
import { FrameSlots } from '../../src/io/frame-io.js';
import { frame, pcapFile, PcapngBuilder, readAll, summary, temporaryDirectory, timeOf, type TestFrame } from './capture-files.js';

const temporary = temporaryDirectory();
afterAll(temporary.remove);
const path = temporary.path('file');

/** A gzip file of several members, cut where the test says. */
function gzipMembers(bytes: Buffer, cuts: number[]): Buffer {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return Buffer.concat(places.slice(1).map((place, i) => gzipSync(bytes.subarray(places[i], place))));
}

const anyBytes = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const anyU32 = fc.integer({ min: 0, max: 0xffffffff });
const reading = fc.record({
  capacity: fc.integer({ min: 1, max: 9 }),
  windowBytes: fc.constantFrom(64, 65, 200, 1000, 1 << 19),
  members: fc.option(fc.array(fc.nat(), { maxLength: 3 }), { nil: undefined }),
});

async function readBack(bytes: Buffer, { capacity, windowBytes, members }: { capacity: number; windowBytes: number; members: number[] | undefined }) {
  writeFileSync(path, members === undefined ? bytes : gzipMembers(bytes, members));
  return readAll(path, capacity, windowBytes);
}

describe('pcap', () => {
  const anyFrame = fc.record({
    bytes: anyBytes,
    more: fc.nat(2000),
    seconds: anyU32,
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
  });

  it('gives back frames, lengths and times in both byte orders and resolutions, plain and gzip', async () => {
    const options = fc.record({ little: fc.boolean(), nanoseconds: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { maxLength: 30 }), options, reading, async (given, format, how) => {
        const frames = given.map(({ bytes, more, seconds, nanoseconds }): TestFrame => {
          const ns = format.nanoseconds ? nanoseconds : nanoseconds - (nanoseconds % 1000);
          return { bytes, wire: bytes.length + more, seconds, nanoseconds: ns };
        });
        const result = await readBack(pcapFile(frames, format).bytes, how);
        expect(result).toMatchObject({ error: null, notEthernet: 0 });
        expect(result.frames).toEqual(frames);
      }),
      { numRuns: 300 },
    );
  });

  it('takes a frame of 262144 bytes, and grows the window for it', async () => {
    const frames = [frame(60), frame(262144), frame(61)];
    writeFileSync(path, pcapFile(frames).bytes);
    expect(summary((await readAll(path, 8, 64)).frames)).toEqual(summary(frames));
  });

  it('carries a fraction of more than a second over', async () => {
    writeFileSync(path, pcapFile([frame(60, { seconds: 7, nanoseconds: 3_000_001_000 })]).bytes);
    expect((await readAll(path)).frames).toMatchObject([{ seconds: 10, nanoseconds: 1000 }]);
  });

  it('looks at the low 16 bits of the link type only', async () => {
    writeFileSync(path, pcapFile([frame(60)], { link: 0x03ff0001 }).bytes);
    expect((await readAll(path)).frames).toEqual([frame(60)]);
  });

  it('cuts off the frame checksum that the link type announces', async () => {
    const whole = frame(64);
    const cut = frame(62, { wire: 64 });
    const short = frame(40, { wire: 1518 });
    writeFileSync(path, pcapFile([whole, cut, short], { link: 0x24000001 }).bytes);
    const { frames } = await readAll(path);
    expect(frames.map(({ bytes, wire }) => [bytes.length, wire])).toEqual([[60, 60], [60, 60], [40, 1514]]);
  });

  it('reads a file without frames', async () => {
    writeFileSync(path, pcapFile([]).bytes);
    expect(await readAll(path)).toMatchObject({ frames: [], error: null });
  });
});

describe('pcapng', () => {
  const anyInterface = fc.record({
    isEthernet: fc.boolean(),
    snapLength: fc.constantFrom(0, 0, 50, 262144),
    tsresol: fc.option(fc.oneof(fc.constantFrom(0, 3, 6, 9, 12, 0x80, 0x8a, 0x94, 0x9e, 0xa0), fc.integer({ min: 0, max: 255 })), { nil: undefined }),
    tsoffset: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { nil: undefined }),
  });
  const anyBlock = fc.record({
    kind: fc.constantFrom('enhanced', 'obsolete', 'simple', 'unknown'),
    index: fc.nat(),
    ticks: fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 2n ** 53n }), fc.constantFrom(0n, 2n ** 64n - 1n, 1_700_000_000_999_999_999n, 1_700_000_001_000_000_000n)),
    bytes: anyBytes,
    more: fc.nat(2000),
    hasOptions: fc.boolean(),
  });
  const anySection = fc.record({
    little: fc.boolean(),
    interfaces: fc.array(anyInterface, { minLength: 1, maxLength: 6 }),
    blocks: fc.array(anyBlock, { maxLength: 15 }),
  });

  it('gives back the frames of sections, interfaces and packet blocks of all kinds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anySection, { minLength: 1, maxLength: 3 }), reading, async (sections, how) => {
        const file = new PcapngBuilder();
        const expected: TestFrame[] = [];
        let time = { seconds: 0, nanoseconds: 0 };
        let notEthernet = 0;
        for (const { little, interfaces, blocks } of sections) {
          file.section(little);
          for (const { isEthernet, snapLength, tsresol, tsoffset } of interfaces) {
            file.interface({ link: isEthernet ? 1 : 101, snapLength, ...(tsresol === undefined ? {} : { tsresol }), ...(tsoffset === undefined ? {} : { tsoffset }) });
          }
          for (const { kind, index: any, ticks, bytes, more, hasOptions } of blocks) {
            const index = kind === 'simple' ? 0 : any % interfaces.length;
            const { isEthernet, snapLength, tsresol, tsoffset } = interfaces[index];
            const wire = bytes.length + more;
            let captured = bytes;
            if (kind === 'unknown') {
              file.block(0x80000000 + any, Buffer.alloc(bytes.length & ~3, 6));
              continue;
            }
            if (kind === 'enhanced') file.enhanced(index, ticks, bytes, wire, hasOptions ? Buffer.from('0000000000000000', 'hex') : undefined);
            if (kind === 'obsolete') file.obsolete(index, ticks, bytes, wire);
            if (kind === 'simple') {
              // The padding counts as data where the packet was longer: nothing in the block tells them apart.
              const padded = Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3, 0xee)]);
              captured = padded.subarray(0, Math.min(wire, snapLength === 0 ? wire : snapLength));
              file.simple(bytes, wire);
            } else time = timeOf(ticks, tsresol, tsoffset);
            if (!isEthernet) notEthernet++;
            expected.push({ bytes: isEthernet ? captured : Buffer.alloc(0), wire, ...time });
          }
        }
        const result = await readBack(file.done().bytes, how);
        expect(result).toMatchObject({ error: null, notEthernet });
        expect(result.frames).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('has the exact time at the edges of every resolution', async () => {
    const edges = [0n, 1n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
    const file = new PcapngBuilder().section(true);
    const expected = [];
    for (let tsresol = 0; tsresol < 256; tsresol++) {
      const tsoffset = tsresol % 2 === 0 ? -3n : 2n ** 40n + 5n;
      file.interface({ tsresol, tsoffset });
      const rate = tsresol >= 128 ? 2n ** BigInt(tsresol - 128) : 10n ** BigInt(tsresol);
      const turns = [1n, 1_700_000_000n, 2n ** 32n - 1n].flatMap((second) => [second * rate - 1n, second * rate]);
      for (const ticks of [...edges, ...turns].filter((value) => value < 2n ** 64n)) {
        file.enhanced(tsresol, ticks, Buffer.alloc(0));
        expected.push(timeOf(ticks, tsresol, tsoffset));
      }
    }
    writeFileSync(path, file.done().bytes);
    const { frames, error } = await readAll(path, 1000);
    expect(error).toBeNull();
    expect(frames.map(({ seconds, nanoseconds }) => ({ seconds, nanoseconds }))).toEqual(expected);
  });

  it('skips an unknown block longer than any record, in a window of a few bytes, and passes over options as long', async () => {
    const long = Buffer.alloc(3 << 20, 0x5a);
    const file = new PcapngBuilder().section(false, long).interface().block(0x0bad, long).enhanced(0, 1n, frame(60).bytes, 60, long).enhanced(0, 2n, frame(61).bytes);
    writeFileSync(path, file.done().bytes);
    const { frames, error, lent } = await readAll(path, 8, 64);
    expect(error).toBeNull();
    expect(frames.map(({ bytes }) => bytes)).toEqual([frame(60).bytes, frame(61).bytes]);
    expect(lent).toBeLessThanOrEqual(256);
  });

  it('cuts off the frame checksum that the interface announces', async () => {
    const file = new PcapngBuilder().section(true).interface({ fcslen: 32 }).enhanced(0, 1n, frame(64).bytes).enhanced(0, 1n, frame(40).bytes, 64);
    file.section(true).interface().enhanced(0, 1n, frame(64).bytes);
    writeFileSync(path, file.done().bytes);
    expect((await readAll(path)).frames.map(({ bytes, wire }) => [bytes.length, wire])).toEqual([[60, 60], [40, 60], [64, 64]]);
  });

  it('tells the link types it has met', async () => {
    writeFileSync(path, new PcapngBuilder().section(true).interface().interface({ link: 101 }).interface().enhanced(1, 0n, frame(60).bytes).done().bytes);
    const reader = await openCapture(path);
    const slots = new FrameSlots(4);
    expect(reader.read(slots)).toBe(true);
    expect([...reader.linkTypes]).toEqual([1, 101]);
    expect([slots.count, slots.length[0], slots.wireLength[0], reader.notEthernet]).toEqual([1, 0, 60, 1]);
    await reader.close();
  });
});

describe('reading', () => {
  it('is synchronous for a plain file, and lends the same memory each time', async () => {
    writeFileSync(path, pcapFile(Array.from({ length: 20 }, () => frame(60))).bytes);
    const reader = await openCapture(path);
    const slots = new FrameSlots(8);
    const lent = [];
    const counts = [];
    while (reader.read(slots) === true) {
      lent.push(slots.bytes);
      counts.push(slots.count);
    }
    expect(counts).toEqual([8, 8, 4]);
    expect(new Set(lent).size).toBe(1);
    expect(reader.bytesRead).toBe(reader.totalBytes);
    await reader.close();
    await reader.close();
    expect(reader.read(slots)).toBe(false);
  });

  it('gives nothing into no slots, and loses nothing by it', async () => {
    writeFileSync(path, pcapFile([frame(60)]).bytes);
    const reader = await openCapture(path);
    expect(reader.read(new FrameSlots(0))).toBe(false);
    expect(reader.error).toBeNull();
    expect(reader.read(new FrameSlots(1))).toBe(true);
    await reader.close();
  });

  it('says how far it is in a gzip file in bytes on disk', async () => {
    const bytes = gzipSync(pcapFile([frame(60)]).bytes);
    writeFileSync(path, bytes);
    const reader = await openCapture(path);
    expect(reader.isGzip).toBe(true);
    while (await reader.read(new FrameSlots(8)));
    expect([reader.bytesRead, reader.totalBytes]).toEqual([bytes.length, bytes.length]);
    await reader.close();
  });

  it('takes zero bytes after the last gzip member as padding, and what follows them as no part of the file', async () => {
    const bytes = gzipSync(pcapFile([frame(60)]).bytes);
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(200_000), bytes]));
    expect(await readAll(path)).toMatchObject({ frames: [frame(60)], error: null });
  });

  it.each([['plain', false], ['gzip', true]])('reads a named pipe (%s), frame by frame as they come', async (name, isGzip) => {
    const pipe = temporary.path(`pipe-${name}`);
    execFileSync('mkfifo', [pipe]);
    const frames = Array.from({ length: 500 }, (_, i) => frame(60 + i));
    const { bytes } = pcapFile(frames);
    const file = temporary.path(`piped-${name}`);
    writeFileSync(file, isGzip ? gzipSync(bytes) : bytes);
    const writer = spawn('sh', ['-c', `(head -c 3; sleep 0.1; cat) < "${file}" > "${pipe}"`]);
    const exited = once(writer, 'exit');
    const result = await readAll(pipe);
    await exited;
    expect(result.error).toBeNull();
    expect(summary(result.frames)).toEqual(summary(frames));
  });

  it.each([['plain', false], ['gzip', true]])('can be closed while it waits for a pipe (%s)', async (name, isGzip) => {
    const pipe = temporary.path(`pipe-idle-${name}`);
    execFileSync('mkfifo', [pipe]);
    const file = temporary.path('piped-idle');
    const bytes = pcapFile([frame(60)]).bytes.subarray(0, 50);
    writeFileSync(file, isGzip ? gzipSync(bytes).subarray(0, -4) : bytes);
    const writer = spawn('sh', ['-c', `(cat "${file}"; exec sleep 20) > "${pipe}"`]);
    const reader = await openCapture(pipe);
    expect(reader.totalBytes).toBeUndefined();
    const waiting = reader.read(new FrameSlots(8));
    expect(waiting).toBeInstanceOf(Promise);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await reader.close();
    expect(await waiting).toBe(false);
    expect(reader.error).toBeNull();
    writer.kill();
  });
});
