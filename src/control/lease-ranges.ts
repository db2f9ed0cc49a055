/**
 * Runs: which ports of one protocol are leased or quarantined, and whose they are. Sorted, disjoint, inclusive.
 *
 *   20480 ── web, leased ── 21503 │ 21504 ── db, quarantined ── 21519 │ (free) │ 22528 ── web, leased ── 23551
 *
 * Memory       one object a run, not a port; neighbours that differ in nothing are one run.
 * Cost         at, next and overlapping search by halves; put and clear replace what they cover in one splice.
 * Runs         immutable: a change replaces them, so that what was handed out stays as it was.
 */
import type { PortRange } from '../wire/port-set.js';

export interface Run extends PortRange {
  readonly guest: string;
  readonly state: 'leased' | 'quarantined';
  /** wall clock, ms: when it was leased, or its quarantine began */
  readonly since: number;
  /** wall clock, ms: it is over at this time; NEVER for a lease of the configuration */
  readonly until: number;
  /** first port of the block it was granted with; 0: not granted as a block */
  readonly block: number;
}

export class Runs {
  #runs: Run[] = [];

  get all(): readonly Run[] {
    return this.#runs;
  }

  copy(other: Runs): void {
    this.#runs = [...other.#runs];
  }

  at(port: number): Run | null {
    const run = this.#runs.at(this.#endingFrom(port));
    return run !== undefined && run.first <= port && port <= run.last ? run : null;
  }

  /** The first run that has `port` or a later one, passing over what is quarantined for `asker` (D3); null: free to the end. */
  next(port: number, asker: string | null): Run | null {
    for (let i = this.#endingFrom(port); i < this.#runs.length; i++) {
      const run = this.#runs[i];
      if (run.state === 'leased' || run.guest !== asker) return run;
    }
    return null;
  }

  /** The runs that have a port in common with the range, cut to it. */
  overlapping({ first, last }: PortRange): Run[] {
    const found: Run[] = [];
    for (let i = this.#endingFrom(first); i < this.#runs.length && this.#runs[i].first <= last; i++) {
      const run = this.#runs[i];
      const inside = run.first >= first && run.last <= last;
      found.push(inside ? run : { ...run, first: Math.max(run.first, first), last: Math.min(run.last, last) });
    }
    return found;
  }

  /** The run holds from now on, whatever was there; the rest of a run that it covers in part stays. */
  put(run: Run): void {
    this.#replace(run, run);
  }

  /** The range is free from now on. */
  clear(range: PortRange): void {
    this.#replace(range, null);
  }

  #replace(range: PortRange, run: Run | null): void {
    const from = this.#endingFrom(range.first);
    let to = from;
    while (to < this.#runs.length && this.#runs[to].first <= range.last) to++;
    const pieces = cut(this.#runs.slice(from, to), range, run);
    if (run === null) {
      this.#runs.splice(from, to - from, ...pieces);
      return;
    }
    const before = from > 0 ? this.#runs.slice(from - 1, from) : [];
    const after = this.#runs.slice(to, to + 1);
    const joined = join([...before, ...pieces, ...after]);
    this.#runs.splice(from - before.length, before.length + to - from + after.length, ...joined);
  }

  /** Index of the first run whose last port is `port` or above; the length when there is none. */
  #endingFrom(port: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#runs[middle].last < port) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What `covered`, runs that all meet the range, become when the range is `run`'s, or nobody's. */
export function cut(covered: readonly Run[], { first, last }: PortRange, run: Run | null): Run[] {
  const pieces: Run[] = [];
  const left = covered.at(0);
  const right = covered.at(-1);
  if (left !== undefined && left.first < first) pieces.push({ ...left, last: first - 1 });
  if (run !== null) pieces.push(run);
  if (right !== undefined && right.last > last) pieces.push({ ...right, first: last + 1 });
  return pieces;
}

function join(runs: readonly Run[]): Run[] {
  const joined: Run[] = [];
  for (const run of runs) {
    const before = joined.at(-1);
    if (before !== undefined && before.last + 1 === run.first && isAlike(before, run)) joined[joined.length - 1] = { ...before, last: run.last };
    else joined.push(run);
  }
  return joined;
}

function isAlike(a: Run, b: Run): boolean {
  return a.guest === b.guest && a.state === b.state && a.since === b.since && a.until === b.until && a.block === b.block;
}
