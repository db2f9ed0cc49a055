/** Least load: the network with the lowest load rate, what it carries as a share of its speed. */
import { formatRate, formatShare, type Policy, rounded } from './policy.js';

export const leastLoad: Policy = (candidates) =>
  candidates.map(({ load, speed }) => {
    const rate = rounded(Math.min(1, load / speed));
    return { cost: rate, words: `${formatShare(rate)} of ${formatRate(speed)} in use` };
  });
