/**
 * `berth replay --speed max` against `tcpdump -r FILE -w /dev/null 'tcp or udp'` on a generated capture of 800 MB, from the page
 * cache, whole processes one after the other, several rounds. Goal by the wall clock of the whole process, start
 * included; the rate that replay prints, without its start, is shown beside it.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { CONFIG, SIZES, writeCapture } from '../support/capture-file.mjs';
import { DIST } from '../support/dist.mjs';
import { median } from '../support/measure.mjs';

/** Long enough that starting a process is a small part: about ten million frames, and two. */
const BYTES = 800e6;
const ROUNDS = 5;

export const variants = Object.keys(SIZES);

export function run(variant) {
  const skip = (why) => [{ what: `replay of ${variant} frames`, skipped: why }];
  if (!fs.existsSync(path.join(DIST, 'cli/commands/replay.js'))) return skip('there is no dist/cli/commands/replay.js');
  if (spawnSync('tcpdump', ['--version']).error !== undefined) return skip('tcpdump is not installed');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'berth-bench-'));
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  const capture = path.join(folder, 'capture.pcap');
  const config = path.join(folder, 'berth.yaml');
  fs.writeFileSync(config, CONFIG);
  const frames = writeCapture(capture, SIZES[variant], BYTES);

  const berth = () => timed(process.execPath, [path.join(DIST, 'cli/main.js'), 'replay', capture, '--config', config, '--speed', 'max']);
  const tcpdump = () => timed('tcpdump', ['-r', capture, '-w', '/dev/null', 'tcp or udp']);
  const shown = check(berth().output, frames);
  tcpdump();
  const own = [];
  const walls = { berth: [], tcpdump: [] };
  for (let round = 0; round < ROUNDS; round++) {
    const { seconds, output } = berth();
    walls.berth.push(frames / seconds);
    if (shown) own.push(printedRate(output));
    walls.tcpdump.push(frames / tcpdump().seconds);
  }
  const ratios = walls.berth.map((value, i) => value / walls.tcpdump[i]);
  const ownRatios = own.map((value, i) => value / walls.tcpdump[i]);
  const M = (values) => (median(values) / 1e6).toFixed(2);
  const named = variant === 'small' ? '64-byte' : 'mixed (IMIX)';
  return [
    {
      what: `replay of ${named} frames, whole process: berth / tcpdump`,
      value: median(ratios),
      goal: 1,
      unit: '×',
      detail: `${M(walls.berth)} against ${M(walls.tcpdump)} M frames/s, ${frames} frames`,
      rounds: ROUNDS,
    },
    ...(own.length === 0 ? [] : [{ what: `replay of ${named} frames, rate that berth prints / tcpdump`, value: median(ownRatios), goal: 1, unit: '×', detail: `${M(own)} M frames/s`, rounds: ROUNDS }]),
  ];
}

function timed(command, args) {
  const start = performance.now();
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1e8 });
  const seconds = (performance.now() - start) / 1000;
  if (error !== undefined || status !== 0) throw new Error(`${command} failed: ${error?.message ?? stderr.slice(-2000)}`);
  return { seconds, output: stdout + stderr };
}

/** Throws unless replay has seen every frame; true if it also prints a rate. */
function check(output, frames) {
  if (!output.replaceAll(/[,_\s]/g, '').includes(String(frames))) throw new Error(`replay does not say that it read ${frames} frames:\n${output}`);
  return printedRate(output) > 0;
}

/** The frames a second in replay's output, such as "12,345,678 frames/s" or "12.3 M frames/s"; 0 if there are none. */
function printedRate(output) {
  const [, digits, unit] = /([\d.,]+) ?([kM])? ?frames\/s/.exec(output) ?? [];
  if (digits === undefined) return 0;
  return Number(digits.replaceAll(',', '')) * (unit === 'M' ? 1e6 : unit === 'k' ? 1e3 : 1);
}
