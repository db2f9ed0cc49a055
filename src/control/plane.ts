/**
 * Control plane: makes true what the lease book decides.
 *
 *     lease book ─▶ reserve on the host ══▶ commit to the store ─▶ mute ─▶ steering table ─▶ unmute ══▶ answers
 *     └─ at once, in the order asked ─┘     └─ in batches: all that was decided while the last one was made true ─┘
 *
 * Batches      one commit and one transaction of nft for each operation took 2 ms and more of waiting; a hundred guests wait together.
 * Durable      an answer is given only after its commit. A commit that fails is an answer that fails; what the book had
 *              changed by then is taken from the store again.
 * Host first   a port that a host process holds is found when its socket cannot be bound; it is never leased, and the
 *              grant goes on with the next block (D5).
 * Indications  are not stored: the agent states them again. The data plane's own (D7) are not in the book; `settle` ends
 *              those that an agent does not state.
 * Not here     who may speak (session.ts), what is granted (leases.ts).
 */
import type { HostStack } from './host-stack.js';
import type { LeasePlan } from './lease-plan.js';
import type { Change, Ports, ProtoName } from './lease-state.js';
import { NEVER, NO_PORTS, PROTOS } from './lease-state.js';
import { type BlockResult, LeaseBook, type Result, type SomePorts } from './leases.js';
import type { Publisher } from './publisher.js';
import type { Store } from './store.js';
import { Batches } from '../base/batches.js';
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { PortSet } from '../wire/port-set.js';

/** Timers of Node take at most 2^31 ms. */
const LONGEST_TIMER_MS = 2 ** 30;
/** Leases that ended while the daemon was away last this long, so that their guests can renew. */
const RETURN_MS = 30_000;

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
  readonly after: (() => void) | null;
}

export class ControlPlane {
  readonly book: LeaseBook;
  /** Called for leases that have run out, after they have ended. */
  onEnded: (guest: string, ports: Ports) => void = () => undefined;
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

  /** Grants a block; tries its ports on the host first. */
  grantBlock(guest: string): Promise<BlockResult> {
    return this.perform((now) => {
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
    });
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

  release(guest: string, ports: SomePorts): Promise<Result> {
    return this.perform((now) => this.book.release(guest, ports, now));
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

  /** Makes what is in use exactly what the guest states. */
  resync(guest: string, used: SomePorts): Promise<Result> {
    return this.settle(guest, () => this.book.resync(guest, used));
  }

  /** The guest said nothing for the grace period (D4). */
  silence(guest: string): Promise<Result> {
    return this.settle(guest, () => this.book.silence(guest));
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

  private settle(guest: string, operation: () => Result): Promise<Result> {
    return this.perform(operation, () => {
      const { leased, used } = this.book.holding(guest);
      this.parts.publisher.endImplicit(guest, { tcp: leased.tcp.subtract(used.tcp), udp: leased.udp.subtract(used.udp) });
    });
  }

  /** Decides now; resolves when that is true. `after` follows the operation's own changes in the steering table. */
  private async perform<R extends Result>(operation: (now: number) => R, after: (() => void) | null = null): Promise<R> {
    try {
      const result = operation(Date.now());
      if (result.changes.length > 0 || after !== null) await this.batches.add({ changes: result.changes, after });
      return result;
    } catch (error) {
      this.parts.log.error({ err: error }, 'a control operation failed');
      throw error;
    }
  }

  /** Reserves the ranges on the host; the first port that a host process holds, or null when all are reserved. */
  private tryHost(guest: string, ranges: Record<ProtoName, readonly { first: number; last: number }[]>): { proto: ProtoName; port: number; owner: string | null } | null {
    const { host, log } = this.parts;
    const done: { proto: ProtoName; ports: PortSet }[] = [];
    for (const proto of PROTOS) {
      for (const { first, last } of ranges[proto]) {
        // What is quarantined for this guest is reserved still, and stays so whatever comes of this.
        const fresh = PortSet.fromRanges([{ first, last }]).subtract(host.reserved(proto, first, last));
        const taken = host.reserve(proto, first, last);
        if (taken === null) {
          done.push({ proto, ports: fresh });
          continue;
        }
        for (const { proto: undone, ports } of done) for (const range of ports.ranges()) host.unreserve(undone, range.first, range.last);
        log.warn({ guest }, `${proto} port ${taken.port} is used by the host itself${taken.owner === null ? '' : ` (${taken.owner})`}; it is not leased`);
        return { proto, ...taken };
      }
    }
    return null;
  }

  /** Commits, then changes the host and the table. What ends is discarded by the table before the host may have it again. */
  private async makeTrue(decided: readonly Decided[]): Promise<void> {
    const { store, host, publisher, log } = this.parts;
    const changes = decided.flatMap((one) => one.changes);
    const stored = changes.filter(({ type }) => type !== 'use' && type !== 'end-use');
    if (stored.length > 0) await store.commit(stored);
    const leased = portsOf(changes, (change) => change.type === 'lease' && change.until !== NEVER);
    const freed = portsOf(changes, ({ type }) => type === 'free');
    // The host is silent before the first frame may be steered, and hears again only after the last one.
    if (count(leased) > 0) {
      this.muted = both(this.muted, leased, (muted, ports) => muted.union(ports));
      await host.setGranted(this.muted);
    }
    for (const one of decided) {
      publisher.apply(one.changes);
      one.after?.();
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
    this.watchDeadline();
  }

  /** Publishes restored leases and quarantines, which the store has already. */
  private async restore(now: number): Promise<void> {
    const { host, publisher } = this.parts;
    const lost: Change[] = [];
    for (const proto of PROTOS) {
      for (const run of this.book.snapshot()[proto]) {
        if (run.until === NEVER) continue;
        const { guest, first, last, since, until } = run;
        for (let from = first; from <= last; ) {
          const taken = host.reserve(proto, from, last);
          if (taken === null) break;
          // A host process came in between: the port is its now, and the guest finds it missing in its welcome.
          lost.push(...this.book.hostTook(proto, taken.port, now).changes);
          if (taken.port > from) host.reserve(proto, from, taken.port - 1);
          from = taken.port + 1;
        }
        publisher.apply([{ type: 'lease', guest, proto, first, last, since, until, block: 0 }]);
        if (run.state !== 'leased') publisher.apply([{ type: 'quarantine', guest, proto, first, last, since, until }]);
      }
    }
    this.muted = this.granted();
    await host.setGranted(this.muted);
    await this.makeTrue([{ changes: lost, after: null }]);
  }

  /** Every port that is leased or quarantined, but for those of the configuration. */
  private granted(): Ports {
    const { tcp, udp } = this.book.snapshot();
    const ranges = (runs: typeof tcp): PortSet => PortSet.fromRanges(runs.filter(({ until }) => until !== NEVER));
    return { tcp: ranges(tcp), udp: ranges(udp) };
  }

  /** Leases that ended without the guest's own word. */
  private tellEnded(changes: readonly Change[]): void {
    const ended = new Map<string, { tcp: PortSet; udp: PortSet }>();
    for (const change of changes) {
      if (change.type !== 'release') continue;
      const ports = ended.get(change.guest) ?? { ...NO_PORTS };
      ports[change.proto] = ports[change.proto].union(PortSet.fromRanges([change]));
      ended.set(change.guest, ports);
    }
    for (const [guest, ports] of ended) this.onEnded(guest, ports);
  }

  private watchDeadline(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    const deadline = this.book.nextDeadline();
    if (deadline === null || this.closed) return;
    const wait = Math.min(Math.max(1, deadline - Date.now()), LONGEST_TIMER_MS);
    this.timer = setTimeout(() => {
      void this.perform((now) => this.book.expire(now)).then(
        ({ changes }) => {
          this.tellEnded(changes);
          this.watchDeadline();
        },
        () => {
          this.watchDeadline();
        },
      );
    }, wait);
  }
}

function portsOf(changes: readonly Change[], wanted: (change: Change) => boolean): Ports {
  const ranges = (proto: ProtoName): PortSet => PortSet.fromRanges(changes.filter((change): change is Change & { first: number; last: number } => 'first' in change && change.proto === proto && wanted(change)));
  return { tcp: ranges('tcp'), udp: ranges('udp') };
}

function both(a: Ports, b: Ports, operation: (a: PortSet, b: PortSet) => PortSet): Ports {
  return { tcp: operation(a.tcp, b.tcp), udp: operation(a.udp, b.udp) };
}

function count({ tcp, udp }: Ports): number {
  return tcp.size + udp.size;
}
