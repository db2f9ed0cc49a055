/**
 * Agreement with tshark, tcpdump, editcap and mergecap; with captures nobody here made (../shared/corpora) and with ours.
 * Where a tool or a corpus is missing the test is skipped and says so.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { PcapWriter } from '../../src/io/pcap-writer.js';
import { frame, hasTool, PcapngBuilder, readAll, summary, temporaryDirectory } from './capture-files.js';

const temporary = temporaryDirectory();
afterAll(temporary.remove);

const hasTshark = hasTool('tshark');
const hasTcpdump = hasTool('tcpdump');
const hasEditcap = hasTool('editcap') && hasTool('mergecap');
const hasXz = hasTool('xz');
const CORPORA = fileURLToPath(new URL('../../../shared/corpora/', import.meta.url));
const FILES = ['public-pcapplusplus.pcap', 'tcpdump-tests.pcap'];
const FRAME_COUNTS = [404, 6421];

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] });
}

/** "length on the wire, captured length, seconds.nanoseconds" of each frame, as tshark has it. */
function tsharkView(path: string): string[] {
  const fields = ['frame.len', 'frame.cap_len', 'frame.time_epoch'].flatMap((field) => ['-e', field]);
  // No dissection past the frame: it is not under test, and slow.
  return run('tshark', '-n', '-r', path, '--disable-protocol', 'eth', '-T', 'fields', ...fields).trimEnd().split('\n');
}

async function ourView(path: string): Promise<string[]> {
  const { frames, error } = await readAll(path, 100);
  expect(error).toBeNull();
  return frames.map(({ bytes, wire, seconds, nanoseconds }) => [wire, bytes.length, `${seconds}.${String(nanoseconds).padStart(9, '0')}`].join('\t'));
}

function writeSample(path: string, from: number): void {
  const writer = new PcapWriter(path);
  for (let i = 0; i < 500; i++) {
    const { bytes } = frame(14 + ((i * 37) % 1500));
    writer.write(bytes, 0, bytes.length, bytes.length + (i % 3 === 0 ? 100 : 0), from + i, (i * 1_234_567) % 1e9);
  }
  writer.close();
}

describe.each(FILES)('corpus %s', (name) => {
  const packed = `${CORPORA}${name}.xz`;
  const isThere = existsSync(packed);
  if (!isThere) console.warn(`skipped: no corpus ${name}.xz beside the repository`);
  const unpack = (): string => {
    const path = temporary.path(name);
    writeFileSync(path, execFileSync('xz', ['-dc', packed], { maxBuffer: 1 << 28 }));
    return path;
  };

  it.skipIf(!isThere || !hasXz)('gives all its frames', async () => {
    expect((await ourView(unpack())).length).toBe(FRAME_COUNTS[FILES.indexOf(name)]);
  });

  it.skipIf(!isThere || !hasXz || !hasTshark)('has the lengths and times that tshark sees', async () => {
    const path = unpack();
    expect(await ourView(path)).toEqual(tsharkView(path));
  });

  it.skipIf(!isThere || !hasXz || !hasEditcap)('is the same as pcapng', async () => {
    const path = unpack();
    const converted = temporary.path(`${name}ng`);
    run('editcap', '-F', 'pcapng', path, converted);
    const { frames, notEthernet } = await readAll(converted);
    expect(notEthernet).toBe(0);
    expect(summary(frames)).toEqual(summary((await readAll(path)).frames));
  });
});

describe.skipIf(!hasTshark)('tshark', () => {
  it('reads what the writer writes', async () => {
    const path = temporary.path('written.pcap');
    writeSample(path, 1_700_000_000);
    const view = await ourView(path);
    expect(view.length).toBe(500);
    expect(tsharkView(path)).toEqual(view);
  });

  it('sees the same in sections, interfaces and blocks of all kinds', async () => {
    const path = temporary.path('blocks.pcapng');
    const ns = 1_700_000_000_123_456_789n;
    const file = new PcapngBuilder();
    for (const little of [true, false]) {
      file.section(little).interface().interface({ tsresol: 9 }).interface({ tsresol: 0x94, tsoffset: 1000n }).interface({ tsresol: 9, tsoffset: -5n });
      file.enhanced(0, ns / 1000n, frame(60).bytes, 70).enhanced(1, ns, frame(61).bytes, 61, Buffer.alloc(4));
      // Not 0xbad, the custom block: tshark gives that a frame number too.
      file.block(0x80000bad, Buffer.alloc(40)).obsolete(1, ns, frame(62).bytes).enhanced(2, 1_700_000_000n << 20n, frame(63).bytes).enhanced(3, ns, frame(64).bytes);
    }
    writeFileSync(path, file.done().bytes);
    const view = await ourView(path);
    expect(view.length).toBe(10);
    expect(tsharkView(path)).toEqual(view);
  });
});

describe.skipIf(!hasTcpdump)('tcpdump', () => {
  it('copies what the writer writes, to the byte', async () => {
    const path = temporary.path('written.pcap');
    const copy = temporary.path('copied.pcap');
    writeSample(path, 1_700_000_000);
    run('tcpdump', '-r', path, '--time-stamp-precision=nano', '-w', copy);
    expect(statSync(copy).size).toBe(statSync(path).size);
    expect(summary((await readAll(copy)).frames)).toEqual(summary((await readAll(path)).frames));
  });
});

describe.skipIf(!hasEditcap)('editcap and mergecap', () => {
  it.each(['pcap', 'nsecpcap', 'pcapng'])('make a %s file with the same frames, plain and gzip', async (type) => {
    const path = temporary.path('written.pcap');
    const converted = temporary.path(`converted.${type}`);
    writeSample(path, 1_700_000_000);
    run('editcap', '-F', type, path, converted);
    const expected = (await readAll(path)).frames.map((each) => ({ ...each, nanoseconds: type === 'pcap' ? each.nanoseconds - (each.nanoseconds % 1000) : each.nanoseconds }));
    expect(summary((await readAll(converted)).frames)).toEqual(summary(expected));
    writeFileSync(`${converted}.gz`, gzipSync(execFileSync('cat', [converted])));
    expect(summary((await readAll(`${converted}.gz`)).frames)).toEqual(summary(expected));
  });

  it('make a file of two interfaces with the frames of both in order', async () => {
    const first = temporary.path('first.pcap');
    const second = temporary.path('second.pcap');
    const merged = temporary.path('merged.pcapng');
    writeSample(first, 1_700_000_000);
    writeSample(second, 1_700_000_100);
    run('mergecap', '-I', 'none', '-F', 'pcapng', '-w', merged, first, second);
    const both = [...(await readAll(first)).frames, ...(await readAll(second)).frames];
    const { frames } = await readAll(merged);
    expect(frames.length).toBe(1000);
    expect(frames.map(({ seconds }) => seconds)).toEqual(both.map(({ seconds }) => seconds).sort((a, b) => a - b));
    expect(new Set(frames.map((each) => each.bytes.length))).toEqual(new Set(both.map((each) => each.bytes.length)));
  });
});
