/**
 * The steering loop, parse → lookup → ingress verdict, against the same loop in C (support/reference), on the same frames,
 * descriptors and table: 64-byte frames, 90 % for an endpoint in use, drawn from a pool of 65,536, a batch of 1,024 a call.
 *
 * Before       every frame of the pool through both: verdicts, reasons and positions must be the same.
 * A call       copies 1,024 offsets into the slots, as a source would write them, then steers; both sides pay the copy.
 */
import { medianRatio, median, rounds } from '../support/measure.mjs';
import { BATCH, checkSame, makeSteering } from '../support/steering.mjs';

const ROUNDS = 15;
const SECONDS = 0.05;
const GOALS = { 1024: 0.75, 65536: 0.75, 1048576: 0.6 };
const NAMES = { 1024: '1 Ki', 65536: '64 Ki', 1048576: '1 Mi' };

export const variants = Object.keys(GOALS).flatMap((endpoints) => ['ring', 'dense'].map((layout) => `${endpoints}-${layout}`));

export async function run(variant) {
  const [endpoints, layout] = variant.split('-');
  const world = await makeSteering(Number(endpoints), layout);
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
