/**
 * Admin desk: finds out what the operator asks, and has done what the operator wants done.
 *
 * Truth        whether an endpoint is in use is read from the steering table, where also the data plane writes (D7); who
 *              has it since and until when is the lease book's. A daemon that has needed none has no book: the leases are
 *              those of its plan then, and there is nothing to grant, revoke or renew.
 * Refused      as errors with a status of HTTP; a grant obeys the guest's policy as if its agent had asked.
 * Told         the agent, at once, of a grant and of a revocation.
 */
import type { BlockLine, Explanation, GuestRemoval, GuestStatus, Health, LeaseAnswer, LeaseLine, Place, PortTexts, Status } from './admin-api.js';
import { Refused, refuse } from './admin-refused.js';
import type { Control } from './control.js';
import { find, inUse, nameOf, PROTO_NUMBERS, sourceOf, stateOf } from './desk-facts.js';
import { explainHost, explainPlace } from './explain.js';
import type { GuestLinks } from './guest-links.js';
import type { Guests } from './guests.js';
import { hostSockets } from './host-sockets.js';
import { counted, type Refusal } from './lease-policy.js';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import { MapDesk } from './map-desk.js';
import { insideOf } from './map-plan.js';
import { NEVER, NO_PORTS, type Ports, PROTOS, type ProtoName } from './lease-state.js';
import type { Publisher } from './publisher.js';
import type { LatencyReport } from '../io/cpu-latency.js';
import type { Interface } from '../io/interfaces.js';
import { IMPLICIT, LINK_SHIFT, MAY_IMPLY } from '../steering/table-layout.js';
import { SteeringTable } from '../steering/table.js';
import { formatIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

/** What serves the guests of one network. */
interface DeskUplink {
  plan: LeasePlan;
  links: GuestLinks;
  publisher: Publisher;
}

/** Of the first network, which has the shared addresses, what is for all, and the other networks. */
export interface DeskParts extends DeskUplink {
  nic: Interface;
  backend: string;
  notInUse: string;
  others?: readonly (DeskUplink & { network: string; nic: Interface })[];
  /** null: nothing has needed it yet. */
  readonly control: Control | null;
  /** Adds and removes guests. */
  guests: Pick<Guests, 'add' | 'remove' | 'map' | 'unmap'>;
  counters: () => object;
  /** null: `cpuLatency: off` */
  latency: () => LatencyReport | null;
}

const REASON = 'taken back by the operator';

export class AdminDesk {
  /** What concerns mapped guests. */
  readonly maps: MapDesk;
  private readonly parts: DeskParts;
  private readonly startedAt = Date.now();

  constructor(parts: DeskParts) {
    this.parts = parts;
    this.maps = new MapDesk(parts);
  }

  private get uplinks(): readonly DeskUplink[] {
    return [this.parts, ...(this.parts.others ?? [])];
  }

  health(): Health {
    const problems: string[] = [];
    for (const { name, link, agent } of this.guests()) {
      if (!link.attached) problems.push(`guest ${name}: ${link.description} is not there`);
      if (agent === 'away') problems.push(`guest ${name}: its agent is not connected`);
    }
    return { status: problems.length === 0 ? 'ok' : 'degraded', pid: process.pid, startedAt: when(this.startedAt), problems };
  }

  status(): Status {
    const { nic, backend, notInUse, control } = this.parts;
    return {
      pid: process.pid,
      startedAt: when(this.startedAt),
      nic: { name: nic.name, mac: nic.mac, mtu: nic.mtu, backend },
      networks: (this.parts.others ?? []).map((other) => ({ name: other.network, nic: other.nic.name, mac: other.nic.mac })),
      addresses: this.uplinks.flatMap(({ plan }) => plan.addresses.map(formatIpv4)),
      notInUse,
      guests: this.guests(),
      agents: control === null ? { bad: 0, closed: 0 } : { ...control.server.counters },
      cpuLatency: this.parts.latency(),
      counters: this.counters(),
    };
  }

  counters(): object {
    return this.parts.counters();
  }

  leases(): LeaseLine[] {
    const { plan, control } = this.parts;
    const lines: LeaseLine[] = [];
    const add = (guest: GuestPlan, state: LeaseLine['state'], since: number, until: number): void => {
      const line = { guest: guest.name, addresses: guest.addresses.map(formatIpv4), state, source: sourceOf(guest), block: false, since: when(since), until: ending(until) };
      if (guest.whole !== null) lines.push({ ...line, proto: 'any', ports: 'all' });
      for (const proto of PROTOS) if (!guest[proto].isEmpty) lines.push({ ...line, proto, ports: guest[proto].format() });
    };
    // What holds on the shared addresses is in the book, where there is one.
    for (const { plan: served } of this.uplinks) {
      for (const guest of served.guests) if (control === null || !guest.onShared) add(guest, 'leased', this.startedAt, NEVER);
      for (const guest of served.departed) add(guest, 'quarantined', guest.since, guest.until);
    }
    const book = control?.plane.leases.snapshot();
    const addresses = plan.shared.map(formatIpv4);
    for (const proto of PROTOS) {
      for (const { guest, first, last, state, since, until, block } of book?.[proto] ?? []) {
        const ports = first === last ? `${first}` : `${first}-${last}`;
        const source = state === 'leased' && until === NEVER ? sourceOf(find(plan, guest)) : 'granted';
        lines.push({ guest, addresses, proto, ports, state, source, block: block > 0, since: when(since), until: ending(until) });
      }
    }
    return lines;
  }

  /** @throws Refused for a guest that is not there and has left nothing behind */
  leasesOf(guest: string): LeaseLine[] {
    const lines = this.leases().filter((line) => line.guest === guest);
    if (lines.length === 0) this.planOf(guest);
    return lines;
  }

  async grantBlock(guest: string): Promise<LeaseAnswer> {
    const { plane, server } = this.controlOf(guest);
    const { block, refusal } = await plane.grantBlock(guest);
    if (block === null) throw refused(refusal);
    server.granted(guest);
    const ports = PortSet.fromRanges([block]);
    return this.answer(guest, { tcp: ports, udp: ports });
  }

  async grantPorts(guest: string, ports: Ports): Promise<LeaseAnswer> {
    const { plane, server } = this.controlOf(guest);
    const before = plane.leases.holding(guest).leased;
    const { refusal } = await plane.grantPorts(guest, ports);
    if (refusal !== null) throw refused(refusal);
    server.granted(guest);
    return this.answer(guest, { tcp: ports.tcp.subtract(before.tcp), udp: ports.udp.subtract(before.udp) });
  }

  /** Takes back all of the ports, or nothing when one of them is not the guest's to lose. */
  async revoke(guest: string, ports: Ports): Promise<LeaseAnswer> {
    const { plane, server } = this.controlOf(guest);
    const { leased, fixed } = plane.leases.holding(guest);
    for (const proto of PROTOS) {
      const configured = ports[proto].intersect(fixed[proto]);
      if (!configured.isEmpty) throw new Refused(409, 'ERR_CONFIGURED', `${proto} ${configured.format()} of guest ${guest} comes from ${howSet(this.planOf(guest), 'and start again')}`);
      const others = ports[proto].subtract(leased[proto]);
      if (!others.isEmpty) throw new Refused(409, 'ERR_NOT_LEASED', `${proto} ${others.format()} is not leased to guest ${guest}; \`berth lease ls\` shows what is`);
    }
    await plane.release(guest, ports);
    server.revoked(guest, ports, REASON);
    return this.answer(guest, ports);
  }

  async renew(guest: string): Promise<LeaseAnswer> {
    const { plane } = this.controlOf(guest);
    const { refusal } = await plane.renew(guest);
    if (refusal !== null) throw refused(refusal);
    const { leased, fixed } = plane.leases.holding(guest);
    return this.answer(guest, { tcp: leased.tcp.subtract(fixed.tcp), udp: leased.udp.subtract(fixed.udp) });
  }

  /** Adds a guest with settings as of a configuration. */
  async addGuest(name: string, setting: object): Promise<GuestStatus> {
    await this.parts.guests.add(name, setting).catch(refuse);
    return this.guests().find((one) => one.name === name) as GuestStatus;
  }

  async removeGuest(name: string): Promise<GuestRemoval> {
    const guest = await this.parts.guests.remove(name).catch(refuse);
    const returns = guest !== null && !guest.atRunTime;
    return { name, returns, message: returns ? `guest ${name} is in the configuration: it returns at the daemon's next start, unless it is taken out there` : '' };
  }

  /** `only`: on this address; null: on all that there are. @throws Refused for one of which nothing is leased, and that is not shared */
  async explain(proto: ProtoName, port: number, only: number | null = null): Promise<Explanation> {
    const { plan, control } = this.parts;
    const host = await hostSockets(proto, port);
    const wanted = (at: DeskUplink): readonly number[] => (only === null ? at.plan.addresses : at.plan.addresses.filter((address) => address === only));
    const places = this.uplinks.flatMap((at) => wanted(at).map((address) => this.place(at, new SteeringTable(at.publisher.buffer), address, proto, port)));
    if (only !== null && places.length === 0) throw new Refused(404, 'ERR_NOT_LEASED', `${formatIpv4(only)} is not shared, and nothing of it is leased; \`berth lease ls\` shows what is`);
    const words = places.flatMap((place) => place.words);
    if (only !== null && !plan.shared.includes(only)) return { proto, port, places, host, words };
    const isFree = places.slice(0, plan.shared.length).every(({ state }) => state === 'free');
    if (isFree && control?.plane.book.free.has(port) === true) words.push('It may be granted as part of a block.');
    else if (isFree && control !== null) words.push('It is not among the ports that blocks are cut from.');
    words.push(explainHost(host, !isFree));
    return { proto, port, places, host, words };
  }

  private place({ plan, links }: DeskUplink, table: SteeringTable, address: number, proto: ProtoName, port: number): Place {
    const { control, notInUse } = this.parts;
    const value = table.value(address, PROTO_NUMBERS[proto], port);
    const state = stateOf(value);
    const found = control !== null && plan.shared.includes(address) ? control.plane.leases.at(proto, port) : null;
    const run = found?.run ?? null;
    const gone = state === 'quarantined' && run === null ? plan.departed.find((one) => one.addresses.includes(address)) : undefined;
    const guest = state === 'free' ? null : state === 'quarantined' ? (run?.guest ?? gone?.name ?? null) : nameOf(plan, value >>> LINK_SHIFT);
    const link = guest === null ? { description: '', attached: false } : links.stateOf(guest);
    return explainPlace({
      address: formatIpv4(address),
      proto,
      port,
      state,
      guest,
      source: state === 'free' ? null : run === null || run.until === NEVER ? sourceOf(gone ?? find(plan, guest)) : 'granted',
      since: state === 'free' ? null : when((run ?? gone)?.since ?? this.startedAt),
      until: state === 'free' ? null : ending((run ?? gone)?.until ?? NEVER),
      use: state !== 'in use' ? null : (value & IMPLICIT) !== 0 ? 'frame' : found?.inUse === true ? 'agent' : sourceOf(find(plan, guest)),
      agent: this.agentOf(find(plan, guest)),
      mayImply: (value & MAY_IMPLY) !== 0,
      mappedTo: insideOf(state === 'in use' ? find(plan, guest) : undefined, proto, port),
      byPorts: plan.guests.every((one) => one.whole !== address),
      link: link.description,
      attached: link.attached,
      rejecting: notInUse === 'reject',
    });
  }

  guests(): GuestStatus[] {
    return this.uplinks.flatMap((at) => this.guestsOf(at));
  }

  private guestsOf({ plan, links, publisher }: DeskUplink): GuestStatus[] {
    const { control } = this.parts;
    const table = new SteeringTable(publisher.buffer);
    return plan.guests.map((guest) => {
      const { name } = guest;
      const leases = control?.plane.leases;
      const holding = leases?.holding(name) ?? { leased: NO_PORTS, fixed: NO_PORTS, used: NO_PORTS };
      const leased = { tcp: guest.tcp.union(holding.leased.tcp), udp: guest.udp.union(holding.leased.udp) };
      const addresses = new Set([...guest.addresses, ...plan.shared.slice(0, 1)]);
      const used = (proto: ProtoName): PortSet => {
        const configured = guest[proto === 'tcp' ? 'useTcp' : 'useUdp'];
        return [...addresses].reduce((all, address) => all.union(inUse(table, address, proto, leased[proto].union(configured), guest.index)), PortSet.EMPTY);
      };
      return {
        name,
        source: sourceOf(guest),
        link: links.stateOf(name),
        agent: this.agentOf(guest),
        whole: guest.whole === null ? null : formatIpv4(guest.whole),
        address: guest.whole !== null || guest.onShared || guest.addresses.length === 0 ? null : formatIpv4(guest.addresses[0]),
        leased: texts(leased),
        used: texts({ tcp: used('tcp'), udp: used('udp') }),
        blocks: (leases?.blocksOf(name) ?? []).map(blockLine),
        count: counted(holding).size,
        maxPorts: guest.policy.maxPorts,
      };
    });
  }

  private agentOf(guest: GuestPlan | undefined): GuestStatus['agent'] {
    if (guest === undefined || guest.agent === null) return 'none';
    return this.parts.control?.server.isConnected(guest.name) === true ? 'connected' : 'away';
  }

  /** The control plane, for a guest whose leases it may change. */
  private controlOf(name: string): Control {
    const { control } = this.parts;
    const guest = this.planOf(name);
    if (guest.agent === null || control === null) throw new Refused(409, 'ERR_NO_AGENT', `guest ${name} has no agent: its leases come from ${howSet(guest, 'or give it an agent')}`);
    return control;
  }

  private planOf(name: string): GuestPlan {
    const guest = this.uplinks.map(({ plan }) => find(plan, name)).find((one) => one !== undefined);
    if (guest === undefined) throw new Refused(404, 'ERR_UNKNOWN_GUEST', `there is no guest ${name}; \`berth guest ls\` shows the guests there are`);
    return guest;
  }

  private answer(guest: string, changed: Ports): LeaseAnswer {
    const { plane } = this.controlOf(guest);
    const { leased } = plane.leases.holding(guest);
    const ends = this.leases().filter((line) => line.guest === guest && line.state === 'leased' && line.until !== null);
    const until = ends.map((line) => line.until ?? '').sort().at(0) ?? null;
    return { guest, changed: texts(changed), leased: texts(leased), blocks: plane.leases.blocksOf(guest).map(blockLine), until };
  }
}

function refused(refusal: Refusal | null): Refused {
  return new Refused(409, refusal?.code ?? 'ERR_REFUSED', refusal?.message ?? 'refused');
}

/** Leases that were not granted: where they come from, and how they are changed. */
function howSet(guest: GuestPlan, orElse: string): string {
  return guest.atRunTime ? 'its settings; remove the guest and add it with others' : `the configuration; change it there, ${orElse}`;
}

function texts({ tcp, udp }: Ports): PortTexts {
  return { tcp: tcp.format(), udp: udp.format() };
}

function blockLine({ first, last, until }: { first: number; last: number; until: number }): BlockLine {
  return { first, last, until: when(until) };
}

function when(ms: number): string {
  return new Date(ms).toISOString();
}

function ending(ms: number): string | null {
  return ms === NEVER ? null : when(ms);
}
