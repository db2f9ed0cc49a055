/** What the guest's kernel says of its network, and the two sysctls of its automatic ports: reading and writing, nothing decided. */
import { readFileSync, writeFileSync } from 'node:fs';
import { runTool } from '../base/command.js';
import { BerthError, messageOf } from '../base/errors.js';
import { PortSet } from '../wire/port-set.js';

export const PORT_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
export const RESERVED_PORTS = '/proc/sys/net/ipv4/ip_local_reserved_ports';

export interface Link {
  mac: string;
  mtu: number;
  up: boolean;
  addresses: string[];
}

/** One form for what the kernel prints and for what we write. */
export function parseList(text: string): string {
  return text === '' ? '' : PortSet.parse(text).format();
}

/** ERR_NO_INTERFACE where there is none of that name. */
export function readLink(name: string): Link {
  let text: string;
  try {
    text = runTool('ip', ['-json', 'address', 'show', 'dev', name]);
  } catch (cause) {
    if (cause instanceof BerthError && /does not exist/.test(cause.message)) throw new BerthError('ERR_NO_INTERFACE', `this guest has no interface ${name}`, { cause });
    throw cause;
  }
  type Shown = { ifname?: string; address?: string; mtu: number; flags: string[]; addr_info: { family: string; local: string; prefixlen: number }[] };
  const found = (JSON.parse(text) as Shown[]).find((one) => one.ifname === name);
  if (found === undefined) throw new BerthError('ERR_NO_INTERFACE', `this guest has no interface ${name}`);
  return {
    mac: (found.address ?? '').toLowerCase(),
    mtu: found.mtu,
    up: found.flags.includes('UP'),
    addresses: found.addr_info.filter((one) => one.family === 'inet').map((one) => `${one.local}/${one.prefixlen}`),
  };
}

/** Routes of the main table that the kernel did not make itself, in the form that `ip route replace` takes. */
export function readRoutes(): string[] {
  return runTool('ip', ['-4', 'route', 'show'])
    .split('\n')
    .map((line) => line.replace(/ (linkdown|dead)\b/g, '').trim())
    .filter((line) => line !== '' && !line.includes('proto kernel'));
}

/** The file has addresses in host order of the machine, as hexadecimal numbers (proc(5), /proc/net/route). */
export function hasDefaultRoute(name: string, gateway: string): boolean {
  const hexadecimal = gateway.split('.').reverse().map((part) => Number(part).toString(16).padStart(2, '0')).join('').toUpperCase();
  return readFileSync('/proc/self/net/route', 'utf8')
    .split('\n')
    .map((line) => line.split('\t'))
    .some(([device, destination, via, , , , , mask]) => device === name && destination === '00000000' && mask === '00000000' && via === hexadecimal);
}

/** /sys may show another namespace than our own; then `ip` is asked. */
export function readMtu(name: string): number {
  try {
    return Number(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8'));
  } catch {
    return readLink(name).mtu;
  }
}

export function readSysctl(file: string): string {
  return readFileSync(file, 'utf8').trim();
}

export function writeSysctl(file: string, value: string): void {
  try {
    writeFileSync(file, `${value}\n`);
  } catch (cause) {
    throw new BerthError('ERR_SYSCTL', `${file} cannot be set to "${value}" (${messageOf(cause)})`, { cause });
  }
}
