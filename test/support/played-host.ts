/**
 * The host's own stack, played: what its processes hold, what is reserved, and for what it is silent. Nothing of the machine is
 * touched, so each of its steps can be made to wait or to fail.
 */
import type { HostStack } from '../../src/control/host-stack.js';
import type { GuestPlan, LeasePlan } from '../../src/control/lease-plan.js';
import { NO_PORTS, type Ports, PROTOS, type ProtoName } from '../../src/control/lease-state.js';
import { mutedBy, type Muted } from '../../src/control/mute.js';
import type { Taken } from '../../src/control/reserve.js';
import { BerthError } from '../../src/base/errors.js';
import { parseIpv4 } from '../../src/wire/address.js';
import { PortSet } from '../../src/wire/port-set.js';

type Played = Pick<HostStack, 'reserve' | 'reserved' | 'unreserve' | 'reserveGuest' | 'unreserveGuest' | 'claim' | 'leaveAddress' | 'setGranted' | 'followPlan'>;

export class PlayedHost implements Played {
  /** Held by processes: `tcp/8080` on every address, `192.0.2.11 tcp/8080` on one. */
  readonly processes = new Set<string>();
  /** What the stack is silent for. */
  muted: Muted = { whole: new Set(), ports: new Map() };
  /** Comes before each change of the mute, which fails as it does. */
  beforeMute: () => Promise<void> | void = () => undefined;
  private readonly plan: LeasePlan;
  private readonly bound = new Map<number, Ports>();
  private granted = NO_PORTS;
  private muting: Promise<void> = Promise.resolve();

  constructor(plan: LeasePlan) {
    this.plan = plan;
  }

  /** The host stack, as far as the control plane knows it. */
  get stack(): HostStack {
    return this as unknown as HostStack;
  }

  /** Ports that are reserved on the address. */
  reservedOn(address: number): Ports {
    return this.bound.get(address) ?? NO_PORTS;
  }

  isSilent(address: number, proto: ProtoName, port: number): boolean {
    return this.muted.ports.get(address)?.[proto].has(port) === true;
  }

  reserve(proto: ProtoName, first: number, last: number): Taken | null {
    const ports = PortSet.fromRanges([{ first, last }]);
    for (const address of this.addresses) {
      const taken = this.taken(address, proto, ports);
      if (taken !== null) return taken;
    }
    for (const address of this.addresses) this.bind(address, proto, ports);
    return null;
  }

  reserved(proto: ProtoName, first: number, last: number): PortSet {
    return this.addresses.reduce((held, address) => held.intersect(this.reservedOn(address)[proto]), PortSet.fromRanges([{ first, last }]));
  }

  unreserve(proto: ProtoName, first: number, last: number): void {
    for (const address of this.addresses) this.close(address, proto, PortSet.fromRanges([{ first, last }]));
  }

  reserveGuest(guest: GuestPlan): void {
    for (const address of guest.addresses) {
      for (const proto of PROTOS) {
        const taken = this.taken(address, proto, guest[proto]);
        if (taken !== null) throw new BerthError('ERR_PORT_TAKEN', `guest ${guest.name}: ${proto} port ${taken.port} is used by the host itself`);
      }
    }
    for (const address of guest.addresses) for (const proto of PROTOS) this.bind(address, proto, guest[proto]);
  }

  unreserveGuest(guest: GuestPlan): void {
    for (const address of guest.addresses) for (const proto of PROTOS) this.close(address, proto, guest[proto]);
  }

  claim(address: number, proto: ProtoName, ports: PortSet): Taken[] {
    const found: Taken[] = [];
    for (const port of ports.ports()) {
      const taken = this.taken(address, proto, PortSet.parse(port));
      if (taken === null) this.bind(address, proto, PortSet.parse(port));
      else found.push(taken);
    }
    return found;
  }

  leaveAddress(address: number): void {
    this.bound.delete(address);
  }

  setGranted(granted: Ports): Promise<void> {
    this.granted = granted;
    return this.followPlan();
  }

  /** One after another, as they are asked. */
  followPlan(): Promise<void> {
    const wanted = mutedBy(this.plan, this.granted);
    const muted = this.muting.catch(() => undefined).then(async () => {
      await this.beforeMute();
      this.muted = wanted;
    });
    this.muting = muted;
    return muted;
  }

  private get addresses(): number[] {
    return [...this.plan.shared, ...this.plan.coming];
  }

  private taken(address: number, proto: ProtoName, ports: PortSet): Taken | null {
    const held = [...this.processes].map((text) => /^(?:(\S+) )?(tcp|udp)\/(\d+)$/.exec(text)!).filter(([, on, of]) => of === proto && (on === undefined || parseIpv4(on) === address));
    const port = held.map((match) => Number(match[3])).find((one) => ports.has(one) && !this.reservedOn(address)[proto].has(one));
    return port === undefined ? null : { port, owner: 'nginx, pid 7' };
  }

  private bind(address: number, proto: ProtoName, ports: PortSet): void {
    const before = this.reservedOn(address);
    this.bound.set(address, { ...before, [proto]: before[proto].union(ports) });
  }

  private close(address: number, proto: ProtoName, ports: PortSet): void {
    const before = this.reservedOn(address);
    this.bound.set(address, { ...before, [proto]: before[proto].subtract(ports) });
  }
}
