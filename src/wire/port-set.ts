/**
 * A set of ports: sorted, disjoint, inclusive ranges. Immutable; every operation returns a new set.
 *
 *   "80,443,8000-8999"   ⇄   bounds  80 80 │ 443 443 │ 8000 8999      neighbours are one range: "80,81" is 80-81
 *
 * Ports        1 to 65535. Port 0 is refused: no frame is addressed to it, and the steering table's wildcard is not a port.
 * Cost         has, overlaps and firstCommon search by halves; union, intersect and subtract are one pass over both.
 * Not here     protocol and address: who holds a set says which they are.
 */
import { BerthError } from '../base/errors.js';

const FIRST_PORT = 1;
const LAST_PORT = 65535;

/** Both ends inclusive. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

const ALLOWED = `ports ${FIRST_PORT} to ${LAST_PORT}, as 80 or "80,443,8000-8999"`;

export class PortSet {
  static readonly EMPTY = new PortSet(new Uint16Array(0));
  static readonly ALL = new PortSet(Uint16Array.of(FIRST_PORT, LAST_PORT));

  /** first, last, first, last …, ascending, with at least one port missing between two ranges */
  readonly #bounds: Uint16Array;
  /** Number of ports in the set. */
  readonly size: number;

  private constructor(bounds: Uint16Array) {
    this.#bounds = bounds;
    let size = 0;
    for (let i = 0; i < bounds.length; i += 2) size += bounds[i + 1] - bounds[i] + 1;
    this.size = size;
  }

  /**
   * Reads `80`, `"80"` or `"80,443,8000-8999"`; blanks around a number are ignored, ranges may overlap and be in any order.
   * Throws BerthError `ERR_PORT_SET` with what was found, where in the text, and what is allowed; empty text is refused.
   */
  static parse(text: string | number): PortSet {
    if (typeof text === 'number') return PortSet.fromRanges([{ first: text, last: text }]);
    if (text.trim() === '') throw refusal('no port at all', text);
    const ranges: PortRange[] = [];
    let position = 1;
    for (const item of text.split(',')) {
      ranges.push(parseRange(item, position, text));
      position += item.length + 1;
    }
    return PortSet.fromRanges(ranges);
  }

  /**
   * The union of ranges in any order. Throws BerthError `ERR_PORT_SET` for an end that is no port, and for a range that ends
   * before it starts.
   */
  static fromRanges(ranges: Iterable<PortRange>): PortSet {
    const sorted = [...ranges];
    for (const { first, last } of sorted) {
      if (!isPort(first) || !isPort(last)) throw refusal('not a port number', isPort(first) ? last : first);
      if (last < first) throw refusal('a range that ends before it starts', `${first}-${last}`);
    }
    sorted.sort((a, b) => a.first - b.first);
    const bounds: number[] = [];
    for (const { first, last } of sorted) append(bounds, first, last);
    return PortSet.#make(bounds);
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  has(port: number): boolean {
    const at = this.#rangeEndingFrom(port);
    return at < this.#bounds.length && this.#bounds[at] <= port;
  }

  *ranges(): Generator<PortRange> {
    for (let i = 0; i < this.#bounds.length; i += 2) yield { first: this.#bounds[i], last: this.#bounds[i + 1] };
  }

  /** Every port, ascending. */
  *ports(): Generator<number> {
    for (const { first, last } of this.ranges()) for (let port = first; port <= last; port++) yield port;
  }

  union(other: PortSet): PortSet {
    if (this.isEmpty) return other;
    if (other.isEmpty) return this;
    const [a, b] = [this.#bounds, other.#bounds];
    const bounds: number[] = [];
    for (let i = 0, j = 0; i < a.length || j < b.length; ) {
      if (j >= b.length || (i < a.length && a[i] <= b[j])) {
        append(bounds, a[i], a[i + 1]);
        i += 2;
      } else {
        append(bounds, b[j], b[j + 1]);
        j += 2;
      }
    }
    return PortSet.#make(bounds);
  }

  intersect(other: PortSet): PortSet {
    const [a, b] = [this.#bounds, other.#bounds];
    const bounds: number[] = [];
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      const first = Math.max(a[i], b[j]);
      const last = Math.min(a[i + 1], b[j + 1]);
      if (first <= last) append(bounds, first, last);
      if (a[i + 1] < b[j + 1]) i += 2;
      else j += 2;
    }
    return PortSet.#make(bounds);
  }

  /** The ports of this set that `other` has not. */
  subtract(other: PortSet): PortSet {
    const [a, b] = [this.#bounds, other.#bounds];
    const bounds: number[] = [];
    for (let i = 0, j = 0; i < a.length; i += 2) {
      let first = a[i];
      const last = a[i + 1];
      while (j < b.length && b[j + 1] < first) j += 2;
      for (let k = j; k < b.length && b[k] <= last && first <= last; k += 2) {
        if (b[k] > first) append(bounds, first, b[k] - 1);
        first = b[k + 1] + 1;
      }
      if (first <= last) append(bounds, first, last);
    }
    return PortSet.#make(bounds);
  }

  isSubsetOf(other: PortSet): boolean {
    return this.size <= other.size && this.subtract(other).isEmpty;
  }

  overlaps(other: PortSet): boolean {
    return this.firstCommon(other) !== null;
  }

  /** The lowest port that both sets have; null when they have none in common. */
  firstCommon(other: PortSet): number | null {
    if (this.#bounds.length > other.#bounds.length) return other.firstCommon(this);
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const at = other.#rangeEndingFrom(this.#bounds[i]);
      if (at >= other.#bounds.length) return null;
      if (other.#bounds[at] <= this.#bounds[i + 1]) return Math.max(this.#bounds[i], other.#bounds[at]);
    }
    return null;
  }

  equals(other: PortSet): boolean {
    return this.#bounds.length === other.#bounds.length && this.#bounds.every((bound, i) => bound === other.#bounds[i]);
  }

  /** `80,443,8000-8999`: the form that `parse` reads. The empty set is the empty text. */
  format(separator = ','): string {
    return Array.from(this.ranges(), ({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(separator);
  }

  toString(): string {
    return this.format();
  }

  /** In JSON a set is its text. */
  toJSON(): string {
    return this.format();
  }

  /** Index in #bounds of the first range whose last port is `port` or above; the length when there is none. */
  #rangeEndingFrom(port: number): number {
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length >>> 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (bounds[2 * middle + 1] < port) low = middle + 1;
      else high = middle;
    }
    return 2 * low;
  }

  static #make(bounds: readonly number[]): PortSet {
    return bounds.length === 0 ? PortSet.EMPTY : new PortSet(Uint16Array.from(bounds));
  }
}

/** Adds a range that starts at or after the last one's start, joining it when they touch. */
function append(bounds: number[], first: number, last: number): void {
  const end = bounds.length - 1;
  if (end > 0 && first <= bounds[end] + 1) bounds[end] = Math.max(bounds[end], last);
  else bounds.push(first, last);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= FIRST_PORT && port <= LAST_PORT;
}

/** One item between commas; `position` is where it starts in the whole text, counted from 1. */
function parseRange(item: string, position: number, text: string): PortRange {
  const at = position + item.length - item.trimStart().length;
  const found = item.trim();
  if (found === '') throw refusal('a comma with no port beside it', text, at);
  const match = /^([1-9]\d{0,4})(?:\s*-\s*([1-9]\d{0,4}))?$/.exec(found);
  const first = Number(match?.[1] ?? 0);
  const last = Number(match?.[2] ?? first);
  if (!isPort(first) || !isPort(last)) throw refusal(`not a port or a range of ports: ${quote(found)}`, text, at);
  if (last < first) throw refusal(`a range that ends before it starts: ${quote(found)}`, text, at);
  return { first, last };
}

function refusal(what: string, got: string | number, position?: number): BerthError {
  const where = position === undefined ? '' : ` at character ${position}`;
  return new BerthError('ERR_PORT_SET', `${what}${where} (got ${typeof got === 'number' ? got : quote(got)}, expected ${ALLOWED})`);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}
