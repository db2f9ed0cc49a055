/**
 * Mute: keeps the host's own stack silent for leased ports, by an nftables netdev chain at the NIC's ingress.
 *
 *     start ─▶ table replaced in one transaction        set ─▶ difference to what is there ─▶ one long-lived `nft -i`
 *                                                               all that came while the last one was on its way
 *
 * Order        AF_PACKET (where the engine looks) comes before this hook, the host's IP layer after it; design §6.
 * Survives     a killed daemon: guest connections then see silence, not resets. Removed on a clean stop or `berth clean`.
 * Atomic       a replacement and a difference are one transaction each: no moment without what was and is to be muted.
 * Two sets     of ports. `ranges` has intervals of RANGE ports and more: one element a block, but the kernel rewrites the set at each change
 *              (delete: 0.4 ms with 10 intervals, 3 ms with 1,000, 26 ms with 10,000). `ports` is a hash of single ones: 0.3 ms at any
 *              size, 18 µs each. Interval sets without concatenation (rbtree) took 2 and 25 ms: nft reads them back every time.
 * Exact        a delete takes out whichever interval has its first port, so it must name exactly the one that is there: nobody else
 *              writes the table, and what is in it is known (`held`), or not (null) and then it is replaced.
 * Failure      of `nft -i`, its end included: the table is replaced by a process of its own, with one line in the log.
 * Links        the host side of a guest's link, a VMM's tap or one end of a veth, gets a chain that drops everything, so that no guest
 *              reaches the host's stack.
 * Source       nft(8): netdev family, concatenations with intervals.
 */
import type { LeasePlan } from './lease-plan.js';
import { NO_PORTS, type Ports, PROTOS } from './lease-state.js';
import { NftProcess } from './nft-process.js';
import { Batches } from '../base/batches.js';
import { runTool } from '../base/command.js';
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatIpv4 } from '../wire/address.js';

/** Before anything else at ingress. */
const PRIORITY = -500;
/** Fewer neighbouring ports are cheaper as single ones. */
const RANGE = 32;
/** Intervals to delete times intervals there, at 2.5 µs, from which all of the table is written faster. */
const REWRITE = 20_000;

/** All that is muted. */
export interface Muted {
  /** whole addresses */
  readonly whole: ReadonlySet<number>;
  readonly ports: ReadonlyMap<number, Ports>;
}

export function nicTable(nic: string): string {
  return `berth-nic-${identifier(nic)}`;
}

export function linkTable(tap: string): string {
  return `berth-tap-${identifier(tap)}`;
}

/** Every leased endpoint, whole address and address of a pool in the plan, and the ports `granted` on its shared addresses; on those that are coming too. */
export function mutedBy(plan: LeasePlan, granted: Ports): Muted {
  const ports = new Map<number, Ports>();
  const add = (address: number, { tcp, udp }: Ports): void => {
    const before = ports.get(address) ?? NO_PORTS;
    ports.set(address, { tcp: before.tcp.union(tcp), udp: before.udp.union(udp) });
  };
  const guests = [...plan.guests, ...plan.departed];
  for (const guest of guests) if (!guest.ofPool) for (const address of guest.onShared ? [...guest.addresses, ...plan.coming] : guest.addresses) add(address, guest);
  for (const address of [...plan.shared, ...plan.coming]) add(address, granted);
  return { whole: new Set(guests.flatMap(({ whole, ofPool, addresses }) => (whole !== null || ofPool ? addresses : []))), ports };
}

/** The mute of one NIC. */
export class Mute {
  private readonly nic: string;
  private readonly log: Log;
  private readonly nft = new NftProcess();
  /** What the kernel has; null when that is not known. */
  private held: Muted | null = null;
  /** Of a batch only the last state counts. */
  private readonly batches = new Batches<Muted>((states) => this.bring(states[states.length - 1]));

  constructor(nic: string, log: Log) {
    this.nic = nic;
    this.log = log;
  }

  /** Id of the nft process, null while there is none. */
  get pid(): number | null {
    return this.nft.pid;
  }

  /** Replaces the table, also one that a killed daemon left, at once. */
  start(muted: Muted): void {
    this.replace(muted);
  }

  /** Mutes exactly this. Resolves when the kernel does so, or what was asked for later. ERR_TOOL when it cannot be done. */
  set(muted: Muted): Promise<void> {
    return this.batches.add(muted);
  }

  /** Waits for what is on its way, and ends the process; the table stays. */
  async stop(): Promise<void> {
    await this.batches.idle();
    await this.nft.close();
  }

  private async bring(wanted: Muted): Promise<void> {
    if (this.held !== null) {
      const script = difference(nicTable(this.nic), this.nic, this.held, wanted);
      if (script === '') return;
      try {
        await this.nft.run(script);
        this.held = wanted;
        return;
      } catch (error) {
        this.log.warn(`table ${nicTable(this.nic)} could not be changed (${messageOf(error)}); it is replaced`);
      }
    }
    this.replace(wanted);
  }

  private replace(muted: Muted): void {
    this.held = null;
    runTool('nft', ['-f', '-'], replacement(nicTable(this.nic), nicBody(this.nic, muted)));
    this.held = muted;
  }
}

/** Keeps everything that comes in through the interface from the host's stack. */
export function quietLink(tap: string): void {
  const chain = `chain ingress { type filter hook ingress device "${tap}" priority ${PRIORITY}; policy drop; }`;
  runTool('nft', ['-f', '-'], replacement(linkTable(tap), chain));
}

/** Removes a table of ours; nothing happens if it is not there. */
export function unmute(table: string): void {
  runTool('nft', ['-f', '-'], `add table netdev ${table}\ndelete table netdev ${table}\n`);
}

/** One line, which `nft -i` takes too. */
function replacement(table: string, body: string): string {
  return `add table netdev ${table}; delete table netdev ${table}; table netdev ${table} { ${body}; }\n`;
}

function nicBody(nic: string, muted: Muted): string {
  const { whole, ranges, ports } = elementsOf(muted);
  const endpoint = 'type ipv4_addr . inet_proto . inet_service;';
  return [
    `set ranges { ${endpoint} flags interval; ${listed(ranges)} };`,
    `set ports { ${endpoint} ${listed(ports)} };`,
    `set addresses { type ipv4_addr; ${listed(whole)} };`,
    `chain ingress { type filter hook ingress device "${nic}" priority ${PRIORITY}; policy accept;`,
    'ip daddr . meta l4proto . th dport @ranges drop; ip daddr . meta l4proto . th dport @ports drop; ip daddr @addresses drop; }',
  ].join(' ');
}

function listed(elements: ReadonlySet<string>): string {
  return elements.size === 0 ? '' : `elements = { ${[...elements].join(', ')} };`;
}

/** What makes `held` into `wanted`; the empty text when they are the same. */
function difference(table: string, nic: string, held: Muted, wanted: Muted): string {
  const before = elementsOf(held, wanted);
  const after = elementsOf(wanted, held);
  const commands: string[] = [];
  const change = (verb: 'add' | 'delete', set: string, elements: string[]): number => {
    if (elements.length > 0) commands.push(`${verb} element netdev ${table} ${set} { ${elements.join(', ')} }`);
    return elements.length;
  };
  const deleted = change('delete', 'ranges', less(before.ranges, after.ranges));
  if (deleted * before.ranges.size > REWRITE) return replacement(table, nicBody(nic, wanted)).trim();
  change('add', 'ranges', less(after.ranges, before.ranges));
  for (const [set, from, to] of [['ports', before.ports, after.ports], ['addresses', before.whole, after.whole]] as const) {
    change('delete', set, less(from, to));
    change('add', set, less(to, from));
  }
  return commands.join('; ');
}

/** The elements of the three sets; without those that `but` has from the same set of ports. */
function elementsOf(muted: Muted, but: Muted | null = null): { whole: Set<string>; ranges: Set<string>; ports: Set<string> } {
  const ranges = new Set<string>();
  const ports = new Set<string>();
  for (const [address, of] of muted.ports) {
    for (const proto of PROTOS) {
      if (but?.ports.get(address)?.[proto].equals(of[proto]) === true) continue;
      const prefix = `${formatIpv4(address)} . ${proto} . `;
      for (const { first, last } of of[proto].ranges()) {
        if (last - first + 1 >= RANGE) ranges.add(`${prefix}${first}-${last}`);
        else for (let port = first; port <= last; port++) ports.add(`${prefix}${port}`);
      }
    }
  }
  return { whole: new Set([...muted.whole].map(formatIpv4)), ranges, ports };
}

function less(elements: ReadonlySet<string>, without: ReadonlySet<string>): string[] {
  return [...elements].filter((element) => !without.has(element));
}

/** Interface names may hold what an nft identifier may not. */
function identifier(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]/g, (character) => `_${character.charCodeAt(0).toString(16)}`);
}
