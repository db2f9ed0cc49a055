/** Most available rate: the network that could carry most besides what it carries now. A slow idle one loses to a fast one half in use. */
import { type Candidate, formatRate, type Policy, rounded } from './policy.js';

export const mostAvailableRate: Policy = (candidates) => {
  const most = Math.max(...candidates.map(availableRate));
  return candidates.map((candidate) => {
    const available = availableRate(candidate);
    return { cost: most === 0 ? 0 : rounded(1 - available / most), words: `${formatRate(available)} available of ${formatRate(candidate.speed)}` };
  });
};

function availableRate({ load, speed }: Candidate): number {
  return Math.max(0, speed - load);
}
