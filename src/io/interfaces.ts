/** What the kernel says of an interface, through `ip -json` (ip-link(8), ip-address(8)). */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { runTool } from '../base/command.js';
import { BerthError } from '../base/errors.js';
import { addon } from '../native/binding.js';
import { parseIpv4 } from '../wire/address.js';

export interface Interface {
  name: string;
  ifindex: number;
  /** Lower case, `aa:bb:…`; empty for an interface that is not Ethernet. */
  mac: string;
  mtu: number;
  up: boolean;
  ethernet: boolean;
  /** `tun`, `veth`, `bridge` …; empty for a physical one. */
  kind: string;
  /** The bridge or bond that it is a port of. */
  master: string;
  /** Index of the other end of a veth that lies in another namespace, in that one; else 0. */
  peerIndex: number;
  /** IPv4 addresses as numbers, and the lengths of their prefixes in the same order. */
  addresses: number[];
  prefixes: number[];
}

/** IFF_UP | IFF_RUNNING, netdevice(7). */
const RUNNING = 0x41;
/** Which number of an interface's line in /proc/net/dev. */
const RX_BYTES = 0;
const TX_BYTES = 8;
const TX_DROPPED = 11;
/** Changes come in groups; the network is read again when one is over. */
const SETTLE_MS = 100;

interface IpJson {
  ifname?: string;
  ifindex: number;
  address?: string;
  mtu: number;
  flags: string[];
  link_type: string;
  master?: string;
  link_index?: number;
  linkinfo?: { info_kind?: string };
  addr_info: { family: string; local: string; prefixlen: number }[];
}

/** The interface, in the named namespace if one is given; null where there is none of that name, or no such namespace. */
export function findInterface(name: string, netns?: string): Interface | null {
  let text: string;
  try {
    text = runTool('ip', [...(netns === undefined ? [] : ['-n', netns]), '-json', '-details', 'address', 'show', 'dev', name]);
  } catch (error) {
    if (error instanceof BerthError && error.code === 'ERR_TOOL' && /does not exist|Cannot open network namespace/.test(error.message)) return null;
    throw error;
  }
  const found = (JSON.parse(text) as IpJson[]).find((one) => one.ifname === name);
  if (found === undefined) return null;
  const ipv4 = found.addr_info.filter((one) => one.family === 'inet' && parseIpv4(one.local) !== null);
  return {
    name,
    ifindex: found.ifindex,
    mac: found.link_type === 'ether' ? (found.address ?? '').toLowerCase() : '',
    mtu: found.mtu,
    up: found.flags.includes('UP'),
    ethernet: found.link_type === 'ether',
    kind: found.linkinfo?.info_kind ?? '',
    master: found.master ?? '',
    peerIndex: found.link_index ?? 0,
    addresses: ipv4.map((one) => parseIpv4(one.local) ?? 0),
    prefixes: ipv4.map((one) => one.prefixlen),
  };
}

/** Names of the interfaces in this network namespace. */
export function interfaceNames(): string[] {
  return readFileSync('/proc/self/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .map((line) => line.slice(0, line.indexOf(': ')).trim())
    .filter((name) => name !== '');
}

/** The interface's index, 0 where there is none of that name: cheap enough to ask twice a second. */
export function interfaceIndex(name: string): number {
  return addon().interfaceIndex(name);
}

/** Up, with its other end up too: cheap enough to ask twice a second. */
export function isRunning(name: string): boolean {
  const flags = addon().interfaceFlags(name);
  return flags > 0 && (flags & RUNNING) === RUNNING;
}

/** Frames that the interface was to send and dropped, by the names of this network namespace's interfaces; proc(5), /proc/net/dev. */
export function dropsByInterface(): Map<string, number> {
  return new Map(deviceLines().map(([name, numbers]) => [name, numbers[TX_DROPPED]]));
}

/** Bytes since the interface was made. */
export interface ByteCounters {
  readonly received: number;
  readonly sent: number;
}

/** The byte counters of this network namespace's interfaces by name; proc(5), /proc/net/dev. */
export function bytesByInterface(): Map<string, ByteCounters> {
  return new Map(deviceLines().map(([name, numbers]) => [name, { received: numbers[RX_BYTES], sent: numbers[TX_BYTES] }]));
}

/** Bits a second that a physical interface runs at; null for one without a speed of its own (veth, tap), or without a carrier. */
export function linkSpeed({ name, kind }: Pick<Interface, 'name' | 'kind'>): number | null {
  if (kind !== '') return null; // what these report stands for nothing
  try {
    const megabits = Number(readFileSync(`/sys/class/net/${name}/speed`, 'utf8'));
    return megabits > 0 ? megabits * 1e6 : null;
  } catch {
    return null; // EINVAL: it does not know
  }
}

function deviceLines(): [name: string, numbers: number[]][] {
  const lines = readFileSync('/proc/self/net/dev', 'utf8').split('\n').slice(2);
  return lines.filter((line) => line.includes(':')).map((line) => {
    const [name, numbers] = line.split(/:(?=\s)/);
    return [name.trim(), numbers.trim().split(/\s+/).map(Number)];
  });
}

/** The default gateway that is reached through the interface; null where there is none. */
export function defaultGateway(name: string): string | null {
  const routes = JSON.parse(runTool('ip', ['-json', 'route', 'show', 'default', 'dev', name]) || '[]') as { gateway?: string }[];
  return routes.find((route) => route.gateway !== undefined)?.gateway ?? null;
}

/** Calls `onChange` some time after each change of this namespace's addresses or routes (rtnetlink, through `ip monitor`). */
export function watchNetwork(onChange: () => void): () => void {
  const monitor = spawn('ip', ['monitor', 'address', 'route'], { stdio: ['ignore', 'pipe', 'ignore'] });
  let timer: NodeJS.Timeout | undefined;
  monitor.stdout.on('data', () => {
    clearTimeout(timer);
    timer = setTimeout(onChange, SETTLE_MS);
  });
  monitor.on('error', () => undefined); // a missing tool has been reported by the first use of it
  return () => {
    clearTimeout(timer);
    monitor.kill();
  };
}
