/**
 * Interleaved measuring: rounds of A, B, A, B …, medians; ratios are taken round by round, so that what else the machine
 * does meanwhile meets both.
 */
import benny from 'benny';

export const median = (values) => quantile(values, 0.5);

export function quantile(values, at) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * at))];
}

/**
 * Runs `cases` (name → function of one batch) under benny, a suite a round. benny measures one case after the other, so
 * short suites are what interleaves them. Returns name → calls a second, an entry a round.
 */
export async function rounds(cases, count, secondsEach) {
  const found = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
  const entries = Object.entries(cases).map(([name, run]) => benny.add(name, () => run()));
  const log = console.log;
  for (let round = 0; round < count; round++) {
    console.log = () => undefined; // benny announces every suite
    const summary = await benny.suite(`round ${round + 1}`, ...entries, benny.configure({ cases: { minTime: secondsEach / 5, maxTime: secondsEach, minSamples: 3, delay: 0 } }));
    console.log = log;
    for (const { name, details } of summary.results) found[name].push(1 / details.median);
  }
  return found;
}

/** The median of a[i] / b[i]. */
export const medianRatio = (a, b) => median(a.map((value, i) => value / b[i]));
