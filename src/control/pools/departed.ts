/** The guest of an earlier daemon whose address is still quarantined after it: all that is left of it, as the plan has it. */
import { PortSet } from '../../wire/port-set.js';
import type { Departed } from '../lease-plan.js';
import { NO_PORTS } from '../lease-state.js';
import type { AddressRecord } from './address-book.js';

export function departedOf(address: number, { guest, since, until }: AddressRecord): Departed {
  const policy = { block: 1, maxPorts: 0, threshold: 'strict', allow: NO_PORTS, deny: NO_PORTS, implicit: false, leaseTimeMs: 0 } as const;
  const ports = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY, useTcp: PortSet.EMPTY, useUdp: PortSet.EMPTY, useAll: false };
  return { name: guest, index: 0, atRunTime: true, link: null, mac: null, whole: address, onShared: false, addresses: [address], ...ports, mapped: null, agent: null, policy, since, until };
}
