/**
 * Control plane: what can be asked of the lease book, and what is to follow.
 *
 *     lease book, reserve on the host ══▶ commit to the store ─▶ mute ─▶ steering table ─▶ unmute ══▶ answers
 *     └─ at once, in the order asked ─┘   └─ operations.ts ─┘    └───────── effects.ts ────────┘
 *
 * Durable      an answer is given only after its commit, and from what is committed (`leases`). A commit that fails is an answer that
 *              fails; the book is then what is committed, and all goes on (operations.ts).
 * Host first   a port that a host process holds is found when its socket cannot be bound; it is never leased, and the
 *              grant goes on with the next block (D5).
 * Indications  are not stored: the agent states them again. The data plane's own (D7) are not in the book; `endUse` and the beginning
 *              of a session end those that an agent does not state.
 * Not here     who may speak (session.ts), what is granted (leases.ts), when leases run out (lease-clock.ts).
 */
import { Effects } from './effects.js';
import { claimAll, claimRanges, claimRun } from './host-claims.js';
import type { HostStack } from './host-stack.js';
import { LeaseClock } from './lease-clock.js';
import { type GuestPlan, leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { type Change, type Leases, NEVER, NO_PORTS, type Ports, portsOf, PROTOS, type ProtoName } from './lease-state.js';
import { type BlockResult, LeaseBook, type Result, type SomePorts } from './leases.js';
import { type Decision, Operations, type Sequel } from './operations.js';
import type { Publisher } from './publisher.js';
import type { Taken } from './reserve.js';
import { isStoreFailure, type SettingRecord, type Store } from './store.js';
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { type PortRange, PortSet } from '../wire/port-set.js';

/** Why a lease ended, as its guest is told. */
const HOST_HAS_IT = 'a process of the host itself uses the port';
const HOST_HAD_IT = 'the host itself uses it at its new address';

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
  private readonly operations: Operations;
  private readonly effects: Effects;
  private readonly clock: LeaseClock;

  /** All that the book holds has been committed. */
  private constructor(parts: PlaneParts, book: LeaseBook) {
    this.parts = parts;
    this.book = book;
    this.operations = new Operations(parts, book, async (batch) => {
      await this.effects.makeTrue(batch);
      this.clock.watch();
    });
    this.effects = new Effects({ ...parts, book }, this.operations.committed, (...lost) => this.onEnded(...lost));
    this.clock = new LeaseClock(book, this.operations, this.effects);
  }

  /** Takes up what the store holds, gives every guest its configured leases, and publishes the rest. */
  static async start(parts: PlaneParts): Promise<ControlPlane> {
    const book = new LeaseBook({ ...parts.bookOptions, restored: parts.store.load() });
    book.pause(); // while the daemon was away nobody could renew
    const now = Date.now();
    const changes: Change[] = [];
    for (const guest of parts.plan.guests) book.addGuest(guest.name, guest.policy);
    for (const holder of book.holders) {
      if (!parts.plan.guests.some((guest) => guest.name === holder)) changes.push(...book.removeGuest(holder, now).changes);
    }
    for (const guest of parts.plan.guests) {
      const { changes: fixed, refusal } = book.setFixed(guest.name, guest.onShared ? guest : NO_PORTS, now);
      changes.push(...fixed);
      if (refusal !== null) throw new BerthError(refusal.code, `guest ${guest.name}: ${refusal.message}`);
    }
    await parts.store.commit(changes);
    const plane = new ControlPlane(parts, book);
    await plane.takeUp();
    return plane;
  }

  /** What every guest holds and uses, as far as it is committed: the book may be ahead. */
  get leases(): Leases {
    return this.operations.committed;
  }

  /**
   * Takes up a guest with its leases of the configuration, kept with its settings; throws, with nothing changed, where somebody has one of
   * them. `join` makes it known to the plan, the host and the table, once it is in the store and before anything else is made true.
   */
  async addGuest(guest: GuestPlan, setting: object, join: () => Promise<void>): Promise<void> {
    const { host, plan } = this.parts;
    const outcome = { failure: null as Error | null, isReserved: false, isKept: false };
    const decide = (now: number): Decision => {
      const isShared = guest.addresses.some((address) => plan.shared.includes(address));
      const possible = this.book.checkFixed(guest.name, isShared ? guest : NO_PORTS, now);
      if (possible.refusal !== null) outcome.failure = new BerthError(possible.refusal.code, `guest ${guest.name}: ${possible.refusal.message}`);
      else outcome.failure = failureOf(() => host.reserveGuest(guest));
      if (outcome.failure !== null) return possible;
      outcome.isReserved = true;
      this.book.addGuest(guest.name, guest.policy);
      this.book.setReserved(leasedElsewhere({ guests: [...plan.guests, guest], departed: plan.departed }));
      return { ...this.book.setFixed(guest.name, guest.onShared ? guest : NO_PORTS, now), record: { type: 'guest', guest: guest.name, setting } };
    };
    const joinKept = async (): Promise<void> => {
      if (outcome.failure !== null) return;
      outcome.isKept = true;
      await join();
    };
    await this.perform(decide, { after: joinKept }).catch((error: unknown) => (outcome.failure = error as Error));
    if (outcome.failure === null) return;
    if (outcome.isKept) await this.forget(guest.name).catch(() => undefined); // the failure before is the one to tell
    if (outcome.isReserved && !guest.onShared) host.unreserveGuest(guest);
    throw outcome.failure;
  }

  /** The guest's leases of the configuration are `after`'s from now on, kept by `record`; as addGuest. What it has no longer is quarantined. */
  async changeGuest(after: GuestPlan, record: SettingRecord, join: () => Promise<void>): Promise<void> {
    const outcome = { failure: null as Error | null };
    const decide = (now: number): Decision => {
      const possible = this.book.checkFixed(after.name, after, now);
      if (possible.refusal !== null) outcome.failure = new BerthError(possible.refusal.code, `guest ${after.name}: ${possible.refusal.message}`);
      else outcome.failure = failureOf(() => this.parts.host.reserveGuest(after));
      return outcome.failure === null ? { ...this.book.setFixed(after.name, after, now), record } : possible;
    };
    const joinKept = async (): Promise<void> => {
      if (outcome.failure === null) await join();
    };
    await this.perform(decide, { after: joinKept });
    if (outcome.failure !== null) throw outcome.failure;
  }

  /** Ends all that the guest has, and forgets its settings. `leave` has the plan and the table without it. */
  removeGuest(guest: string, leave: () => void): Promise<void> {
    return this.forget(guest, { after: leave });
  }

  /**
   * All leases on shared addresses are on the plan's coming ones, `added`, too, but for those ports that a host process holds there:
   * these leases end. `move` has the plan and the table follow, when all is muted there, and is given what was lost.
   */
  async followAddresses(added: readonly number[], move: (lost: Ports) => void): Promise<void> {
    const { host } = this.parts;
    const lost = claimAll(host, added, portsOf(this.book.snapshot(), () => true));
    const follow = async (): Promise<void> => {
      await host.followPlan();
      move(lost);
      this.effects.publish(null, added);
    };
    await this.perform((now) => this.loseToHost(lost, now), { after: follow, reason: HOST_HAD_IT });
  }

  /** Grants a block; tries its ports on the host first. */
  grantBlock(guest: string): Promise<BlockResult> {
    return this.perform((now) => this.findBlock(guest, now));
  }

  /**
   * What a session begins with, decided at once: what the guest holds is renewed, one that has no block gets its first one, if there is one
   * for it (R1, R7), and in use is what it states. Refused: a later session has begun meanwhile.
   */
  begin(guest: string, epoch: number, used: SomePorts): Promise<Result> {
    return this.perform(
      (now) => {
        const current = this.book.hello(guest, epoch);
        if (current.refusal !== null) return current;
        const renewed = this.book.renew(guest, now).changes;
        const first = this.book.holding(guest).blocks.length === 0 ? this.findBlock(guest, now).changes : [];
        // Ports that are not leased are no use that could be refused: the first hello states all that the guest has open.
        return { ...current, changes: [...current.changes, ...renewed, ...first, ...this.book.resync(guest, used).changes] };
      },
      { after: () => this.endOthers(guest) },
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

  release(guest: string, ports: SomePorts): Promise<Result> {
    return this.perform((now) => this.book.release(guest, ports, now));
  }

  async renew(guest: string): Promise<ReturnType<LeaseBook['renew']>> {
    try {
      return await this.perform((now) => this.book.renew(guest, now));
    } catch (error) {
      if (isStoreFailure(error)) this.clock.owe(guest);
      throw error;
    }
  }

  hello(guest: string, epoch: number): Promise<Result> {
    return this.perform(() => this.book.hello(guest, epoch));
  }

  use(guest: string, ports: SomePorts): Promise<Result> {
    return this.perform(() => this.book.use(guest, ports));
  }

  /** Also ends uses that only the data plane knows of (D7). */
  endUse(guest: string, ports: Ports): Promise<Result> {
    const endImplicit = (): void => {
      const { leased } = this.leases.holding(guest);
      this.parts.publisher.endImplicit(guest, { tcp: ports.tcp.intersect(leased.tcp), udp: ports.udp.intersect(leased.udp) });
    };
    return this.perform(() => this.book.endUse(guest, ports), { after: endImplicit });
  }

  /** Makes what is in use exactly what the guest states. What the data plane alone knows of (D7) stays: it may be newer. */
  resync(guest: string, used: SomePorts): Promise<Result> {
    return this.perform(() => this.book.resync(guest, used));
  }

  /** The guest said nothing for the grace period (D4). */
  silence(guest: string): Promise<Result> {
    return this.perform(() => this.book.silence(guest), { after: () => this.endOthers(guest) });
  }

  /** The epoch of the guest's latest session. */
  epochOf(guest: string): number {
    return this.leases.snapshot().epochs[guest] ?? 0;
  }

  /** Waits for what is being done, then stops the clock. */
  async close(): Promise<void> {
    this.clock.close();
    await this.operations.idle();
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

  private async forget(guest: string, sequel: Sequel = {}): Promise<void> {
    await this.perform((now) => ({ ...this.book.removeGuest(guest, now), record: { type: 'guest', guest, setting: null } as const }), sequel);
    this.book.setReserved(leasedElsewhere(this.parts.plan));
  }

  private loseToHost(lost: Ports, now: number): Result {
    return { changes: PROTOS.flatMap((proto) => [...lost[proto].ports()].flatMap((port) => this.book.hostTook(proto, port, now).changes)), refusal: null };
  }

  /** What is in use is what is committed as that, and nothing else. */
  private endOthers(guest: string): void {
    const { leased, used } = this.leases.holding(guest);
    this.parts.publisher.endImplicit(guest, { tcp: leased.tcp.subtract(used.tcp), udp: leased.udp.subtract(used.udp) });
  }

  /** Decides on what has not run out by now; resolves with what came of it, when that is true. */
  private perform<R extends Decision>(decision: (now: number) => R, sequel: Sequel = {}): Promise<R> {
    const now = Date.now();
    this.clock.tick(now);
    return this.operations.perform(decision, sequel, now);
  }

  /** Reserves the ranges on the host; the first port that a host process holds, or null when all are reserved. */
  private tryHost(guest: string, ranges: Record<ProtoName, readonly PortRange[]>): (Taken & { proto: ProtoName }) | null {
    const taken = claimRanges(this.parts.host, ranges);
    if (taken !== null) this.parts.log.warn({ guest }, `${taken.proto} port ${taken.port} is used by the host itself${taken.owner === null ? '' : ` (${taken.owner})`}; it is not leased`);
    return taken;
  }

  /** Makes true what the store had. What a host process took in between is its now, and the guest finds it missing in its welcome. */
  private async takeUp(): Promise<void> {
    const state = this.leases.snapshot();
    const lostOf = (proto: ProtoName): PortSet => {
      const ports = state[proto].filter(({ until }) => until !== NEVER).flatMap((run) => claimRun(this.parts.host, proto, run));
      return PortSet.fromRanges(ports.map((port) => ({ first: port, last: port })));
    };
    const lost = { tcp: lostOf('tcp'), udp: lostOf('udp') };
    await this.effects.takeUp();
    await this.perform((now) => this.loseToHost(lost, now), { reason: HOST_HAS_IT });
    await this.clock.resume();
  }
}

/** What the action throws, or null. */
function failureOf(action: () => void): Error | null {
  try {
    action();
    return null;
  } catch (error) {
    return error as Error;
  }
}
