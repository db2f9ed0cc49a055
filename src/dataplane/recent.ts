/**
 * Recent: a fixed-size memory of decisions, keyed by three 32-bit words, that forget themselves after 30 s.
 *
 * Used for     fragments (source, destination, protocol and id → the first fragment's decision) and echo identifiers
 *              (our address, remote address, identifier → link).
 * Memory       four ways a set; a new key takes an expired way, else the oldest. A flood can push entries out early, it
 *              cannot make the table grow or a look-up slow.
 * Words        32 bits as signed numbers (`| 0`): a larger number that crosses a call costs an allocation.
 * Time         whole seconds modulo 2^32, from the frames themselves; captures whose clock steps back a little still match.
 */
import { HASH_MULTIPLIER } from '../steering/table-layout.js';

/** How long a decision is remembered, in seconds (Linux: net.ipv4.ipfrag_time). */
const REMEMBER_SECONDS = 30;
const WAYS = 4;
const WORDS = 5; // three key words, value, time

/** Nothing remembered. */
export const FORGOTTEN = 0;

export class Recent {
  private readonly words: Uint32Array;
  private readonly setMask: number;

  /** `entries`: a power of two, at least 4. */
  constructor(entries = 16384) {
    this.words = new Uint32Array(entries * WORDS);
    this.setMask = entries / WAYS - 1;
  }

  /** The value put under the key at most 30 s ago, or FORGOTTEN. */
  find(a: number, b: number, c: number, now: number): number {
    const { words } = this;
    let at = this.firstWay(a, b, c);
    for (let way = 0; way < WAYS; way++, at += WORDS) {
      if ((words[at] | 0) === a && (words[at + 1] | 0) === b && (words[at + 2] | 0) === c && isFresh(words[at + 4] | 0, now)) return words[at + 3] | 0;
    }
    return FORGOTTEN;
  }

  /** Remembers `value` (not 0), replacing what the key had. */
  put(a: number, b: number, c: number, value: number, now: number): void {
    const { words } = this;
    const first = this.firstWay(a, b, c);
    let chosen = first;
    let chosenAge = -1;
    for (let way = 0, at = first; way < WAYS; way++, at += WORDS) {
      if ((words[at] | 0) === a && (words[at + 1] | 0) === b && (words[at + 2] | 0) === c) {
        chosen = at;
        break;
      }
      const age = words[at + 3] === FORGOTTEN || !isFresh(words[at + 4] | 0, now) ? Infinity : (now - words[at + 4]) | 0;
      if (age > chosenAge) {
        chosen = at;
        chosenAge = age;
      }
    }
    words[chosen] = a;
    words[chosen + 1] = b;
    words[chosen + 2] = c;
    words[chosen + 3] = value;
    words[chosen + 4] = now;
  }

  /** Forgets every key whose value matches; a step an entry. */
  forget(matches: (value: number) => boolean): void {
    const { words } = this;
    for (let at = 0; at < words.length; at += WORDS) {
      if (words[at + 3] !== FORGOTTEN && matches(words[at + 3] | 0)) words[at + 3] = FORGOTTEN;
    }
  }

  private firstWay(a: number, b: number, c: number): number {
    let hash = Math.imul(a, HASH_MULTIPLIER) ^ b;
    hash = Math.imul(hash ^ (hash >>> 15), HASH_MULTIPLIER) ^ c;
    hash = Math.imul(hash ^ (hash >>> 15), HASH_MULTIPLIER);
    return ((hash >>> 8) & this.setMask) * WAYS * WORDS;
  }
}

function isFresh(then: number, now: number): boolean {
  return (now - then + REMEMBER_SECONDS) >>> 0 <= 2 * REMEMBER_SECONDS;
}
