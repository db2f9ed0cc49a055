/**
 * The goals for Berth: against its peers, on medians of ratios that were taken round by round; and those of the steering loop.
 */
import { allocatesNothing, steeringRatio } from '../support/invariants.mjs';
import { medianRatio, median } from '../support/measure.mjs';

/** Berth's `metric` against that of `peer`: at least (or, where less is better, at most) `goal` times. */
const AGAINST = [
  ['in', 'dnat', 1.0],
  ['in', 'pasta', 1.4],
  ['out', 'dnat', 1.0],
  ['out', 'pasta', 1.4],
  ['requests', 'dnat', 1.3],
  ['p99', 'dnat', 1.0],
  ['exchanges', 'dnat', 1.15],
  ['exchanges', 'pasta', 1.7],
  ['datagrams', 'pasta', 2.0],
  ['cpuIn', 'pasta', 1.0],
  ['cpuOut', 'pasta', 1.0],
  ['wholeIn', 'pasta', 1.0],
  ['wholeOut', 'pasta', 1.0],
];
/**
 * Berth's own: at most, in the metric's unit. A timer faster than 10 ms would wake it 100 times a second. 5 % of a core at
 * 10 Gbit/s of the host's own traffic are 0.04 s a GB.
 */
const ABSOLUTE = [
  ['cpuOwn', 0.04],
  ['idle', 0.5],
  ['wakes', 100],
];

/** What the steering loop must reach of the same loop in C; cases/steering-loop.mjs. */
const STEERING = [
  ['65536-ring', '64 Ki', 0.75],
  ['1048576-ring', '1 Mi', 0.6],
];

const line = (what, value, goal, atMost, unit) => ({ what, value, goal, atMost, unit, met: value === undefined ? undefined : atMost ? value <= goal : value >= goal });

/** Half a minute: a process a line. */
export function checkLoop() {
  return [
    ...STEERING.map(([variant, endpoints, goal]) => line(`steering loop, ${endpoints} endpoints: JavaScript / C`, steeringRatio(variant), goal, false, '×')),
    line('bytes allocated for a frame: failed tests', allocatesNothing() ? 0 : 1, 0, true, ''),
  ];
}

/**
 * `found`: contender → metric → a value a round (undefined where it failed). Lines of { what, value, goal, atMost, unit, met };
 * value and met are undefined where a side was not measured.
 */
export function checkGoals(found, metrics) {
  const values = (contender, metric) => found[contender]?.[metric] ?? [];
  return [
    ...AGAINST.map(([metric, peer, goal]) => {
      const pairs = values('berth', metric).map((value, round) => [value, values(peer, metric)[round]]).filter((pair) => !pair.includes(undefined));
      const ratio = pairs.length === 0 ? undefined : medianRatio(pairs.map(([a]) => a), pairs.map(([, b]) => b));
      return line(`${metrics[metric].what.trim()}${metric === 'p99' ? ' of request/response' : ''}: Berth / ${peer}`, ratio, goal, metrics[metric].less === true, '×');
    }),
    ...ABSOLUTE.map(([metric, goal]) => {
      const own = values('berth', metric).filter((value) => value !== undefined);
      return line(metric === 'wakes' ? 'idle, wakes' : metrics[metric].what, own.length === 0 ? undefined : median(own), goal, true, metrics[metric].unit);
    }),
  ];
}
