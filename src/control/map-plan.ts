/**
 * Map plan: what the configuration of a mapped guest means. Outside ports are leased on every shared address, like any others; the
 * block for the guest's own flows is chosen later, when the host is known (map-blocks.ts).
 *
 * One to one   each inside port has at most one outside port a protocol: an answer is then sent from the right one by itself.
 * Pure         settings go in, a plan comes out. Errors are added to `problems`: ERR_CONFIG_VALUE, ERR_PORT_TAKEN.
 */
import type { GuestConfig, KeyPath, MapConfig, Problems } from '../base/config.js';
import { messageOf } from '../base/errors.js';
import type { MapRange, Maps } from '../steering/maps.js';
import { formatIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';
import type { GuestPlan, MappedPlan } from './lease-plan.js';
import type { Ports, ProtoName } from './lease-state.js';

/** Reads an address, which is added to `problems` where it is none. */
export type ReadAddress = (text: string, path: KeyPath) => number | null;

const LAST_PORT = 65_535;

/** What is mapped, and the outside ports that it takes; null where the guest's addresses make no sense. */
export function resolveMap({ name, map }: GuestConfig, shared: readonly number[], readAddress: ReadAddress, problems: Problems): { mapped: MappedPlan; outside: Ports } | null {
  if (map === null) return null;
  const path = ['guests', name];
  const inside = readAddress(map.inside, [...path, 'inside']);
  if (inside === null) return null;
  const gateway = map.gateway === null ? defaultGateway(inside) : readAddress(map.gateway, [...path, 'gateway']);
  if (gateway === null) return null;
  for (const [key, address] of [['inside', inside], ['gateway', gateway]] as const) {
    if (shared.includes(address)) problems.add('ERR_CONFIG_VALUE', [...path, key], `${formatIpv4(address)} is a shared address (got one of the host's own, expected one that only the guest's link has); choose a private one`);
  }
  if (inside === gateway) problems.add('ERR_CONFIG_VALUE', [...path, 'gateway'], `the guest's own address cannot be its gateway (got ${formatIpv4(gateway)} for both); choose another`);
  const found = { tcp: readEntries(map, 'tcp', path, problems), udp: readEntries(map, 'udp', path, problems) };
  const outside = { tcp: outsideOf(found.tcp), udp: outsideOf(found.udp) };
  return { mapped: { inside, gateway, ...found, blockSize: map.block, block: null }, outside };
}

/** For the data plane: everything that is mapped now, and the addresses that it is mapped on. */
export function mapsOf(guests: readonly GuestPlan[], shared: readonly number[]): Maps {
  return {
    outside: shared,
    guests: guests.flatMap(({ index, mapped, mac, link }) => {
      if (mapped === null) return [];
      const { inside, gateway, tcp, udp, block } = mapped;
      return [{ link: index, inside, gateway, mac: link?.kind === 'netns' ? 'nic' : mac, tcp, udp, block }];
    }),
  };
}

/** `tcp 8443 to 443`, `udp 5000-5009 to 6000-6009`. */
export function describeMaps({ tcp, udp }: Pick<MappedPlan, ProtoName>): string[] {
  return ([['tcp', tcp], ['udp', udp]] as const).flatMap(([proto, ranges]) => ranges.map(({ first, last, to }) => `${proto} ${span(first, last)} to ${span(to, to + last - first)}`));
}

/** What an outside port stands for at the guest: `10.0.7.2 port 443`; null for a guest that is not mapped. */
export function insideOf(guest: GuestPlan | undefined, proto: ProtoName, port: number): string | null {
  if (guest === undefined || guest.mapped === null) return null;
  const { inside } = guest.mapped;
  const range = guest.mapped[proto].find(({ first, last }) => port >= first && port <= last);
  return range === undefined ? `${formatIpv4(inside)}, the port of the flow that it answers` : `${formatIpv4(inside)} port ${range.to + port - range.first}`;
}

/** The first address of its /24, or the second where that is the guest's own. */
function defaultGateway(inside: number): number {
  const first = ((inside & 0xffffff00) | 1) >>> 0;
  return first === inside ? first + 1 : first;
}

/** The ranges of one protocol, in the order of the file. */
function readEntries({ entries }: MapConfig, proto: ProtoName, path: KeyPath, problems: Problems): MapRange[] {
  const ranges: MapRange[] = [];
  let outside = PortSet.EMPTY;
  let inside = PortSet.EMPTY;
  entries.forEach((entry, index) => {
    if (entry.proto !== proto) return;
    const at = [...path, 'map', index];
    let ports: PortSet;
    try {
      ports = PortSet.parse(entry.ports);
    } catch (error) {
      problems.add('ERR_CONFIG_VALUE', [...at, proto], messageOf(error));
      return;
    }
    const first = [...ports.ranges()][0].first;
    const fresh = Array.from(ports.ranges(), (range) => ({ ...range, to: range.first + (entry.to ?? first) - first }));
    const beyond = fresh.find(({ first: from, last, to }) => to + last - from > LAST_PORT);
    if (beyond !== undefined) {
      problems.add('ERR_CONFIG_VALUE', [...at, 'to'], `goes past the last port (got ${entry.to ?? first} for ${ports.format()}, expected ports to ${LAST_PORT}); map fewer ports, or lower ones`);
      return;
    }
    const inner = PortSet.fromRanges(fresh.map(({ first: from, last, to }) => ({ first: to, last: to + last - from })));
    const twice = outside.intersect(ports);
    const both = inside.intersect(inner);
    if (!twice.isEmpty) problems.add('ERR_PORT_TAKEN', [...at, proto], `${proto} ${twice.format()} is mapped twice; keep one`);
    else if (!both.isEmpty) problems.add('ERR_CONFIG_VALUE', [...at, entry.to === null ? proto : 'to'], `inside port ${both.format()} is mapped to twice for ${proto} (an answer from it could leave by either port); map to another`);
    outside = outside.union(ports);
    inside = inside.union(inner);
    ranges.push(...fresh);
  });
  return ranges;
}

function outsideOf(ranges: readonly MapRange[]): PortSet {
  return PortSet.fromRanges(ranges);
}

function span(first: number, last: number): string {
  return first === last ? `${first}` : `${first}-${last}`;
}
