/**
 * Control plane: makes true what the lease book decides.
 *
 *     lease book ─▶ reserve on the host ══▶ commit to the store ─▶ mute ─▶ steering table ─▶ unmute ══▶ answers
 *     └─ at once, in the order asked ─┘     └─ in batches: all that was decided while the last one was made true ─┘
 *
 * Batches      one commit and one transaction of nft for each operation took 2 ms and more of waiting; a hundred guests wait together.
 * Durable      an answer is given only after its commit. A commit that fails is an answer that fails; the book is then ahead of
 *              the store until the daemon is started again.
 * Long         over 300 lines: each operation is here with the order of its effects, which is what there is to get wrong.
 * Host first   a port that a host process holds is found when its socket cannot be bound; it is never leased, and the
 *              grant goes on with the next block (D5).
 * Indications  are not stored: the agent states them again. The data plane's own (D7) are not in the book; `settle` ends
 *              those that an agent does not state.
 * Not here     who may speak (session.ts), what is granted (leases.ts).
 */
import { claimAll, claimRanges, claimRun } from './host-claims.js';
import type { HostStack } from './host-stack.js';
import { type GuestPlan, leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { type Change, changesOf, endedBy, NEVER, NO_PORTS, type Ports, portsOf, PROTOS, type ProtoName, usesOf } from './lease-state.js';
import { type BlockResult, LeaseBook, type Result, type SomePorts } from './leases.js';
import type { Publisher } from './publisher.js';
import type { Taken } from './reserve.js';
import type { Store } from './store.js';
import { Batches } from '../base/batches.js';
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { type PortRange, PortSet } from '../wire/port-set.js';

/** Timers of Node take at most 2^31 ms. */
const LONGEST_TIMER_MS = 2 ** 30;
/** Leases that ended while the daemon was away last this long, so that their guests can renew. */
const RETURN_MS = 30_000;
/** Why a lease ended, as its guest is told. */
const RUN_OUT = 'the lease has run out';
const HOST_HAS_IT = 'a process of the host itself uses the port';

export interface PlaneParts {
  plan: LeasePlan;
  bookOptions: Omit<ConstructorParameters<typeof LeaseBook>[0], 'restored'>;
  store: Store;
  publisher: Publisher;
  host: HostStack;
  log: Log;
}

/** What an operation has decided, and what is to follow when it is in the table. */
interface Decided {
  readonly changes: readonly Change[];
  readonly after: (() => void) | (() => Promise<void>) | null;
  /** Why leases end that do; null: whoever decided it tells. */
  readonly reason: string | null;
}

export class ControlPlane {
  readonly book: LeaseBook;
  /** Called for leases that have ended, once they have, unless by plane.release: whoever calls that knows. */
  onEnded: (guest: string, ports: Ports, reason: string) => void = () => undefined;
  private readonly parts: PlaneParts;
  /** Ports that the host is silent for, besides the plan's. */
  private muted: Ports = NO_PORTS;
  private readonly batches = new Batches<Decided>((decided) => this.makeTrue(decided));
  private timer: NodeJS.Timeout | null = null;
  private closed = false;

  private constructor(parts: PlaneParts, book: LeaseBook) {
    this.parts = parts;
    this.book = book;
  }

  /** Takes up what the store holds, gives every guest its configured leases, and publishes the rest. */
  static async start(parts: PlaneParts): Promise<ControlPlane> {
    const book = new LeaseBook({ ...parts.bookOptions, restored: parts.store.load() });
    const plane = new ControlPlane(parts, book);
    const now = Date.now();
    const changes: Change[] = [...book.grace(now, RETURN_MS).changes];
    for (const guest of parts.plan.guests) book.addGuest(guest.name, guest.policy);
    for (const holder of book.holders) {
      if (!parts.plan.guests.some((guest) => guest.name === holder)) changes.push(...book.removeGuest(holder, now).changes);
    }
    for (const guest of parts.plan.guests) {
      const { changes: fixed, refusal } = book.setFixed(guest.name, guest.onShared ? { tcp: guest.tcp, udp: guest.udp } : NO_PORTS, now);
      changes.push(...fixed);
      if (refusal !== null) throw new BerthError(refusal.code, `guest ${guest.name}: ${refusal.message}`);
    }
    await parts.store.commit(changes);
    await plane.restore(now);
    plane.watchDeadline();
    return plane;
  }

  /**
   * Takes up a guest with its leases of the configuration; throws, with nothing changed, where somebody has one of them.
   * `join` makes it known to the plan, the host and the table, once it is in the store and before anything else is made true.
   */
  async addGuest(guest: GuestPlan, join: () => Promise<void>): Promise<void> {
    const { host, plan } = this.parts;
    const outcome = { failure: null as Error | null, isKnown: false };
    await this.perform(
      (now) => {
        const isShared = guest.addresses.some((address) => plan.shared.includes(address));
        const { changes, refusal } = this.book.checkFixed(guest.name, isShared ? guest : NO_PORTS, now);
        if (refusal !== null) outcome.failure = new BerthError(refusal.code, `guest ${guest.name}: ${refusal.message}`);
        else outcome.failure = attempt(() => host.reserveGuest(guest));
        if (outcome.failure !== null) return { changes, refusal };
        outcome.isKnown = true;
        this.book.addGuest(guest.name, guest.policy);
        const fixed = this.book.setFixed(guest.name, guest.onShared ? { tcp: guest.tcp, udp: guest.udp } : NO_PORTS, now);
        this.book.setReserved(leasedElsewhere({ guests: [...plan.guests, guest], departed: plan.departed }));
        return { ...fixed, changes: [...changes, ...fixed.changes] };
      },
      async () => {
        // A failure is this guest's alone, not that of those whose changes are made true with it.
        if (outcome.failure === null) await join().catch((error: unknown) => (outcome.failure = error as Error));
      },
    );
    if (outcome.failure === null) return;
    if (outcome.isKnown) {
      await this.perform((now) => this.book.removeGuest(guest.name, now), null, null);
      this.book.setReserved(leasedElsewhere(plan));
      if (!guest.onShared) host.unreserveGuest(guest);
    }
    throw outcome.failure;
  }

  /** The guest's leases of the configuration are `after`'s from now on; as addGuest. What it no longer has is quarantined. */
  async changeGuest(after: GuestPlan, join: () => Promise<void>): Promise<void> {
    const outcome = { failure: null as Error | null };
    await this.perform(
      (now) => {
        const { changes, refusal } = this.book.checkFixed(after.name, after, now);
        if (refusal !== null) outcome.failure = new BerthError(refusal.code, `guest ${after.name}: ${refusal.message}`);
        else outcome.failure = attempt(() => this.parts.host.reserveGuest(after));
        if (outcome.failure !== null) return { changes, refusal };
        const fixed = this.book.setFixed(after.name, { tcp: after.tcp, udp: after.udp }, now);
        return { ...fixed, changes: [...changes, ...fixed.changes] };
      },
      async () => {
        if (outcome.failure === null) await join().catch((error: unknown) => (outcome.failure = error as Error));
      },
      null,
    );
    if (outcome.failure !== null) throw outcome.failure;
  }

  /** Ends all that the guest has. `leave` has the plan and the table without it. */
  async removeGuest(guest: string, leave: () => void): Promise<void> {
    const leaveSilence = (): void => {
      // What the plan has kept muted is muted as a quarantine from here on.
      this.muted = both(this.muted, this.granted(), (muted, ports) => muted.union(ports));
      leave();
    };
    await this.perform((now) => this.book.removeGuest(guest, now), leaveSilence, null);
    this.book.setReserved(leasedElsewhere(this.parts.plan));
    await this.parts.host.setGranted(this.muted);
  }

  /**
   * All leases on shared addresses are on `added` too, but for those ports that a host process holds there: these leases end.
   * `move` has the plan, the host and the table follow, and is given what was lost.
   */
  async followAddresses(added: readonly number[], move: (lost: Ports) => Promise<void>): Promise<void> {
    const { publisher, host } = this.parts;
    const lost = claimAll(host, added, portsOf(this.book.snapshot(), () => true));
    await this.perform(
      (now) => ({ changes: PROTOS.flatMap((proto) => [...lost[proto].ports()].flatMap((port) => this.book.hostTook(proto, port, now).changes)), refusal: null }),
      async () => {
        await move(lost);
        const state = this.book.snapshot();
        for (const proto of PROTOS) for (const run of state[proto]) if (run.until !== NEVER) publisher.apply(changesOf(proto, run), added);
        for (const guest of this.book.holders) publisher.apply(usesOf(guest, this.book.holding(guest).used), added);
      },
      'the host itself uses it at its new address',
    );
  }

  /** Grants a block; tries its ports on the host first. */
  grantBlock(guest: string): Promise<BlockResult> {
    return this.perform((now) => this.findBlock(guest, now));
  }

  /**
   * What a session begins with, decided at once: a guest that has no block gets its first one, if there is one for it (R1, R7),
   * and in use is what it states. Refused: a later session has begun meanwhile.
   */
  begin(guest: string, epoch: number, used: SomePorts): Promise<Result> {
    return this.perform(
      (now) => {
        const current = this.book.hello(guest, epoch);
        if (current.refusal !== null) return current;
        const first = this.book.holding(guest).blocks.length === 0 ? this.findBlock(guest, now).changes : [];
        // Ports that are not leased are no use that could be refused: the first hello states all that the guest has open.
        return { ...current, changes: [...current.changes, ...first, ...this.book.resync(guest, used).changes] };
      },
      () => this.endOthers(guest),
    );
  }

  /** Grants ports by name, all or none. */
  grantPorts(guest: string, ports: Ports): Promise<Result> {
    return this.perform((now) => {
      const possible = this.book.checkPorts(guest, ports, now);
      if (possible.refusal !== null) return possible;
      const { leased } = this.book.holding(guest);
      const fresh = { tcp: [...ports.tcp.subtract(leased.tcp).ranges()], udp: [...ports.udp.subtract(leased.udp).ranges()] };
      const taken = this.tryHost(guest, fresh);
      if (taken !== null) {
        const owner = taken.owner === null ? '' : ` (${taken.owner})`;
        const message = `${taken.proto} port ${taken.port} is used by the host itself${owner}`;
        return { changes: [...possible.changes, ...this.book.hostTook(taken.proto, taken.port, now).changes], refusal: { code: 'ERR_PORT_TAKEN', message } };
      }
      const granted = this.book.grantPorts(guest, ports, now);
      return { ...granted, changes: [...possible.changes, ...granted.changes] };
    });
  }

  async release(guest: string, ports: SomePorts): Promise<Result> {
    const [, released] = await Promise.all([
      this.perform((now) => this.book.expire(now)),
      this.perform((now) => this.book.release(guest, ports, now), null, null),
    ]);
    return released;
  }

  renew(guest: string): Promise<ReturnType<LeaseBook['renew']>> {
    return this.perform((now) => this.book.renew(guest, now));
  }

  hello(guest: string, epoch: number): Promise<Result> {
    return this.perform(() => this.book.hello(guest, epoch));
  }

  use(guest: string, ports: SomePorts): Promise<Result> {
    return this.perform(() => this.book.use(guest, ports));
  }

  /** Also ends uses that only the data plane knows of (D7). */
  endUse(guest: string, ports: Ports): Promise<Result> {
    return this.perform(
      () => this.book.endUse(guest, ports),
      () => {
        const { leased } = this.book.holding(guest);
        this.parts.publisher.endImplicit(guest, { tcp: ports.tcp.intersect(leased.tcp), udp: ports.udp.intersect(leased.udp) });
      },
    );
  }

  /** Makes what is in use exactly what the guest states. What the data plane alone knows of (D7) stays: it may be newer. */
  resync(guest: string, used: SomePorts): Promise<Result> {
    return this.perform(() => this.book.resync(guest, used));
  }

  /** The guest said nothing for the grace period (D4). */
  silence(guest: string): Promise<Result> {
    return this.perform(
      () => this.book.silence(guest),
      () => this.endOthers(guest),
    );
  }

  /** The epoch of the guest's latest session. */
  epochOf(guest: string): number {
    return this.book.snapshot().epochs[guest] ?? 0;
  }

  /** Waits for what is being done, then stops the clock. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.batches.idle();
  }

  private findBlock(guest: string, now: number): BlockResult {
    const before: Change[] = [];
    for (;;) {
      const { block, changes, refusal } = this.book.findBlock(guest, now);
      before.push(...changes);
      if (block === null) return { block, changes: before, refusal };
      const taken = this.tryHost(guest, { tcp: [block], udp: [block] });
      if (taken === null) {
        const granted = this.book.grantBlock(guest, now);
        return { ...granted, changes: [...before, ...granted.changes] };
      }
      before.push(...this.book.hostTook(taken.proto, taken.port, now).changes);
    }
  }

  /** What is in use is what the book has now, and nothing else. */
  private endOthers(guest: string): void {
    const { leased, used } = this.book.holding(guest);
    this.parts.publisher.endImplicit(guest, { tcp: leased.tcp.subtract(used.tcp), udp: leased.udp.subtract(used.udp) });
  }

  /**
   * Decides now; resolves when that is true. `after` follows the operation's own changes in the steering table, before those of
   * the next. `reason`: why leases end that do; null for those whose end needs no word.
   */
  private async perform<R extends Result>(operation: (now: number) => R, after: Decided['after'] = null, reason: string | null = RUN_OUT): Promise<R> {
    try {
      const result = operation(Date.now());
      if (result.changes.length > 0 || after !== null) await this.batches.add({ changes: result.changes, after, reason });
      return result;
    } catch (error) {
      this.parts.log.error({ err: error }, 'a control operation failed');
      throw error;
    }
  }

  /** Reserves the ranges on the host; the first port that a host process holds, or null when all are reserved. */
  private tryHost(guest: string, ranges: Record<ProtoName, readonly PortRange[]>): (Taken & { proto: ProtoName }) | null {
    const taken = claimRanges(this.parts.host, ranges);
    if (taken !== null) this.parts.log.warn({ guest }, `${taken.proto} port ${taken.port} is used by the host itself${taken.owner === null ? '' : ` (${taken.owner})`}; it is not leased`);
    return taken;
  }

  /** Commits, then changes the host and the table. What ends is discarded by the table before the host may have it again. */
  private async makeTrue(decided: readonly Decided[]): Promise<void> {
    const { store, host, publisher, log } = this.parts;
    const changes = decided.flatMap((one) => one.changes);
    const stored = changes.filter(({ type }) => type !== 'use' && type !== 'end-use');
    if (stored.length > 0) await store.commit(stored);
    // What the configuration leased is the plan's to mute, until it is quarantined after a guest that was removed.
    const held = changedPorts(changes, (change) => (change.type === 'lease' && change.until !== NEVER) || change.type === 'quarantine');
    const silent = both(held, this.muted, (ports, muted) => ports.subtract(muted));
    const freed = changedPorts(changes, ({ type }) => type === 'free');
    // The host is silent before the first frame may be steered, and hears again only after the last one.
    if (count(silent) > 0) {
      this.muted = both(this.muted, silent, (muted, ports) => muted.union(ports));
      await host.setGranted(this.muted);
    }
    for (const one of decided) {
      publisher.apply(one.changes);
      await one.after?.();
    }
    if (count(freed) > 0) {
      // What has been leased again meanwhile found its sockets there, and keeps them.
      const gone = both(freed, this.granted(), (ports, granted) => ports.subtract(granted));
      for (const proto of PROTOS) for (const { first, last } of gone[proto].ranges()) host.unreserve(proto, first, last);
      this.muted = both(this.muted, gone, (muted, ports) => muted.subtract(ports));
      host.setGranted(this.muted).catch((error: unknown) => {
        log.error({ err: error }, 'ports that are free again stay silent');
      });
    }
    for (const one of decided) if (one.reason !== null) this.tellEnded(one.changes, one.reason);
    this.watchDeadline();
  }

  /** Publishes restored leases and quarantines, which the store has already. */
  private async restore(now: number): Promise<void> {
    const { host, publisher } = this.parts;
    const lost: Change[] = [];
    for (const proto of PROTOS) {
      for (const run of this.book.snapshot()[proto]) {
        if (run.until === NEVER) continue;
        // What a host process took in between is its now, and the guest finds it missing in its welcome.
        for (const port of claimRun(host, proto, run)) lost.push(...this.book.hostTook(proto, port, now).changes);
        publisher.apply(changesOf(proto, run));
      }
    }
    this.muted = this.granted();
    await host.setGranted(this.muted);
    await this.makeTrue([{ changes: lost, after: null, reason: HOST_HAS_IT }]);
  }

  /** Every port that is leased or quarantined, but for those of the configuration. */
  private granted(): Ports {
    return portsOf(this.book.snapshot(), ({ until }) => until !== NEVER);
  }

  private tellEnded(changes: readonly Change[], reason: string): void {
    for (const [guest, ports] of endedBy(changes)) this.onEnded(guest, ports, reason);
  }

  private watchDeadline(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    const deadline = this.book.nextDeadline();
    if (deadline === null || this.closed) return;
    const wait = Math.min(Math.max(1, deadline - Date.now()), LONGEST_TIMER_MS);
    this.timer = setTimeout(() => {
      const again = (): void => {
        this.watchDeadline();
      };
      void this.perform((now) => this.book.expire(now)).then(again, again);
    }, wait);
  }
}

function changedPorts(changes: readonly Change[], wanted: (change: Change) => boolean): Ports {
  const ranges = (proto: ProtoName): PortSet => PortSet.fromRanges(changes.filter((change): change is Change & { first: number; last: number } => 'first' in change && change.proto === proto && wanted(change)));
  return { tcp: ranges('tcp'), udp: ranges('udp') };
}

function both(a: Ports, b: Ports, operation: (a: PortSet, b: PortSet) => PortSet): Ports {
  return { tcp: operation(a.tcp, b.tcp), udp: operation(a.udp, b.udp) };
}

function count({ tcp, udp }: Ports): number {
  return tcp.size + udp.size;
}

/** What the action throws, or null. */
function attempt(action: () => void): Error | null {
  try {
    action();
    return null;
  } catch (error) {
    return error as Error;
  }
}
