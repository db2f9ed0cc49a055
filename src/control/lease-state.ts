/**
 * Lease state: what every guest holds and uses, and the changes that are the only way to alter it.
 *
 *          lease            use                           D1, one port of one protocol
 *   free ────────▶ leased ◀──────▶ in use
 *    ▲  ▲            │    end-use
 *    │  └── free ◀── │ release           `release` is followed at once by `quarantine` (or by `free`, when the time is 0);
 *    └── free ── quarantined              a lease that is in use gets `end-use` first; its own guest is leased it again
 *                                         from quarantine, without a `free` between
 * Replay       the same changes in the same order make the same state: the store, the publisher and the tests rely on it.
 * One space    a lease holds on every shared address: there is one port space a protocol, and no address here.
 * Not here     whether a change is right (leases.ts): apply() does what it is told.
 */
import { PortSet, type PortRange } from '../wire/port-set.js';
import { Runs, type Run } from './lease-ranges.js';

export type ProtoName = 'tcp' | 'udp';
export const PROTOS: readonly ProtoName[] = ['tcp', 'udp'];

export interface Ports {
  readonly tcp: PortSet;
  readonly udp: PortSet;
}
export const NO_PORTS: Ports = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };

/** `until` of a lease that has no end: those of the configuration. */
export const NEVER = Number.MAX_SAFE_INTEGER;

interface At extends PortRange {
  readonly guest: string;
  readonly proto: ProtoName;
}

export type Change =
  | (At & { readonly type: 'lease' | 'renew'; readonly since: number; readonly until: number; readonly block: number })
  | (At & { readonly type: 'quarantine'; readonly since: number; readonly until: number })
  | (At & { readonly type: 'release' | 'free' | 'use' | 'end-use' })
  | { readonly type: 'epoch'; readonly guest: string; readonly epoch: number }
  | { readonly type: 'forget'; readonly guest: string };

export type PortChange = Extract<Change, At>;

/** What outlives the daemon. Indications do not: agents state them again. */
export interface BookState {
  readonly tcp: readonly Run[];
  readonly udp: readonly Run[];
  readonly epochs: Readonly<Record<string, number>>;
}
const EMPTY_STATE: BookState = { tcp: [], udp: [], epochs: {} };

/** What one guest has. `fixed` is the part of `leased` that the configuration gave; `used` lies inside `leased`. */
export interface Holding {
  leased: Ports;
  fixed: Ports;
  used: Ports;
}

/** Ports granted as a block, until when (wall clock, ms). */
export interface Block {
  readonly first: number;
  readonly last: number;
  readonly until: number;
}

/** What there is to say of a state, for those who may not alter it. */
export type Leases = Pick<LeaseState, 'holding' | 'blocksOf' | 'at' | 'holders' | 'snapshot'>;

export class LeaseState {
  readonly runs: Record<ProtoName, Runs> = { tcp: new Runs(), udp: new Runs() };
  readonly epochs = new Map<string, number>();
  readonly #holdings = new Map<string, Holding>();

  constructor(restored: BookState = EMPTY_STATE) {
    for (const [guest, epoch] of Object.entries(restored.epochs)) this.epochs.set(guest, epoch);
    for (const proto of PROTOS) {
      for (const run of restored[proto]) this.apply({ ...run, proto, type: run.state === 'leased' ? 'lease' : 'quarantine' });
    }
  }

  holding(guest: string): Readonly<Holding> {
    return this.#holdings.get(guest) ?? { leased: NO_PORTS, fixed: NO_PORTS, used: NO_PORTS };
  }

  /** The guest's blocks, ascending; a block of which a part was released is its rest. */
  blocksOf(guest: string): Block[] {
    const blocks: Block[] = [];
    for (const range of this.holding(guest).leased.tcp.ranges()) {
      for (const tcp of this.runs.tcp.overlapping(range)) {
        if (tcp.block === 0) continue;
        for (const udp of this.runs.udp.overlapping(tcp)) {
          if (udp.block === tcp.block && udp.guest === guest) blocks.push({ first: udp.first, last: udp.last, until: Math.min(tcp.until, udp.until) });
        }
      }
    }
    return blocks;
  }

  /** Who has the port; `run` is null when nobody has. */
  at(proto: ProtoName, port: number): { readonly run: Run | null; readonly inUse: boolean } {
    const run = this.runs[proto].at(port);
    return { run, inUse: run?.state === 'leased' && this.holding(run.guest).used[proto].has(port) };
  }

  /** Everybody who holds a lease. */
  get holders(): string[] {
    return [...this.#holdings.keys()];
  }

  snapshot(): BookState {
    return { tcp: [...this.runs.tcp.all], udp: [...this.runs.udp.all], epochs: Object.fromEntries([...this.epochs].sort()) };
  }

  /** Becomes what the other is now; the two go on apart. */
  copy(other: LeaseState): void {
    for (const proto of PROTOS) this.runs[proto].copy(other.runs[proto]);
    this.epochs.clear();
    for (const [guest, epoch] of other.epochs) this.epochs.set(guest, epoch);
    this.#holdings.clear();
    for (const [guest, holding] of other.#holdings) this.#holdings.set(guest, { ...holding });
  }

  apply(change: Change): void {
    if (change.type === 'epoch') this.epochs.set(change.guest, change.epoch);
    else if (change.type === 'forget') this.epochs.delete(change.guest);
    else {
      const run = asRun(change);
      const runs = this.runs[change.proto];
      if (run !== null) runs.put(run);
      else if (change.type === 'release' || change.type === 'free') runs.clear(change);
      if (change.type !== 'quarantine' && change.type !== 'free' && change.type !== 'renew') this.#hold(change);
    }
  }

  #hold(change: Change & At): void {
    const { guest, proto, type } = change;
    const ports = PortSet.fromRanges([change]);
    const holding = this.#holdings.get(guest) ?? { leased: NO_PORTS, fixed: NO_PORTS, used: NO_PORTS };
    const set = (key: keyof Holding, add: boolean): void => {
      const old = holding[key][proto];
      holding[key] = { ...holding[key], [proto]: add ? old.union(ports) : old.subtract(ports) };
    };
    if (type === 'use' || type === 'end-use') set('used', type === 'use');
    else {
      set('leased', type === 'lease');
      set('fixed', type === 'lease' && change.until === NEVER);
      if (type === 'release') set('used', false);
    }
    if (holding.leased.tcp.isEmpty && holding.leased.udp.isEmpty) this.#holdings.delete(guest);
    else this.#holdings.set(guest, holding);
  }
}

/** The run that a change puts in place of what was there; null for one that puts none. */
export function asRun(change: Change): Run | null {
  if (change.type !== 'lease' && change.type !== 'renew' && change.type !== 'quarantine') return null;
  const { guest, first, last, since, until } = change;
  const isLease = change.type !== 'quarantine';
  return { first, last, guest, state: isLease ? 'leased' : 'quarantined', since, until, block: isLease ? change.block : 0 };
}

/** The changes that bring about a run. */
export function changesOf(proto: ProtoName, { guest, first, last, since, until, state, block }: Run): Change[] {
  const lease: Change = { type: 'lease', guest, proto, first, last, since, until, block };
  return state === 'leased' ? [lease] : [lease, { type: 'quarantine', guest, proto, first, last, since, until }];
}

export function usesOf(guest: string, used: Ports): Change[] {
  return PROTOS.flatMap((proto) => Array.from(used[proto].ranges(), ({ first, last }): Change => ({ type: 'use', guest, proto, first, last })));
}

/** The ports of those runs that are wanted. */
export function portsOf({ tcp, udp }: BookState, wanted: (run: Run) => boolean): Ports {
  return { tcp: PortSet.fromRanges(tcp.filter(wanted)), udp: PortSet.fromRanges(udp.filter(wanted)) };
}

/** The ports of those changes that are wanted. */
export function changedPorts(changes: readonly Change[], wanted: (change: PortChange) => boolean): Ports {
  const found = changes.filter((change): change is PortChange => 'first' in change && wanted(change));
  return { tcp: PortSet.fromRanges(found.filter(({ proto }) => proto === 'tcp')), udp: PortSet.fromRanges(found.filter(({ proto }) => proto === 'udp')) };
}

/** What each guest has lost by the changes. */
export function endedBy(changes: readonly Change[]): Map<string, Ports> {
  const ended = new Map<string, Ports>();
  for (const change of changes) {
    if (change.type !== 'release') continue;
    const ports = ended.get(change.guest) ?? NO_PORTS;
    ended.set(change.guest, { ...ports, [change.proto]: ports[change.proto].union(PortSet.fromRanges([change])) });
  }
  return ended;
}
