/**
 * Reserve: keeps the host's own sockets off leased ports, and learns which the host already uses.
 *
 * Sockets      one bound, silent socket without SO_REUSE* for each leased endpoint: an explicit bind by a host process then
 *              fails with EADDRINUSE, and failing to get one is how the daemon learns that the host uses the port (D5).
 * Limit        of open files: past it (it can be raised only with CAP_SYS_RESOURCE) a port is bound and let go, so that the host's use is
 *              still found out, and `warn` is told once that nothing but the reserved list keeps it.
 * Automatic    net.ipv4.ip_local_reserved_ports keeps the kernel's own choice away; what was added is taken out again.
 * Not here     keeping the host's stack silent (mute.ts); whole addresses, which are muted and not reserved.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { LeasePlan } from './lease-plan.js';
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
const EMPTY = PortSet.fromRanges([]);

/** A port that a host process holds; `owner` as ss(8) knows it, null where it cannot be known. */
export interface Taken {
  port: number;
  owner: string | null;
}

export class Reservation {
  /** Descriptors by protocol and port: one an address. */
  private readonly fds = new Map<string, number[]>();
  private readonly shared: readonly number[];
  private readonly warn: (message: string) => void;
  /** Sockets that may still be made and kept. */
  private left: number;
  private warned = false;

  /** Binds every leased endpoint of the plan. ERR_PORT_TAKEN, with nothing kept, for one that a host process has. */
  constructor(plan: LeasePlan, warn: (message: string) => void) {
    this.shared = plan.shared;
    this.warn = warn;
    let count = 0;
    for (const guest of plan.guests) count += guest.addresses.length * (guest.tcp.size + guest.udp.size);
    addon().raiseFileLimit(count + 2 * 65_536 * plan.shared.length);
    this.left = Math.max(0, fileLimit() - OTHER_FILES);
    try {
      for (const guest of plan.guests) {
        for (const proto of PROTOS) {
          for (const { first, last } of guest[proto].ranges()) {
            for (const address of guest.addresses) {
              const taken = this.bind(address, proto, first, last);
              if (taken !== null) throw refusal(guest.name, address, proto, taken);
            }
          }
        }
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Binds ports first … last on every shared address, but for those that are bound already; all or, when a host process holds one, none of them. */
  reserve(proto: ProtoName, first: number, last: number): Taken | null {
    const fresh = PortSet.fromRanges([{ first, last }]).subtract(this.held(proto, first, last));
    for (const range of fresh.ranges()) {
      for (const address of this.shared) {
        const taken = this.bind(address, proto, range.first, range.last);
        if (taken === null) continue;
        for (const undone of fresh.ranges()) this.unreserve(proto, undone.first, undone.last);
        return taken;
      }
    }
    return null;
  }

  /** Ports among first … last that are bound. */
  held(proto: ProtoName, first: number, last: number): PortSet {
    const ranges: { first: number; last: number }[] = [];
    for (let port = first; port <= last; port++) if (this.fds.has(`${proto}/${port}`)) ranges.push({ first: port, last: port });
    return PortSet.fromRanges(ranges);
  }

  unreserve(proto: ProtoName, first: number, last: number): void {
    for (let port = first; port <= last; port++) {
      const fds = this.fds.get(`${proto}/${port}`) ?? [];
      for (const fd of fds) addon().closeFd(fd);
      this.left += fds.length;
      this.fds.delete(`${proto}/${port}`);
    }
  }

  release(): void {
    for (const fds of this.fds.values()) for (const fd of fds) addon().closeFd(fd);
    this.fds.clear();
  }

  private bind(address: number, proto: ProtoName, first: number, last: number): Taken | null {
    if (last - first + 1 <= this.left) return this.bindAll(address, proto, first, last, true);
    if (!this.warned) this.warn(`the limit of open files (${fileLimit()}) leaves no sockets to hold more leased ports with: host processes can bind those; raise it (LimitNOFILE=)`);
    this.warned = true;
    for (let port = first; port <= last; port++) {
      const taken = this.bindAll(address, proto, port, port, this.left > 0);
      if (taken !== null) return taken;
    }
    return null;
  }

  private bindAll(address: number, proto: ProtoName, first: number, last: number, keep: boolean): Taken | null {
    const fds = new Int32Array(last - first + 1);
    const bound = addon().reservePorts(address, proto === 'tcp' ? PROTOCOL_TCP : PROTOCOL_UDP, first, last, fds);
    for (let i = 0; i < bound; i++) {
      const key = `${proto}/${first + i}`;
      if (keep) this.left--;
      else addon().closeFd(fds[i]);
      this.fds.set(key, [...(this.fds.get(key) ?? []), ...(keep ? [fds[i]] : [])]);
    }
    if (bound === fds.length) return null;
    const port = first + bound;
    if (errnoName(fds[bound]) !== 'EADDRINUSE') {
      throw new ConfigError('ERR_PORT_RESERVE', `${proto} port ${port} of ${formatIpv4(address)} cannot be reserved (${errnoName(fds[bound])})`);
    }
    return { port, owner: ownerOf(proto, port) };
  }
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

/** Every port that some guest leases, whatever the protocol and address. */
export function leasedPorts(plan: LeasePlan): PortSet {
  return plan.guests.reduce((all, guest) => all.union(guest.tcp).union(guest.udp), EMPTY);
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
