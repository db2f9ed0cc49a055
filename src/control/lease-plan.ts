/**
 * The lease plan: which endpoints each guest has, which of them are in use from the start, and what it may ask for. What
 * static-leases.ts makes of a configuration, and what the steering table is filled from.
 *
 * Whole    a dedicated address leased whole: `tcp` and `udp` are empty, one wildcard entry stands for every port, and ports
 *          named in `use` get entries of their own, found before the wildcard.
 *          One of a pool that is leased by ports has a wildcard too, nobody's: what no guest leases there is discarded (publisher.ts).
 *          Of one whose guest Berth configures by DHCP, the client's port is leased to nobody: what comes from it is ours.
 * In use   `useTcp` and `useUdp` always lie inside the lease; `useAll` says that they are all of it.
 */
import type { AgentConfig, LinkConfig } from '../base/config.js';
import type { MapRange } from '../steering/maps.js';
import { type PortRange, PortSet } from '../wire/port-set.js';
import { DHCP_CLIENT_PORT } from '../wire/dhcp.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';
import type { GuestPolicy } from './lease-policy.js';
import type { Ports } from './lease-state.js';
import type { AddressPool } from './pools/address-pools.js';

/** A guest with an address of its own (`mode: map`). Addresses are numbers. */
export interface MappedPlan {
  /** the guest's own address, and what it sends all through */
  readonly inside: number;
  readonly gateway: number;
  readonly tcp: readonly MapRange[];
  readonly udp: readonly MapRange[];
  /** ports for the guest's own flows; 0: none */
  readonly blockSize: number;
  /** which they are; null: none, or not chosen yet */
  readonly block: PortRange | null;
}

export interface GuestPlan {
  readonly name: string;
  /** of its link, from 0: its own for as long as it is there */
  readonly index: number;
  /** added by the operator while the daemon ran; false: of the configuration */
  readonly atRunTime: boolean;
  /** null: none, which is enough for a replay */
  readonly link: LinkConfig | null;
  /** six bytes; null: not stated, so the NIC's */
  readonly mac: Uint8Array | null;
  /** the dedicated address leased whole; null: `tcp` and `udp` are the lease */
  readonly whole: number | null;
  /** the lease holds on every shared address */
  readonly onShared: boolean;
  /** its address is of a pool, known or not yet: the host has nothing there */
  readonly ofPool: boolean;
  /** where the lease holds; empty when there is none, or when the shared addresses are not known yet */
  readonly addresses: readonly number[];
  readonly tcp: PortSet;
  readonly udp: PortSet;
  readonly useTcp: PortSet;
  readonly useUdp: PortSet;
  readonly useAll: boolean;
  /** null: it shares the host's addresses; else `tcp` and `udp` are the outside ports of its maps, and its block */
  readonly mapped: MappedPlan | null;
  /** null: none, so nobody speaks for the guest */
  readonly agent: AgentConfig | null;
  /** what the guest may have besides its static leases */
  readonly policy: GuestPolicy;
}

/** A removed guest with its quarantine, in wall clock ms. */
export interface Departed extends GuestPlan {
  readonly since: number;
  readonly until: number;
}

/** What blocks are cut from, on every shared address. */
export interface PoolPlan {
  /** null: all but those below 1024, the host's ephemeral range and its listeners, which the daemon finds out */
  readonly ports: PortSet | null;
  /** ports that only guests with less than one block get */
  readonly reserve: number;
  readonly quarantineMs: number;
}

export interface LeasePlan {
  /** the host's own addresses that guests share; empty only under `sharedLater` */
  readonly shared: readonly number[];
  /** about to be shared: reserved and muted as those are, and nothing is published there yet */
  readonly coming: readonly number[];
  /** every address of the plan, the shared ones first, each once: the steering table's addresses */
  readonly addresses: readonly number[];
  readonly guests: readonly GuestPlan[];
  /** removed guests whose leases the lease book does not know: quarantined on their own addresses (D3) */
  readonly departed: readonly Departed[];
  readonly pool: PoolPlan;
  /** of addresses that guests may have whole; an address of them is among `addresses` only while it is somebody's */
  readonly pools: readonly AddressPool[];
}

/** The link of an entry that is no guest's. */
export const NO_LINK = 0xffff;

/** An entry of the steering table. `protocol` and `port` are 0 in the wildcard of a whole address. */
export type EntryVisitor = (address: number, protocol: number, port: number, guest: number, inUse: boolean) => void;

/** Calls `visit` once for each endpoint of the plan, and once for each whole address. */
export function forEachEntry({ guests }: Pick<LeasePlan, 'guests'>, visit: EntryVisitor): void {
  for (const guest of guests) {
    for (const address of guest.addresses) {
      if (guest.whole !== null) visit(address, 0, 0, guest.index, guest.useAll);
      if (keepsClientPort(guest)) visit(address, PROTOCOL_UDP, DHCP_CLIENT_PORT, NO_LINK, false);
      for (const port of guest.tcp.union(guest.useTcp).ports()) visit(address, PROTOCOL_TCP, port, guest.index, guest.useTcp.has(port));
      for (const port of guest.udp.union(guest.useUdp).ports()) visit(address, PROTOCOL_UDP, port, guest.index, guest.useUdp.has(port));
    }
  }
}

function keepsClientPort({ whole, link }: GuestPlan): boolean {
  return whole !== null && link?.configure === 'dhcp';
}

/** How often forEachEntry will call, with a wildcard for each address of a pool. */
export function countEntries({ guests }: Pick<LeasePlan, 'guests'>): number {
  let count = 0;
  for (const guest of guests) {
    const { addresses, whole, ofPool, tcp, udp, useTcp, useUdp } = guest;
    count += addresses.length * ((whole === null && !ofPool ? 0 : 1) + (keepsClientPort(guest) ? 1 : 0) + tcp.union(useTcp).size + udp.union(useUdp).size);
  }
  return count;
}

/**
 * The largest block of ports that the guest leases in both protocols, as RFC 7618 can say it: 2^(16 - bits) ports, `first` a multiple
 * of their number. Null where it leases none.
 */
export function largestBlock({ tcp, udp }: Pick<GuestPlan, 'tcp' | 'udp'>): { first: number; last: number; bits: number } | null {
  const ranges = [...tcp.intersect(udp).ranges()];
  for (let bits = 1; bits <= 16; bits++) {
    const size = 1 << (16 - bits);
    for (const range of ranges) {
      const first = Math.ceil(range.first / size) * size;
      if (first + size - 1 <= range.last) return { first, last: first + size - 1, bits };
    }
  }
  return null;
}

/** Ports that are leased on single addresses, none of a pool: the lease book, which knows one space for all, must not grant them. */
export function leasedElsewhere({ guests, departed }: Pick<LeasePlan, 'guests' | 'departed'>): Ports {
  return portsOf([...guests.filter(({ onShared }) => !onShared), ...departed].filter(({ ofPool }) => !ofPool));
}

/** Ports that are leased on every shared address. */
export function leasedOnShared({ guests }: LeasePlan): Ports {
  return portsOf(guests.filter(({ onShared }) => onShared));
}

function portsOf(guests: readonly GuestPlan[]): Ports {
  return {
    tcp: guests.reduce((all, { tcp }) => all.union(tcp), PortSet.EMPTY),
    udp: guests.reduce((all, { udp }) => all.union(udp), PortSet.EMPTY),
  };
}

/** `tcp 80, 8000-8999; udp 53`; the empty text when both are empty. */
export function describePorts(tcp: PortSet, udp: PortSet, separator = '; '): string {
  const parts = [tcp.isEmpty ? '' : `tcp ${tcp.format(', ')}`, udp.isEmpty ? '' : `udp ${udp.format(', ')}`];
  return parts.filter((part) => part !== '').join(separator);
}
