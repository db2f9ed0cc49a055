/**
 * Selection: which pool the next guest gets its address from.
 *
 *     snapshot of the candidates ─▶ policy: a rating each ─▶ the lowest cost, the earlier one of equals ─▶ choice, with reasons
 *
 * Candidates   are pools that have an address to give, in the order of the configuration. The addresses of a pool differ in nothing that a
 *              policy looks at, so a choice costs a step a pool, however many addresses there are.
 * Policies     are pure functions, one file each; policies.ts finds them by name.
 */
import type { ClassRule } from '../../base/config-pools.js';

/** A pool with an unused address, and its network, as they are now. Rates in bits a second. */
export interface Candidate {
  readonly pool: string;
  readonly network: string;
  /** what the network carries, smoothed, in its busier direction */
  readonly load: number;
  readonly speed: number;
  /** guests that have an address of the pool, and how many may */
  readonly guests: number;
  readonly maxGuests: number;
  /** of the guests that the pool is for; null: any */
  readonly class: string | null;
  /** guests on the network by their class */
  readonly classes: ReadonlyMap<string, number>;
}

/** What a policy may ask of the guest. */
export interface ClassWish {
  readonly class: string | null;
  readonly rule: ClassRule;
}

/** `cost`: from 0, the best, to 1. `words`: what it was made of, as `12.5 % of 10 Gbit/s in use`. */
export interface Rating {
  readonly cost: number;
  readonly words: string;
}

/** A rating for each candidate, in their order; null for one that the guest must not have. */
export type Policy = (candidates: readonly Candidate[], wish: ClassWish) => readonly (Rating | null)[];

export interface Selection {
  readonly candidate: Candidate;
  /** why it was chosen, and what was said of each other one */
  readonly words: readonly string[];
}

/** The best candidate; null where the guest must not have any. `name` is what the policy is called in the words. */
export function select(name: string, policy: Policy, candidates: readonly Candidate[], wish: ClassWish): Selection | null {
  const ratings = policy(candidates, wish);
  let best = -1;
  ratings.forEach((rating, at) => {
    if (rating !== null && (best < 0 || rating.cost < (ratings[best]?.cost ?? Infinity))) best = at;
  });
  if (best < 0) return null;
  const chosen = ratings[best] as Rating;
  const words = [`Chosen by ${name}: ${describe(candidates[best])}, ${chosen.words}.`];
  ratings.forEach((rating, at) => {
    if (at === best) return;
    const why = rating === null ? 'not for guests of this class' : rating.cost === chosen.cost ? `${rating.words}: as good, and later in the configuration` : rating.words;
    words.push(`Not ${describe(candidates[at])}: ${why}.`);
  });
  return { candidate: candidates[best], words };
}

function describe({ pool, network }: Candidate): string {
  return `pool ${pool} on ${network}`;
}

/** `9.4 Gbit/s`, `120 kbit/s`: three digits at most. */
export function formatRate(bitsPerSecond: number): string {
  const units: [number, string][] = [[1e12, 'Tbit/s'], [1e9, 'Gbit/s'], [1e6, 'Mbit/s'], [1e3, 'kbit/s']];
  const [size, unit] = units.find(([each]) => bitsPerSecond >= each) ?? [1, 'bit/s'];
  return `${Number((bitsPerSecond / size).toPrecision(3))} ${unit}`;
}

/** `12.5 %` */
export function formatShare(share: number): string {
  return `${Number((share * 100).toFixed(1))} %`;
}

/** To a thousandth: what is left is noise, and would undo the order of equals. */
export function rounded(share: number): number {
  return Math.round(share * 1000) / 1000;
}
