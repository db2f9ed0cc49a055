/** The progress bar of `berth replay`: what a terminal shows of it, and what is left when it has gone. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { PcapWriter } from '../../src/io/pcap-writer.js';
import { eth } from '../../src/wire/frame-builder.js';
import { hasTool } from '../io/capture-files.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const TERMINAL = fileURLToPath(new URL('../support/terminal.py', import.meta.url));
/** A capture from here on has a bar. */
const LONG_BYTES = 32 * 1024 * 1024;
const FRAME_BYTES = 1400;
const ESCAPE = '\x1b';
/** What a terminal obeys and does not show. */
const CONTROLS = new RegExp(`${ESCAPE}(?:[78]|\\[\\??\\d*[A-Za-z])`, 'g');
/** What a bar that has gone leaves: line wrap on, the line empty. */
const GONE = `${ESCAPE}[?7h${ESCAPE}8${ESCAPE}[1G${ESCAPE}[2K`;

const folder = mkdtempSync(join(tmpdir(), 'berth-terminal-'));
afterAll(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'c.yaml'), 'addresses: 192.0.2.10\nguests:\n  web: { lease: { tcp: 80 }, use: all }\n');

/** A capture just over or under the limit, whose frames take `seconds` at its own pace. */
function capture(name: string, bytes: number, seconds: number): { name: string; count: number } {
  const writer = new PcapWriter(join(folder, name));
  const frame = eth().ipv4({ src: '198.51.100.7', dst: '192.0.2.10' }).tcp(40000, 80, { payload: new Uint8Array(FRAME_BYTES - 54) }).build();
  const count = Math.ceil(bytes / (16 + FRAME_BYTES));
  for (let n = 0; n < count; n++) {
    const at = (n * seconds) / count;
    writer.write(frame, 0, FRAME_BYTES, FRAME_BYTES, 1_700_000_000 + Math.floor(at), Math.floor((at % 1) * 1e9));
  }
  writer.close();
  return { name, count };
}

interface Shown {
  status: number;
  output: string;
  terminal: string;
  /** In the order in which they were shown. */
  percentages: number[];
}

function onTerminal(typed: string, ...args: string[]): Shown {
  const command = [process.execPath, PROGRAM, 'replay', ...args, '-c', 'c.yaml'];
  const { stdout, stderr } = spawnSync('python3', [TERMINAL, typed, ...command], { cwd: folder, encoding: 'utf8', timeout: 20_000, env: { ...process.env, TERM: 'xterm' } });
  if (stdout === '') throw new Error(`no end: ${stderr}`);
  const shown = JSON.parse(stdout) as Omit<Shown, 'percentages'>;
  return { ...shown, percentages: [...shown.terminal.matchAll(/ (\d+) %/g)].map(([, percent]) => Number(percent)) };
}

describe.skipIf(!hasTool('python3'))('berth replay at a terminal', { timeout: 30_000 }, () => {
  const long = capture('long.pcap', LONG_BYTES + FRAME_BYTES, 1);

  it('shows how far a long capture is, and removes that before the summary', () => {
    const { status, output, terminal, percentages } = onTerminal('', long.name, '--speed', 'real');
    expect(status).toBe(0);
    expect(percentages).toEqual([...percentages].sort((a, b) => a - b));
    expect([percentages[0], percentages.at(-1)]).toEqual([0, 100]);
    expect(percentages.filter((percent) => percent > 10 && percent < 90).length).toBeGreaterThanOrEqual(3);
    expect(terminal.replaceAll(CONTROLS, '')).toMatch(/^(?:[=-]{40} \d+ % {2}(?:\d+|\?) s left)+$/);
    expect(terminal.endsWith(GONE)).toBe(true);
    expect(output).toMatch(/^verdict .*\n(?:.*\n)+\d[\d,]* frames in [\d.]+ s, [\d,]+ frames\/s\n$/);
    expect(output).not.toContain(ESCAPE);
  });

  it('interrupted, it leaves the terminal as it was, with one line', () => {
    const { status, output, terminal, percentages } = onTerminal('\\x03', long.name, '--speed', '0.01x');
    expect(status).toBe(1);
    expect(percentages.at(-1)).toBeLessThan(50);
    expect(terminal.slice(terminal.indexOf(GONE))).toBe(`${GONE}berth: interrupted; what is above is how far it came\r\n`);
    expect(output).toMatch(/frames in /);
  });

  // It was never stopped: the process did not end, and the terminal had no line wrap.
  it.runIf(existsSync('/dev/full'))('whose verdicts cannot be written ends, with the terminal as it was and one line', () => {
    const { status, terminal } = onTerminal('', long.name, '--verdicts', '/dev/full');
    expect(status).toBe(1);
    expect(terminal.slice(terminal.indexOf(GONE))).toMatch(/^\S+berth: \/dev\/full: cannot be written \(the disk is full\); [^\n]*\r\n$/);
  });

  it('a short capture needs none', () => {
    const short = capture('short.pcap', LONG_BYTES - 2 * FRAME_BYTES, 0);
    expect(onTerminal('', short.name)).toMatchObject({ status: 0, terminal: '', percentages: [] });
  });

  it('nor does one whose standard error is a file', () => {
    const file = openSync(join(folder, 'errors'), 'w+');
    const { status } = spawnSync(process.execPath, [PROGRAM, 'replay', long.name, '-c', 'c.yaml'], { cwd: folder, stdio: ['ignore', 'ignore', file] });
    closeSync(file);
    expect(status).toBe(0);
    expect(spawnSync('cat', [join(folder, 'errors')], { encoding: 'utf8' }).stdout).toBe('');
  });
});
