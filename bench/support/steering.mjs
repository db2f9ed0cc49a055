/**
 * What the steering cases run: the stages parse → lookup → ingress verdict and the same in C (reference/), on the same frames,
 * descriptors and table (world.mjs).
 */
import { createRequire } from 'node:module';
import { load } from './dist.mjs';
import { FRAME_BYTES, LINKS, makeFrames, makeTable, STATION_MAC } from './world.mjs';

export const BATCH = 1024;
export const POOL = 65536;

/**
 * The steering loop over a pool of frames, in JavaScript and in C: `js()` and `c()` steer the batch that `take(first)` has put into the
 * slots; `call(steer)` does both with the next one and folds what came out into `sink`. `turn()` is the engine's whole turn,
 * counters included, with a sink that sends nothing: for a process that does not run `js()` too.
 */
export async function makeSteering(endpoints, layout, links = LINKS) {
  const [{ FrameSlots }, { Engine }, { Counters }, { parse, stationOf }, { lookupDestination }, { decideIngress }, { Memory }, { Extras }, { SteeringTable }] = await Promise.all(
    ['io/frame-io', 'dataplane/engine', 'dataplane/counters', 'dataplane/parse', 'dataplane/lookup', 'dataplane/verdict-ingress', 'dataplane/memory', 'dataplane/extras', 'steering/table'].map(load),
  );
  const reference = createRequire(import.meta.url)('./reference/build/Release/reference.node');
  const table = new SteeringTable((await makeTable(endpoints, links)).buffer);
  const pool = await makeFrames(endpoints, POOL, layout);
  const slots = new FrameSlots(BATCH);
  slots.lend(pool.bytes);
  slots.count = BATCH;
  slots.length.fill(FRAME_BYTES);
  slots.wireLength.fill(FRAME_BYTES);
  const station = stationOf(STATION_MAC);
  const engine = new Engine({ slots, table, counters: new Counters(links), station, rejecting: false });
  const sink = { forward: () => 0, copy: () => 0, reject: () => true, punt: () => true, toHost: () => true };
  const { batch } = engine;
  const memory = new Memory();
  const extras = new Extras(false);
  const handle = reference.bind(batch, slots, table, station);
  let next = 0;
  const world = {
    sink: 0,
    batch,
    /** One stage alone, on what the stages before it have left in the batch. */
    stages: {
      parse: { js: () => parse(batch, station), c: () => reference.steer(handle, BATCH, 0) },
      lookup: { js: () => lookupDestination(batch, table), c: () => reference.steer(handle, BATCH, 1) },
      verdict: { js: () => decideIngress(batch, table, memory, extras), c: () => reference.steer(handle, BATCH, 2) },
    },
    /** One call into C and back that does nothing. */
    crossing: () => reference.steer(handle, 0),
    turn: () => engine.ingress(sink),
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
export function checkSame(world) {
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
