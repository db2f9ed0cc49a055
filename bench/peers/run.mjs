/**
 * Berth against its peers: `npm run bench:peers [-- --quick] [--rounds N] [--only NAME,NAME]`, as root.
 *
 * A round      fresh namespaces for every contender (contenders.mjs), all set up; then each workload (workloads.mjs) on one contender after
 *              the other, so that what is compared was measured seconds apart; every second round in reverse order.
 * Numbers      medians over the rounds; the goals (goals.mjs) on medians of the rounds' ratios. --quick: one short round, and not the
 *              goals of the steering loop.
 * Written      bench/results/peers.json, with every round's values, and peers.svg.
 * Exit status  0; 1 when a goal was missed or Berth failed in a workload; 2 wrong usage, or it cannot run here.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { writeChart } from './chart.mjs';
import { CONTENDERS } from './contenders.mjs';
import { checkGoals, checkLoop } from './goals.mjs';
import { printGoals, printTable } from './print.mjs';
import { missing, Site } from './site.mjs';
import { FULL, METRICS, QUICK, WORKLOADS } from './workloads.mjs';
import { about, aboutLine } from '../support/about.mjs';
import { median } from '../support/measure.mjs';

/** For what comes after the rounds: the goals of the steering loop, the chart. */
const RESERVE_SECONDS = 30;
/** After Berth: it keeps the processors awake for 100 ms after its traffic, and the next one is to have nothing of it. */
const REST_MS = 130;
const RESULTS = path.resolve(import.meta.dirname, '../results');

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, rounds: { type: 'string' }, only: { type: 'string' } } });
const names = values.only?.split(',') ?? Object.keys(CONTENDERS);
const unknown = names.find((name) => !(name in CONTENDERS));
const plan = { ...(values.quick ? QUICK : FULL), ...(values.rounds === undefined ? {} : { rounds: Number(values.rounds) }) };
if (unknown !== undefined || !(plan.rounds >= 1)) {
  console.error(unknown === undefined ? `bench: --rounds ${values.rounds} is not a number of rounds` : `bench: there is no contender ${unknown}; there are ${Object.keys(CONTENDERS).join(', ')}`);
  process.exit(2);
}
if (process.platform !== 'linux' || process.getuid() !== 0) {
  console.error('bench: network namespaces need Linux and root');
  process.exit(2);
}

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => (interrupted = true));

const info = about();
console.log(aboutLine(info));
const start = performance.now();
const seconds = () => (performance.now() - start) / 1000;
const found = Object.fromEntries(names.map((name) => [name, {}]));
const failures = [];
const absent = names.map((name) => [name, missing(name)]).filter(([, why]) => why !== undefined);
const present = names.filter((name) => missing(name) === undefined);
let done = 0;
for (let roundSeconds = 0; done < plan.rounds && seconds() + roundSeconds < plan.seconds - RESERVE_SECONDS; done++) {
  process.stderr.write(`round ${done + 1} of ${plan.rounds} …\n`);
  const before = seconds();
  await runRound(done);
  if (interrupted) process.exit(130);
  roundSeconds = seconds() - before;
}

const medians = Object.fromEntries(names.map((name) => [name, mapValues(found[name], (rounds) => median(rounds.filter((value) => value !== undefined)))]));
const goals = [...checkGoals(found, METRICS), ...(values.quick ? [] : checkLoop())];
printTable(present, METRICS, medians);
for (const name of present) console.log(`${name}: ${CONTENDERS[name].what}`);
for (const [name, why] of absent) console.log(`not measured: ${name}, ${why}`);
for (const [failure, times] of counted(failures)) console.log(`failed${times > 1 ? ` ${times} times` : ''}: ${failure}`);
printGoals(goals);
fs.mkdirSync(RESULTS, { recursive: true });
fs.writeFileSync(path.join(RESULTS, 'peers.json'), `${JSON.stringify({ ...info, plan, done, medians, goals, failures, absent, rounds: found }, null, 2)}\n`);
await writeChart(path.join(RESULTS, 'peers.svg'), present, METRICS, medians, aboutLine(info));
console.log(`\nbench/results/peers.json, peers.svg; ${done} rounds, ${Math.round(seconds())} s`);
const failed = failures.some((failure) => failure.startsWith('berth')) || goals.some(({ met }) => met === false);
process.exitCode = failed ? 1 : 0;

async function runRound(round) {
  const sites = [];
  try {
    for (const name of present) {
      const site = new Site(name);
      sites.push(site);
      await attempt(name, 'set-up', async () => {
        await site.start();
        site.ready = true;
      });
    }
    let isAwake = false;
    const inOrder = round % 2 === 0 ? sites : sites.toReversed();
    for (const workload of WORKLOADS) {
      for (const site of inOrder) {
        if (interrupted || !site.ready || (site.bulkOnly && !workload.bulk)) continue;
        if (isAwake) await sleep(REST_MS);
        isAwake = CONTENDERS[site.name].isBerth === true;
        const result = (await attempt(site.name, workload.name, () => workload.run(site, plan))) ?? {};
        for (const [metric, value] of Object.entries(result)) (found[site.name][metric] ??= [])[round] = value;
      }
    }
  } finally {
    for (const site of sites) await site.close();
  }
}

async function attempt(name, what, act) {
  try {
    return await act();
  } catch (error) {
    failures.push(`${name}, ${what}: ${error.message.split('\n')[0]}`);
    return undefined;
  }
}

function mapValues(object, of) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, of(value)]));
}

/** Each text once, with how often it is there. */
function counted(texts) {
  const times = new Map();
  for (const text of texts) times.set(text, (times.get(text) ?? 0) + 1);
  return times;
}
