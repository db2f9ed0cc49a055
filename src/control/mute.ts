/**
 * Mute: keeps the host's own stack silent for leased ports, by an nftables netdev chain at the NIC's ingress.
 *
 * Order        AF_PACKET (where the engine looks) comes before this hook, the host's IP layer after it; design §6.
 * Survives     a killed daemon: guest connections then see silence, not resets. Removed on a clean stop or `berth clean`.
 * Atomic       a table is replaced in one transaction: there is no moment without it.
 * Taps         the host side of a VMM's tap gets a chain that drops everything, so that no guest reaches the host's stack.
 * Source       nft(8): netdev family, concatenations with intervals.
 */
import type { LeasePlan } from './lease-plan.js';
import { NO_PORTS, type Ports } from './lease-state.js';
import { runTool } from '../base/command.js';
import type { PortSet } from '../wire/port-set.js';
import { formatIpv4 } from '../wire/address.js';

/** Before anything else at ingress. */
const PRIORITY = -500;

export function nicTable(nic: string): string {
  return `berth-nic-${identifier(nic)}`;
}

export function tapTable(tap: string): string {
  return `berth-tap-${identifier(tap)}`;
}

/** Mutes every leased endpoint and whole address of the plan on `nic`, and the ports `granted` on its shared addresses. */
export function mute(nic: string, plan: LeasePlan, granted: Ports): void {
  const muted = new Map<number, { tcp: PortSet; udp: PortSet }>();
  const add = (address: number, { tcp, udp }: Ports): void => {
    const before = muted.get(address) ?? NO_PORTS;
    muted.set(address, { tcp: before.tcp.union(tcp), udp: before.udp.union(udp) });
  };
  const guests = [...plan.guests, ...plan.departed];
  for (const guest of guests) for (const address of guest.addresses) add(address, guest);
  for (const address of plan.shared) add(address, granted);
  const addresses = guests.flatMap(({ whole }) => (whole === null ? [] : [formatIpv4(whole)]));
  const endpoints: string[] = [];
  for (const [address, { tcp, udp }] of muted) {
    addRanges(endpoints, formatIpv4(address), 'tcp', tcp);
    addRanges(endpoints, formatIpv4(address), 'udp', udp);
  }
  const table = nicTable(nic);
  replace(
    table,
    `  set endpoints {
    type ipv4_addr . inet_proto . inet_service
    flags interval
    ${elements(endpoints)}
  }
  set addresses {
    type ipv4_addr
    ${elements(addresses)}
  }
  chain ingress {
    type filter hook ingress device "${nic}" priority ${PRIORITY}; policy accept;
    ip daddr . meta l4proto . th dport @endpoints drop
    ip daddr @addresses drop
  }`,
  );
}

/** Keeps everything that comes in through `tap` from the host's stack. */
export function quietTap(tap: string): void {
  replace(
    tapTable(tap),
    `  chain ingress {
    type filter hook ingress device "${tap}" priority ${PRIORITY}; policy drop;
  }`,
  );
}

/** Removes a table of ours; nothing happens if it is not there. */
export function unmute(table: string): void {
  runTool('nft', ['-f', '-'], `add table netdev ${table}\ndelete table netdev ${table}\n`);
}

function replace(table: string, body: string): void {
  runTool('nft', ['-f', '-'], `add table netdev ${table}\ndelete table netdev ${table}\ntable netdev ${table} {\n${body}\n}\n`);
}

function addRanges(out: string[], address: string, protocol: string, ports: PortSet): void {
  for (const { first, last } of ports.ranges()) out.push(`${address} . ${protocol} . ${first === last ? first : `${first}-${last}`}`);
}

function elements(list: string[]): string {
  return list.length === 0 ? '' : `elements = { ${list.join(', ')} }`;
}

/** Interface names may hold what an nft identifier may not. */
function identifier(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]/g, (character) => `_${character.charCodeAt(0).toString(16)}`);
}
