/**
 * Stage by stage, against the same stage in C: parse, lookup, ingress verdict, each on one batch of 1,024 frames again and again;
 * then what a call into native code costs, and the engine's whole turn (counters too, nothing sent) against the three stages in C.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { load, ROOT } from '../support/dist.mjs';
import { medianRatio, median, rounds } from '../support/measure.mjs';
import { BATCH, checkSame, makeSteering } from '../support/steering.mjs';

const ENDPOINTS = 65536;
const ROUNDS = 11;
const SECONDS = 0.05;
/** Frames of a live turn (LIVE_BATCH in src/io/live-ports.ts): what a crossing is shared by. */
const LIVE_BATCH = 256;

export const variants = ['parse', 'lookup', 'verdict', 'boundary', 'turn'];

export async function run(variant) {
  const world = await makeSteering(ENDPOINTS, 'dense');
  if (variant === 'boundary') return boundary(world);
  if (variant === 'turn') return [line('whole turn', await rounds({ js: () => world.call(world.turn), c: () => world.call(world.c) }, ROUNDS, SECONDS))];
  checkSame(world);
  world.take(0);
  world.js(); // what the stage before this one leaves
  const { js, c } = world.stages[variant];
  const times = await rounds({ js: sunk(world, js), c: sunk(world, c) }, ROUNDS, SECONDS);
  return [line(variant, times)];
}

function sunk(world, stage) {
  return () => {
    stage();
    world.sink = (world.sink + world.batch.kind[7] + world.batch.position[7] + world.batch.verdict[7]) | 0;
  };
}

function line(name, { js, c }) {
  const ns = (times) => (1e9 / (median(times) * BATCH)).toFixed(1);
  return { what: `${name}: JavaScript / C`, value: medianRatio(js, c), unit: '×', detail: `${ns(js)} against ${ns(c)} ns a frame`, rounds: ROUNDS };
}

/** An empty call through Node-API alone, and one through the addon's own layer (node-addon-api). */
async function boundary(world) {
  const { FrameSlots } = await load('io/frame-io');
  const { Ports } = createRequire(import.meta.url)(path.join(ROOT, 'native-bindings/build/Release/berth.node'));
  const { offset, length, wireLength, seconds, nanoseconds } = new FrameSlots(LIVE_BATCH);
  const ports = new Ports(offset, length, wireLength, seconds, nanoseconds, new Int32Array(LIVE_BATCH), new Int32Array(LIVE_BATCH), 1);
  const CALLS = 1000;
  const repeated = (call) => () => {
    for (let n = 0; n < CALLS; n++) world.sink = (world.sink + (call() ?? 0)) | 0;
  };
  const times = await rounds({ plain: repeated(world.crossing), addon: repeated(() => ports.forward(1, 0)) }, ROUNDS, SECONDS);
  ports.close();
  const of = (what, values) => {
    const ns = 1e9 / (median(values) * CALLS);
    return { what: `native boundary: a call that does nothing, ${what}`, value: ns, unit: 'ns', detail: `${(ns / LIVE_BATCH).toFixed(2)} ns a frame at ${LIVE_BATCH} a call`, rounds: ROUNDS };
  };
  return [of('Node-API', times.plain), of('the addon', times.addon)];
}
