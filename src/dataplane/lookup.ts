/**
 * Lookup stage: the word index of each TCP or UDP frame's endpoint in the steering table.
 *
 * Its own pass over the batch, so that the misses of many independent probes overlap in the memory system.
 * The last address is remembered: frames of a batch mostly carry one.
 * Not here     the value: the verdict stage reads it as late as possible.
 */
import * as frameBatch from './frame-batch.js';
import type { FrameBatch } from './frame-batch.js';
import { RUN } from './parse.js';
import * as tableLayout from '../steering/table-layout.js';
import * as tableCodes from '../steering/table.js';
import { probe, type SteeringTable } from '../steering/table.js';

// Constants of this module are literals to V8; imported bindings are read, and checked, at every use (bench/README.md).
const { FIRST_FRAGMENT, KIND_UDP, NOT_OUR_ADDRESS } = frameBatch;
const { ADDRESS_INDEX_MASK, ADDRESS_LEFT, ADDRESS_WHOLE, HASH_MULTIPLIER, HEADER_WORDS, STATE_MASK } = tableLayout;
const { MISS } = tableCodes;

/** Looks up destination endpoints (ingress): fills `position` for TCP and UDP frames, first fragments included. */
export function lookupDestination(batch: FrameBatch, table: SteeringTable): void {
  lookup(batch, table, false);
}

/** Looks up source endpoints (egress). */
export function lookupSource(batch: FrameBatch, table: SteeringTable): void {
  lookup(batch, table, true);
}

/** What `bind` made for the last batch and table. */
let boundBatch: FrameBatch | undefined;
let boundTable: SteeringTable | undefined;
let lookupNear: (ofSource: boolean, from: number, to: number) => number;

function lookup(batch: FrameBatch, table: SteeringTable, ofSource: boolean): void {
  if (batch !== boundBatch || table !== boundTable) {
    boundBatch = batch;
    boundTable = table;
    lookupNear = bind(batch, table);
  }
  const { count } = batch.slots;
  for (let i = 0; i < count; ) {
    const to = Math.min(i + RUN, count);
    i = lookupNear(ofSource, i, to);
    if (i === to) continue;
    batch.position[i] = lookupFar(batch, i, table, ofSource);
    i++;
  }
}

/**
 * The loop for what is found near its hash: the address in its first pair, without a wildcard; the key in its first two
 * slots. It goes from `from` on and returns the index of the first frame that needs more, or `to`.
 *
 * Captured arrays and no call in the loop: see bind() in parse.ts. A table that replaces another one leaves this stage
 * at about half its speed (9.6 instead of 4.1 ns a frame): the captured arrays are then no longer constants.
 */
function bind(batch: FrameBatch, table: SteeringTable): (ofSource: boolean, from: number, to: number) => number {
  const { kind, source, destination, ports, position } = batch;
  const { words, base, mask, shift, addressShift } = table;

  return function lookupNear(ofSource, from, to) {
    let lastAddress = 0;
    let prefix = 0;
    let i = from;
    for (; i < to; i++) {
      const protocol = kind[i];
      if (protocol > KIND_UDP + FIRST_FRAGMENT) continue;
      const address = (ofSource ? source[i] : destination[i]) | 0;
      if (address !== lastAddress || prefix === 0) {
        const pair = (HEADER_WORDS + ((Math.imul(address, HASH_MULTIPLIER) >>> addressShift) << 1)) | 0;
        const entry = words[pair + 1] | 0;
        if (entry === 0) {
          position[i] = NOT_OUR_ADDRESS;
          continue;
        }
        if ((entry & (ADDRESS_WHOLE | ADDRESS_LEFT)) !== 0 || (words[pair] | 0) !== address) break;
        lastAddress = address;
        prefix = (entry & ADDRESS_INDEX_MASK) << 17;
      }
      const port = ofSource ? ports[i] >>> 16 : ports[i] & 0xffff;
      const key = prefix | ((protocol & 1) << 16) | port;
      const slot = (Math.imul(key, HASH_MULTIPLIER) >>> shift) | 0;
      const first = words[(base + (slot << 1)) | 0] | 0;
      // 1 if the first slot is another key's, without a branch: a quarter of them is, at random.
      const step = ((first ^ key) | (0 - (first ^ key))) >>> 31;
      const at = (base + (((slot + step) & mask) << 1)) | 0;
      const found = words[at] | 0;
      if (found === key) position[i] = (at + 1) | 0;
      else if (first === 0 || found === 0) position[i] = MISS;
      else break;
    }
    return i;
  };
}

/** Word index of the frame's endpoint, wherever it is: MISS or NOT_OUR_ADDRESS where it is not. */
function lookupFar(batch: FrameBatch, i: number, table: SteeringTable, ofSource: boolean): number {
  const entry = table.address((ofSource ? batch.source : batch.destination)[i] | 0);
  if (entry === 0) return NOT_OUR_ADDRESS;
  const { words, base, mask, shift } = table;
  const prefix = (entry & ADDRESS_INDEX_MASK) << 17;
  const port = (batch.ports[i] >>> (ofSource ? 16 : 0)) & 0xffff;
  const at = probe(words, base, mask, shift, (prefix | ((batch.kind[i] & 1) << 16) | port) | 0);
  const isWhole = (entry & ADDRESS_WHOLE) !== 0 && (at === MISS || (words[at] & STATE_MASK) === 0);
  return isWhole ? probe(words, base, mask, shift, prefix) : at;
}
