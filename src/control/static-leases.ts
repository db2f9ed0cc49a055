/**
 * Static leases: what a configuration means. Ports and addresses are read, each guest gets its endpoints, and nobody gets
 * what another has.
 *
 * Shared       a lease without an address holds on every shared address; one with an address and ports on that address only.
 * Whole        a lease of an address without ports; `use` may then name any port.
 * Pools        of a guest's address, and of the ports that it asks for there, are not known here at the start: pools/assign.ts.
 * Pure         a configuration and the NIC's addresses go in, a plan comes out; the host is asked by others.
 * DHCP         a guest that Berth configures has no agent, and leaves Berth the port that its DHCP client sends from.
 * Errors       ConfigError, one line a problem: ERR_CONFIG_VALUE, ERR_USE_NOT_LEASED, ERR_LINK_TAKEN, ERR_SOCKET_TAKEN, and
 *              those of lease-overlap.ts.
 */
import { posix } from 'node:path';
import { Problems, show, type Config, type GuestConfig, type KeyPath, type PortText, type PortTexts } from '../base/config.js';
import { messageOf } from '../base/errors.js';
import { PortSet } from '../wire/port-set.js';
import { parseIpv4, parseMac } from '../wire/address.js';
import { DHCP_CLIENT_PORT } from '../wire/dhcp.js';
import { refuseOverlaps } from './lease-overlap.js';
import { type Owned, resolveAddressPools } from './pools/address-pools.js';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import type { GuestPolicy } from './lease-policy.js';
import { resolveMap } from './map-plan.js';
import type { Ports } from './lease-state.js';

/** The steering table's key has 15 bits for the address and its value 16 for the link. */
const MAX_ADDRESSES = 32_767;
const MAX_GUESTS = 65_535;

export interface ResolveOptions {
  /** the NIC's own IPv4 addresses, used when the configuration names none; absent: not known */
  readonly nicAddresses?: readonly number[];
  /** every address of the host, with whose it is; absent: not known */
  readonly hostAddresses?: readonly Owned[];
  /** accept that the shared addresses are not known (`berth check` away from the host): they are left empty */
  readonly sharedLater?: boolean;
}

/** Checks what the configuration says against itself and gives each guest its endpoints. */
export function resolveLeases(config: Config, options: ResolveOptions = {}): LeasePlan {
  const problems = new Problems(config.file, config.lines);
  const shared = sharedAddresses(config, options, problems);
  refuseTooMany('guests', config.guests.length, MAX_GUESTS, problems);
  const guests = config.guests.map((guest, index) => resolveGuest(guest, index, shared, problems));
  const { ports, reserve, quarantineMs } = config.pool;
  const pool = { ports: ports === null ? null : readPorts(ports, ['pool', 'ports'], problems), reserve, quarantineMs };
  refuseSharedLinks(config, problems);
  refuseSharedSockets(config, problems);
  refuseOverlaps(guests, shared, problems);
  const addresses = [...new Set([...shared, ...guests.flatMap((guest) => (guest.onShared ? [] : guest.addresses))])];
  refuseTooMany('addresses', addresses.length, MAX_ADDRESSES, problems);
  const owned = [...(options.hostAddresses ?? []).filter(({ address }) => !shared.includes(address)), ...shared.map((address): Owned => ({ address, owner: 'a shared address, the host\'s own' })), ...namedAddresses(config, guests, problems)];
  const pools = resolveAddressPools(config, owned, notUnicast, problems);
  problems.throwIfAny();
  return { shared, coming: [], addresses, guests, departed: [], pool, pools };
}

/** Those that guests lease by name, not from a pool. */
function namedAddresses(config: Config, guests: readonly GuestPlan[], problems: Problems): Owned[] {
  return guests.flatMap(({ name, onShared, addresses }, index) => {
    if (onShared || config.guests[index].pool !== null) return [];
    const line = config.lines.size === 0 ? '' : ` (line ${problems.lineOf(['guests', name, 'lease', 'address'])})`;
    return addresses.map((address): Owned => ({ address, owner: `leased to guest ${name} by name${line}` }));
  });
}

function refuseTooMany(key: 'guests' | 'addresses', count: number, most: number, problems: Problems): void {
  if (count <= most) return;
  problems.add('ERR_CONFIG_VALUE', [key], `too many ${key} (got ${count}, expected at most ${most}); remove some`);
}

function sharedAddresses(config: Config, options: ResolveOptions, problems: Problems): number[] {
  if (config.addresses === null) {
    const own = unicast(options.nicAddresses ?? []);
    if (own.length > 0 || options.sharedLater === true) return own;
    const reason =
      config.nic === null
        ? 'and there is no `nic` whose addresses to take'
        : options.nicAddresses === undefined
          ? 'and a replay does not ask the NIC for its own'
          : `and ${config.nic} has no IPv4 address that could be shared`;
    const text = `missing, ${reason} (got nothing, expected IPv4 addresses); write \`addresses: [192.0.2.10]\``;
    problems.add('ERR_CONFIG_VALUE', ['addresses'], text);
    return own;
  }
  const seen = new Map<number, number>();
  config.addresses.forEach((text, index) => {
    const path = ['addresses', index];
    const address = readAddress(text, path, problems);
    if (address === null) return;
    const before = seen.get(address);
    if (before === undefined) seen.set(address, index);
    else problems.add('ERR_CONFIG_VALUE', path, `${text} is given twice (also as addresses[${before}]); keep one`);
  });
  return [...seen.keys()];
}

function resolveGuest(guest: GuestConfig, index: number, shared: readonly number[], problems: Problems): GuestPlan {
  const { name, link, lease, use, agent } = guest;
  const path = ['guests', name];
  const mac = readMac(link?.mac ?? null, [...path, 'link', 'mac'], problems);
  const tcp = readPorts(lease?.tcp ?? null, [...path, 'lease', 'tcp'], problems);
  const udp = readPorts(lease?.udp ?? null, [...path, 'lease', 'udp'], problems);
  const addresses = leasedAddresses(guest, shared, problems);
  const hasPorts = lease !== null && (lease.tcp !== null || lease.udp !== null);
  const ofPool = guest.pool !== null;
  // One of a pool has no address yet when its configuration is read, nor ports that the pool gives.
  const isWhole = !hasPorts && (ofPool ? guest.pool?.ports === null : (lease?.address ?? null) !== null);
  const whole = isWhole ? (addresses.at(0) ?? null) : null;
  const onShared = lease !== null && lease.address === null && !ofPool;
  const policy = readPolicy(guest, problems);
  refuseBothToConfigure(guest, problems);
  refuseClientPort(guest, udp, 'lease', problems);
  const found = resolveMap(guest, shared, (text, at) => readAddress(text, at, problems), problems);
  const plan = { name, index, atRunTime: false, link, mac, whole, onShared, ofPool, addresses, tcp, udp, mapped: null, agent, policy };
  if (found !== null) return { ...plan, ...found.outside, mapped: found.mapped, addresses: shared, onShared: true, useTcp: found.outside.tcp, useUdp: found.outside.udp, useAll: true };
  if (use === 'all') {
    if (lease === null && guest.pool === null) {
      const text = 'the guest has no lease to use (got all); add `lease`, or remove `use`';
      problems.add('ERR_USE_NOT_LEASED', [...path, 'use'], text);
    }
    return { ...plan, useTcp: tcp, useUdp: udp, useAll: true };
  }
  const useTcp = readPorts(use.tcp, [...path, 'use', 'tcp'], problems);
  const useUdp = readPorts(use.udp, [...path, 'use', 'udp'], problems);
  if (isWhole) {
    refuseClientPort(guest, useUdp, 'use', problems);
  } else {
    refuseUnleased(useTcp, tcp, lease?.tcp ?? null, [...path, 'use', 'tcp'], problems);
    refuseUnleased(useUdp, udp, lease?.udp ?? null, [...path, 'use', 'udp'], problems);
  }
  return { ...plan, useTcp, useUdp, useAll: false };
}

/** Where the guest's lease holds. A lease of nothing is refused, and a shared address leased whole. */
function leasedAddresses({ name, lease, pool }: GuestConfig, shared: readonly number[], problems: Problems): readonly number[] {
  if (lease === null) return [];
  const path = ['guests', name, 'lease'];
  const hasPorts = lease.tcp !== null || lease.udp !== null;
  if (lease.address === null) {
    if (pool !== null) return [];
    const text = 'leases nothing (got neither ports nor an address, expected tcp, udp or address); add one of them';
    if (!hasPorts) problems.add('ERR_CONFIG_VALUE', path, text);
    return shared;
  }
  const address = readAddress(lease.address, [...path, 'address'], problems);
  if (address === null) return [];
  if (!hasPorts && shared.includes(address)) {
    const why = `${lease.address} is a shared address: the lease would take the host's own address whole`;
    problems.add('ERR_CONFIG_VALUE', [...path, 'address'], `${why}; name ports (tcp, udp), or an address that is not shared`);
  }
  return [address];
}

/** `use` must lie inside the lease. Where the lease's own ports could not be read, that alone is the problem to show. */
function refuseUnleased(used: PortSet, leased: PortSet, leaseText: PortText | null, path: KeyPath, problems: Problems): void {
  const outside = used.subtract(leased);
  if (outside.isEmpty || (leaseText !== null && leased.isEmpty)) return;
  const expected = leaseText === null ? 'none: the lease has no such ports' : `ports of ${leased.format()}`;
  const text = `not in the guest's lease (got ${outside.format()}, expected ${expected}); add to \`lease\`, or remove here`;
  problems.add('ERR_USE_NOT_LEASED', path, text);
}

/** One of them sets the guest's network: its agent, or Berth. */
function refuseBothToConfigure({ name, link, agent }: GuestConfig, problems: Problems): void {
  if (link?.configure !== 'dhcp' || agent === null) return;
  const text = 'the guest has an agent, which sets its network already (got dhcp and an agent, expected one of them); remove the other';
  problems.add('ERR_CONFIG_VALUE', ['guests', name, 'link', 'configure'], text);
}

/** What Berth's DHCP server takes from the guest is nothing that the guest could lease. */
function refuseClientPort({ name, link }: GuestConfig, udp: PortSet, key: 'lease' | 'use', problems: Problems): void {
  if (link?.configure !== 'dhcp' || !udp.has(DHCP_CLIENT_PORT)) return;
  const text = `what the guest's DHCP client sends is for Berth (got udp ${udp.format()}, expected ports without ${DHCP_CLIENT_PORT}); leave ${DHCP_CLIENT_PORT} out`;
  problems.add('ERR_CONFIG_VALUE', ['guests', name, key, 'udp'], text);
}

function readPolicy({ name, policy }: GuestConfig, problems: Problems): GuestPolicy {
  const path = ['guests', name, 'policy'];
  const read = (key: 'allow' | 'deny', { tcp, udp }: PortTexts): Ports => ({
    tcp: readPorts(tcp, [...path, key, 'tcp'], problems),
    udp: readPorts(udp, [...path, key, 'udp'], problems),
  });
  return { ...policy, allow: read('allow', policy.allow), deny: read('deny', policy.deny) };
}

function readPorts(text: PortText | null, path: KeyPath, problems: Problems): PortSet {
  if (text === null) return PortSet.EMPTY;
  try {
    return PortSet.parse(text);
  } catch (error) {
    problems.add('ERR_CONFIG_VALUE', path, messageOf(error));
    return PortSet.EMPTY;
  }
}

function readMac(text: string | null, path: KeyPath, problems: Problems): Uint8Array | null {
  if (text === null) return null;
  const mac = parseMac(text);
  const wrong = `not a MAC address (got ${show(text)}, expected six bytes as "02:00:5e:10:00:01")`;
  if (mac === null) problems.add('ERR_CONFIG_VALUE', path, `${wrong}; write the NIC's, or leave it out`);
  return mac;
}

function readAddress(text: string, path: KeyPath, problems: Problems): number | null {
  const address = parseIpv4(text);
  const wrong = address === null ? 'not an IPv4 address' : notUnicast(address);
  if (wrong === null) return address;
  const expected = `one as 192.0.2.10${text.includes('/') ? ', without a prefix length' : ''}`;
  const advice = 'name an address that one host can have';
  problems.add('ERR_CONFIG_VALUE', path, `${wrong} (got ${show(text)}, expected ${expected}); ${advice}`);
  return null;
}

/** Those that a host can have, each once. */
export function unicast(addresses: readonly number[]): number[] {
  return [...new Set(addresses.filter((address) => notUnicast(address) === null))];
}

/** Why no host can have the address; null when one can (RFC 6890, and 240.0.0.0/4 with the broadcast address). */
function notUnicast(address: number): string | null {
  const top = address >>> 24;
  if (address === 0xffffffff) return 'the broadcast address';
  if (top === 0) return 'an address that names no host (0.0.0.0/8)';
  if (top === 127) return 'a loopback address';
  if (top >= 240) return 'a reserved address (240.0.0.0/4)';
  return top >= 224 ? 'a multicast address' : null;
}

/** One link, one guest; and the NIC is nobody's link. */
function refuseSharedLinks(config: Config, problems: Problems): void {
  const owners = new Map<string, string>();
  for (const { name, link } of config.guests) {
    if (link === null) continue;
    const path = ['guests', name, 'link'];
    const text = link.kind === 'tap' ? `tap ${link.tap}` : `interface ${link.name} in network namespace ${link.netns}`;
    const owner = owners.get(text);
    if (owner === undefined) {
      owners.set(text, name);
    } else {
      const lines = problems.linesOf(['guests', owner, 'link'], path);
      problems.add('ERR_LINK_TAKEN', path, `${text} is the link of guest ${owner} too${lines}; give each guest its own`);
    }
    if (link.kind === 'tap' && (link.tap === config.nic || config.networks.some(({ nic }) => nic === link.tap))) {
      problems.add('ERR_LINK_TAKEN', [...path, 'tap'], `${link.tap} is the NIC itself; name a tap of the guest's own`);
    }
  }
}

/** The socket is the identity of who speaks there: one guest's agent, or the operator. */
function refuseSharedSockets(config: Config, problems: Problems): void {
  const adminAt = ['admin', 'socket'];
  const taken = new Map([[posix.normalize(config.admin.socket), { what: 'the admin socket', path: adminAt }]]);
  for (const { name, agent } of config.guests) {
    if (agent === null) continue;
    const path = ['guests', name, 'agent', 'socket'];
    const socket = posix.normalize(agent.socket);
    const other = taken.get(socket);
    if (other === undefined) {
      taken.set(socket, { what: `the agent socket of guest ${name}`, path });
    } else {
      const lines = other.path === adminAt ? '' : problems.linesOf(other.path, path);
      problems.add('ERR_SOCKET_TAKEN', path, `${socket} is ${other.what} too${lines}; give each guest its own`);
    }
  }
}
