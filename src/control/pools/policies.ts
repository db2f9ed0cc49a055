/** The policies by the names that a configuration has for them. */
import type { PolicyChoice, PolicyName } from '../../base/config-pools.js';
import { firstFit } from './first-fit.js';
import { leastLoad } from './least-load.js';
import { lowestOccupancy } from './lowest-occupancy.js';
import { mostAvailableRate } from './most-available-rate.js';
import type { Policy } from './policy.js';
import { serviceClass } from './service-class.js';
import { type Weight, weighted } from './weighted.js';

const BY_NAME: Readonly<Record<PolicyName, Policy>> = {
  'first-fit': firstFit,
  'least-load': leastLoad,
  'most-available-rate': mostAvailableRate,
  'lowest-occupancy': lowestOccupancy,
  'service-class': serviceClass,
};

export function policyOf(choice: PolicyChoice): { name: string; policy: Policy } {
  if (typeof choice === 'string') return { name: choice, policy: BY_NAME[choice] };
  const weights = Object.entries(choice).map(([name, weight]): Weight => ({ name, policy: BY_NAME[name as PolicyName], weight }));
  return { name: weights.map(({ name, weight }) => `${name} × ${weight}`).join(' + '), policy: weighted(weights) };
}
