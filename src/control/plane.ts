/**
 * Control plane: makes true what the lease book decides. One operation at a time, in the order asked:
 *
 *     lease book ─▶ reserve on the host ─▶ commit to the store ─▶ steering table, mute ─▶ answer
 *
 * Durable      an answer is given only after its commit. A commit that fails is an answer that fails; what the book had
 *              changed by then is taken from the store again.
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
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { PortRange } from '../wire/port-set.js';

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

export class ControlPlane {
  readonly book: LeaseBook;
  /** Called for leases that have ended, once they have, unless by plane.release: whoever calls that knows. */
  onEnded: (guest: string, ports: Ports, reason: string) => void = () => undefined;
  private readonly parts: PlaneParts;
  private tail: Promise<unknown> = Promise.resolve();
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
   * `join` makes it known to the plan, the host and the table, once it is in the store.
   */
  addGuest(guest: GuestPlan, join: () => Promise<void>): Promise<void> {
    return this.inTurn(async () => {
      const now = Date.now();
      const { host, plan } = this.parts;
      const isShared = guest.addresses.some((address) => plan.shared.includes(address));
      const { changes, refusal } = this.book.checkFixed(guest.name, isShared ? guest : NO_PORTS, now);
      await this.makeTrue(changes);
      if (refusal !== null) throw new BerthError(refusal.code, `guest ${guest.name}: ${refusal.message}`);
      host.reserveGuest(guest);
      try {
        this.book.addGuest(guest.name, guest.policy);
        await this.makeTrue(this.book.setFixed(guest.name, guest.onShared ? { tcp: guest.tcp, udp: guest.udp } : NO_PORTS, now).changes);
        await join();
      } catch (error) {
        await this.makeTrue(this.book.removeGuest(guest.name, now).changes);
        if (!guest.onShared) host.unreserveGuest(guest);
        throw error;
      }
      this.book.setReserved(leasedElsewhere(plan));
    });
  }

  /** Ends all that the guest has. `leave` has the plan and the table without it. */
  removeGuest(guest: string, leave: () => void): Promise<void> {
    return this.inTurn(async () => {
      await this.makeTrue(this.book.removeGuest(guest, Date.now()).changes);
      leave();
      this.book.setReserved(leasedElsewhere(this.parts.plan));
      await this.parts.host.setGranted(this.granted());
    });
  }

  /**
   * All leases on shared addresses are on `added` too, but for those ports that a host process holds there: these leases end.
   * `move` has the plan, the host and the table follow, and is given what was lost.
   */
  followAddresses(added: readonly number[], move: (lost: Ports) => Promise<void>): Promise<void> {
    return this.inTurn(async () => {
      const now = Date.now();
      const lost = claimAll(this.parts.host, added, portsOf(this.book.snapshot(), () => true));
      const changes = PROTOS.flatMap((proto) => [...lost[proto].ports()].flatMap((port) => this.book.hostTook(proto, port, now).changes));
      await this.makeTrue(changes, 'the host itself uses it at its new address');
      await move(lost);
      const { publisher, host } = this.parts;
      const state = this.book.snapshot();
      for (const proto of PROTOS) for (const run of state[proto]) if (run.until !== NEVER) publisher.apply(changesOf(proto, run), added);
      for (const guest of this.book.holders) publisher.apply(usesOf(guest, this.book.holding(guest).used), added);
      await host.setGranted(this.granted());
    });
  }

  /** Grants a block; tries its ports on the host first. */
  grantBlock(guest: string): Promise<BlockResult> {
    return this.inTurn(() => this.findBlock(guest));
  }

  /**
   * What a session begins with, in one turn: a guest that has no block gets its first one, if there is one for it (R1, R7),
   * and in use is what it states. Refused: a later session has begun meanwhile.
   */
  begin(guest: string, epoch: number, used: SomePorts): Promise<Result> {
    return this.inTurn(async () => {
      const current = this.book.hello(guest, epoch);
      if (current.refusal !== null) return current;
      if (this.book.holding(guest).blocks.length === 0) await this.findBlock(guest);
      // Ports that are not leased are no use that could be refused: the first hello states all that the guest has open.
      await this.settled(guest, this.book.resync(guest, used));
      return current;
    });
  }

  /** Grants ports by name, all or none. */
  grantPorts(guest: string, ports: Ports): Promise<Result> {
    return this.inTurn(async () => {
      const now = Date.now();
      const possible = this.book.checkPorts(guest, ports, now);
      if (possible.refusal !== null) {
        await this.makeTrue(possible.changes);
        return possible;
      }
      const { leased } = this.book.holding(guest);
      const fresh = { tcp: [...ports.tcp.subtract(leased.tcp).ranges()], udp: [...ports.udp.subtract(leased.udp).ranges()] };
      const taken = this.tryHost(guest, fresh);
      if (taken !== null) {
        await this.makeTrue(possible.changes);
        await this.makeTrue(this.book.hostTook(taken.proto, taken.port, now).changes, HOST_HAS_IT);
        const owner = taken.owner === null ? '' : ` (${taken.owner})`;
        return { changes: [], refusal: { code: 'ERR_PORT_TAKEN', message: `${taken.proto} port ${taken.port} is used by the host itself${owner}` } };
      }
      const granted = this.book.grantPorts(guest, ports, now);
      await this.makeTrue([...possible.changes, ...granted.changes]);
      return granted;
    });
  }

  release(guest: string, ports: SomePorts): Promise<Result> {
    return this.inTurn(async () => {
      const now = Date.now();
      await this.makeTrue(this.book.expire(now).changes);
      const result = this.book.release(guest, ports, now);
      await this.makeTrue(result.changes, null);
      return result;
    });
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
    return this.inTurn(async () => {
      const result = this.book.endUse(guest, ports);
      await this.makeTrue(result.changes);
      const { leased } = this.book.holding(guest);
      this.parts.publisher.endImplicit(guest, { tcp: ports.tcp.intersect(leased.tcp), udp: ports.udp.intersect(leased.udp) });
      return result;
    });
  }

  /** Makes what is in use exactly what the guest states. What the data plane alone knows of (D7) stays: it may be newer. */
  resync(guest: string, used: SomePorts): Promise<Result> {
    return this.perform(() => this.book.resync(guest, used));
  }

  /** The guest said nothing for the grace period (D4). */
  silence(guest: string): Promise<Result> {
    return this.inTurn(() => this.settled(guest, this.book.silence(guest)));
  }

  /** The epoch of the guest's latest session. */
  epochOf(guest: string): number {
    return this.book.snapshot().epochs[guest] ?? 0;
  }

  /** Waits for what is being done, then stops the clock. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.tail;
  }

  /** In a turn. */
  private async findBlock(guest: string): Promise<BlockResult> {
    for (;;) {
      const now = Date.now();
      const { block, changes, refusal } = this.book.findBlock(guest, now);
      await this.makeTrue(changes);
      if (block === null) return { block, changes, refusal };
      const taken = this.tryHost(guest, { tcp: [block], udp: [block] });
      if (taken === null) {
        const granted = this.book.grantBlock(guest, now);
        await this.makeTrue(granted.changes);
        return granted;
      }
      await this.makeTrue(this.book.hostTook(taken.proto, taken.port, now).changes, HOST_HAS_IT);
    }
  }

  /** In a turn: what is in use is what the book has now, and nothing else. */
  private async settled(guest: string, result: Result): Promise<Result> {
    await this.makeTrue(result.changes);
    const { leased, used } = this.book.holding(guest);
    this.parts.publisher.endImplicit(guest, { tcp: leased.tcp.subtract(used.tcp), udp: leased.udp.subtract(used.udp) });
    return result;
  }

  private perform<R extends Result>(operation: (now: number) => R): Promise<R> {
    return this.inTurn(async () => {
      const result = operation(Date.now());
      await this.makeTrue(result.changes);
      return result;
    });
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.tail.then(action);
    this.tail = turn.catch((error: unknown) => {
      this.parts.log.error({ err: error }, 'a control operation failed');
    });
    return turn;
  }

  /** Reserves the ranges on the host; the first port that a host process holds, or null when all are reserved. */
  private tryHost(guest: string, ranges: Record<ProtoName, readonly PortRange[]>): (Taken & { proto: ProtoName }) | null {
    const taken = claimRanges(this.parts.host, ranges);
    if (taken !== null) this.parts.log.warn({ guest }, `${taken.proto} port ${taken.port} is used by the host itself${taken.owner === null ? '' : ` (${taken.owner})`}; it is not leased`);
    return taken;
  }

  /**
   * Commits, then changes the host and the table. What ends is discarded by the table before the host may have it again.
   * `reason`: why leases end that do; null for those whose end needs no word.
   */
  private async makeTrue(changes: readonly Change[], reason: string | null = RUN_OUT): Promise<void> {
    if (changes.length === 0) return;
    const { store, host, publisher } = this.parts;
    const stored = changes.filter(({ type }) => type !== 'use' && type !== 'end-use');
    if (stored.length > 0) await store.commit(stored);
    // The host is silent before the first frame may be steered, and hears again only after the last one.
    if (changes.some((change) => change.type === 'lease' && change.until !== NEVER)) await host.setGranted(this.granted());
    publisher.apply(changes);
    if (changes.some((change) => change.type === 'free')) {
      for (const change of changes) if (change.type === 'free') host.unreserve(change.proto, change.first, change.last);
      await host.setGranted(this.granted());
    }
    if (reason !== null) this.tellEnded(changes, reason);
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
    await host.setGranted(this.granted());
    await this.makeTrue(lost, HOST_HAS_IT);
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
