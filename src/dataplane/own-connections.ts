/**
 * Own connections: the established TCP connections that mapped guests have begun themselves, as they outlive the engine. A frame from outside
 * does not say which inside port it is for (several fit an outside port of a block), so that a guest that only listens in one would
 * never hear of it again.
 *
 * List         ROW numbers a connection: link, inside port, outside address, outside port, remote address, remote port.
 * Not here     UDP and echo, which the guest's next datagram brings back, and ports that are configured, which need no flow.
 */
import { ESTABLISHED, FLOW_TCP, NO_FLOW } from './flow-table.js';
import type { Mapping } from './mapping.js';
import { INSIDE, OUTSIDE } from './tcp-state.js';

const ROW = 6;

/** All there are; a look at every slot, some 0.1 ms. */
export function listConnections({ flows, guests }: Mapping): Int32Array {
  const rows: number[] = [];
  for (let slot = 0; slot < flows.capacity; slot++) {
    const link = flows.link[slot];
    if (link < 0 || flows.class[slot] !== ESTABLISHED || guests[link]?.insidePort(FLOW_TCP, flows.outsidePort[slot]) !== 0) continue;
    rows.push(link, flows.insidePort[slot], flows.outsideAddress[slot], flows.outsidePort[slot], flows.remote[slot], flows.remotePort[slot]);
  }
  return Int32Array.from(rows);
}

/** Takes up those that fit what is mapped now; `now` in seconds. Nothing is known of their next hops. */
export function takeUpConnections(mapping: Mapping, list: Int32Array, now: number): void {
  const { flows } = mapping;
  for (let at = 0; at + ROW <= list.length; at += ROW) {
    const [link, insidePort, outsideAddress, outsidePort, remote, remotePort] = list.subarray(at, at + ROW);
    const guest = mapping.guests[link];
    const isInBlock = guest !== undefined && outsidePort >= guest.blockFirst && outsidePort < guest.blockFirst + guest.blockSize;
    if (!isInBlock || outsideAddress !== mapping.outsideAddress) continue;
    if (flows.findInside(link, FLOW_TCP, insidePort, remote, remotePort) !== NO_FLOW || flows.findOutside(outsideAddress, FLOW_TCP, outsidePort, remote, remotePort) !== NO_FLOW) continue;
    const slot = flows.add(link, FLOW_TCP, insidePort, outsideAddress, outsidePort, remote, remotePort, ESTABLISHED, now);
    if (slot !== NO_FLOW) flows.seenFlags[slot] = INSIDE | OUTSIDE;
  }
}
