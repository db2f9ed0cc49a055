/** `berth replay` as an operator runs it: the built program on captures of a few frames; what it prints and writes, and how it ends. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { PcapWriter } from '../../src/io/pcap-writer.js';
import { eth } from '../../src/wire/frame-builder.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const [CLIENT, HOST] = ['198.51.100.7', '192.0.2.10'];
const folder = mkdtempSync(join(tmpdir(), 'berth-replay-'));
afterAll(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'c.yaml'), `addresses: ${HOST}\nguests:\n  web: { lease: { tcp: "80,81" }, use: { tcp: 80 } }\n  dns: { lease: { udp: 53 }, use: all }\n`);

const to = (): ReturnType<ReturnType<typeof eth>['ipv4']> => eth().ipv4({ src: CLIENT, dst: HOST });
const FRAMES = [
  to().tcp(40000, 80).build(),
  to().tcp(40001, 81).build(),
  to().udp(40002, 53).build(),
  to().tcp(40003, 22).build(),
  to().icmpEcho('request', 7).build(),
  eth().ipv4({ src: CLIENT, dst: '192.0.2.99' }).udp(1, 53).build(),
  to().tcp(40000, 80).build().subarray(0, 20),
];
const VERDICTS = [
  { n: 1, verdict: 'forward', guest: 'web', proto: 'tcp', src: CLIENT, sport: 40000, dst: HOST, dport: 80 },
  { n: 2, verdict: 'discard', reason: 'not-in-use', proto: 'tcp', src: CLIENT, sport: 40001, dst: HOST, dport: 81 },
  { n: 3, verdict: 'forward', guest: 'dns', proto: 'udp', src: CLIENT, sport: 40002, dst: HOST, dport: 53 },
  { n: 4, verdict: 'pass', reason: 'not-leased', proto: 'tcp', src: CLIENT, sport: 40003, dst: HOST, dport: 22 },
  { n: 5, verdict: 'pass', reason: 'other-protocol', proto: 'icmp', src: CLIENT, dst: HOST },
  { n: 6, verdict: 'pass', reason: 'not-ours', proto: 'udp', src: CLIENT, sport: 1, dst: '192.0.2.99', dport: 53 },
  { n: 7, verdict: 'pass', reason: 'malformed' },
];

/** A frame every `step` seconds. */
function capture(name: string, frames: readonly Uint8Array[], step = 1): string {
  const writer = new PcapWriter(join(folder, name));
  frames.forEach((frame, i) => writer.write(frame, 0, frame.length, frame.length, 1_700_000_000 + i * step, 0));
  writer.close();
  return name;
}

function replay(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [PROGRAM, 'replay', ...args, '-c', 'c.yaml'], { cwd: folder, encoding: 'utf8' });
}

describe('berth replay', { timeout: 30_000 }, () => {
  const file = capture('office.pcap', FRAMES);
  const lines = (text: string): unknown[] => text.trimEnd().split('\n').map((line) => JSON.parse(line) as unknown);

  it('prints frames and bytes of each guest and each reason', () => {
    const { status, stdout, stderr } = replay(file);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const rows = stdout.trimEnd().split('\n').map((line) => line.split(/ {2,}/).join(' '));
    expect(rows.slice(0, -1)).toEqual([
      'verdict guest or reason frames bytes',
      ...[`forward web 1 ${FRAMES[0].length}`, `forward dns 1 ${FRAMES[2].length}`, `discard not-in-use 1 ${FRAMES[1].length}`],
      ...[`pass not-leased 1 ${FRAMES[3].length}`, `pass not-ours 1 ${FRAMES[5].length}`, `pass other-protocol 1 ${FRAMES[4].length}`, 'pass malformed 1 20'],
    ]);
    expect(rows.at(-1)).toMatch(/^7 frames in [\d.]+ s, [\d,]+ frames\/s$/);
  });

  it('--verdicts says one line a frame, in a file or on standard output, where the summary makes room for it', () => {
    expect(replay(file, '--verdicts', 'v.ndjson').status).toBe(0);
    expect(lines(readFileSync(join(folder, 'v.ndjson'), 'utf8'))).toEqual(VERDICTS);
    const { stdout, stderr } = replay(file, '--verdicts', '-');
    expect(lines(stdout)).toEqual(VERDICTS);
    expect(stderr).toContain('7 frames in ');
  });

  it('--split gives each guest a capture of its frames', () => {
    expect(replay(file, '--split', 'guests').status).toBe(0);
    expect(replay('guests/web.pcap', '--verdicts', 'web.ndjson').status).toBe(0);
    expect(lines(readFileSync(join(folder, 'web.ndjson'), 'utf8'))).toEqual([VERDICTS[0]]);
    expect(readFileSync(join(folder, 'guests', 'dns.pcap')).subarray(-FRAMES[2].length)).toEqual(Buffer.from(FRAMES[2]));
  });

  it('does not write over its own capture', () => {
    const { status, stderr } = replay(file, '--verdicts', file);
    expect({ status, stderr }).toEqual({ status: 2, stderr: 'berth: office.pcap is the capture itself; write to another file\n' });
  });

  it('--speed keeps the time between the frames; wrong ones are refused', () => {
    const slow = capture('slow.pcap', FRAMES.slice(0, 3), 2);
    const before = performance.now();
    expect(replay(slow, '--speed', '10x').status).toBe(0);
    expect(performance.now() - before).toBeGreaterThanOrEqual(400);
    expect(replay(file, '--speed', 'fast')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(/^berth: [^\n]*fast[^\n]*\n$/) });
  });

  it('a truncated capture is processed as far as it goes: the byte, and exit code 1', () => {
    const cut = capture('cut.pcap', FRAMES);
    const second = 24 + 16 + FRAMES[0].length;
    truncateSync(join(folder, cut), second + 16 + 5);
    const { status, stdout, stderr } = replay(cut);
    expect(status).toBe(1);
    expect(stdout).toContain('1 frames in ');
    expect(stderr).toMatch(new RegExp(`^berth: cut\\.pcap: [^\\n]*\\b(${second}|${second + 16})\\b[^\\n]*\\n$`));
  });

  it('interrupted, it says how far it came', async () => {
    const slow = capture('long.pcap', FRAMES.slice(0, 3), 100);
    const child = spawn(process.execPath, [PROGRAM, 'replay', slow, '-c', 'c.yaml', '--speed', 'real', '--split', 'interrupted'], { cwd: folder });
    let [said, errors] = ['', ''];
    child.stdout.on('data', (data: Buffer) => (said += data.toString()));
    child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
    await vi.waitFor(() => expect(existsSync(join(folder, 'interrupted', 'web.pcap'))).toBe(true), 10_000);
    child.kill('SIGINT');
    const [code] = (await once(child, 'close')) as [number];
    expect({ code, errors }).toEqual({ code: 1, errors: 'berth: interrupted; what is above is how far it came\n' });
    expect(said).toMatch(/^[01] frames in /m);
  });
});
