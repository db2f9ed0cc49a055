/** What the plan and the steering table say of guests and endpoints, for the admin desk. */
import type { Place } from './admin-api.js';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import type { ProtoName } from './lease-state.js';
import { LINK_SHIFT, PROTO_TCP, PROTO_UDP, STATE_IN_USE, STATE_LEASED, STATE_MAPPED, STATE_MASK, STATE_QUARANTINED } from '../steering/table-layout.js';
import type { SteeringTable } from '../steering/table.js';
import { PortSet } from '../wire/port-set.js';

export const PROTO_NUMBERS = { tcp: PROTO_TCP, udp: PROTO_UDP } as const;

export function find(plan: LeasePlan, name: string | null): GuestPlan | undefined {
  return plan.guests.find((guest) => guest.name === name);
}

/** Where leases come from that were not granted. */
export function sourceOf(guest: GuestPlan | undefined): 'configuration' | 'run time' {
  return guest?.atRunTime === true ? 'run time' : 'configuration';
}

export function nameOf(plan: LeasePlan, link: number): string | null {
  return plan.guests.find(({ index }) => index === link)?.name ?? null;
}

export function stateOf(value: number): Place['state'] {
  const state = value & STATE_MASK;
  if (isUsed(value)) return 'in use';
  if (state === STATE_QUARANTINED) return 'quarantined';
  return state === STATE_LEASED ? 'leased' : 'free';
}

/** In use, by word of the guest or because it is mapped. */
function isUsed(value: number): boolean {
  return (value & STATE_MASK) === STATE_IN_USE || (value & STATE_MASK) === STATE_MAPPED;
}

/** Those of the ports that the guest uses on the address; a step a port. */
export function inUse(table: SteeringTable, address: number, proto: ProtoName, ports: PortSet, guest: number): PortSet {
  const used: { first: number; last: number }[] = [];
  for (const { first, last } of ports.ranges()) {
    for (let port = first; port <= last; port++) {
      const value = table.value(address, PROTO_NUMBERS[proto], port);
      if (isUsed(value) && value >>> LINK_SHIFT === guest) used.push({ first: port, last: port });
    }
  }
  return PortSet.fromRanges(used);
}
