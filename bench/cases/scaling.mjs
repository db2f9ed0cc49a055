/**
 * How the look-up scales, from 1 Ki to 4 Mi endpoints, and the whole turn, from 1 to 1,000 guests at 64 Ki endpoints.
 *
 * Look-ups     of a million drawn endpoints in use, so that a large table is really missed in the caches; the stage alone, in JavaScript
 *              and in C; both pay for the copy of 1,024 keys into the batch.
 * Chart        bench/results/scaling.svg, drawn when all variants have run.
 */
import path from 'node:path';
import { ROOT } from '../support/dist.mjs';
import { medianRatio, median, rounds } from '../support/measure.mjs';
import { Random } from '../support/random.mjs';
import { BATCH, checkSame, makeSteering } from '../support/steering.mjs';
import { writeSvg } from '../support/svg.mjs';
import { drawEndpoint } from '../support/world.mjs';

const ENDPOINTS = [1, 4, 16, 64, 256, 1024, 4096].map((kibi) => kibi * 1024);
const GUESTS = [1, 10, 100, 1000];
const AT_GUESTS = 65536;
const KEYS = 1 << 20;
const ROUNDS = 9;
const SECONDS = 0.05;

export const variants = [...ENDPOINTS.map((count) => `${count}-endpoints`), ...GUESTS.map((count) => `${count}-guests`)];

export async function run(variant) {
  const [count, what] = variant.split('-');
  return [what === 'endpoints' ? await lookups(Number(count)) : await turns(Number(count))];
}

const nanoseconds = (times) => 1e9 / (median(times) * BATCH);
const named = (count) => (count >= 1 << 20 ? `${count >> 20} Mi` : count >= 1024 ? `${count >> 10} Ki` : String(count));

async function lookups(endpoints) {
  const world = await makeSteering(endpoints, 'dense');
  checkSame(world);
  const { batch, stages } = world;
  const keys = drawKeys(endpoints);
  let next = 0;
  const call = (lookup) => () => {
    for (const [name, values] of keys) batch[name].set(values.subarray(next, next + BATCH));
    lookup();
    next = (next + BATCH) % KEYS;
    world.sink = (world.sink + batch.position[0] + batch.position[BATCH - 1]) | 0;
  };
  const times = await rounds({ js: call(stages.lookup.js), c: call(stages.lookup.c) }, ROUNDS, SECONDS);
  const [js, c] = [nanoseconds(times.js), nanoseconds(times.c)];
  return {
    what: `look-up, ${named(endpoints)} endpoints: JavaScript / C`,
    value: medianRatio(times.js, times.c),
    unit: '×',
    detail: `${js.toFixed(1)} against ${c.toFixed(1)} ns a frame`,
    rounds: ROUNDS,
    points: [{ chart: 'endpoints', x: endpoints, ns: js, series: 'JavaScript' }, { chart: 'endpoints', x: endpoints, ns: c, series: 'C' }],
  };
}

/** What parse would have left in the batch, for KEYS frames. */
function drawKeys(endpoints) {
  const random = new Random();
  const keys = { kind: new Uint8Array(KEYS), destination: new Uint32Array(KEYS), ports: new Uint32Array(KEYS) };
  for (let n = 0; n < KEYS; n++) {
    const [address, proto, port] = drawEndpoint(random, endpoints);
    keys.kind[n] = proto;
    keys.destination[n] = address;
    keys.ports[n] = (40000 << 16) | port;
  }
  return Object.entries(keys);
}

async function turns(guests) {
  const world = await makeSteering(AT_GUESTS, 'dense', guests);
  const times = await rounds({ js: () => world.call(world.turn), c: () => world.call(world.c) }, ROUNDS, SECONDS);
  const [js, c] = [nanoseconds(times.js), nanoseconds(times.c)];
  return {
    what: `whole turn, ${guests} guests: JavaScript / C (which does not count)`,
    value: medianRatio(times.js, times.c),
    unit: '×',
    detail: `${js.toFixed(1)} against ${c.toFixed(1)} ns a frame`,
    rounds: ROUNDS,
    points: [{ chart: 'guests', x: guests, ns: js, series: 'JavaScript' }, { chart: 'guests', x: guests, ns: c, series: 'C' }],
  };
}

/** Draws what the variants have measured; returns the file. */
export async function chart(results) {
  const points = results.flatMap((result) => result.points ?? []);
  const file = path.join(ROOT, 'bench/results/scaling.svg');
  const panel = (which, title, x, ticks) => ({
    title,
    width: 320,
    height: 220,
    data: { values: points.filter((point) => point.chart === which) },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: x, scale: { type: 'log', base: which === 'guests' ? 10 : 2 }, axis: { values: ticks, labelExpr: labels(ticks) } },
      y: { field: 'ns', type: 'quantitative', title: 'ns a frame', scale: { domainMin: 0 } },
      color: { field: 'series', type: 'nominal', title: null, scale: { domain: ['JavaScript', 'C'], range: ['#1f6feb', '#8b949e'] } },
    },
  });
  await writeSvg(file, { hconcat: [panel('endpoints', 'look-up', 'endpoints', ENDPOINTS), panel('guests', 'whole turn at 64 Ki endpoints', 'guests', GUESTS)] });
  return file;
}

const labels = (ticks) => ticks.map((tick) => `datum.value === ${tick} ? '${named(tick)}'`).join(' : ') + " : ''";
