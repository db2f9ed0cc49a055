/**
 * Reserve: keeps the host's own sockets off leased ports, and learns which the host already uses.
 *
 * Sockets      one bound, silent socket without SO_REUSE* for each leased endpoint: an explicit bind by a host process then
 *              fails with EADDRINUSE, and failing to get one is how the daemon learns that the host uses the port (D5).
 * Limit        of open files: past it (it can be raised only with CAP_SYS_RESOURCE) a port is bound and let go, so that the host's use is
 *              still found out, and `warn` is told once that nothing but the reserved list keeps it.
 * Automatic    net.ipv4.ip_local_reserved_ports keeps the kernel's own choice away; what was added is taken out again.
 * Not here     keeping the host's stack silent (mute.ts); whole addresses and those of pools, which are muted and not reserved.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import { PROTOS, type ProtoName } from './lease-state.js';
import { runTool } from '../base/command.js';
import { ConfigError, messageOf } from '../base/errors.js';
import { addon, errnoName } from '../native/binding.js';
import { PortSet } from '../wire/port-set.js';
import { formatIpv4 } from '../wire/address.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';

const RESERVED_PORTS = '/proc/sys/net/ipv4/ip_local_reserved_ports';
const LIMITS = '/proc/self/limits';
/** Descriptors left for all else: links, agents, tools. */
const OTHER_FILES = 1024;
/** In the place of a descriptor. */
const LET_GO = -1;
const EMPTY = PortSet.fromRanges([]);

/** A port that a host process holds; `owner` as ss(8) knows it, null where it cannot be known. */
export interface Taken {
  port: number;
  owner: string | null;
}

export class Reservation {
  /** Descriptors by address, protocol and port; LET_GO past the limit. */
  private readonly fds = new Map<number, number>();
  private readonly plan: LeasePlan;
  private readonly warn: (message: string) => void;
  private kept = 0;
  /** Sockets that may be kept. */
  private most = 0;
  private asked = 0;
  private warned = false;

  /** Binds every leased endpoint of the plan. ERR_PORT_TAKEN for one that a host process has: to `refused`, which goes on or throws. */
  constructor(plan: LeasePlan, refused: (guest: string, error: unknown) => void, warn: (message: string) => void) {
    this.plan = plan;
    this.warn = warn;
    try {
      for (const guest of plan.guests) {
        try {
          this.reserveGuest(guest);
        } catch (error) {
          refused(guest.name, error);
        }
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Binds what the guest leases of the configuration; ERR_PORT_TAKEN, with nothing of it kept, where a host process has a port. */
  reserveGuest(guest: GuestPlan): void {
    if (guest.ofPool) return;
    this.raiseLimit(guest.addresses.length * (guest.tcp.size + guest.udp.size));
    const undo: (() => void)[] = [];
    for (const address of guest.addresses) {
      for (const proto of PROTOS) {
        const fresh = this.missing(address, proto, guest[proto]);
        undo.push(() => this.close(address, proto, fresh));
        const taken = this.bind(address, proto, fresh);
        if (taken === null) continue;
        for (const action of undo) action();
        throw refusal(guest.name, address, proto, taken);
      }
    }
  }

  unreserveGuest(guest: GuestPlan): void {
    for (const address of guest.addresses) for (const proto of PROTOS) this.close(address, proto, guest[proto]);
  }

  /** Binds ports first … last on every shared or coming address, but for those that are bound already; all or, when a host process holds one, none of them. */
  reserve(proto: ProtoName, first: number, last: number): Taken | null {
    const ports = PortSet.fromRanges([{ first, last }]);
    this.raiseLimit(ports.size * this.shared.length);
    const fresh = this.shared.map((address) => ({ address, missing: this.missing(address, proto, ports) }));
    for (const { address, missing } of fresh) {
      const taken = this.bind(address, proto, missing);
      if (taken === null) continue;
      for (const { address: undone, missing: bound } of fresh) this.close(undone, proto, bound);
      return taken;
    }
    return null;
  }

  /** Ports among first … last that are bound on every shared or coming address. */
  held(proto: ProtoName, first: number, last: number): PortSet {
    const ports = PortSet.fromRanges([{ first, last }]);
    return this.shared.reduce((held, address) => held.subtract(this.missing(address, proto, held)), ports);
  }

  unreserve(proto: ProtoName, first: number, last: number): void {
    for (const address of this.shared) this.close(address, proto, PortSet.fromRanges([{ first, last }]));
  }

  /** Binds the ports on one address, but for those that a host process holds there, which it returns. */
  claim(address: number, proto: ProtoName, ports: PortSet): Taken[] {
    this.raiseLimit(ports.size);
    const found: Taken[] = [];
    for (let left = ports; ; left = left.subtract(PortSet.parse(found[found.length - 1].port))) {
      const taken = this.bind(address, proto, this.missing(address, proto, left));
      if (taken === null) return found;
      found.push(taken);
    }
  }

  /** Lets go of every port of the address. */
  leave(address: number): void {
    for (const key of [...this.fds.keys()]) if (Math.floor(key / 2 ** 17) === address) this.letGo(key);
  }

  release(): void {
    for (const key of [...this.fds.keys()]) this.letGo(key);
  }

  private get shared(): readonly number[] {
    return [...this.plan.shared, ...this.plan.coming];
  }

  private raiseLimit(more: number): void {
    const wanted = this.fds.size + more + 2 * 65_536 * this.shared.length;
    if (wanted <= this.asked) return;
    this.asked = wanted;
    addon().raiseFileLimit(wanted);
    this.most = Math.max(0, fileLimit() - OTHER_FILES);
  }

  private missing(address: number, proto: ProtoName, ports: PortSet): PortSet {
    const ranges: { first: number; last: number }[] = [];
    for (const port of ports.ports()) if (!this.fds.has(keyOf(address, proto, port))) ranges.push({ first: port, last: port });
    return PortSet.fromRanges(ranges);
  }

  private close(address: number, proto: ProtoName, ports: PortSet): void {
    for (const port of ports.ports()) this.letGo(keyOf(address, proto, port));
  }

  private letGo(key: number): void {
    const fd = this.fds.get(key) ?? LET_GO;
    if (fd !== LET_GO) {
      addon().closeFd(fd);
      this.kept--;
    }
    this.fds.delete(key);
  }

  /** Binds all of the ports; what was bound by then is kept when a host process holds one. */
  private bind(address: number, proto: ProtoName, ports: PortSet): Taken | null {
    for (const { first, last } of ports.ranges()) {
      const fits = this.kept + last - first + 1 <= this.most;
      if (!fits && !this.warned) {
        this.warned = true;
        this.warn(`the limit of open files (${fileLimit()}) leaves no sockets to hold more leased ports with: host processes can bind those; raise it (LimitNOFILE=)`);
      }
      const step = fits ? last - first + 1 : 1;
      for (let from = first; from <= last; from += step) {
        const taken = this.bindAll(address, proto, from, from + step - 1);
        if (taken !== null) return taken;
      }
    }
    return null;
  }

  private bindAll(address: number, proto: ProtoName, first: number, last: number): Taken | null {
    const fds = new Int32Array(last - first + 1);
    const bound = addon().reservePorts(address, proto === 'tcp' ? PROTOCOL_TCP : PROTOCOL_UDP, first, last, fds);
    for (let i = 0; i < bound; i++) {
      const keep = this.kept < this.most;
      if (keep) this.kept++;
      else addon().closeFd(fds[i]);
      this.fds.set(keyOf(address, proto, first + i), keep ? fds[i] : LET_GO);
    }
    if (bound === fds.length) return null;
    const port = first + bound;
    if (errnoName(fds[bound]) !== 'EADDRINUSE') {
      throw new ConfigError('ERR_PORT_RESERVE', `${proto} port ${port} of ${formatIpv4(address)} cannot be reserved (${errnoName(fds[bound])})`);
    }
    return { port, owner: ownerOf(proto, port) };
  }
}

/** Of an endpoint, in 49 bits. */
function keyOf(address: number, proto: ProtoName, port: number): number {
  return address * 2 ** 17 + (proto === 'tcp' ? 0 : 65_536) + port;
}

/** Files that this process may have open. */
function fileLimit(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync(LIMITS, 'utf8'));
  return soft === null ? Infinity : Number(soft[1]);
}

function refusal(guest: string, address: number, proto: ProtoName, { port, owner }: Taken): ConfigError {
  return new ConfigError(
    'ERR_PORT_TAKEN',
    `guest ${guest}: ${proto} port ${port} of ${formatIpv4(address)} is used by the host itself${owner === null ? '' : ` (${owner})`}; stop that service or lease another port`,
  );
}

/** `nginx, pid 812`, as ss(8) knows it; null where it cannot be known. */
function ownerOf(protocol: ProtoName, port: number): string | null {
  try {
    const found = /users:\(\("([^"]*)",pid=(\d+)/.exec(runTool('ss', ['-Hanp', `--${protocol}`, 'sport', '=', `:${port}`]));
    return found === null ? null : `${found[1]}, pid ${found[2]}`;
  } catch {
    return null;
  }
}

/** Every port that some guest leases, whatever the protocol and address, but on addresses of pools. */
export function leasedPorts({ guests, departed }: LeasePlan): PortSet {
  return [...guests, ...departed].filter(({ ofPool }) => !ofPool).reduce((all, guest) => all.union(guest.tcp).union(guest.udp), EMPTY);
}

export function readReservedPorts(): PortSet {
  const text = readFileSync(RESERVED_PORTS, 'utf8').trim();
  return text === '' ? EMPTY : PortSet.parse(text);
}

/** Replaces the kernel's list. The kernel takes ranges as PortSet writes them. */
export function writeReservedPorts(ports: PortSet): void {
  try {
    writeFileSync(RESERVED_PORTS, ports.isEmpty ? '\n' : `${ports.format()}\n`);
  } catch (cause) {
    throw new ConfigError('ERR_RESERVED_PORTS', `ip_local_reserved_ports cannot be written (${messageOf(cause)}); run as root`, { cause });
  }
}
