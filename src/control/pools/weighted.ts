/** Weighted: several policies together, each cost counted as often as its weight says. What one of them forbids is forbidden. */
import type { Policy, Rating } from './policy.js';

export interface Weight {
  readonly name: string;
  readonly policy: Policy;
  /** greater than 0 */
  readonly weight: number;
}

export function weighted(weights: readonly Weight[]): Policy {
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  return (candidates, wish) => {
    const columns = weights.map(({ policy }) => policy(candidates, wish));
    return candidates.map((_, at): Rating | null => {
      const row = columns.map((column) => column[at]);
      if (row.includes(null)) return null;
      const ratings = row as Rating[];
      const cost = ratings.reduce((sum, rating, n) => sum + (rating.cost * weights[n].weight) / total, 0);
      return { cost, words: ratings.map(({ words }, n) => `${words} (${weights[n].name}, weight ${weights[n].weight})`).join(', ') };
    });
  };
}
