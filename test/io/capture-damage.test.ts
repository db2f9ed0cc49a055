/** Capture files that are not in order: what is whole is delivered, the error says where and what, nothing is thrown. */
import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { BerthError } from '../../src/base/errors.js';
import { openCapture } from '../../src/io/capture-reader.js';
import { frame, pcapFile, PcapngBuilder, readAll, summary, temporaryDirectory, type ReadResult, type TestFile } from './capture-files.js';

const temporary = temporaryDirectory();
afterAll(temporary.remove);
const path = temporary.path('file');
const NOBODY = 65_534;

const FRAMES = [frame(60), frame(0), frame(61), frame(90)];

function pcapngFile(little: boolean): TestFile {
  const file = new PcapngBuilder().section(little).interface({ tsresol: 9 });
  file.enhanced(0, 1n, FRAMES[0].bytes).block(0x0bad, Buffer.alloc(20)).simple(FRAMES[1].bytes);
  return file.section(!little).interface().obsolete(0, 3n, FRAMES[2].bytes).enhanced(0, 4n, FRAMES[3].bytes, 90, Buffer.alloc(8)).done();
}

const FILES: [string, TestFile][] = [
  ['pcap, little endian', pcapFile(FRAMES)],
  ['pcap, big endian, nanoseconds', pcapFile(FRAMES, { little: false, nanoseconds: true })],
  ['pcapng, little endian', pcapngFile(true)],
  ['pcapng, big endian', pcapngFile(false)],
];

/** The result, or the error with which opening failed. */
async function read(bytes: Buffer, windowBytes?: number): Promise<ReadResult | BerthError> {
  writeFileSync(path, bytes);
  try {
    return await readAll(path, 3, windowBytes);
  } catch (error) {
    if (error instanceof BerthError) return error;
    throw error;
  }
}

async function readOpened(bytes: Buffer, windowBytes?: number): Promise<ReadResult> {
  const result = await read(bytes, windowBytes);
  if (result instanceof BerthError) throw result;
  return result;
}

/** Frames of whole records in the first `cut` bytes, and the record that is cut (undefined: none is). */
function wholeIn({ records }: TestFile, cut: number) {
  const whole = records.filter(({ end }) => end <= cut);
  return { frames: whole.reduce((sum, record) => sum + record.frames, 0), cut: records.find(({ start, end }) => start < cut && cut < end) };
}

describe.each(FILES)('a truncated %s', (_name, file) => {
  const headerBytes = 24;

  it.each([undefined, 64])('gives what is whole and says where it ends, at every length (window %s)', async (windowBytes) => {
    for (let length = 0; length <= file.bytes.length; length++) {
      const result = await read(file.bytes.subarray(0, length), windowBytes);
      if (length < headerBytes) {
        expect(result, `${length} bytes`).toMatchObject({ code: length < 4 ? 'ERR_CAPTURE_FORMAT' : 'ERR_CAPTURE_TRUNCATED' });
        continue;
      }
      const { frames, error } = result as ReadResult;
      const expected = wholeIn(file, length);
      expect(frames.map(({ bytes }) => bytes), `${length} bytes`).toEqual(FRAMES.slice(0, expected.frames).map(({ bytes }) => bytes));
      if (expected.cut === undefined) expect(error).toBeNull();
      else {
        expect(error).toMatchObject({ code: 'ERR_CAPTURE_TRUNCATED' });
        expect(error?.message).toContain(`${path}: truncated at byte ${expected.cut.start}: the file ends after ${length - expected.cut.start} bytes of a record`);
        expect(error?.message).not.toContain('\n');
      }
    }
  });

  it('gives what inflates from a truncated gzip file, at every length', async () => {
    const zipped = gzipSync(file.bytes);
    let before = 0;
    for (let length = 0; length < zipped.length; length++) {
      const result = await read(zipped.subarray(0, length));
      if (result instanceof BerthError) {
        expect(result.code).toBe(length < 2 ? 'ERR_CAPTURE_FORMAT' : 'ERR_CAPTURE_TRUNCATED');
        expect(before).toBe(0);
        continue;
      }
      const { frames, error } = result;
      expect(frames.length).toBeGreaterThanOrEqual(before);
      before = frames.length;
      expect(frames.map(({ bytes }) => bytes)).toEqual(FRAMES.slice(0, frames.length).map(({ bytes }) => bytes));
      expect(error).toMatchObject({ code: 'ERR_CAPTURE_TRUNCATED' });
      expect(error?.message).toMatch(/: truncated at byte \d+ of the uncompressed data: gzip: unexpected end of file/);
    }
    // The last 8 bytes are checksum and length: all the frames came before them.
    expect(before).toBe(FRAMES.length);
  });

  it('says the byte in the uncompressed data when the inflated file is truncated', async () => {
    const { error } = await readOpened(gzipSync(file.bytes.subarray(0, file.bytes.length - 1)));
    expect(error).toMatchObject({ code: 'ERR_CAPTURE_TRUNCATED' });
    expect(error?.message).toContain(`at byte ${file.records.at(-1)?.start} of the uncompressed data: the file ends`);
  });
});

describe('corruption', () => {
  it.each(FILES)('of any bytes of a %s throws nothing but at open, and ends', async (_name, file) => {
    const changes = fc.array(fc.tuple(fc.nat(file.bytes.length - 1), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(changes, fc.boolean(), fc.constantFrom(64, 100, undefined), async (where, isGzip, windowBytes) => {
        const bytes = isGzip ? gzipSync(file.bytes) : Buffer.from(file.bytes);
        for (const [at, value] of where) bytes[at % bytes.length] = value;
        const result = await read(bytes, windowBytes);
        if (result instanceof BerthError) expect(result.code).toMatch(/^ERR_CAPTURE_(FORMAT|LINKTYPE|TRUNCATED|MALFORMED)$/);
        else {
          if (result.error !== null) expect(result.error.code).toMatch(/^ERR_CAPTURE_(TRUNCATED|MALFORMED)$/);
          expect(result.lent).toBeLessThanOrEqual(1 << 20);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('of the gzip checksum is an error after all frames', async () => {
    const bytes = gzipSync(pcapFile(FRAMES).bytes);
    bytes[bytes.length - 8] ^= 1;
    const { frames, error } = await readOpened(bytes);
    expect(frames).toEqual(FRAMES);
    expect(error).toMatchObject({ code: 'ERR_CAPTURE_MALFORMED' });
    expect(error?.message).toMatch(/: damaged at byte \d+ of the uncompressed data: gzip: incorrect data check/);
  });

  it('of the checksum of a large gzip file, which is then inflated twice, is an error after all frames, each once', async () => {
    const frames = Array.from({ length: 5000 }, (_, i) => frame(60 + ((i * 7919) % 1400), { seconds: i }));
    const bytes = gzipSync(pcapFile(frames).bytes, { level: 0 });
    bytes[bytes.length - 8] ^= 1;
    const result = await readOpened(bytes);
    expect(summary(result.frames)).toEqual(summary(frames));
    expect(result.error?.code).toBe('ERR_CAPTURE_MALFORMED');
  });

  it('in the middle of a large gzip file leaves what inflates before it', async () => {
    const noise = Buffer.from(fc.sample(fc.uint8Array({ minLength: 1400, maxLength: 1400 }), { seed: 7, numRuns: 1 })[0]);
    const frames = Array.from({ length: 2000 }, (_, i) => ({ ...frame(1400), bytes: Buffer.concat([Buffer.from([i, i >> 8]), noise.map((byte, at) => byte ^ (i * at * 7)).subarray(2)]) }));
    const file = pcapFile(frames);
    // Deflate blocks without compression: a place in the gzip file is a few hundred bytes less in the inflated one.
    const bytes = gzipSync(file.bytes, { level: 0 });
    const damagedAt = bytes.length >> 1;
    bytes.fill(0xff, damagedAt, damagedAt + 140_000);
    const result = await readOpened(bytes);
    const least = wholeIn(file, damagedAt - 1000).frames;
    expect(least).toBeGreaterThan(900);
    expect(result.frames.length).toBeGreaterThanOrEqual(least);
    expect(summary(result.frames.slice(0, least))).toEqual(summary(frames.slice(0, least)));
    expect(result.error?.code).toBe('ERR_CAPTURE_MALFORMED');
  });

  it('of gzip in a pipe, which cannot be read again, ends without a throw too', async () => {
    const pipe = temporary.path('pipe');
    execFileSync('mkfifo', [pipe]);
    const file = temporary.path('piped');
    const bytes = gzipSync(pcapFile(FRAMES).bytes);
    bytes[bytes.length - 8] ^= 1;
    writeFileSync(file, bytes);
    const writer = spawn('sh', ['-c', `(head -c 80; sleep 0.1; cat) < "${file}" > "${pipe}"`]);
    const exited = once(writer, 'exit');
    await expect(readAll(pipe).then(({ error }) => error?.code, (error: BerthError) => error.code)).resolves.toBe('ERR_CAPTURE_MALFORMED');
    await exited;
  });

  it('after the last gzip member is an error after all frames', async () => {
    const { frames, error } = await readOpened(Buffer.concat([gzipSync(pcapFile(FRAMES).bytes), Buffer.from('garbage')]));
    expect(frames).toEqual(FRAMES);
    expect(error?.code).toBe('ERR_CAPTURE_MALFORMED');
  });
});

/** One good frame, then what is wrong. */
const good = (): PcapngBuilder => new PcapngBuilder().section(true).interface({ snapLength: 1000 }).enhanced(0, 1n, frame(60).bytes);
const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const option = (code: number, length: number, size = 4): Buffer => Buffer.concat([words(1, 0), Buffer.from(Uint16Array.of(code, length).buffer), Buffer.alloc(size)]);
const pcapRecord = (captured: number): Buffer => Buffer.concat([pcapFile([frame(60)]).bytes, words(1, 2, captured, 60), Buffer.alloc(300)]);

describe('a hostile record', () => {
  const rows: { name: string; bytes: Buffer; code?: string; at: number; says: string | RegExp }[] = [
    { name: 'pcap: captured length over the limit', bytes: pcapRecord(262145), at: 100, says: 'got a captured length of 262145 bytes, expected at most 262144' },
    { name: 'pcap: captured length of 4 GiB', bytes: pcapRecord(0xffffffff), at: 100, says: 'got a captured length of 4294967295 bytes' },
    { name: 'pcap: captured length past the end', bytes: pcapRecord(262144), code: 'TRUNCATED', at: 100, says: 'ends after 316 bytes of a record, expected at least 262160' },
    { name: 'block length 0', bytes: good().raw(words(6, 0, 0, 0)).done().bytes, at: 140, says: 'got a block of 0 bytes, expected a multiple of 4 and at least 32' },
    { name: 'block length 8', bytes: good().raw(words(99, 8, 8, 0)).done().bytes, at: 140, says: 'got a block of 8 bytes, expected a multiple of 4 and at least 12' },
    { name: 'block length not a multiple of 4', bytes: good().raw(words(99, 18, 0, 0, 18)).done().bytes, at: 140, says: 'got a block of 18 bytes, expected a multiple of 4' },
    { name: 'packet block too short for its head', bytes: good().raw(words(6, 28, 0, 0, 0, 0, 28)).done().bytes, at: 140, says: 'got a block of 28 bytes, expected a multiple of 4 and at least 32' },
    { name: 'packet block length not a multiple of 4', bytes: good().raw(Buffer.concat([words(6, 34, 0, 0, 0, 0, 0), Buffer.alloc(2), words(34)])).done().bytes, at: 140, says: 'got a block of 34 bytes, expected a multiple of 4' },
    { name: 'lengths that differ', bytes: good().raw(words(99, 16, 0, 20)).done().bytes, at: 140, says: "got a length of 20 at the block's end, expected 16" },
    { name: 'packet: lengths that differ', bytes: good().raw(words(6, 32, 0, 0, 0, 0, 0, 28)).done().bytes, at: 140, says: "got a length of 28 at the block's end, expected 32" },
    { name: 'unknown block of nearly 4 GiB', bytes: good().raw(words(99, 0xfffffffc, 0, 0)).done().bytes, code: 'TRUNCATED', at: 140, says: 'ends after 16 bytes of a record, expected at least 4294967292' },
    { name: 'packet block of nearly 4 GiB', bytes: good().raw(words(6, 0xfffffffc, 0, 0, 0, 200, 200)).done().bytes, code: 'TRUNCATED', at: 140, says: 'ends after 28 bytes of a record, expected at least 228' },
    { name: 'a long block with lengths that differ', bytes: good().raw(Buffer.concat([words(99, 1 << 20), Buffer.alloc((1 << 20) - 12), words(7)])).done().bytes, at: 140 + (1 << 20) - 4, says: "got a length of 7 at the block's end" },
    { name: 'captured length past the block', bytes: good().block(6, words(0, 0, 0, 5, 5, 0)).done().bytes, at: 140, says: 'got a captured length of 5 bytes, expected at most 4' },
    { name: 'captured length of 4 GiB', bytes: good().block(6, words(0, 0, 0, 0xffffffff, 60, 0)).done().bytes, at: 140, says: 'got a captured length of 4294967295 bytes' },
    { name: 'captured length over the limit, in a block that has it', bytes: good().enhanced(0, 0n, Buffer.alloc(262148)).done().bytes, at: 140, says: 'got a captured length of 262148 bytes, expected at most 262144' },
    { name: 'obsolete packet: captured length past the block', bytes: good().block(2, words(0, 0, 0, 5, 5, 0)).done().bytes, at: 140, says: 'got a captured length of 5 bytes, expected at most 4' },
    { name: 'an interface that was not described', bytes: good().enhanced(1, 0n, frame(60).bytes).done().bytes, at: 140, says: 'got a packet of interface 1, expected one of the 1 described' },
    { name: 'an interface of the section before', bytes: good().section(true).enhanced(0, 0n, frame(60).bytes).done().bytes, at: 168, says: 'got a packet of interface 0, expected one of the 0 described' },
    { name: 'a simple packet without an interface', bytes: good().section(true).simple(frame(60).bytes).done().bytes, at: 168, says: 'got a simple packet, expected a description of its interface' },
    { name: 'a section of neither byte order', bytes: good().raw(words(0x0a0d0d0a, 28, 0x12345678, 1, 0, 0, 28)).done().bytes, at: 140, says: 'got byte-order magic 0x78563412' },
    { name: 'a section of version 2', bytes: good().section(true, Buffer.alloc(0), 2).done().bytes, at: 140, says: 'got a section of pcapng version 2, expected 1' },
    { name: 'an option past its block', bytes: good().block(1, option(2, 5)).done().bytes, at: 140, says: 'got option 2 of 5 bytes, expected at most 4' },
    { name: 'a resolution of 2 bytes', bytes: good().block(1, option(9, 2)).done().bytes, at: 140, says: 'got if_tsresol of 2 bytes, expected 1' },
    { name: 'an offset of 4 bytes', bytes: good().block(1, option(14, 4)).done().bytes, at: 140, says: 'got if_tsoffset of 4 bytes, expected 8' },
    { name: 'an interface description too long', bytes: good().block(1, Buffer.alloc(600_000)).done().bytes, at: 140, says: 'got an interface description of 600012 bytes, expected at most 524288' },
  ];

  it.each(rows)('$name', async ({ bytes, code = 'MALFORMED', at, says }) => {
    for (const windowBytes of [64, undefined]) {
      const { frames, error, lent } = await readOpened(bytes, windowBytes);
      expect(frames.map((each) => each.bytes)).toEqual([frame(60).bytes]);
      expect(error?.code).toBe(`ERR_CAPTURE_${code}`);
      expect(error?.message).toContain(`${path}: ${code === 'TRUNCATED' ? 'truncated' : 'damaged'} at byte ${at}: `);
      expect(error?.message).toContain(says);
      expect(lent).toBeLessThanOrEqual(windowBytes === 64 ? 256 : 1 << 19);
    }
  });

  it('more interfaces than a section may have', async () => {
    const one = new PcapngBuilder().section(true).interface().done().bytes;
    const block = one.subarray(28);
    const { error } = await readOpened(Buffer.concat([one, ...Array.from({ length: 65536 }, () => block)]));
    expect(error?.message).toContain(`damaged at byte ${28 + 65536 * 20}: got more than 65536 interfaces in a section`);
  });

  it('a gzip bomb is read piece by piece', async () => {
    const bomb = new PcapngBuilder().section(true).raw(words(99, 256 << 20)).done().bytes;
    const zeros = gzipSync(Buffer.alloc(16 << 20));
    const before = process.memoryUsage().rss;
    const { error } = await readOpened(Buffer.concat([gzipSync(bomb), ...Array.from({ length: 15 }, () => zeros)]));
    expect(error).toMatchObject({ code: 'ERR_CAPTURE_TRUNCATED' });
    expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
  });
});

describe('open', () => {
  const fails = async (file: string, code: string, ...says: (string | RegExp)[]): Promise<void> => {
    const error = await openCapture(file).then(() => expect.unreachable('it opened'), (reason: unknown) => reason);
    expect(error).toBeInstanceOf(BerthError);
    expect((error as BerthError).code).toBe(code);
    expect((error as BerthError).message.startsWith(`${file}: `)).toBe(true);
    expect((error as BerthError).message).not.toContain('\n');
    for (const part of says) expect((error as BerthError).message).toMatch(part);
  };
  const failsWith = (bytes: Buffer, code: string, ...says: (string | RegExp)[]): Promise<void> => {
    writeFileSync(path, bytes);
    return fails(path, code, ...says);
  };

  it('refuses what is not there, a directory, a device', async () => {
    await fails(temporary.path('none'), 'ERR_CAPTURE_OPEN', /none: cannot be opened \(no such file\); name a capture that this user may read$/);
    mkdirSync(temporary.path('directory'));
    await fails(temporary.path('directory'), 'ERR_CAPTURE_OPEN', /is a directory/);
    await fails('/dev/null', 'ERR_CAPTURE_OPEN', /neither a file nor a pipe/);
  });

  it('refuses what may not be read', async () => {
    writeFileSync(temporary.path('secret'), 'x');
    chmodSync(temporary.path('secret'), 0);
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(NOBODY); // root may read everything
    try {
      await fails(temporary.path('secret'), 'ERR_CAPTURE_OPEN', /cannot be opened \(permission denied\); name a capture/);
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  it('says what the first bytes of something else are', async () => {
    await failsWith(Buffer.alloc(0), 'ERR_CAPTURE_FORMAT', /it is empty/);
    await failsWith(Buffer.from('\x7fELF, not a capture'), 'ERR_CAPTURE_FORMAT', /begins with 7f 45 4c 46 2c 20 6e 6f 74 20 61 20; expected pcap or pcapng/);
    await failsWith(gzipSync('hello'), 'ERR_CAPTURE_FORMAT', /begins with 68 65 6c 6c 6f;/);
    await failsWith(gzipSync(''), 'ERR_CAPTURE_FORMAT', /it is empty/);
    await failsWith(words(0x0a0d0d0a, 28, 0x1a2b3c00, 1, 0, 0, 28), 'ERR_CAPTURE_FORMAT', /begins with 0a 0d 0d 0a/);
    await failsWith(Buffer.from('1f8b0800ffffffff', 'hex'), 'ERR_CAPTURE_TRUNCATED', /gzip: unexpected end of file/);
    await failsWith(Buffer.from('1f8b08ff'.padEnd(80, 'f'), 'hex'), 'ERR_CAPTURE_MALFORMED', /gzip: unknown header flags set/);
  });

  it('refuses other versions of pcap and other link types', async () => {
    await failsWith(pcapFile([], { minor: 3 }).bytes, 'ERR_CAPTURE_FORMAT', /pcap of version 2\.3, which is not 2\.4/);
    await failsWith(pcapFile([], { link: 113 }).bytes, 'ERR_CAPTURE_LINKTYPE', /link type 113 \(Linux cooked\), expected 1 \(Ethernet\): capture on one Ethernet interface/);
    await failsWith(pcapFile([], { link: 147 }).bytes, 'ERR_CAPTURE_LINKTYPE', /link type 147, expected 1/);
  });
});
