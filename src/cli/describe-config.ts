/**
 * What a configuration means, in words: for `berth check`.
 *
 * Host      asked for one thing only: the NIC's addresses where the configuration leaves them to it. On a machine without
 *           that NIC the rest is checked all the same, and said so.
 */
import { count, plural } from './text-table.js';
import { networkInterfaces } from 'node:os';
import { loadConfig, states, type Config } from '../base/config.js';
import { describePorts, type GuestPlan, type LeasePlan, type MappedPlan, type PoolPlan } from '../control/lease-plan.js';
import { describeMaps } from '../control/map-plan.js';
import { resolveLeases } from '../control/static-leases.js';
import { formatIpv4, parseIpv4 } from '../wire/address.js';

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
    lines.push(...describeGuest(guest, plan));
    if (guest.agent !== null || states(config, ['guests', guest.name, 'policy'])) lines.push(...describePolicy(guest));
  }
  if (states(config, ['pool']) || plan.guests.some((guest) => guest.agent !== null || (guest.mapped !== null && guest.mapped.blockSize > 0))) lines.push(describePool(plan.pool));
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
  return lines;
}

function describeGuest(guest: GuestPlan, plan: LeasePlan): string[] {
  const head = `guest ${guest.name}${describeLink(guest)}:`;
  if (guest.mapped !== null) return [`${head} mapped, at its own address ${formatIpv4(guest.mapped.inside)} behind gateway ${formatIpv4(guest.mapped.gateway)}`, ...describeMapped(guest.mapped, plan)];
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
