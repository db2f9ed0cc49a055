/**
 * Service class: guests of one class are kept on one network, or on different ones, as the guest's rule says.
 *
 * Pools        of another class than the guest's are not for it; one of its own class comes before one for any, under `together` as
 *              under `apart`.
 * together     the network with most guests of the class.    apart   the one with fewest.
 * No class     a guest without one is kept from pools that are for a class, and is at home anywhere else.
 */
import type { Policy } from './policy.js';

export const serviceClass: Policy = (candidates, { class: wanted, rule }) => {
  const counts = candidates.map(({ classes }) => (wanted === null ? 0 : (classes.get(wanted) ?? 0)));
  const most = Math.max(1, ...counts);
  return candidates.map((candidate, at) => {
    if (candidate.class !== null && candidate.class !== wanted) return null;
    const share = counts[at] / most;
    const foreign = candidate.class === null ? 0.6 : 0; // more than all the rest of the cost
    const words = wanted === null ? 'for guests of any class' : `${candidate.class === null ? 'for any class' : `for class ${wanted}`}, ${counts[at]} of that class there, to be kept ${rule}`;
    return { cost: foreign + 0.4 * (rule === 'together' ? 1 - share : share), words };
  });
};
