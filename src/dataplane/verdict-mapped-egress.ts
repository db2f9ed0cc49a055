/**
 * Verdict stage, egress, of a mapped guest: source inside → outside, written where the frame lies; mapping.ts.
 *
 * Hostile      a guest sends from its inside address to the gateway's MAC, or ARP; all else is dropped. What it makes the outside see
 *              is an endpoint that is leased to it, whatever it writes.
 * Next hop     next-hops.ts. A frame without one is taken, and the host's own stack sends it.
 * Hairpin      a destination that is one of our addresses: mapped to a guest, it goes there with its outside source (RFC 4787
 *              REQ-9); anything else at our addresses is the host's or shared, which Berth does not bring a guest's frame to.
 * Own flow     an inside port that is configured leaves by its outside port; any other by one of the block.
 */
import * as frameBatch from './frame-batch.js';
import type { FrameBatch } from './frame-batch.js';
import { type Extras, TO_HOST } from './extras.js';
import * as flowTable from './flow-table.js';
import { GATEWAY_HIGH, GATEWAY_LOW, isAnothers, type MappedGuest, type Mapping } from './mapping.js';
import { type Memory, packDecision, verdictOf } from './memory.js';
import { FRESH_SECONDS, UNKNOWN_HOP } from './next-hops.js';
import type { Station } from './parse.js';
import { FORGOTTEN } from './recent.js';
import { INSIDE, trackTcp } from './tcp-state.js';
import { datagramWord } from './verdict-ingress.js';
import { decideMapped, deliverFragment, isPartial } from './verdict-mapped-ingress.js';
import { LINK_SHIFT, type Proto, STATE_FREE, STATE_MAPPED, STATE_MASK, STATE_QUARANTINED } from '../steering/table-layout.js';
import type { SteeringTable } from '../steering/table.js';
import { ARP_REPLY, ARP_REQUEST, ARP_SENDER_IP, ARP_SENDER_MAC, ARP_TARGET_IP } from '../wire/arp.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { ICMP_ECHO_REQUEST, ICMP_HEADER_BYTES, ICMP_REDIRECT, isIcmpError } from '../wire/icmp.js';
import { FRAGMENT_OFFSET_MASK, IPV4_MIN_HEADER_BYTES, MORE_FRAGMENTS, PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';
import { correct, DESTINATION, ICMP_CHECKSUM, put16, putAddress, putEndpoint, putQuotedEndpoint, SOURCE } from '../wire/rewrite.js';
import { TCP_FLAGS, TCP_RST } from '../wire/tcp.js';

const {
  DISCARD,
  FIRST_FRAGMENT,
  FLOWS_FULL,
  KIND_ARP,
  KIND_ICMP,
  KIND_LATER_FRAGMENT,
  KIND_MALFORMED,
  KIND_NOT_IPV4,
  KIND_SHORT_FRAGMENT,
  KIND_UDP,
  MALFORMED,
  NO_FLOW_REASON,
  NO_REASON,
  NOT_IN_USE,
  NOT_IPV4,
  NOT_LEASED,
  NOT_OURS,
  ORPHAN_FRAGMENT,
  OTHER_PROTOCOL,
  OTHER_STATION,
  PORTS_EXHAUSTED,
  QUARANTINED,
  SPOOFED,
  TAGGED,
  TAKEN,
  TO_NIC,
} = frameBatch;
const { ECHO, FLOW_ECHO, FLOW_TCP, NO_FLOW, OPENING, UDP } = flowTable;

/** First address of 224.0.0.0/4 and all above. */
const MULTICAST = 0xe0000000;
/** First octets of addresses that mean a host itself (RFC 1122 §3.2.1.3). */
const THIS_HOST = 0;
const LOOPBACK = 127;

/** `guest` is the one on `link`, which the whole batch came from; `station` the NIC's MAC. */
export function decideMappedEgress(batch: FrameBatch, link: number, guest: MappedGuest, table: SteeringTable, memory: Memory, mapping: Mapping, station: Station, extras: Extras): void {
  const { count, seconds } = batch.slots;
  if (count > 0) mapping.expire(seconds[0] | 0);
  for (let i = 0; i < count; i++) {
    const why = decideOne(batch, i, link, guest, table, memory, mapping, station, extras);
    batch.reason[i] = why;
    if (why !== NO_REASON) batch.verdict[i] = DISCARD;
  }
}

/** The verdict is written and NO_REASON returned, or why the frame is dropped. */
function decideOne(batch: FrameBatch, i: number, link: number, guest: MappedGuest, table: SteeringTable, memory: Memory, mapping: Mapping, station: Station, extras: Extras): number {
  const { view, offset } = batch.slots;
  const start = offset[i];
  const what = batch.kind[i];
  if (what === KIND_MALFORMED || what === KIND_SHORT_FRAGMENT) return MALFORMED;
  if (what === KIND_NOT_IPV4) return NOT_IPV4;
  if (batch.l3[i] !== start + ETHERNET_HEADER_BYTES) return TAGGED;
  if (what === KIND_ARP) return answerArp(batch, i, link, guest);
  if ((batch.source[i] | 0) !== guest.inside) return SPOOFED;
  if (view.getUint32(start) !== GATEWAY_HIGH || view.getUint16(start + 4) !== GATEWAY_LOW) return OTHER_STATION;
  if ((batch.destination[i] | 0) === guest.gateway || batch.destination[i] >= MULTICAST) return NOT_OURS;
  const network = batch.destination[i] >>> 24;
  if (network === THIS_HOST || network === LOOPBACK) return NOT_OURS;
  learnStation(view, start + 6, guest);
  if (what <= KIND_UDP + FIRST_FRAGMENT) return sendPorts(batch, i, link, guest, table, memory, mapping, station, extras);
  if (what === KIND_LATER_FRAGMENT) return sendFragment(batch, i, link, guest, table, memory, mapping, station, extras);
  if (what !== KIND_ICMP) return OTHER_PROTOCOL;
  if (table.address(batch.destination[i] | 0) !== 0) return OTHER_PROTOCOL;
  const type = view.getUint8(batch.l4[i]);
  if (type === ICMP_ECHO_REQUEST) return sendEcho(batch, i, link, guest, memory, mapping, station, extras);
  return isIcmpError(type) && type !== ICMP_REDIRECT ? sendError(batch, i, link, mapping, station, extras) : SPOOFED;
}

function learnStation(view: DataView, at: number, guest: MappedGuest): void {
  if ((view.getUint8(at) & 1) !== 0) return;
  guest.stationHigh = view.getUint32(at) | 0;
  guest.stationLow = view.getUint16(at + 4);
}

/** The guest asks for its gateway: the request becomes the reply where it lies. What it says of itself is taken note of. */
function answerArp(batch: FrameBatch, i: number, link: number, guest: MappedGuest): number {
  const { view, offset } = batch.slots;
  const arp = batch.l3[i];
  const start = offset[i];
  const operation = view.getUint16(arp + 6);
  const isOwn = (batch.source[i] | 0) === guest.inside;
  if (isOwn) learnStation(view, arp + ARP_SENDER_MAC, guest);
  if (operation === ARP_REPLY || (batch.destination[i] | 0) === guest.inside) {
    batch.verdict[i] = TAKEN;
    return isOwn ? NO_REASON : SPOOFED;
  }
  if (operation !== ARP_REQUEST || (batch.destination[i] | 0) !== guest.gateway) return NOT_OURS;
  const asker = view.getUint32(arp + ARP_SENDER_MAC) | 0;
  const askerLow = view.getUint16(arp + ARP_SENDER_MAC + 4);
  view.setUint32(start, asker);
  view.setUint16(start + 4, askerLow);
  view.setUint32(start + 6, GATEWAY_HIGH);
  view.setUint16(start + 10, GATEWAY_LOW);
  view.setUint16(arp + 6, ARP_REPLY);
  view.setUint32(arp + ARP_SENDER_MAC, GATEWAY_HIGH);
  view.setUint16(arp + ARP_SENDER_MAC + 4, GATEWAY_LOW);
  view.setUint32(arp + ARP_SENDER_IP + 4, asker);
  view.setUint16(arp + ARP_SENDER_IP + 8, askerLow);
  view.setUint32(arp + ARP_TARGET_IP, batch.source[i]);
  view.setUint32(arp + ARP_SENDER_IP, guest.gateway);
  batch.verdict[i] = 1 + link;
  return NO_REASON;
}

function sendPorts(batch: FrameBatch, i: number, link: number, guest: MappedGuest, table: SteeringTable, memory: Memory, mapping: Mapping, station: Station, extras: Extras): number {
  const { view, seconds } = batch.slots;
  const { flows } = mapping;
  const protocol = batch.kind[i] & 1;
  const isTcp = protocol === FLOW_TCP;
  const insidePort = batch.ports[i] >>> 16;
  const remotePort = batch.ports[i] & 0xffff;
  const remote = batch.destination[i] | 0;
  const inside = batch.source[i] | 0;
  const now = seconds[i] | 0;
  const control = isTcp ? view.getUint8(batch.l4[i] + TCP_FLAGS) : 0;

  let target = STATE_FREE;
  const isOurs = table.address(remote) !== 0;
  if (isOurs) {
    const at = table.position(remote, protocol as Proto, remotePort);
    target = at < 0 ? STATE_FREE : table.words[at] | 0;
    if ((target & STATE_MASK) === STATE_FREE) return NOT_LEASED;
    if ((target & STATE_MASK) !== STATE_MAPPED) return (target & STATE_MASK) === STATE_QUARANTINED ? QUARANTINED : NOT_IN_USE;
  }
  let flow = flows.findInside(link, protocol, insidePort, remote, remotePort);
  if (flow === NO_FLOW) {
    if ((control & TCP_RST) !== 0) return NO_FLOW_REASON;
    let port = guest.outsidePort(protocol, insidePort);
    if (port === 0) port = mapping.takePort(guest, link, protocol, insidePort, remote, remotePort, memory.echoes, now);
    if (port === 0) return PORTS_EXHAUSTED;
    flow = flows.add(link, protocol, insidePort, mapping.outsideAddress, port, remote, remotePort, isTcp ? OPENING : UDP, now);
    if (flow === NO_FLOW) return FLOWS_FULL;
  } else {
    flows.touch(flow, now);
  }
  if (isTcp) trackTcp(flows, flow, control, INSIDE);
  const address = flows.outsideAddress[flow];
  putEndpoint(view, batch.l3[i], batch.l4[i], isTcp ? PROTOCOL_TCP : PROTOCOL_UDP, SOURCE, address, flows.outsidePort[flow], isPartial(batch, i, mapping));
  const isFragment = batch.kind[i] >= FIRST_FRAGMENT;
  if (isFragment) mapping.sentFragments.put(inside, remote, datagramWord(batch, i), flow + 1, now);
  if (!isOurs) {
    sendOut(batch, i, flow, mapping, station, extras);
    return NO_REASON;
  }
  batch.source[i] = address;
  batch.ports[i] = (flows.outsidePort[flow] << 16) | remotePort;
  decideMapped(batch, i, target >>> LINK_SHIFT, mapping);
  if (isFragment) memory.fragments.put(address, remote, datagramWord(batch, i), packDecision(batch.verdict[i], batch.reason[i]), now);
  return batch.reason[i];
}

/** A later fragment goes the way of the first. */
function sendFragment(batch: FrameBatch, i: number, link: number, guest: MappedGuest, table: SteeringTable, memory: Memory, mapping: Mapping, station: Station, extras: Extras): number {
  const { view, seconds } = batch.slots;
  const { flows } = mapping;
  const remote = batch.destination[i] | 0;
  const now = seconds[i] | 0;
  const flow = mapping.sentFragments.find(guest.inside, remote, datagramWord(batch, i), now) - 1;
  if (flow < 0 || flows.link[flow] !== link || flows.remote[flow] !== remote) return ORPHAN_FRAGMENT;
  const address = flows.outsideAddress[flow];
  putAddress(view, batch.l3[i], SOURCE, address);
  if (table.address(remote) === 0) {
    sendOut(batch, i, flow, mapping, station, extras);
    return NO_REASON;
  }
  const decision = memory.fragments.find(address, remote, datagramWord(batch, i), now);
  const target = decision === FORGOTTEN ? -1 : verdictOf(decision) - 1;
  const other = mapping.guests[target];
  if (other === undefined) return ORPHAN_FRAGMENT;
  deliverFragment(batch, i, target, other, mapping);
  return batch.reason[i];
}

function sendEcho(batch: FrameBatch, i: number, link: number, guest: MappedGuest, memory: Memory, mapping: Mapping, station: Station, extras: Extras): number {
  const { view, seconds } = batch.slots;
  const { flows } = mapping;
  const header = batch.l4[i];
  const remote = batch.destination[i] | 0;
  const now = seconds[i] | 0;
  const identifier = view.getUint16(header + 4);
  let flow = flows.findInside(link, FLOW_ECHO, identifier, remote, 0);
  // Not sent from for a while, and taken by a guest that shares the address.
  if (flow !== NO_FLOW && isAnothers(memory.echoes.find(flows.outsideAddress[flow], remote, flows.outsidePort[flow], now), link)) {
    flows.remove(flow);
    flow = NO_FLOW;
  }
  if (flow === NO_FLOW) {
    const outside = mapping.takePort(guest, link, FLOW_ECHO, identifier, remote, 0, memory.echoes, now);
    if (outside === 0) return PORTS_EXHAUSTED;
    flow = flows.add(link, FLOW_ECHO, identifier, mapping.outsideAddress, outside, remote, 0, ECHO, now);
    if (flow === NO_FLOW) return FLOWS_FULL;
  } else {
    flows.touch(flow, now);
  }
  const address = flows.outsideAddress[flow];
  // Nobody who shares the address may use the identifier towards this host meanwhile.
  memory.echoes.put(address, remote, flows.outsidePort[flow], link + 1, now);
  const isFragment = (view.getUint16(batch.l3[i] + 6) & MORE_FRAGMENTS) !== 0;
  if (isFragment) mapping.sentFragments.put(guest.inside, remote, datagramWord(batch, i), flow + 1, now);
  putAddress(view, batch.l3[i], SOURCE, address);
  correct(view, header + ICMP_CHECKSUM, put16(view, header + 4, flows.outsidePort[flow]));
  sendOut(batch, i, flow, mapping, station, extras);
  return NO_REASON;
}

/** An ICMP error about a packet that the guest was sent in one of its flows: its quote gets back the destination that it came with. */
function sendError(batch: FrameBatch, i: number, link: number, mapping: Mapping, station: Station, extras: Extras): number {
  const { view } = batch.slots;
  const { flows } = mapping;
  const inner = batch.l4[i] + ICMP_HEADER_BYTES;
  if (inner + IPV4_MIN_HEADER_BYTES > batch.end[i]) return MALFORMED;
  const versionAndLength = view.getUint8(inner);
  const transport = inner + ((versionAndLength & 15) << 2);
  const protocol = view.getUint8(inner + 9);
  if (versionAndLength >>> 4 !== 4 || transport < inner + IPV4_MIN_HEADER_BYTES || transport + 8 > batch.end[i]) return MALFORMED;
  if ((view.getUint16(inner + 6) & FRAGMENT_OFFSET_MASK) !== 0 || (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP)) return SPOOFED;
  if (view.getUint32(inner + 16) !== batch.source[i]) return SPOOFED;
  const flow = flows.findInside(link, protocol === PROTOCOL_TCP ? FLOW_TCP : 1, view.getUint16(transport + 2), view.getUint32(inner + 12) | 0, view.getUint16(transport));
  if (flow === NO_FLOW) return SPOOFED;
  const address = flows.outsideAddress[flow];
  const change = putQuotedEndpoint(view, inner, transport, batch.end[i], protocol, DESTINATION, address, flows.outsidePort[flow]);
  correct(view, batch.l4[i] + ICMP_CHECKSUM, change);
  putAddress(view, batch.l3[i], SOURCE, address);
  sendOut(batch, i, flow, mapping, station, extras);
  return NO_REASON;
}

/** To the next hop of the flow, from the NIC's MAC; through the host's own stack where there is none. */
function sendOut(batch: FrameBatch, i: number, flow: number, mapping: Mapping, station: Station, extras: Extras): void {
  const { view, offset, seconds } = batch.slots;
  const { flows, hops } = mapping;
  const start = offset[i];
  const now = seconds[i] | 0;
  let high = flows.hopHigh[flow];
  let low = flows.hopLow[flow];
  if (((now - flows.hopSeen[flow]) | 0) > FRESH_SECONDS || (high === 0 && low === 0)) {
    const hop = hops.find(batch.destination[i] | 0, now);
    if (hop === UNKNOWN_HOP) {
      batch.verdict[i] = TAKEN;
      extras.add(i, TO_HOST);
      return;
    }
    high = hops.high(hop);
    low = hops.low(hop);
  }
  view.setUint32(start, high);
  view.setUint16(start + 4, low);
  view.setUint32(start + 6, station.high);
  view.setUint16(start + 10, station.low);
  batch.verdict[i] = TO_NIC;
}
