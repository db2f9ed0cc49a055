/**
 * One engine for each NIC, or one for all? `npm run bench:networks`, as root; about a minute.
 *
 * Site         one daemon on two networks, a guest on each, every frame through the engines (`fastPath: off`).
 * Each         as Berth does it: an engine's thread for each NIC, anywhere.
 * All          both threads bound to one processor at a time, which they take in turns: at least as good as one engine that serves both NICs, which
 *              would have one processor too, and finish a batch of one NIC before it looks at the other.
 * Rounds       both in turn on the same daemon; medians, and medians of the rounds' ratios.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { about, aboutLine } from './support/about.mjs';
import { DIST, load } from './support/dist.mjs';
import { runLoad, spawnLoad, startServer } from './support/load.mjs';
import { median, medianRatio } from './support/measure.mjs';

const ROUNDS = 7;
const BULK_MS = 700;
const REQUESTS_MS = 500;
/** Where the guests are reached. */
const ADDRESSES = ['192.0.2.20', '198.51.100.20'];
const GATEWAYS = ['192.0.2.1', '198.51.100.1'];
const METRICS = {
  alone: { what: 'bulk TCP in on the first, nothing on the second', unit: 'Gbit/s' },
  both: { what: 'bulk TCP in on both, their sum', unit: 'Gbit/s' },
  quiet: { what: 'request/response on the second, nothing on the first', unit: 'k/s' },
  beside: { what: 'request/response on the second beside bulk on the first', unit: 'k/s' },
};

if (process.platform !== 'linux' || process.getuid() !== 0) {
  console.error('bench: network namespaces need Linux and root');
  process.exit(2);
}
const { Lab } = await load('cli/lab');
console.log(aboutLine(about()));
const lab = new Lab('networks');
try {
  const daemon = await startSite();
  const engines = [0, 1].map((at) => busiestThread(daemon.pid, () => bulk(at)));
  const found = { each: {}, all: {} };
  for (let round = 0; round < ROUNDS; round++) {
    for (const way of round % 2 === 0 ? ['each', 'all'] : ['all', 'each']) {
      const everywhere = `0-${os.cpus().length - 1}`;
      for (const thread of engines) execFileSync('taskset', ['-cp', way === 'each' ? everywhere : String(round % os.cpus().length), String(thread)]);
      for (const [metric, value] of Object.entries(await measure())) (found[way][metric] ??= []).push(value);
    }
  }
  console.log(`\n${''.padEnd(60)}${'one each'.padStart(12)}${'one for all'.padStart(14)}${'ratio'.padStart(8)}`);
  for (const [metric, { what, unit }] of Object.entries(METRICS)) {
    const [each, all] = [found.each[metric], found.all[metric]];
    console.log(`${`${what}, ${unit}`.padEnd(60)}${median(each).toFixed(2).padStart(12)}${median(all).toFixed(2).padStart(14)}${medianRatio(each, all).toFixed(2).padStart(8)}`);
  }
  console.log(`\n${ROUNDS} rounds`);
} finally {
  await lab.close();
}

async function startSite() {
  lab.run(lab.host, ['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', lab.outside]);
  lab.run(lab.host, ['ip', 'link', 'set', 'eth1', 'up']);
  lab.configure(lab.outside, 'eth1', GATEWAYS[1]);
  const names = ['first', 'second'];
  const networks = Object.fromEntries(names.map((name, at) => [name, { nic: `eth${at}` }]));
  const pools = Object.fromEntries(names.map((name, at) => [name, { network: name, addresses: ADDRESSES[at], speed: '10Gbit' }]));
  const guests = Object.fromEntries(names.map((name) => [name, { link: { netns: lab.addGuest(name) }, pool: { name }, use: 'all' }]));
  const config = path.join(lab.folder, 'berth.yaml');
  const [admin, store] = ['admin.sock', 'store'].map((name) => path.join(lab.folder, name));
  fs.writeFileSync(config, JSON.stringify({ fastPath: 'off', admin: { socket: admin }, store: { path: store }, networks, pools, guests }));
  const daemon = lab.spawn(lab.host, [process.execPath, path.join(DIST, 'cli/main.js'), 'run', '--config', config]);
  await new Promise((resolve, reject) => {
    let said = '';
    for (const output of [daemon.stdout, daemon.stderr]) {
      output.on('data', (data) => {
        said += data;
        if (/"msg":"ready"/.test(said)) resolve();
      });
    }
    daemon.once('exit', () => reject(new Error(`berth ended: ${said}`)));
  });
  for (const [at, name] of names.entries()) {
    lab.configure(guests[name].link.netns, 'eth0', ADDRESSES[at], GATEWAYS[at]);
    await startServer(lab, guests[name].link.netns);
  }
  return daemon;
}

function bulk(at) {
  return gbits(runLoad(lab, lab.outside, 'in', { address: ADDRESSES[at] }, 1, BULK_MS));
}

async function measure() {
  const alone = bulk(0);
  const quiet = requests();
  const [first, second] = await Promise.all(ADDRESSES.map((address) => spawnLoad(lab, lab.outside, 'in', { address }, 1, BULK_MS)));
  const load = spawnLoad(lab, lab.outside, 'in', { address: ADDRESSES[0] }, 1, REQUESTS_MS + 300);
  const beside = requests();
  await load;
  return { alone, both: gbits(first) + gbits(second), quiet, beside };
}

function requests() {
  const { count, seconds } = runLoad(lab, lab.outside, 'requests', { address: ADDRESSES[1] }, 0, REQUESTS_MS);
  return count / seconds / 1e3;
}

function gbits({ bytes, seconds }) {
  return (bytes * 8) / seconds / 1e9;
}

/** The thread of the process that used most while `work` was done. */
function busiestThread(pid, work) {
  const threads = fs.readdirSync(`/proc/${pid}/task`);
  const used = (thread) => Number(fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]);
  const before = threads.map(used);
  work();
  const growth = threads.map((thread, at) => used(thread) - before[at]);
  return threads[growth.indexOf(Math.max(...growth))];
}
