/**
 * Runs the benches: `npm run bench [-- CASE[:VARIANT] …] [--json FILE]`; without names all of them, about three minutes.
 *
 * One process a variant (support/one-case.mjs), one after the other. A line each: what was measured, the goal, whether it
 * was met. Exit code 1 when a goal was missed or a case failed.
 */
import { fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { about, aboutLine } from './support/about.mjs';
import { ROOT } from './support/dist.mjs';

const CASES = fs.readdirSync(path.join(import.meta.dirname, 'cases')).map((file) => path.basename(file, '.mjs')).sort();

const { values, positionals } = parseArgs({ options: { json: { type: 'string' }, help: { type: 'boolean', short: 'h' } }, allowPositionals: true });
const unknown = positionals.find((name) => !CASES.includes(name.split(':')[0]));
if (values.help || unknown !== undefined) {
  if (unknown !== undefined) console.error(`bench: there is no case ${unknown}`);
  console.error(`usage: npm run bench -- [CASE[:VARIANT] …] [--json FILE]\ncases: ${CASES.join(' ')}`);
  process.exit(unknown === undefined ? 0 : 2);
}

const info = about();
console.log(`${aboutLine(info)}\n`);

const results = [];
for (const name of CASES) {
  const asked = positionals.filter((position) => position.split(':')[0] === name);
  if (positionals.length > 0 && asked.length === 0) continue;
  const { variants, chart } = await import(`./cases/${name}.mjs`);
  const wanted = asked.filter((position) => position.includes(':')).map((position) => position.slice(name.length + 1));
  for (const variant of variants) {
    if (wanted.length > 0 && !wanted.includes(variant)) continue;
    for (const line of await measure(name, variant)) {
      const result = { case: name, variant, ...line, met: isMet(line) };
      results.push(result);
      print(result);
    }
  }
  if (chart !== undefined) console.log(`      ${path.relative(ROOT, await chart(results))}`);
}
if (values.json !== undefined) {
  fs.mkdirSync(path.dirname(path.resolve(values.json)), { recursive: true });
  fs.writeFileSync(values.json, `${JSON.stringify({ ...info, results }, null, 2)}\n`);
}
const missed = results.filter((result) => result.met === false).length;
console.log(missed === 0 ? '\nall goals met' : `\n${missed} of ${results.filter((result) => result.met !== undefined).length} goals missed`);
process.exitCode = missed === 0 ? 0 : 1;

function measure(name, variant) {
  return new Promise((resolve) => {
    const child = fork(path.join(import.meta.dirname, 'support/one-case.mjs'), [name, variant], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    let lines;
    child.on('message', (message) => (lines = message));
    child.on('exit', (code) => resolve(code === 0 && lines !== undefined ? lines : [{ what: `${name} ${variant}`, failed: `exit code ${code}` }]));
  });
}

/** undefined where there is no goal, or nothing was measured. */
function isMet({ failed, skipped, goal, value, atMost }) {
  if (failed !== undefined) return false;
  if (skipped !== undefined || goal === undefined) return undefined;
  return atMost === true ? value <= goal : value >= goal;
}

function print({ what, value, unit, goal, atMost, detail, rounds, met, skipped, failed }) {
  const verdict = failed !== undefined ? 'FAIL' : met === undefined ? '  - ' : met ? 'pass' : 'MISS';
  const measured = failed ?? (skipped === undefined ? `${value.toFixed(2)} ${unit}` : `skipped: ${skipped}`);
  const wanted = goal === undefined || skipped !== undefined || failed !== undefined ? '' : `goal ${atMost === true ? '≤' : '≥'} ${goal}`;
  const more = [detail, rounds === undefined ? undefined : `${rounds} rounds`].filter((part) => part !== undefined).join('; ');
  console.log(`${verdict}  ${what.padEnd(66)} ${measured.padStart(9)}  ${wanted.padEnd(11)} ${more}`);
}
