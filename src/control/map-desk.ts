/** Map desk: what is mapped, and changes of it, for the operator. Refused as in the admin desk. */
import type { MapChange, MapStatus } from './admin-api.js';
import { Refused, refuse } from './admin-refused.js';
import type { Guests } from './guests.js';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import { type Ports, PROTOS } from './lease-state.js';
import type { MapEntry } from './map-changes.js';
import { formatIpv4 } from '../wire/address.js';

export interface MapDeskParts {
  plan: LeasePlan;
  guests: Pick<Guests, 'map' | 'unmap'>;
}

export class MapDesk {
  private readonly parts: MapDeskParts;

  constructor(parts: MapDeskParts) {
    this.parts = parts;
  }

  /** @throws Refused for a guest that is not there */
  list(guest?: string): MapStatus[] {
    const { guests } = this.parts.plan;
    if (guest !== undefined && !guests.some(({ name }) => name === guest)) throw new Refused(404, 'ERR_UNKNOWN_GUEST', `there is no mapped guest ${guest}; \`berth map ls\` shows those there are`);
    return guests.filter(({ name }) => guest === undefined || name === guest).flatMap(statusOf);
  }

  async add(guest: string, entry: MapEntry): Promise<MapChange> {
    await this.parts.guests.map(guest, entry).catch(refuse);
    return { ...this.list(guest)[0], message: '' };
  }

  async remove(guest: string, ports: Ports): Promise<MapChange> {
    const returns = await this.parts.guests.unmap(guest, ports).catch(refuse);
    return { ...this.list(guest)[0], message: returns ? `the configuration maps some of these to guest ${guest}: they return at the daemon's next start, unless they are taken out there` : '' };
  }
}

function statusOf({ name, mapped }: GuestPlan): MapStatus[] {
  if (mapped === null) return [];
  const { inside, gateway, block } = mapped;
  const maps = PROTOS.flatMap((proto) => mapped[proto].map(({ first, last, to }) => ({ proto, ports: span(first, last), to: span(to, to + last - first) })));
  return [{ guest: name, inside: formatIpv4(inside), gateway: formatIpv4(gateway), block: block === null ? '' : span(block.first, block.last), maps }];
}

function span(first: number, last: number): string {
  return first === last ? `${first}` : `${first}-${last}`;
}
