/** The known word that somebody may have meant. The only import of fastest-levenshtein. */
import { distance } from 'fastest-levenshtein';

/** Of a longer word only this much is compared. */
const COMPARED = 100;

/**
 * `isClose`: near enough to ask "did you mean": two letters of five may differ, three of eight, but
 * only one of a short word, unless it has the same letters in another order.
 */
export function nearest(word: string, known: readonly string[]): { best: string; isClose: boolean } {
  const given = word.slice(0, COMPARED).toLowerCase();
  const far = (candidate: string): number => distance(given, candidate.toLowerCase());
  const best = known.reduce((a, b) => (far(b) < far(a) ? b : a), known[0] ?? '');
  const length = Math.min(given.length, best.length);
  const isClose = far(best) <= Math.max(1, Math.floor(length * 0.4)) || letters(given) === letters(best.toLowerCase());
  return { best, isClose: best !== '' && isClose };
}

function letters(word: string): string {
  return [...word].sort().join('');
}
