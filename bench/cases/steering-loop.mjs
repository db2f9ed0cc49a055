/**
 * The steering loop, parse → lookup → ingress verdict, against the same loop in C (support/reference), on the same frames,
 * descriptors and table: 64-byte frames, 90 % for an endpoint in use, drawn from a pool of 65,536, a batch of 1,024 a call.
 *
 * Before       every frame of the pool through both: verdicts, reasons and positions must be the same.
 * A call       copies 1,024 offsets into the slots, as a source would write them, then steers; both sides pay the copy.
 */
import { createRequire } from 'node:module';
import { load } from '../support/dist.mjs';
import { medianRatio, median, rounds } from '../support/measure.mjs';
import { FRAME_BYTES, makeFrames, makeTable, STATION_MAC } from '../support/world.mjs';

const BATCH = 1024;
const POOL = 65536;
const ROUNDS = 15;
const SECONDS = 0.05;
const GOALS = { 1024: 0.75, 65536: 0.75, 1048576: 0.6 };
const NAMES = { 1024: '1 Ki', 65536: '64 Ki', 1048576: '1 Mi' };

export const variants = Object.keys(GOALS).flatMap((endpoints) => ['ring', 'dense'].map((layout) => `${endpoints}-${layout}`));

export async function run(variant) {
  const [endpoints, layout] = variant.split('-');
  const world = await makeWorld(Number(endpoints), layout);
  checkSame(world);
  const times = await rounds({ js: () => world.call(world.js), c: () => world.call(world.c) }, ROUNDS, SECONDS);
  const perSecond = (name) => (median(times[name]) * BATCH) / 1e6;
  if (world.sink === 0) throw new Error('the sink is empty');
  return [
    {
      what: `${NAMES[endpoints]} endpoints, ${layout} layout: JavaScript / C`,
      value: medianRatio(times.js, times.c),
      goal: GOALS[endpoints],
      unit: '×',
      detail: `${perSecond('js').toFixed(1)} against ${perSecond('c').toFixed(1)} M frames/s`,
      rounds: ROUNDS,
    },
  ];
}

async function makeWorld(endpoints, layout) {
  const [{ FrameSlots }, { FrameBatch }, { parse, stationOf }, { lookupDestination }, { decideIngress }, { Memory }, { Extras }, { SteeringTable }] = await Promise.all(
    ['io/frame-io', 'dataplane/frame-batch', 'dataplane/parse', 'dataplane/lookup', 'dataplane/verdict-ingress', 'dataplane/memory', 'dataplane/extras', 'steering/table'].map(load),
  );
  const reference = createRequire(import.meta.url)('../support/reference/build/Release/reference.node');
  const table = new SteeringTable((await makeTable(endpoints)).buffer);
  const pool = await makeFrames(endpoints, POOL, layout);
  const slots = new FrameSlots(BATCH);
  slots.lend(pool.bytes);
  slots.count = BATCH;
  slots.length.fill(FRAME_BYTES);
  slots.wireLength.fill(FRAME_BYTES);
  const batch = new FrameBatch(slots);
  const station = stationOf(STATION_MAC);
  const memory = new Memory();
  const extras = new Extras(false);
  const handle = reference.bind(batch, slots, table, station);
  let next = 0;
  const world = {
    sink: 0,
    batch,
    js() {
      parse(batch, station);
      lookupDestination(batch, table);
      decideIngress(batch, table, memory, extras);
    },
    c() {
      reference.steer(handle, BATCH);
    },
    /** Puts the batch of 1,024 that begins with frame `first` of the pool into the slots. */
    take(first) {
      slots.offset.set(pool.offset.subarray(first, first + BATCH));
    },
    call(steer) {
      world.take(next);
      next = (next + BATCH) % POOL;
      steer();
      world.sink = (world.sink + batch.verdict[0] + batch.verdict[BATCH - 1] + 4) | 0;
    },
  };
  return world;
}

/** Throws unless both give every frame of the pool the same verdict, reason and position, and nine in ten hit. */
function checkSame(world) {
  const { kind, ports, position, verdict, reason } = world.batch;
  const results = (steer) => {
    for (const array of [kind, ports, position, verdict, reason]) array.fill(99);
    steer();
    return [kind, ports, position, verdict, reason].map((array) => Buffer.from(array.slice().buffer));
  };
  let hits = 0;
  for (let first = 0; first < POOL; first += BATCH) {
    world.take(first);
    const expected = results(world.c);
    const got = results(world.js);
    if (got.some((array, a) => !array.equals(expected[a]))) throw new Error(`frames ${first} to ${first + BATCH}: C and JavaScript disagree`);
    for (const decided of verdict) if (decided >= 0) hits++;
  }
  if (Math.abs(hits / POOL - 0.9) > 0.01) throw new Error(`${hits} of ${POOL} frames hit, expected nine in ten`);
}
