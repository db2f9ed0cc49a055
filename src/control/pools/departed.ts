/** The guest of an earlier daemon whose address, or ports of it, are still quarantined after it: all that is left of it, as the plan has it. */
import { PortSet } from '../../wire/port-set.js';
import type { Departed } from '../lease-plan.js';
import { NO_PORTS } from '../lease-state.js';
import type { AddressRecord } from './address-book.js';

export function departedOf(address: number, { guest, block, since, until }: AddressRecord): Departed {
  const policy = { block: 1, maxPorts: 0, threshold: 'strict', allow: NO_PORTS, deny: NO_PORTS, implicit: false, leaseTimeMs: 0 } as const;
  const left = block === null ? PortSet.EMPTY : PortSet.fromRanges([block]);
  const ports = { tcp: left, udp: left, useTcp: PortSet.EMPTY, useUdp: PortSet.EMPTY, useAll: false };
  return { name: guest, index: 0, atRunTime: true, link: null, mac: null, whole: block === null ? address : null, onShared: false, ofPool: true, addresses: [address], ...ports, mapped: null, agent: null, policy, since, until };
}
