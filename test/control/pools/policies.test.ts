/** Selection policies: for given numbers, which pool is chosen and what is said of it and of the others. */
import { describe, expect, it } from 'vitest';
import type { PolicyChoice } from '../../../src/base/config-pools.js';
import { policyOf } from '../../../src/control/pools/policies.js';
import { type Candidate, type ClassWish, formatRate, select } from '../../../src/control/pools/policy.js';

const GBIT = 1e9;
const ANY: ClassWish = { class: null, rule: 'together' };

/** Pools a, b, c … on networks 1, 2, 3 …; idle, of 1 Gbit/s, without guests, unless said otherwise. */
function pools(...given: Partial<Candidate>[]): Candidate[] {
  return given.map((one, at) => ({
    ...{ pool: 'abcdef'[at], network: `net${at + 1}`, load: 0, speed: GBIT, guests: 0, maxGuests: 16, class: null, classes: new Map<string, number>() },
    ...one,
  }));
}

function of(served: string, guests: number): Partial<Candidate> {
  return { classes: new Map([[served, guests]]) };
}

interface Row {
  name: string;
  policy: PolicyChoice;
  candidates: Candidate[];
  wish?: ClassWish;
  /** null: none may be chosen */
  chosen: string | null;
  words?: RegExp[];
}

const web = { class: 'web', rule: 'together' } as const;
const webApart = { class: 'web', rule: 'apart' } as const;

const rows: Row[] = [
  { name: 'first-fit takes the first, however loaded', policy: 'first-fit', candidates: pools({ load: GBIT }, {}), chosen: 'a', words: [/^Chosen by first-fit: pool a on net1, the first/, /^Not pool b on net2: later/] },
  { name: 'least-load takes the lowest share: 0.3 of 10 Gbit/s before 0.2 of 1', policy: 'least-load', candidates: pools({ load: 0.2 * GBIT }, { load: 0.3 * GBIT, speed: 10 * GBIT }), chosen: 'b', words: [/^Chosen by least-load: pool b on net2, 3 % of 10 Gbit\/s in use\.$/, /^Not pool a on net1: 20 % of 1 Gbit\/s in use\.$/] },
  { name: 'least-load: of equals the earlier', policy: 'least-load', candidates: pools({ load: 5e8 }, { load: 5e8 }), chosen: 'a', words: [/./, /as good, and later in the configuration/] },
  { name: 'least-load: a thousandth is noise, not a difference', policy: 'least-load', candidates: pools({ load: 400_000 }, {}), chosen: 'a' },
  { name: 'least-load: a load past the speed is a full network, not worse than one', policy: 'least-load', candidates: pools({ load: 3 * GBIT }, { load: 2 * GBIT }), chosen: 'a' },
  { name: 'most-available-rate takes 10 Gbit/s half in use before an idle 1 Gbit/s', policy: 'most-available-rate', candidates: pools({}, { load: 5 * GBIT, speed: 10 * GBIT }), chosen: 'b', words: [/5 Gbit\/s available of 10 Gbit\/s/, /1 Gbit\/s available of 1 Gbit\/s/] },
  { name: 'most-available-rate where least-load would take the other', policy: 'least-load', candidates: pools({}, { load: 5 * GBIT, speed: 10 * GBIT }), chosen: 'a' },
  { name: 'most-available-rate: nothing available anywhere is a tie', policy: 'most-available-rate', candidates: pools({ load: GBIT }, { load: 2 * GBIT }), chosen: 'a' },
  { name: 'lowest-occupancy takes 3 of 64 before 1 of 16', policy: 'lowest-occupancy', candidates: pools({ guests: 1 }, { guests: 3, maxGuests: 64 }), chosen: 'b', words: [/3 of 64 guests configured/, /1 of 16 guests configured/] },
  { name: 'lowest-occupancy: of equals the earlier', policy: 'lowest-occupancy', candidates: pools({ guests: 4 }, { guests: 16, maxGuests: 64 }), chosen: 'a' },
  { name: 'service-class together: where most of the class are', policy: 'service-class', wish: web, candidates: pools(of('web', 1), of('web', 3), of('batch', 9)), chosen: 'b', words: [/3 of that class there, to be kept together/] },
  { name: 'service-class apart: where fewest of the class are', policy: 'service-class', wish: webApart, candidates: pools(of('web', 1), of('web', 3), of('batch', 9)), chosen: 'c' },
  { name: 'service-class: the first of a class goes to the first pool', policy: 'service-class', wish: web, candidates: pools({}, {}), chosen: 'a' },
  { name: 'service-class: a pool of its own class before one for any, also where more of the class are', policy: 'service-class', wish: web, candidates: pools(of('web', 5), { class: 'web' }), chosen: 'b' },
  { name: 'service-class apart: between pools of its own class the one with fewest', policy: 'service-class', wish: webApart, candidates: pools({ class: 'web', ...of('web', 2) }, { class: 'web', ...of('web', 1) }), chosen: 'b' },
  { name: 'service-class: a pool of another class is none', policy: 'service-class', wish: web, candidates: pools({ class: 'batch' }, {}), chosen: 'b', words: [/./, /^Not pool a on net1: not for guests of this class\.$/] },
  { name: 'service-class: no pool is left', policy: 'service-class', wish: web, candidates: pools({ class: 'batch' }), chosen: null },
  { name: 'service-class: a guest without a class is kept from pools that are for one', policy: 'service-class', candidates: pools({ class: 'batch' }, {}), chosen: 'b' },
  { name: 'weighted: load 20 % with 1 guest of 16 beats load 10 % with 8, the weights being equal', policy: { 'least-load': 1, 'lowest-occupancy': 1 }, candidates: pools({ load: 1e8, guests: 8 }, { load: 2e8, guests: 1 }), chosen: 'b', words: [/^Chosen by least-load × 1 \+ lowest-occupancy × 1: .*\(least-load, weight 1\).*\(lowest-occupancy, weight 1\)/] },
  { name: 'weighted: and loses when load counts ten times', policy: { 'least-load': 10, 'lowest-occupancy': 1 }, candidates: pools({ load: 1e8, guests: 8 }, { load: 2e8, guests: 1 }), chosen: 'a' },
  { name: 'weighted: what one policy forbids is forbidden', policy: { 'least-load': 100, 'service-class': 1 }, wish: web, candidates: pools({ class: 'batch' }, { load: GBIT }), chosen: 'b' },
];

describe('prior system, floating addresses: the choice by load rate, available rate, occupancy, or service class', () => {
  it.each(rows)('$name', ({ policy: choice, candidates, wish = ANY, chosen, words = [] }) => {
    const { name, policy } = policyOf(choice);
    const before = structuredClone(candidates);
    const selection = select(name, policy, candidates, wish);
    expect(selection?.candidate.pool ?? null).toBe(chosen);
    expect(candidates).toEqual(before);
    expect(select(name, policy, candidates, wish)).toEqual(selection);
    words.forEach((pattern, at) => expect(selection?.words[at]).toMatch(pattern));
    if (selection !== null) expect(selection.words).toHaveLength(candidates.length);
  });

  it('formats rates', () => {
    expect([0, 999, 1500, 2.5e9, 1e10, 123_456_789].map(formatRate)).toEqual(['0 bit/s', '999 bit/s', '1.5 kbit/s', '2.5 Gbit/s', '10 Gbit/s', '123 Mbit/s']);
  });
});
