/**
 * Verdict stage, ingress, of mapped guests: destination outside → inside, written where the frame lies; mapping.ts.
 *
 * Who          a flow that is there, or an outside port that is configured, whoever sends to it. A port of the block takes only what
 *              answers the guest (`no-flow` otherwise).
 * Link         the frame goes from the gateway's MAC to the guest's. Where that is not known yet, the frame's place is taken by an ARP
 *              request for it (RFC 826), and whoever sent the frame sends it again.
 */
import * as frameBatch from './frame-batch.js';
import type { FrameBatch } from './frame-batch.js';
import * as flowTable from './flow-table.js';
import { GATEWAY_HIGH, GATEWAY_LOW, isAnothers, type MappedGuest, type Mapping } from './mapping.js';
import { OUTSIDE, trackTcp } from './tcp-state.js';
import { VNET_HEADER_BYTES } from '../io/frame-io.js';
import { ARP_BYTES, ARP_ETHERNET_IPV4, ARP_LENGTHS, ARP_REQUEST, ARP_SENDER_IP, ARP_SENDER_MAC, ARP_TARGET_IP } from '../wire/arp.js';
import { ETHERNET_HEADER_BYTES, ETHERTYPE_ARP } from '../wire/ethernet.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';
import { correct, DESTINATION, ICMP_CHECKSUM, put16, putAddress, putEndpoint, putQuotedEcho, putQuotedEndpoint, SOURCE } from '../wire/rewrite.js';
import { TCP_FLAGS, TCP_RST } from '../wire/tcp.js';

const { DISCARD, FLOWS_FULL, NO_FLOW_REASON, NO_NEXT_HOP, NO_REASON, NOT_IN_USE } = frameBatch;
const { ESTABLISHED, FLOW_ECHO, FLOW_TCP, NO_FLOW, OPENING, UDP } = flowTable;

/** `struct virtio_net_hdr.flags`: the checksum is partial. */
const NEEDS_CHECKSUM = 1;

export function isPartial(batch: FrameBatch, i: number, mapping: Mapping): boolean {
  return mapping.hasHeaders && (batch.slots.view.getUint8(batch.slots.offset[i] - VNET_HEADER_BYTES) & NEEDS_CHECKSUM) !== 0;
}

/** A TCP or UDP frame, a first fragment included, for an endpoint that is mapped to the guest on `link`. */
export function decideMapped(batch: FrameBatch, i: number, link: number, mapping: Mapping): void {
  const guest = mapping.guests[link];
  if (guest === undefined) {
    refuse(batch, i, NOT_IN_USE);
    return;
  }
  const { view, offset, seconds } = batch.slots;
  const { flows } = mapping;
  const protocol = batch.kind[i] & 1;
  const isTcp = protocol === FLOW_TCP;
  const now = seconds[i] | 0;
  const address = batch.destination[i] | 0;
  const remote = batch.source[i] | 0;
  const remotePort = batch.ports[i] >>> 16;
  const port = batch.ports[i] & 0xffff;
  const control = isTcp ? view.getUint8(batch.l4[i] + TCP_FLAGS) : 0;

  mapping.expire(now);
  let flow = flows.findOutside(address, protocol, port, remote, remotePort);
  if (flow === NO_FLOW) {
    const insidePort = guest.insidePort(protocol, port);
    const before = insidePort === 0 ? NO_FLOW : flows.findInside(link, protocol, insidePort, remote, remotePort);
    // A remote end that came by another of our addresses is the same one to the guest: only the later can be answered.
    if (insidePort === 0 || (control & TCP_RST) !== 0 || (before !== NO_FLOW && flows.class[before] === ESTABLISHED)) {
      refuse(batch, i, NO_FLOW_REASON);
      return;
    }
    if (before !== NO_FLOW) flows.remove(before);
    flow = flows.add(link, protocol, insidePort, address, port, remote, remotePort, isTcp ? OPENING : UDP, now);
    if (flow === NO_FLOW) {
      refuse(batch, i, FLOWS_FULL);
      return;
    }
  } else {
    flows.touch(flow, now);
  }
  if (isTcp) trackTcp(flows, flow, control, OUTSIDE);
  flows.hopHigh[flow] = view.getUint32(offset[i] + 6);
  flows.hopLow[flow] = view.getUint16(offset[i] + 10);
  flows.hopSeen[flow] = now;
  putEndpoint(view, batch.l3[i], batch.l4[i], isTcp ? PROTOCOL_TCP : PROTOCOL_UDP, DESTINATION, guest.inside, flows.insidePort[flow], isPartial(batch, i, mapping));
  deliver(batch, i, link, guest, mapping);
}

/** A later fragment of a datagram whose first one went to `link`. */
export function deliverFragment(batch: FrameBatch, i: number, link: number, guest: MappedGuest, mapping: Mapping): void {
  putAddress(batch.slots.view, batch.l3[i], DESTINATION, guest.inside);
  deliver(batch, i, link, guest, mapping);
}

/** True, and decided, where the echo reply answers a mapped guest. `user` of the identifier: link + 1 of who sent from it last, for as long as that is remembered. */
export function decideMappedEcho(batch: FrameBatch, i: number, user: number, mapping: Mapping): boolean {
  const { view, seconds } = batch.slots;
  const { flows } = mapping;
  const header = batch.l4[i];
  const flow = flows.findOutside(batch.destination[i] | 0, FLOW_ECHO, view.getUint16(header + 4), batch.source[i] | 0, 0);
  if (flow === NO_FLOW) return false;
  const link = flows.link[flow];
  if (isAnothers(user, link)) return false;
  const guest = mapping.guests[link];
  if (guest === undefined) return false;
  const now = seconds[i] | 0;
  flows.touch(flow, now);
  mapping.hops.learn(batch.source[i] | 0, view.getUint32(batch.slots.offset[i] + 6) | 0, view.getUint16(batch.slots.offset[i] + 10), now);
  putAddress(view, batch.l3[i], DESTINATION, guest.inside);
  correct(view, header + ICMP_CHECKSUM, put16(view, header + 4, flows.insidePort[flow]));
  deliver(batch, i, link, guest, mapping);
  return true;
}

/** An ICMP error about a packet of TCP or UDP that was sent from an endpoint mapped to `link`; its headers at `inner` and `transport`. */
export function decideMappedError(batch: FrameBatch, i: number, inner: number, transport: number, link: number, mapping: Mapping): void {
  const { view } = batch.slots;
  const { flows } = mapping;
  const protocol = view.getUint8(inner + 9);
  const flow = flows.findOutside(view.getUint32(inner + 12) | 0, protocol === PROTOCOL_TCP ? FLOW_TCP : 1, view.getUint16(transport), view.getUint32(inner + 16) | 0, view.getUint16(transport + 2));
  const guest = mapping.guests[link];
  if (flow === NO_FLOW || guest === undefined || flows.link[flow] !== link) {
    refuse(batch, i, NO_FLOW_REASON);
    return;
  }
  const change = putQuotedEndpoint(view, inner, transport, batch.end[i], protocol, SOURCE, guest.inside, flows.insidePort[flow]);
  correct(view, batch.l4[i] + ICMP_CHECKSUM, change);
  putAddress(view, batch.l3[i], DESTINATION, guest.inside);
  deliver(batch, i, link, guest, mapping);
}

/** True, and decided, where the ICMP error is about an echo request of a mapped guest. `user` as for decideMappedEcho. */
export function decideMappedEchoError(batch: FrameBatch, i: number, inner: number, transport: number, user: number, mapping: Mapping): boolean {
  const { view } = batch.slots;
  const { flows } = mapping;
  const flow = flows.findOutside(view.getUint32(inner + 12) | 0, FLOW_ECHO, view.getUint16(transport + 4), view.getUint32(inner + 16) | 0, 0);
  if (flow === NO_FLOW) return false;
  const link = flows.link[flow];
  if (isAnothers(user, link)) return false;
  const guest = mapping.guests[link];
  if (guest === undefined) return false;
  correct(view, batch.l4[i] + ICMP_CHECKSUM, putQuotedEcho(view, inner, transport, SOURCE, guest.inside, flows.insidePort[flow]));
  putAddress(view, batch.l3[i], DESTINATION, guest.inside);
  deliver(batch, i, link, guest, mapping);
  return true;
}

function refuse(batch: FrameBatch, i: number, reason: number): void {
  batch.verdict[i] = DISCARD;
  batch.reason[i] = reason;
}

/** The frame, readdressed, to the guest on `link`; or a question for its MAC. */
function deliver(batch: FrameBatch, i: number, link: number, guest: MappedGuest, mapping: Mapping): void {
  const { view, offset } = batch.slots;
  const start = offset[i];
  if (guest.stationHigh === 0 && guest.stationLow === 0) {
    ask(batch, i, guest, link, mapping);
    return;
  }
  view.setUint32(start, guest.stationHigh);
  view.setUint16(start + 4, guest.stationLow);
  view.setUint32(start + 6, GATEWAY_HIGH);
  view.setUint16(start + 10, GATEWAY_LOW);
  batch.verdict[i] = 1 + link;
  batch.reason[i] = NO_REASON;
}

/** An ARP request for the guest's MAC in place of the frame, which is at least as long. */
function ask(batch: FrameBatch, i: number, guest: MappedGuest, link: number, mapping: Mapping): void {
  const { view, offset, length, wireLength } = batch.slots;
  const start = offset[i];
  if (length[i] < ETHERNET_HEADER_BYTES + ARP_BYTES) {
    refuse(batch, i, NO_NEXT_HOP);
    return;
  }
  if (mapping.hasHeaders) for (let at = start - VNET_HEADER_BYTES; at < start; at++) view.setUint8(at, 0);
  view.setUint32(start, 0xffffffff);
  view.setUint16(start + 4, 0xffff);
  view.setUint32(start + 6, GATEWAY_HIGH);
  view.setUint16(start + 10, GATEWAY_LOW);
  view.setUint16(start + 12, ETHERTYPE_ARP);
  const arp = start + ETHERNET_HEADER_BYTES;
  view.setUint32(arp, ARP_ETHERNET_IPV4);
  view.setUint16(arp + 4, ARP_LENGTHS);
  view.setUint16(arp + 6, ARP_REQUEST);
  view.setUint32(arp + ARP_SENDER_MAC, GATEWAY_HIGH);
  view.setUint16(arp + ARP_SENDER_MAC + 4, GATEWAY_LOW);
  view.setUint32(arp + ARP_SENDER_IP, guest.gateway);
  view.setUint32(arp + ARP_SENDER_IP + 4, 0);
  view.setUint16(arp + ARP_SENDER_IP + 8, 0);
  view.setUint32(arp + ARP_TARGET_IP, guest.inside);
  length[i] = ETHERNET_HEADER_BYTES + ARP_BYTES;
  wireLength[i] = length[i];
  batch.verdict[i] = 1 + link;
  batch.reason[i] = NO_REASON;
}
