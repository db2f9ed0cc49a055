/**
 * Changes of a mapped guest's maps while the daemon runs: entries more or fewer. Pure.
 *
 * Entries      as the configuration has them. What is taken out splits a range; inside ports stay those of their outside ports.
 */
import type { MapConfig } from '../base/config.js';
import type { MapRange } from '../steering/maps.js';
import { PortSet } from '../wire/port-set.js';
import type { MappedPlan } from './lease-plan.js';
import type { Ports, ProtoName } from './lease-state.js';

export type MapEntry = MapConfig['entries'][number];

/** What is mapped now, an entry a range. */
export function entriesOf({ tcp, udp }: Pick<MappedPlan, ProtoName>): MapEntry[] {
  const of = (proto: ProtoName, ranges: readonly MapRange[]): MapEntry[] => ranges.map(({ first, last, to }) => ({ proto, ports: first === last ? first : `${first}-${last}`, to }));
  return [...of('tcp', tcp), ...of('udp', udp)];
}

/** The maps without these outside ports. */
export function mapsWithout({ tcp, udp }: Pick<MappedPlan, ProtoName>, gone: Ports): Pick<MappedPlan, ProtoName> {
  const left = (ranges: readonly MapRange[], without: PortSet): MapRange[] =>
    ranges.flatMap(({ first, last, to }) => Array.from(PortSet.fromRanges([{ first, last }]).subtract(without).ranges(), (part) => ({ ...part, to: to + part.first - first })));
  return { tcp: left(tcp, gone.tcp), udp: left(udp, gone.udp) };
}

/** As a guest's settings have them: `{ tcp: 8443, to: 443 }`. */
export function settingsOf(entries: readonly MapEntry[]): object[] {
  return entries.map(({ proto, ports, to }) => ({ [proto]: ports, ...(to === null ? {} : { to }) }));
}

/** All outside ports of the maps. */
export function outsidePorts({ tcp, udp }: Pick<MappedPlan, ProtoName>): Ports {
  return { tcp: PortSet.fromRanges(tcp), udp: PortSet.fromRanges(udp) };
}
