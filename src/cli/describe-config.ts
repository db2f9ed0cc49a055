/**
 * What a configuration means, in words: for `berth check`.
 *
 * Host      asked for one thing only: the NIC's addresses where the configuration leaves them to it. On a machine without
 *           that NIC the rest is checked all the same, and said so.
 */
import { count, plural } from './text-table.js';
import { networkInterfaces } from 'node:os';
import { type AddressWish, ANY_POOL, loadConfig, states, type Config } from '../base/config.js';
import { describePorts, type GuestPlan, largestBlock, type LeasePlan, type MappedPlan, type PoolPlan } from '../control/lease-plan.js';
import { describeMaps } from '../control/map-plan.js';
import type { AddressPool } from '../control/pools/address-pools.js';
import { policyOf } from '../control/pools/policies.js';
import { formatRate } from '../control/pools/policy.js';
import { resolveLeases } from '../control/static-leases.js';
import { PortSet } from '../wire/port-set.js';
import { formatIpv4, parseIpv4 } from '../wire/address.js';
import { formatAddressRange } from '../wire/address-ranges.js';

/** net.ipv4.ip_local_port_range as Linux begins with it: ip(7). */
const LINUX_RANGE = PortSet.parse('32768-60999');
/** Addresses shown before the rest is only counted. */
const SHOWN_ADDRESSES = 8;

/** Validates the file and returns what it means; throws ConfigError. */
export function checkConfig(file: string): string {
  const config = loadConfig(file);
  const plan = resolveLeases(config, { nicAddresses: addressesOf(config.nic), sharedLater: config.nic !== null });
  return describeConfig(config, plan);
}

/** What a valid configuration means: lines of text, the last one ended too. */
export function describeConfig(config: Config, plan: LeasePlan): string {
  const lines = [`${config.file} is valid.`, ...describeHost(config, plan)];
  if (plan.guests.length === 0) lines.push('No guests: every frame goes to the host.');
  for (const guest of plan.guests) {
    lines.push(...describeGuest(guest, plan, wishOf(config, guest)));
    if (guest.link?.configure === 'dhcp') lines.push(...describeDhcp(guest, plan, wishOf(config, guest)));
    if (guest.agent !== null || states(config, ['guests', guest.name, 'policy'])) lines.push(...describePolicy(guest));
  }
  if (states(config, ['pool']) || plan.guests.some(({ agent, mapped }) => agent !== null || (mapped !== null && mapped.blockSize > 0))) lines.push(describePool(plan.pool));
  for (const pool of plan.pools) lines.push(describeAddresses(pool));
  if (plan.guests.length > 0) lines.push(describeNotInUse(config));
  return `${lines.join('\n')}\n`;
}

function describeHost(config: Config, plan: LeasePlan): string[] {
  const nic = config.nic === null ? 'No NIC' : `NIC ${config.nic} (${config.backend} back end)`;
  const own = config.addresses === null ? ', the NIC\'s own' : '';
  const lines =
    plan.shared.length === 0
      ? [`${nic}, sharing its own IPv4 addresses (read at start: this machine has no such interface with an address).`]
      : [`${nic}, shared ${plural(plan.shared.length, 'address', 'addresses', false)} ${listAddresses(plan.shared)}${own}.`];
  const unlinked = plan.guests.filter((guest) => guest.link === null).length;
  if (config.nic === null || unlinked > 0) {
    const missing = [config.nic === null ? '`nic`' : '', unlinked > 0 ? `a \`link\` for ${plural(unlinked, 'guest', 'guests')}` : ''];
    lines.push(`Enough for \`berth replay\`; \`berth run\` also needs ${missing.filter((text) => text !== '').join(' and ')}.`);
  }
  if (states(config, ['cpuLatency'])) lines.push(describeLatency(config));
  return lines;
}

function describeLatency({ cpuLatency }: Config): string {
  if (cpuLatency === 'off') return 'Processors may sleep however busy the guests are.';
  const limit = cpuLatency === 0 ? 'are kept from sleeping' : cpuLatency === 'auto' ? 'are kept from deep sleep' : `are kept from sleep that takes longer than ${cpuLatency} µs to wake from`;
  return `While guests exchange small frames at a rate, processors ${limit}.`;
}

function wishOf(config: Config, guest: GuestPlan): AddressWish | null {
  return config.guests.find(({ name }) => name === guest.name)?.pool ?? null;
}

function describeGuest(guest: GuestPlan, plan: LeasePlan, wish: AddressWish | null): string[] {
  const head = `guest ${guest.name}${describeLink(guest)}:`;
  if (guest.mapped !== null) return [`${head} mapped, at its own address ${formatIpv4(guest.mapped.inside)} behind gateway ${formatIpv4(guest.mapped.gateway)}`, ...describeMapped(guest.mapped, plan)];
  if (wish !== null) {
    const from = wish.name === ANY_POOL ? 'the best pool' : `pool ${wish.name}`;
    const how = wish.policy === null ? '' : `, chosen by ${policyOf(wish.policy).name}`;
    const served = wish.class === null ? '' : `; class ${wish.class}, kept ${wish.rule}`;
    const limits = describePorts(guest.tcp, guest.udp, ' and ');
    const what = wish.ports !== null ? `${plural(wish.ports, 'port', 'ports')}, tcp and udp, of an address` : `a dedicated address${limits === '' ? '' : `, only ${limits},`}`;
    return [`${head} ${what} of ${from}${how}${served}`, inUse(guest.useAll ? (wish.ports === null ? 'all of it' : 'all of them') : describePorts(guest.useTcp, guest.useUdp))];
  }
  if (guest.whole !== null) {
    const ports = describePorts(guest.useTcp, guest.useUdp);
    return [`${head} the whole address ${formatIpv4(guest.whole)} leased`, inUse(guest.useAll ? 'all of it' : ports)];
  }
  const ports = guest.tcp.size + guest.udp.size;
  if (ports === 0) return [`${head} nothing leased`];
  const used = describePorts(guest.useTcp, guest.useUdp);
  const leased = [`${head} ${countEndpoints(guest, plan, ports)}`, `  ${describePorts(guest.tcp, guest.udp)}`];
  return [...leased, inUse(guest.useAll ? 'all of them' : used)];
}

/** What Berth tells the guest, and from which of its ports the guest's own connections work: it cannot be told to keep to them. */
function describeDhcp({ ofPool, whole, addresses, tcp, udp }: GuestPlan, { shared }: LeasePlan, wish: AddressWish | null): string[] {
  const address = addresses.length > 0 ? addresses[0] : shared.at(0);
  const told = ofPool
    ? "  told by DHCP: its address, with the mask and gateway of the network there, the host's name servers and the NIC's MTU"
    : `  told by DHCP: ${address === undefined ? "the host's address" : formatIpv4(address)}, with the host's mask, gateway, name servers and MTU`;
  const advice = 'set its range to them, there or by its DHCP client (option 159)';
  if (wish !== null && wish.ports !== null) return [told, `  its own connections work from the ports that it gets: ${advice}`];
  if (whole !== null || (ofPool && tcp.isEmpty && udp.isEmpty)) return [told, '  its own connections may come from any port'];
  if (LINUX_RANGE.subtract(tcp.intersect(udp)).isEmpty) return [told, `  its own connections come from leased ports if it is Linux with its usual range, ${LINUX_RANGE.format()}; the host's own range must then be another`];
  const block = largestBlock({ tcp, udp });
  if (block === null) return [told, '  its own connections fail: no port is leased in both tcp and udp, and what it sends from others is dropped'];
  const range = `${block.first}-${block.last}`;
  return [told, `  its own connections work from ports ${range}: ${advice}; what it sends from others is dropped`];
}

function describeMapped(mapped: MappedPlan, { shared }: LeasePlan): string[] {
  const where = shared.length === 1 ? formatIpv4(shared[0]) : 'every shared address';
  const maps = describeMaps(mapped).map((text) => `  ${where} ${text}`);
  const own = mapped.blockSize === 0 ? 'is dropped: it has no ports of its own' : `leaves by a block of ${plural(mapped.blockSize, 'port', 'ports')}, chosen at start`;
  return [...(maps.length === 0 ? ['  nothing reaches it that it has not asked for'] : maps), `  what it begins itself ${own}`];
}

function describeLink({ link }: GuestPlan): string {
  if (link === null) return ', without a link';
  return link.kind === 'tap' ? ` on tap ${link.tap}` : ` on interface ${link.name} in network namespace ${link.netns}`;
}

function countEndpoints(guest: GuestPlan, plan: LeasePlan, ports: number): string {
  if (!guest.onShared) return `${plural(ports, 'endpoint', 'endpoints')} leased on ${formatIpv4(guest.addresses[0])}`;
  if (plan.shared.length === 1) return `${plural(ports, 'endpoint', 'endpoints')} leased`;
  const each = `${plural(ports, 'endpoint', 'endpoints')} leased on each shared address`;
  return plan.shared.length === 0 ? each : `${each}, ${count(ports * plan.shared.length)} in all`;
}

function inUse(what: string): string {
  return `  in use from the start: ${what === '' ? 'none' : what}`;
}

/** What the guest may ask for, and who speaks for it. */
function describePolicy({ agent, policy }: GuestPlan): string[] {
  const { block, maxPorts, threshold, allow, deny, implicit, leaseTimeMs } = policy;
  const speaks = agent === null ? 'no agent' : `agent at ${agent.socket} (${agent.connect ? 'the daemon connects' : 'the daemon listens'})`;
  const most = count(maxPorts);
  const limit = threshold === 'literal' ? `another while it holds at most ${most}` : `at most ${most} in all`;
  const blocks = threshold === 'strict' && block > maxPorts ? `no blocks (one has ${count(block)}, at most ${most} are allowed)` : `blocks of ${plural(block, 'port', 'ports')}, ${limit}`;
  const named = describePorts(allow.tcp.subtract(deny.tcp), allow.udp.subtract(deny.udp));
  const denied = describePorts(deny.tcp, deny.udp);
  const byName = `by name: ${named === '' ? 'none' : named}${denied === '' ? '' : `; never: ${denied}`}`;
  const word = implicit ? 'a frame that it sends from a leased port puts it in use' : 'only the agent puts a port in use';
  return [`  ${speaks}`, `  may ask for ${blocks}`, `  ${byName}`, `  what it is granted ends after ${describeTime(leaseTimeMs)} unless renewed; ${word}`];
}

function describeAddresses({ name, network, ranges, size, speed, maxGuests, class: served, policy }: AddressPool): string {
  const parts = [
    plural(size, 'address', 'addresses'),
    ranges.length > SHOWN_ADDRESSES ? '' : ranges.map(formatAddressRange).join(', '),
    maxGuests === null ? '' : `at most ${plural(maxGuests, 'guest', 'guests')}`,
    speed === null ? '' : formatRate(speed),
    served === null ? '' : `for class ${served}`,
    policy === null ? '' : `chosen by ${policyOf(policy).name}`,
  ];
  return `Pool ${name}${network === '' ? '' : ` on ${network}`}: ${parts.filter((part) => part !== '').join('; ')}.`;
}

function describePool({ ports, reserve, quarantineMs }: PoolPlan): string {
  const all = "all ports but those below 1024, the host's ephemeral range and its listeners (read at start)";
  const kept = reserve === 0 ? '' : `, ${reserve >= (ports?.size ?? 65_535) ? 'all' : count(reserve)} of them kept for guests with less than one block`;
  const wait = quarantineMs === 0 ? 'Another guest may have a released port at once' : `A released port waits ${describeTime(quarantineMs)} before another guest may have it`;
  return `Blocks come from ${ports === null ? all : `ports ${ports.format(', ')}`}${kept}. ${wait}.`;
}

/** `90 seconds`, `1 hour`: in the largest unit that leaves no rest. */
function describeTime(milliseconds: number): string {
  const units: [number, string][] = [[86_400_000, 'day'], [3_600_000, 'hour'], [60_000, 'minute'], [1000, 'second']];
  const [size, unit] = units.find(([each]) => milliseconds % each === 0) ?? [1, 'millisecond'];
  return plural(milliseconds / size, unit, `${unit}s`);
}

function describeNotInUse(config: Config): string {
  const most = `at most ${plural(config.rejectRate, 'answer', 'answers')} a second`;
  const answered = `answered with a TCP reset or an ICMP port unreachable, ${most}`;
  const fate = config.notInUse === 'drop' ? 'dropped silently' : answered;
  return `A frame for a leased port not in use is ${fate}. Everything else goes to the host.`;
}

function listAddresses(addresses: readonly number[]): string {
  const shown = addresses.slice(0, SHOWN_ADDRESSES).map(formatIpv4);
  const rest = addresses.length - shown.length;
  if (rest > 0) shown.push(`${count(rest)} more`);
  return shown.length === 1 ? shown[0] : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** The IPv4 addresses that an interface of this machine has; none where there is no such interface. */
function addressesOf(nic: string | null): number[] {
  const entries = nic === null ? [] : (networkInterfaces()[nic] ?? []);
  return entries.filter((entry) => entry.family === 'IPv4').flatMap((entry) => parseIpv4(entry.address) ?? []);
}
