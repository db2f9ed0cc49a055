/**
 * The workloads: each measures one site for a while and returns metric → value. METRICS says what the values are.
 *
 * CPU          "forwarder" is what its processes used. Where the kernel forwards, that is softirq time, which the kernel charges to
 *              whoever runs at the moment, on a veth mostly the sender: `whole` (client, server, forwarder) has it in any case,
 *              and `whole` less that of `none` in the same round is the estimate. The machine's total would hold other work too.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Loss that counts as none: one frame in a thousand. Sender and receiver share the machine's cores with the forwarder. */
const NO_LOSS = 0.001;
const AT_ONCE = 4;
const STREAMS = 8;
const IDLE_CONNECTIONS = 1000;
const FIXED_RATE = 100_000;
const LOWEST_RATE = 10_000;
/** From 10 thousand to 1.1 million a second in steps of 12 %. */
const RATES = Array.from({ length: 42 }, (_, n) => LOWEST_RATE * 1.12 ** n);

/** metric → its name and unit; `digits` after the point; `scale` to the unit; `less`: less is better. */
export const METRICS = {
  in: { what: 'bulk TCP in', unit: 'Gbit/s', digits: 2 },
  out: { what: 'bulk TCP out', unit: 'Gbit/s', digits: 2 },
  streams: { what: `bulk TCP in, ${STREAMS} streams`, unit: 'Gbit/s', digits: 2 },
  requests: { what: 'request/response', unit: 'k/s', digits: 2 },
  p50: { what: '  p50', unit: 'µs', digits: 0, less: true },
  p99: { what: '  p99', unit: 'µs', digits: 0, less: true },
  p999: { what: '  p99.9', unit: 'µs', digits: 0, less: true },
  exchanges: { what: `new connections, ${AT_ONCE} at once`, unit: 'k/s', digits: 2 },
  datagrams: { what: 'UDP frames of 64 bytes, ≤ 0.1 % lost', unit: 'k/s', digits: 0 },
  loss: { what: `  lost at ${FIXED_RATE / 1000} k/s`, unit: '%', digits: 2, less: true },
  requestsBesideIdle: { what: 'request/response beside 1,000 idle', unit: 'k/s', digits: 2 },
  p99BesideIdle: { what: '  p99', unit: 'µs', digits: 0, less: true },
  cpuIn: { what: 'CPU a GB in, forwarder', unit: 's', digits: 3, less: true },
  cpuOut: { what: 'CPU a GB out, forwarder', unit: 's', digits: 3, less: true },
  wholeIn: { what: 'CPU a GB in, whole path', unit: 's', digits: 3, less: true },
  wholeOut: { what: 'CPU a GB out, whole path', unit: 's', digits: 3, less: true },
  cpuExchanges: { what: 'CPU a 1,000 connections, forwarder', unit: 's', digits: 3, less: true },
  wholeExchanges: { what: 'CPU a 1,000 connections, whole path', unit: 's', digits: 3, less: true },
  cpuOwn: { what: "CPU a GB of the host's own, forwarder", unit: 's', digits: 3, less: true },
  idle: { what: 'idle, share of a core', unit: '%', digits: 2, less: true },
  wakes: { what: '  wakes', unit: '/s', digits: 0, less: true },
  memory: { what: 'resident memory after all', unit: 'MiB', digits: 0, less: true },
};

/** Durations, ms; `seconds`: no round begins that would probably end later; `searchSteps`: how often the search for the highest rate is halved. */
export const FULL = { rounds: 5, seconds: 600, bulk: 1000, requests: 1000, exchanges: 1000, datagrams: 250, idle: 1500, warmUp: 200, searchSteps: 5, retries: 1 };
export const QUICK = { rounds: 1, seconds: 60, bulk: 250, requests: 250, exchanges: 250, datagrams: 80, idle: 700, warmUp: 50, searchSteps: 4, retries: 0 };

const gbits = ({ bytes, seconds }) => (bytes * 8) / seconds / 1e9;
const thousands = ({ count, seconds }) => count / seconds / 1e3;
const perGigabyte = (cpu, { bytes }) => cpu / (bytes / 1e9);

/** In the order in which they run. `bulk`: also for contenders that are there for bulk only. */
export const WORKLOADS = [
  {
    name: 'warm-up',
    bulk: true,
    run(site, { warmUp }) {
      site.run('in', 1, warmUp);
      site.run('out', 1, warmUp);
      site.run('requests', 0, warmUp);
      site.run('exchanges', AT_ONCE, warmUp);
      return {};
    },
  },
  {
    name: 'bulk in',
    bulk: true,
    run(site, { bulk }) {
      const found = site.measure('in', 1, bulk);
      return { in: gbits(found), cpuIn: perGigabyte(found.forwarder, found), wholeIn: perGigabyte(found.whole, found) };
    },
  },
  {
    name: 'bulk out',
    bulk: true,
    run(site, { bulk }) {
      const found = site.measure('out', 1, bulk);
      return { out: gbits(found), cpuOut: perGigabyte(found.forwarder, found), wholeOut: perGigabyte(found.whole, found) };
    },
  },
  { name: 'parallel streams', bulk: true, run: (site, { bulk }) => ({ streams: gbits(site.measure('in', STREAMS, bulk)) }) },
  {
    name: 'requests',
    run(site, { requests }) {
      const { p50, p99, p999, ...found } = site.measure('requests', 0, requests);
      return { requests: thousands(found), p50, p99, p999 };
    },
  },
  {
    name: 'connections',
    run(site, { exchanges }) {
      const found = site.measure('exchanges', AT_ONCE, exchanges);
      const perThousand = (cpu) => cpu / (found.count / 1e3);
      return { exchanges: thousands(found), cpuExchanges: perThousand(found.forwarder), wholeExchanges: perThousand(found.whole) };
    },
  },
  { name: 'datagrams', run: (site, plan) => ({ datagrams: highestRate(site, plan) / 1e3 }) },
  {
    name: 'loss',
    run(site, { datagrams }) {
      const { sent, received } = site.run('datagrams', FIXED_RATE, datagrams);
      return { loss: (1 - received / sent) * 100 };
    },
  },
  {
    name: 'idle connections',
    run(site, { requests }) {
      const { p99, ...found } = site.measure('requests', IDLE_CONNECTIONS, requests);
      return { requestsBesideIdle: thousands(found), p99BesideIdle: p99 };
    },
  },
  {
    name: "the host's own traffic",
    async run(site, { bulk }) {
      if (site.pids.length === 0) return {};
      const found = await site.measureOwn(bulk);
      return { cpuOwn: perGigabyte(found.forwarder, found) };
    },
  },
  {
    name: 'idle',
    async run(site, { idle }) {
      if (site.pids.length === 0) return {};
      await sleep(200); // what the last workload left has ended
      const { share, sleeps } = await site.idle(idle);
      return { idle: share * 100, wakes: sleeps, memory: site.memory };
    },
  },
];

/**
 * The highest rate, frames a second as really sent, of which no more than NO_LOSS was lost: by halving the list of rates. A rate that
 * fails is tried once more: on a shared machine one trial may meet other work. Where nothing is lost at any rate, the
 * sender is the limit.
 */
function highestRate(site, { datagrams, searchSteps, retries }) {
  let best = 0;
  let low = -1;
  let high = RATES.length;
  for (let step = 0; step < searchSteps && high - low > 1; step++) {
    const middle = (low + high) >> 1;
    let passed = false;
    for (let tries = 0; tries <= retries && !passed; tries++) {
      const { sent, received, seconds } = site.run('datagrams', RATES[middle], datagrams);
      passed = received >= sent * (1 - NO_LOSS);
      if (passed) best = Math.max(best, sent / seconds);
    }
    if (passed) low = middle;
    else high = middle;
  }
  return best;
}
