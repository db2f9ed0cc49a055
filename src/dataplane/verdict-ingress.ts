/**
 * Verdict stage, ingress (from the NIC): forward to a link, discard, or pass to the host's own stack; design §3.
 *
 * One loop decides TCP and UDP, which is nearly all there is; everything else is one call a frame.
 * Besides its verdict a frame may have extras: a copy for a guest (ARP), an answer (policy `reject`, ARP by proxy).
 * What is malformed comes first, then whether the address is ours, then the rest.
 */
import * as frameBatch from './frame-batch.js';
import type { FrameBatch } from './frame-batch.js';
import { RUN } from './parse.js';
import * as extrasCodes from './extras.js';
import type { Extras } from './extras.js';
import { type Memory, packDecision, reasonOf, verdictOf, wholeValue } from './memory.js';
import * as recentCodes from './recent.js';
import { decideMapped, decideMappedEcho, decideMappedEchoError, decideMappedError, deliverFragment } from './verdict-mapped-ingress.js';
import * as tableLayout from '../steering/table-layout.js';
import * as tableCodes from '../steering/table.js';
import type { SteeringTable } from '../steering/table.js';
import * as arp from '../wire/arp.js';
import * as icmp from '../wire/icmp.js';
import { isIcmpError } from '../wire/icmp.js';
import * as ipv4 from '../wire/ipv4.js';

// Constants of this module are literals to V8; imported bindings are read, and checked, at every use (bench/README.md).
const {
  DISCARD,
  FIRST_FRAGMENT,
  KIND_ARP,
  KIND_ICMP,
  KIND_LATER_FRAGMENT,
  KIND_MALFORMED,
  KIND_NOT_IPV4,
  KIND_OTHER_STATION,
  KIND_SHORT_FRAGMENT,
  KIND_UDP,
  MALFORMED,
  NO_FLOW_REASON,
  NO_REASON,
  NOT_IN_USE,
  NOT_IPV4,
  NOT_LEASED,
  NOT_OUR_ADDRESS,
  NOT_OURS,
  ORPHAN_FRAGMENT,
  OTHER_PROTOCOL,
  OTHER_STATION,
  PASS,
  QUARANTINED,
} = frameBatch;
const { ANSWER_ARP, REJECT } = extrasCodes;
const { FORGOTTEN } = recentCodes;
const {
  ACTIVE,
  ADDRESS_INDEX_MASK,
  IMPLICIT,
  LINK_SHIFT,
  STATE_FREE,
  STATE_IN_USE,
  STATE_MAPPED,
  STATE_MASK,
  STATE_QUARANTINED,
} = tableLayout;
const { MISS } = tableCodes;
const { ARP_OPERATION, ARP_REPLY, ARP_REQUEST } = arp;
const { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMP_HEADER_BYTES } = icmp;
const { FRAGMENT_OFFSET_MASK, IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } = ipv4;

/** What `bind` made for the last batch and table. */
let boundBatch: FrameBatch | undefined;
let boundTable: SteeringTable | undefined;
let decidePlain: (rejecting: boolean, from: number, to: number) => number;

export function decideIngress(batch: FrameBatch, table: SteeringTable, memory: Memory, extras: Extras): void {
  if (batch !== boundBatch || table !== boundTable) {
    boundBatch = batch;
    boundTable = table;
    decidePlain = bind(batch, table);
  }
  const { count } = batch.slots;
  const { rejecting } = extras;
  for (let i = 0; i < count; ) {
    const to = Math.min(i + RUN, count);
    i = decidePlain(rejecting, i, to);
    if (i < to) decideAny(batch, i++, table, memory, extras);
  }
}

/**
 * The loop for TCP and UDP frames: decides from `from` on until one needs more than its verdict (a fragment, another
 * protocol, an answer, an implicit use to mark, a mapped guest's frame, an entry released meanwhile), and returns the index of that one, or `to`.
 * Captured arrays and no call in the loop: see bind() in parse.ts.
 */
function bind(batch: FrameBatch, { words }: SteeringTable): (rejecting: boolean, from: number, to: number) => number {
  const { kind, position, verdict, reason } = batch;

  return function decidePlain(rejecting, from, to) {
    let i = from;
    for (; i < to; i++) {
      if (kind[i] > KIND_UDP) break;
      const at = position[i];
      const value = at < 0 ? STATE_FREE : words[at] | 0;
      const state = value & STATE_MASK;
      if (state === STATE_IN_USE) {
        if ((value & (IMPLICIT | ACTIVE)) === IMPLICIT) break;
        verdict[i] = 1 + (value >>> LINK_SHIFT);
        reason[i] = NO_REASON;
      } else if (state === STATE_FREE) {
        if (at >= 0) break;
        verdict[i] = PASS;
        reason[i] = at === NOT_OUR_ADDRESS ? NOT_OURS : NOT_LEASED;
      } else {
        if (rejecting || state === STATE_MAPPED) break;
        verdict[i] = DISCARD;
        reason[i] = state === STATE_QUARANTINED ? QUARANTINED : NOT_IN_USE;
      }
    }
    return i;
  };
}

/** Decides any frame. */
function decideAny(batch: FrameBatch, i: number, table: SteeringTable, memory: Memory, extras: Extras): void {
  const { kind, position, verdict, reason } = batch;
  const { words } = table;
  const what = kind[i];
  if (what > KIND_UDP + FIRST_FRAGMENT) {
    decideOther(batch, i, what, table, memory, extras);
    return;
  }
  let at = position[i];
  let value = at < 0 ? STATE_FREE : words[at] | 0;
  if (at >= 0 && (value & STATE_MASK) === STATE_FREE) {
    // Released since the look-up: the wildcard of a dedicated address may hold for it now.
    at = table.position(batch.destination[i] | 0, (what & 1) as 0 | 1, batch.ports[i] & 0xffff);
    value = at < 0 ? STATE_FREE : words[at] | 0;
  }
  if ((value & STATE_MASK) === STATE_IN_USE) {
    verdict[i] = 1 + (value >>> LINK_SHIFT);
    reason[i] = NO_REASON;
    if ((value & (IMPLICIT | ACTIVE)) === IMPLICIT) Atomics.compareExchange(words, at, value, value | ACTIVE);
  } else if ((value & STATE_MASK) === STATE_MAPPED && memory.mapping !== null) {
    decideMapped(batch, i, value >>> LINK_SHIFT, memory.mapping);
    if (extras.rejecting && reason[i] === NO_FLOW_REASON) extras.add(i, REJECT);
  } else if ((value & STATE_MASK) === STATE_FREE) {
    verdict[i] = PASS;
    reason[i] = at === NOT_OUR_ADDRESS ? NOT_OURS : NOT_LEASED;
  } else {
    verdict[i] = DISCARD;
    reason[i] = unusedReason(value);
    if (extras.rejecting && reason[i] === NOT_IN_USE) extras.add(i, REJECT);
  }
  if (what >= FIRST_FRAGMENT && at !== NOT_OUR_ADDRESS) rememberFragment(batch, i, memory);
}

function unusedReason(value: number): number {
  return (value & STATE_MASK) === STATE_QUARANTINED ? QUARANTINED : NOT_IN_USE;
}

function decide(batch: FrameBatch, i: number, verdict: number, reason: number): void {
  batch.verdict[i] = verdict;
  batch.reason[i] = reason;
}

function decideOther(batch: FrameBatch, i: number, what: number, table: SteeringTable, memory: Memory, extras: Extras): void {
  if (what === KIND_OTHER_STATION) decide(batch, i, PASS, OTHER_STATION);
  else if (what === KIND_MALFORMED) decide(batch, i, PASS, MALFORMED);
  else if (what === KIND_NOT_IPV4) decide(batch, i, PASS, NOT_IPV4);
  else if (table.address(batch.destination[i] | 0) === 0) decide(batch, i, PASS, NOT_OURS);
  else if (what === KIND_ARP) decideArp(batch, i, table, memory, extras);
  else if (what === KIND_ICMP) {
    decideIcmp(batch, i, table, memory);
    if ((batch.slots.view.getUint16(batch.l3[i] + 6) & MORE_FRAGMENTS) !== 0) rememberFragment(batch, i, memory);
  } else if (what === KIND_LATER_FRAGMENT) {
    const decision = recallFragment(batch, i, memory);
    if (decision === FORGOTTEN) decide(batch, i, PASS, ORPHAN_FRAGMENT);
    else followFirst(batch, i, decision, memory);
  } else if (what === KIND_SHORT_FRAGMENT) decide(batch, i, PASS, ORPHAN_FRAGMENT);
  else decide(batch, i, PASS, OTHER_PROTOCOL);
}

/** The third key word of a datagram: its protocol and identification. */
export function datagramWord(batch: FrameBatch, i: number): number {
  const { view } = batch.slots;
  const header = batch.l3[i];
  return (view.getUint8(header + 9) << 16) | view.getUint16(header + 4);
}

function rememberFragment(batch: FrameBatch, i: number, memory: Memory): void {
  const decision = packDecision(batch.verdict[i], batch.reason[i]);
  memory.fragments.put(batch.source[i] | 0, batch.destination[i] | 0, datagramWord(batch, i), decision, batch.slots.seconds[i] | 0);
}

function recallFragment(batch: FrameBatch, i: number, memory: Memory): number {
  return memory.fragments.find(batch.source[i] | 0, batch.destination[i] | 0, datagramWord(batch, i), batch.slots.seconds[i] | 0);
}

/** A later fragment: as the first one was decided, and readdressed as it was. */
function followFirst(batch: FrameBatch, i: number, decision: number, memory: Memory): void {
  const verdict = verdictOf(decision);
  decide(batch, i, verdict, reasonOf(decision));
  const guest = memory.mapping?.guests[verdict - 1];
  if (guest !== undefined && memory.mapping !== null) deliverFragment(batch, i, verdict - 1, guest, memory.mapping);
}

/**
 * A reply is the host's and every guest's who shares the address. Requests the host alone answers, but for an address with a wildcard of
 * which something is in use: no interface of the host need have it, and Berth says where it is, whatever becomes of the guest's side.
 */
function decideArp(batch: FrameBatch, i: number, table: SteeringTable, memory: Memory, extras: Extras): void {
  decide(batch, i, PASS, NO_REASON);
  const address = batch.destination[i] | 0;
  const operation = batch.slots.view.getUint16(batch.l3[i] + ARP_OPERATION);
  if (operation === ARP_REPLY) {
    const guests = memory.guests[table.address(address) & ADDRESS_INDEX_MASK];
    if (guests === undefined) return;
    for (let g = 0; g < guests.length; g++) extras.add(i, 1 + guests[g]);
  } else if (operation === ARP_REQUEST && table.isUsed(address)) {
    extras.add(i, ANSWER_ARP);
  }
}

function decideIcmp(batch: FrameBatch, i: number, table: SteeringTable, memory: Memory): void {
  const { view, seconds } = batch.slots;
  const icmp = batch.l4[i];
  const type = view.getUint8(icmp);
  const address = batch.destination[i] | 0;

  if (isIcmpError(type)) {
    decideIcmpError(batch, i, icmp + ICMP_HEADER_BYTES, table, memory);
    return;
  }
  if (type === ICMP_ECHO_REPLY) {
    const link = memory.echoes.find(address, batch.source[i] | 0, view.getUint16(icmp + 4), seconds[i] | 0);
    if (memory.mapping !== null && decideMappedEcho(batch, i, link, memory.mapping)) return;
    if (link !== FORGOTTEN) {
      decide(batch, i, link, NO_REASON);
      return;
    }
  }
  decideByValue(batch, i, wholeValue(table, address), type === ICMP_ECHO_REPLY ? NOT_LEASED : OTHER_PROTOCOL, DISCARD);
}

/** By the packet in error: forward to the guest that sent it. `inner` is the offset of its IPv4 header. */
function decideIcmpError(batch: FrameBatch, i: number, inner: number, table: SteeringTable, memory: Memory): void {
  const { view, seconds } = batch.slots;
  const limit = batch.end[i];
  if (inner + IPV4_MIN_HEADER_BYTES > limit) {
    decide(batch, i, PASS, MALFORMED);
    return;
  }
  const versionAndLength = view.getUint8(inner);
  const transport = inner + ((versionAndLength & 15) << 2);
  if (versionAndLength >>> 4 !== 4 || transport < inner + IPV4_MIN_HEADER_BYTES || transport + 8 > limit) {
    decide(batch, i, PASS, MALFORMED);
    return;
  }
  const source = view.getUint32(inner + 12) | 0;
  if ((view.getUint16(inner + 6) & FRAGMENT_OFFSET_MASK) !== 0) {
    decide(batch, i, PASS, ORPHAN_FRAGMENT);
    return;
  }
  const protocol = view.getUint8(inner + 9);
  if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
    const at = table.position(source, protocol === PROTOCOL_UDP ? 1 : 0, view.getUint16(transport));
    const value = at === MISS ? STATE_FREE : table.words[at] | 0;
    if ((value & STATE_MASK) === STATE_MAPPED && memory.mapping !== null) decideMappedError(batch, i, inner, transport, value >>> LINK_SHIFT, memory.mapping);
    else decideByValue(batch, i, value, NOT_LEASED, PASS);
    return;
  }
  if (protocol === PROTOCOL_ICMP && view.getUint8(transport) === ICMP_ECHO_REQUEST) {
    const link = memory.echoes.find(source, view.getUint32(inner + 16) | 0, view.getUint16(transport + 4), seconds[i] | 0);
    if (memory.mapping !== null && decideMappedEchoError(batch, i, inner, transport, link, memory.mapping)) return;
    if (link !== FORGOTTEN) {
      decide(batch, i, link, NO_REASON);
      return;
    }
  }
  decideByValue(batch, i, wholeValue(table, source), NOT_LEASED, PASS);
}

/** In use: forward. Free: pass with `freeReason`. Else `unused` with the state's reason (ICMP is not muted for shared addresses). */
function decideByValue(batch: FrameBatch, i: number, value: number, freeReason: number, unused: number): void {
  const state = value & STATE_MASK;
  if (state === STATE_IN_USE) decide(batch, i, 1 + (value >>> LINK_SHIFT), NO_REASON);
  else if (state === STATE_FREE) decide(batch, i, PASS, freeReason);
  else decide(batch, i, unused, unusedReason(value));
}
