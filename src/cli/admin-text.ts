/** Answers of the admin interface for people. */
import type { NamedCounters } from './stats.js';
import { count, plainTable } from './text-table.js';
import type { GuestStatus, LeaseAnswer, LeaseLine, MapStatus, PoolLine, PortTexts, Status } from '../control/admin-api.js';

/** Longer lists of ports make no table. */
const MOST_PORTS = 40;

export function statusText(status: Status): string {
  const { nic, networks, addresses, guests, pid, startedAt, notInUse, agents, cpuLatency } = status;
  const { ingress, egress, kernelDrops } = status.counters as NamedCounters;
  const discarded = new Map<string, number>();
  for (const [reason, { frames }] of [...Object.entries(ingress.discarded), ...Object.entries(egress.discarded)]) discarded.set(reason, (discarded.get(reason) ?? 0) + frames);
  const lines = [
    `NIC ${nic.name} (${nic.mac}, MTU ${nic.mtu}, back end ${nic.backend}), addresses ${addresses.join(', ')}`,
    ...networks.map((network) => `Network ${network.name}: NIC ${network.nic} (${network.mac})`),
    `Daemon ${pid} since ${startedAt}; frames for ports not in use: ${notInUse}`,
    '',
    guestTable(guests),
    '',
    `In: ${count(ingress.forwarded.frames)} frames forwarded. Out: ${count(egress.forwarded.frames)}. Dropped by the kernel: ${count(kernelDrops)}.`,
    `Discarded: ${discarded.size === 0 ? 'none' : Array.from(discarded, ([reason, frames]) => `${reason} ${count(frames)}`).join(', ')}.`,
  ];
  if (agents.bad + agents.closed > 0) lines.push(`Agents: ${count(agents.bad)} bad messages, ${count(agents.closed)} sessions ended for them.`);
  if (cpuLatency !== null && cpuLatency.heldMs > 0) lines.push(`Processors kept awake for ${count(cpuLatency.heldMs / 1000)} s in all${cpuLatency.isHeld ? ', also now' : ''}.`);
  return lines.join('\n');
}

export function leaseTable(leases: readonly LeaseLine[]): string {
  if (leases.length === 0) return 'No leases.';
  const rows = leases.map(({ guest, addresses, proto, ports, state, source, block, since, until }) => [
    guest,
    addresses.join(', '),
    proto,
    short(ports),
    state === 'quarantined' ? state : source === 'configuration' ? 'configured' : source === 'run time' ? 'added' : block ? 'block' : 'granted',
    since,
    until ?? 'no end',
  ]);
  return plainTable(['guest', 'address', 'proto', 'ports', 'kind', 'since', 'until'], rows);
}

/** `verb`: what happened to the ports, `granted`. */
export function leaseText(verb: string, { guest, changed, leased, until }: LeaseAnswer): string {
  return [`${verb}: ${ports(changed)}`, `guest ${guest} has now: ${ports(leased)}${until === null ? '' : `; the first ends at ${until}`}`].join('\n');
}

export function poolTable(lines: readonly PoolLine[]): string {
  if (lines.length === 0) return 'No pools.';
  const rows = lines.map(({ pool, network, address, count: addresses, state, guest, ports: leased, since, until }) => [
    addresses === 1 ? address : `${address} (${count(addresses)})`,
    pool,
    network,
    state,
    guest ?? '-',
    leased ?? '-',
    since === null ? '-' : until === null ? since : `${since}, until ${until}`,
  ]);
  return plainTable(['address', 'pool', 'network', 'state', 'guest', 'ports', 'since'], rows);
}

export function mapTable(guests: readonly MapStatus[]): string {
  if (guests.length === 0) return 'No mapped guests.';
  const rows = guests.flatMap(({ guest, inside, block, maps }) => [
    ...maps.map(({ proto, ports, to }) => [guest, proto, ports, inside, to]),
    [guest, 'tcp+udp', block === '' ? 'none' : block, inside, 'its own connections'],
  ]);
  return plainTable(['guest', 'proto', 'outside', 'inside', 'ports'], rows);
}

export function guestTable(guests: readonly GuestStatus[]): string {
  if (guests.length === 0) return 'No guests.';
  const rows = guests.map(({ name, link, agent, whole, address, leased, used, blocks, count: holds, maxPorts }) => [
    name,
    `${link.description}${link.attached ? '' : ' (not there)'}`,
    agent === 'none' ? '-' : agent,
    whole === null ? `${ports(leased)}${address === null ? '' : ` of ${address}`}` : `all of ${whole}`,
    ports(used),
    `${blocks.length}`,
    `${holds}/${maxPorts}`,
  ]);
  return plainTable(['guest', 'link', 'agent', 'leased', 'in use', 'blocks', 'ports'], rows, [5, 6]);
}

function ports({ tcp, udp }: PortTexts): string {
  if (tcp === '' && udp === '') return '-';
  if (tcp === udp) return `tcp+udp ${short(tcp)}`;
  return [tcp === '' ? '' : `tcp ${short(tcp)}`, udp === '' ? '' : `udp ${short(udp)}`].filter((text) => text !== '').join('; ');
}

function short(text: string): string {
  if (text.length <= MOST_PORTS) return text;
  const cut = text.lastIndexOf(',', MOST_PORTS);
  return `${text.slice(0, cut)} and ${text.slice(cut + 1).split(',').length} more`;
}
