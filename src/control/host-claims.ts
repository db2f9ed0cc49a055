/** Claims: reserving ports on the host for leases, where a host process may hold some of them (D5). */
import type { HostStack } from './host-stack.js';
import { type BookState, NO_PORTS, type Ports, portsOf, PROTOS, type ProtoName } from './lease-state.js';
import type { Taken } from './reserve.js';
import { type PortRange, PortSet } from '../wire/port-set.js';

/** All of the ranges, or none: then the first port that a host process holds. */
export function claimRanges(host: HostStack, ranges: Record<ProtoName, readonly PortRange[]>): (Taken & { proto: ProtoName }) | null {
  const done: { proto: ProtoName; ports: PortSet }[] = [];
  for (const proto of PROTOS) {
    for (const { first, last } of ranges[proto]) {
      // What is quarantined for this guest is reserved still, and stays so whatever comes of this.
      const fresh = PortSet.fromRanges([{ first, last }]).subtract(host.reserved(proto, first, last));
      const taken = host.reserve(proto, first, last);
      if (taken === null) {
        done.push({ proto, ports: fresh });
        continue;
      }
      for (const { proto: undone, ports } of done) for (const range of ports.ranges()) host.unreserve(undone, range.first, range.last);
      return { proto, ...taken };
    }
  }
  return null;
}

/** As much of the range as can be had; the ports that a host process holds. */
export function claimRun(host: HostStack, proto: ProtoName, { first, last }: PortRange): number[] {
  const lost: number[] = [];
  for (let from = first; from <= last; ) {
    const taken = host.reserve(proto, from, last);
    if (taken === null) break;
    lost.push(taken.port);
    if (taken.port > from) host.reserve(proto, from, taken.port - 1);
    from = taken.port + 1;
  }
  return lost;
}

/** As much of the ports as can be had on every one of the addresses; what a host process holds on one of them. */
export function claimAll(host: HostStack, addresses: readonly number[], ports: Ports): Ports {
  const lost = { tcp: NO_PORTS.tcp, udp: NO_PORTS.udp };
  for (const address of addresses) {
    for (const proto of PROTOS) {
      const taken = host.claim(address, proto, ports[proto].subtract(lost[proto]));
      lost[proto] = lost[proto].union(PortSet.fromRanges(taken.map(({ port }) => ({ first: port, last: port }))));
    }
  }
  return lost;
}

/** Lets go of those ports that nobody has in any of the states. */
export function letGo(host: HostStack, ports: Ports, states: readonly { snapshot: () => BookState }[]): void {
  const held = states.map((state) => portsOf(state.snapshot(), () => true));
  for (const proto of PROTOS) {
    const gone = held.reduce((left, one) => left.subtract(one[proto]), ports[proto]);
    for (const { first, last } of gone.ranges()) host.unreserve(proto, first, last);
  }
}
