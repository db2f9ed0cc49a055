/**
 * The goals for Berth against its peers, checked on medians of ratios that were taken round by round.
 */
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
];
/** Berth's own: at most, in the metric's unit. A timer faster than 10 ms would wake it 100 times a second. */
const ABSOLUTE = [
  ['idle', 0.5],
  ['wakes', 100],
];

/**
 * `found`: contender → metric → a value a round (undefined where it failed). Lines of { what, value, goal, atMost, unit, met };
 * value and met are undefined where a side was not measured.
 */
export function checkGoals(found, metrics) {
  const values = (contender, metric) => found[contender]?.[metric] ?? [];
  const line = (what, value, goal, atMost, unit) => ({ what, value, goal, atMost, unit, met: value === undefined ? undefined : atMost ? value <= goal : value >= goal });
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
