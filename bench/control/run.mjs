/**
 * Benches of the control plane, with a real daemon in namespaces of their own: `npm run bench:control [-- --quick] [CASE …]`.
 *
 * A line each: percentiles of what was measured, the goal, whether it was met; all of it as JSON in bench/results/control.json.
 * Exit code 1 when a goal was missed. At a signal, or when nobody reads it any more, it removes what it has made and ends with the code of
 * a program that the signal has ended. Root and Linux; BERTH_BENCH_PROFILE names a folder for CPU profiles of the daemon.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { closeWorlds } from './world.mjs';
import { ROOT } from '../support/dist.mjs';

const CASES = ['ports', 'churn'];
const SIZES = { full: { events: 1000, restarts: 10, seconds: 20 }, quick: { events: 30, restarts: 2, seconds: 4 } };
const quantile = (values, at) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * at))];

const { values, positionals } = parseArgs({ options: { quick: { type: 'boolean', default: false } }, allowPositionals: true });
const unknown = positionals.find((name) => !CASES.includes(name));
if (unknown !== undefined || process.getuid?.() !== 0) {
  console.error(unknown === undefined ? 'bench: namespaces need root; start it with sudo' : `bench: there is no case ${unknown}; cases: ${CASES.join(' ')}`);
  process.exit(2);
}

/** A signal that has ended a tool has been taken by then. */
const SIGNAL_MS = 100;
let interrupted = null;
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.on(signal, () => interrupt(os.constants.signals[signal]));
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => interrupt(os.constants.signals.SIGPIPE));

const results = [];
const load = os.loadavg()[0];
console.log(`Node ${process.version}, ${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}, Linux ${os.release()}, load ${load.toFixed(1)}\n`);
for (const name of CASES) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  const { run } = await import(`./${name}.mjs`);
  try {
    await run(values.quick ? SIZES.quick : SIZES.full, report);
  } catch (error) {
    await sleep(SIGNAL_MS);
    if (interrupted !== null) await interrupted;
    results.push({ what: name, met: false, failed: error.message });
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}
const file = path.join(ROOT, 'bench/results/control.json');
fs.mkdirSync(path.dirname(file), { recursive: true });
fs.writeFileSync(file, `${JSON.stringify({ node: process.version, kernel: os.release(), load, quick: values.quick, results }, null, 2)}\n`);
const missed = results.filter(({ met }) => !met).length;
console.log(missed === 0 ? '\nall goals met' : `\n${missed} of ${results.length} goals missed`);
process.exitCode = missed === 0 ? 0 : 1;

/** Removes everything and ends, whatever the case is doing: what it waits for fails then. */
function interrupt(signal) {
  for (const event of ['unhandledRejection', 'uncaughtException']) if (interrupted === null) process.on(event, () => undefined);
  interrupted ??= closeWorlds().then(
    () => process.exit(128 + signal),
    (error) => {
      process.stderr.write(`bench: not everything could be removed: ${error.message}\n`);
      process.exit(1);
    },
  );
}

/** `times` in ms, of which quantile `at` (p99 by default, 1: the longest) must be at most the goal; or one `value` and its unit. */
function report({ what, times, value, unit, goal, at = 0.99, atLeast = false }) {
  if (times === undefined) {
    record({ what, value, unit, goal, met: atLeast ? value >= goal : value <= goal }, `${+value.toFixed(1)} ${unit}  goal ${atLeast ? '≥' : '≤'} ${goal}`);
    return;
  }
  const [p50, p99, max] = [0.5, 0.99, 1].map((one) => quantile(times, one));
  const numbers = [p50, p99, max].map((ms) => ms.toFixed(1)).join(' / ');
  record({ what, events: times.length, p50, p99, max, goal, met: quantile(times, at) <= goal }, `${numbers} ms (p50 / p99 / max of ${times.length})  goal: ${at === 1 ? 'max' : 'p99'} ≤ ${goal}`);
}

function record(result, text) {
  results.push(result);
  console.log(`${result.met ? 'pass' : 'MISS'}  ${result.what.padEnd(60)} ${text}`);
}
