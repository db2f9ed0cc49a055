/**
 * Verdict stage, egress (from a guest's link to the NIC): forward what is the guest's to send, drop the rest; design §3, D6, D7.
 *
 * A guest is hostile until checked: the source MAC must be the NIC's, the source address and endpoint leased to this
 * link, an ARP sender likewise. A frame from a leased endpoint that is not in use is itself the indication (D7), unless it
 * only answers or ends: one compare-and-swap turns it to in use, where the lease's policy allows.
 * On a link where Berth serves DHCP, that and ARP for the server's address never leave the host: they go to the control plane.
 */
import { type Extras, PUNT } from './extras.js';
import {
  ANNOUNCEMENT,
  DHCP,
  DISCARD,
  FIRST_FRAGMENT,
  type FrameBatch,
  IDENTIFIER_TAKEN,
  KIND_ARP,
  KIND_ICMP,
  KIND_LATER_FRAGMENT,
  KIND_MALFORMED,
  KIND_NOT_IPV4,
  KIND_SHORT_FRAGMENT,
  KIND_TCP,
  KIND_UDP,
  MALFORMED,
  NO_REASON,
  NOT_IPV4,
  ORPHAN_FRAGMENT,
  OTHER_PROTOCOL,
  SPOOFED,
  TAGGED,
  TO_NIC,
} from './frame-batch.js';
import { type Memory, wholeValue } from './memory.js';
import type { Station } from './parse.js';
import { datagramWord } from './verdict-ingress.js';
import { FORGOTTEN } from './recent.js';
import {
  ACTIVE,
  H_IMPLIED,
  IMPLICIT,
  LINK_SHIFT,
  MAY_IMPLY,
  type Proto,
  STATE_FREE,
  STATE_IN_USE,
  STATE_LEASED,
  STATE_MASK,
} from '../steering/table-layout.js';
import { MISS, type SteeringTable } from '../steering/table.js';
import { ARP_SENDER_MAC } from '../wire/arp.js';
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT, SERVER_ADDRESS } from '../wire/dhcp.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { ICMP_ECHO_REQUEST, ICMP_HEADER_BYTES, ICMP_REDIRECT, isIcmpError } from '../wire/icmp.js';
import { FRAGMENT_OFFSET_MASK, IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS, PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';
import { TCP_ACK, TCP_DATA_OFFSET, TCP_FIN, TCP_FLAGS, TCP_RST, TCP_SYN } from '../wire/tcp.js';

const CLIENT_TO_SERVER = ((DHCP_CLIENT_PORT << 16) | DHCP_SERVER_PORT) >>> 0;

/** `link` is the index of the link that the whole batch came from, `station` the NIC's MAC. */
export function decideEgress(batch: FrameBatch, link: number, table: SteeringTable, memory: Memory, station: Station, extras: Extras): void {
  const { kind, position, verdict, reason } = batch;
  const { count, offset, length, view } = batch.slots;
  const { words } = table;
  const { any, high, low } = station;

  for (let i = 0; i < count; i++) {
    const start = offset[i];
    const what = kind[i];
    if (what <= KIND_UDP + FIRST_FRAGMENT && batch.l3[i] === start + ETHERNET_HEADER_BYTES) {
      let at = position[i];
      let value = at < 0 ? STATE_FREE : words[at] | 0;
      if (at >= 0 && (value & STATE_MASK) === STATE_FREE) {
        // Released since the look-up: the wildcard of a dedicated address may hold for it now.
        at = table.position(batch.source[i] | 0, (what & 1) as Proto, batch.ports[i] >>> 16);
        value = at < 0 ? STATE_FREE : words[at] | 0;
      }
      if (mayUse(value, link) && (any || (view.getUint32(start + 6) === high && view.getUint16(start + 10) === low))) {
        verdict[i] = TO_NIC;
        reason[i] = NO_REASON;
        indicate(batch, i, table, at, value);
        if (what >= FIRST_FRAGMENT) rememberSent(batch, i, link, memory);
        continue;
      }
    }
    const why =
      length[i] >= ETHERNET_HEADER_BYTES && !any && (view.getUint32(start + 6) !== high || view.getUint16(start + 10) !== low)
        ? SPOOFED
        : refuse(batch, i, what, link, table, memory, extras);
    verdict[i] = why === NO_REASON ? TO_NIC : DISCARD;
    reason[i] = why;
  }
}

/** Leased to this link, in use or not; neither quarantined nor mapped. */
function mayUse(value: number, link: number): boolean {
  const state = value & STATE_MASK;
  return (state === STATE_IN_USE || state === STATE_LEASED) && value >>> LINK_SHIFT === link;
}

/** D7. Fails harmlessly when the control plane was faster. */
function indicate(batch: FrameBatch, i: number, table: SteeringTable, at: number, value: number): void {
  const { words } = table;
  const isNew = (value & (STATE_MASK | MAY_IMPLY)) === (STATE_LEASED | MAY_IMPLY);
  if (!isNew && (value & (IMPLICIT | ACTIVE)) !== IMPLICIT) return;
  if ((batch.kind[i] & 1) === KIND_TCP && !indicates(batch, i, isNew)) return;
  if (isNew) {
    Atomics.compareExchange(words, at, value, (value & ~STATE_MASK) | STATE_IN_USE | IMPLICIT | ACTIVE);
    table.markUsed(batch.source[i] | 0);
    Atomics.store(words, H_IMPLIED, 1);
  } else {
    Atomics.compareExchange(words, at, value, value | ACTIVE);
  }
}

/**
 * Whether a TCP segment says that its endpoint is used. What answers or ends (SYN-ACK, bare ACK, FIN, RST) begins no use: a
 * guest's kernel sends it for a port that has just been closed, to frames that were on their way, and each would bring the
 * next. All but RST keep up a use.
 */
function indicates(batch: FrameBatch, i: number, isNew: boolean): boolean {
  const { view } = batch.slots;
  const header = batch.l4[i];
  const flags = view.getUint8(header + TCP_FLAGS);
  if (!isNew) return (flags & TCP_RST) === 0;
  if ((flags & (TCP_RST | TCP_FIN)) !== 0) return false;
  if ((flags & TCP_SYN) !== 0) return (flags & TCP_ACK) === 0;
  return header + ((view.getUint8(header + TCP_DATA_OFFSET) >>> 4) << 2) < batch.end[i];
}

/** NO_REASON where a frame that is not plain TCP or UDP may go out, else why not. */
function refuse(batch: FrameBatch, i: number, what: number, link: number, table: SteeringTable, memory: Memory, extras: Extras): number {
  if (what === KIND_MALFORMED || what === KIND_SHORT_FRAGMENT) return MALFORMED;
  if (what === KIND_NOT_IPV4) return NOT_IPV4;
  if (batch.l3[i] !== batch.slots.offset[i] + ETHERNET_HEADER_BYTES) return TAGGED;
  if (memory.dhcpLinks.has(link) && isForServer(batch, i, what)) {
    extras.add(i, PUNT);
    return DHCP;
  }
  if (what === KIND_ARP) return refuseArp(batch, i, link, table, memory);
  if (what <= KIND_UDP + FIRST_FRAGMENT) return SPOOFED;
  if (what === KIND_LATER_FRAGMENT) {
    const sender = memory.sentFragments.find(batch.source[i] | 0, batch.destination[i] | 0, datagramWord(batch, i), batch.slots.seconds[i] | 0);
    return sender === link + 1 ? NO_REASON : ORPHAN_FRAGMENT;
  }
  if (what !== KIND_ICMP) return OTHER_PROTOCOL;
  const why = refuseIcmp(batch, i, link, table, memory);
  const flags = batch.slots.view.getUint16(batch.l3[i] + 6);
  if (why === NO_REASON && (flags & MORE_FRAGMENTS) !== 0) rememberSent(batch, i, link, memory);
  return why;
}

/** DHCP from a client (whole datagrams: no client sends another), or ARP for the address of the server. */
function isForServer(batch: FrameBatch, i: number, what: number): boolean {
  if (what === KIND_UDP) return batch.ports[i] === CLIENT_TO_SERVER;
  return what === KIND_ARP && batch.destination[i] === SERVER_ADDRESS;
}

function rememberSent(batch: FrameBatch, i: number, link: number, memory: Memory): void {
  memory.sentFragments.put(batch.source[i] | 0, batch.destination[i] | 0, datagramWord(batch, i), link + 1, batch.slots.seconds[i] | 0);
}

/** The sender must be an address of this guest under the NIC's MAC (which the frame's own source has been checked against). */
function refuseArp(batch: FrameBatch, i: number, link: number, table: SteeringTable, memory: Memory): number {
  const { view, offset } = batch.slots;
  const sender = batch.source[i] | 0;
  const mac = batch.l3[i] + ARP_SENDER_MAC;
  const ethernetSource = offset[i] + 6;
  if (view.getUint32(mac) !== view.getUint32(ethernetSource) || view.getUint16(mac + 4) !== view.getUint16(ethernetSource + 4)) return SPOOFED;
  if (!memory.sharesAddress(table, sender, link)) return SPOOFED;
  if (sender === (batch.destination[i] | 0) && !mayUse(wholeValue(table, sender), link)) return ANNOUNCEMENT;
  return NO_REASON;
}

function refuseIcmp(batch: FrameBatch, i: number, link: number, table: SteeringTable, memory: Memory): number {
  const { view, seconds } = batch.slots;
  const icmp = batch.l4[i];
  const type = view.getUint8(icmp);
  const source = batch.source[i] | 0;
  const whole = mayUse(wholeValue(table, source), link);

  if (type === ICMP_ECHO_REQUEST) {
    if (!whole && !memory.sharesAddress(table, source, link)) return SPOOFED;
    const remote = batch.destination[i] | 0;
    const identifier = view.getUint16(icmp + 4);
    const user = memory.echoes.find(source, remote, identifier, seconds[i] | 0);
    if (user !== FORGOTTEN && user !== link + 1) return IDENTIFIER_TAKEN;
    memory.echoes.put(source, remote, identifier, link + 1, seconds[i] | 0);
    return NO_REASON;
  }
  if (whole) return NO_REASON;
  // A redirect is a router's to send: from a guest it would turn the neighbours' traffic away.
  return isIcmpError(type) && type !== ICMP_REDIRECT && receivedBy(batch, i, icmp + ICMP_HEADER_BYTES, link, table) ? NO_REASON : SPOOFED;
}

/** Was the packet in error (IPv4 header at `inner`) one for an endpoint of this link, at the address the error comes from? */
function receivedBy(batch: FrameBatch, i: number, inner: number, link: number, table: SteeringTable): boolean {
  const { view } = batch.slots;
  if (inner + IPV4_MIN_HEADER_BYTES > batch.end[i]) return false;
  const versionAndLength = view.getUint8(inner);
  const transport = inner + ((versionAndLength & 15) << 2);
  const protocol = view.getUint8(inner + 9);
  if (versionAndLength >>> 4 !== 4 || transport < inner + IPV4_MIN_HEADER_BYTES || transport + 8 > batch.end[i]) return false;
  if ((view.getUint16(inner + 6) & FRAGMENT_OFFSET_MASK) !== 0) return false;
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return false;
  const destination = view.getUint32(inner + 16) | 0;
  if (destination !== (batch.source[i] | 0)) return false;
  const at = table.position(destination, (protocol === PROTOCOL_UDP ? 1 : 0), view.getUint16(transport + 2));
  return at !== MISS && mayUse(table.words[at] | 0, link);
}
