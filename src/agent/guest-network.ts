/**
 * Guest network: makes this guest's interface what the host says (address, MAC, MTU, route, port range), keeps it so, and
 * puts back what was there before.
 *
 *     welcome ─▶ wantedPorts ─▶ apply ─▶ watch (once a second) ─▶ restore
 *
 * Port range   net.ipv4.ip_local_port_range spans the blocks; what lies in it and is not the guest's goes, with what was reserved
 *              before, to ip_local_reserved_ports: the kernel then chooses leased ports for every socket that names none.
 * State file   /run/berth/agent-NETNS-INTERFACE.json holds what was before, written before anything is changed: an agent
 *              that was killed leaves the network as it is, and the next one knows what to put back.
 * Watching     is four files and one system call; `ip` runs only when something is different.
 * Not here     name servers (resolv-conf.ts). What was leased (agent.ts).
 */
import { mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { hasDefaultRoute, type Link, parseList, PORT_RANGE, readLink, readMtu, readRoutes, readSysctl, RESERVED_PORTS, writeSysctl } from './kernel-network.js';
import { runTool } from '../base/command.js';
import { messageOf } from '../base/errors.js';
import { addon, check } from '../native/binding.js';
import type { Block, Ports, Welcome } from '../protocol/messages.js';
import { PortSet } from '../wire/port-set.js';

const STATE_FOLDER = '/run/berth';
const WATCH_MS = 1000;

export interface WantedNetwork {
  readonly addresses: Welcome['addresses'];
  readonly gateway: string | null;
  readonly mtu: number | null;
  readonly mac: string | null;
  /** Ports that the kernel may choose by itself; empty: its range is left alone. */
  readonly automatic: PortSet;
}

/** The ports for sockets that name none: the blocks; without any, what is leased for both protocols, or else for one. */
export function automaticPorts(blocks: readonly Block[], { tcp, udp }: Ports): PortSet {
  const unprivileged = (set: PortSet): PortSet => set.subtract(PRIVILEGED);
  if (blocks.length > 0) return unprivileged(PortSet.fromRanges(blocks));
  const both = unprivileged(tcp.intersect(udp));
  if (!both.isEmpty) return both;
  return unprivileged(tcp.isEmpty ? udp : tcp);
}

const PRIVILEGED = PortSet.fromRanges([{ first: 1, last: 1023 }]);

interface Before {
  mac: string;
  mtu: number;
  up: boolean;
  /** `192.0.2.10/24` */
  addresses: string[];
  /** Lines of `ip route` that the kernel did not make itself. */
  routes: string[];
  portRange: string;
  reservedPorts: string;
}

export interface GuestNetworkEvents {
  /** Something else had changed it, and it is right again. */
  onRepaired(what: string): void;
  /** It cannot be set right now. Said once until it can. */
  onTrouble(message: string): void;
}

export class GuestNetwork {
  private readonly name: string;
  private readonly events: GuestNetworkEvents;
  private readonly file: string;
  private before: Before | null = null;
  private wanted: WantedNetwork | null = null;
  private timer: NodeJS.Timeout | null = null;
  private trouble = '';

  constructor(name: string, events: GuestNetworkEvents) {
    this.name = name;
    this.events = events;
    // Not the namespace's inode: a later namespace may get the same one.
    const namespace = check(addon().netnsCookie(), 'number of the network namespace');
    this.file = `${STATE_FOLDER}/agent-${namespace}-${encodeURIComponent(name)}.json`;
  }

  /** Sets everything, and keeps it from now on. Throws BerthError ERR_NO_INTERFACE, ERR_TOOL, ERR_SYSCTL; part of it may then be set. */
  apply(wanted: WantedNetwork): void {
    this.remember();
    this.wanted = wanted;
    this.timer ??= setInterval(() => this.keep(), WATCH_MS);
    this.set(wanted);
    this.trouble = '';
  }

  /** Puts back what was there before the first apply. Goes on after an error, and then throws the first. */
  restore(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    const { before, wanted } = this;
    if (before === null) return;
    this.before = this.wanted = null;
    const errors: unknown[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    };
    attempt(() => writeSysctl(PORT_RANGE, before.portRange));
    attempt(() => writeSysctl(RESERVED_PORTS, before.reservedPorts));
    attempt(() => {
      const now = readLink(this.name);
      this.setLink(now, before.mac, before.mtu);
      if (wanted?.gateway !== null && wanted !== null) this.dropRoute(wanted.gateway);
      this.setAddresses(now, before.addresses);
      if (!before.up) this.ip('link', 'set', 'dev', this.name, 'down');
    });
    const present = before.up ? readRoutes() : before.routes;
    for (const route of before.routes.filter((one) => !present.includes(one))) attempt(() => runTool('ip', ['route', 'replace', ...route.split(' ')]));
    rmSync(this.file, { force: true });
    removeFolder();
    if (errors.length > 0) throw errors[0];
  }

  private remember(): void {
    if (this.before !== null) return;
    this.before = readState(this.file);
    if (this.before !== null) return;
    const link = readLink(this.name);
    this.before = { ...link, routes: readRoutes(), portRange: readSysctl(PORT_RANGE), reservedPorts: readSysctl(RESERVED_PORTS) };
    mkdirSync(STATE_FOLDER, { recursive: true, mode: 0o755 });
    writeFileSync(this.file, `${JSON.stringify(this.before)}\n`, { mode: 0o600 });
  }

  /** Sets what is different; returns what was. */
  private set(wanted: WantedNetwork): string[] {
    const link = readLink(this.name);
    const different = this.setLink(link, wanted.mac, wanted.mtu);
    if (wanted.addresses.length > 0) different.push(...this.setAddresses(link, wanted.addresses.map(({ address, prefix }) => `${address}/${prefix}`)));
    if (!link.up) {
      this.ip('link', 'set', 'dev', this.name, 'up');
      different.push('up');
    }
    if (wanted.gateway !== null && !hasDefaultRoute(this.name, wanted.gateway)) {
      this.ip('route', 'replace', 'default', 'via', wanted.gateway, 'dev', this.name, 'onlink');
      different.push('default route');
    }
    return [...different, ...this.setPorts(wanted.automatic)];
  }

  private setLink(link: Link, mac: string | null, mtu: number | null): string[] {
    const different: string[] = [];
    if (mac !== null && mac.toLowerCase() !== link.mac) {
      this.setMac(link, mac);
      different.push('MAC address');
    }
    if (mtu !== null && mtu !== link.mtu) {
      this.ip('link', 'set', 'dev', this.name, 'mtu', String(mtu));
      different.push('MTU');
    }
    return different;
  }

  /** Some drivers take a new MAC only when down, which costs the routes: tried only where it must be. */
  private setMac(link: Link, mac: string): void {
    try {
      this.ip('link', 'set', 'dev', this.name, 'address', mac);
    } catch (error) {
      if (!link.up) throw error;
      this.ip('link', 'set', 'dev', this.name, 'down');
      this.ip('link', 'set', 'dev', this.name, 'address', mac);
      this.ip('link', 'set', 'dev', this.name, 'up');
    }
  }

  /** The new ones first: the last one to go would take the routes with it. */
  private setAddresses(link: Link, wanted: readonly string[]): string[] {
    const missing = wanted.filter((one) => !link.addresses.includes(one));
    const extra = link.addresses.filter((one) => !wanted.includes(one));
    for (const one of missing) this.ip('address', 'add', one, 'dev', this.name);
    for (const one of extra) this.ip('address', 'delete', one, 'dev', this.name);
    // With the first of a network the kernel takes its others (promote_secondaries): some of the new ones may have gone too.
    if (extra.length > 0) {
      const { addresses } = readLink(this.name);
      for (const one of wanted.filter((each) => !addresses.includes(each))) this.ip('address', 'add', one, 'dev', this.name);
    }
    return missing.length + extra.length > 0 ? ['addresses'] : [];
  }

  private setPorts(automatic: PortSet): string[] {
    if (automatic.isEmpty || this.before === null) return [];
    const { range, reserved } = portSettings(automatic, this.before.reservedPorts);
    const different = [];
    // Reserved first: no moment in which a port of the gap could be chosen.
    if (parseList(readSysctl(RESERVED_PORTS)) !== reserved) {
      writeSysctl(RESERVED_PORTS, reserved);
      different.push('reserved ports');
    }
    if (readSysctl(PORT_RANGE).split(/\s+/).join(' ') !== range) {
      writeSysctl(PORT_RANGE, range);
      different.push('port range');
    }
    return different;
  }

  private dropRoute(gateway: string): void {
    if (hasDefaultRoute(this.name, gateway)) this.ip('route', 'delete', 'default', 'via', gateway, 'dev', this.name);
  }

  private keep(): void {
    if (this.wanted === null) return;
    try {
      if (this.looksRight(this.wanted)) return;
      const different = this.set(this.wanted);
      if (different.length > 0) this.events.onRepaired(different.join(', '));
      this.trouble = '';
    } catch (error) {
      const message = messageOf(error);
      if (message !== this.trouble) this.events.onTrouble(message);
      this.trouble = message;
    }
  }

  /** Cheap, and in doubt false. */
  private looksRight(wanted: WantedNetwork): boolean {
    const own = (networkInterfaces()[this.name] ?? []).filter((one) => one.family === 'IPv4');
    const found = own.map((one) => one.cidr);
    if (!wanted.addresses.every(({ address, prefix }) => found.includes(`${address}/${prefix}`))) return false;
    if (wanted.addresses.length > 0 && own.length !== wanted.addresses.length) return false;
    if (wanted.mac !== null && own.some((one) => one.mac !== wanted.mac?.toLowerCase())) return false;
    if (wanted.mtu !== null && readMtu(this.name) !== wanted.mtu) return false;
    if (wanted.gateway !== null && !hasDefaultRoute(this.name, wanted.gateway)) return false;
    if (wanted.automatic.isEmpty || this.before === null) return true;
    const { range, reserved } = portSettings(wanted.automatic, this.before.reservedPorts);
    return parseList(readSysctl(RESERVED_PORTS)) === reserved && readSysctl(PORT_RANGE).split(/\s+/).join(' ') === range;
  }

  private ip(...args: string[]): void {
    runTool('ip', args);
  }
}

/** What the two sysctls must hold so that the kernel chooses `automatic` and nothing else, nor what was reserved before. */
export function portSettings(automatic: PortSet, reservedBefore: string): { range: string; reserved: string } {
  const ranges = [...automatic.ranges()];
  const { first } = ranges[0];
  const { last } = ranges[ranges.length - 1];
  const gaps = PortSet.fromRanges([{ first, last }]).subtract(automatic);
  const before = reservedBefore === '' ? PortSet.EMPTY : PortSet.parse(reservedBefore);
  return { range: `${first} ${last}`, reserved: gaps.union(before).format() };
}

function readState(file: string): Before | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Before;
  } catch {
    return null; // none, or half written by an agent that died before it changed anything
  }
}

function removeFolder(): void {
  try {
    rmdirSync(STATE_FOLDER);
  } catch {
    // others keep their files there
  }
}
