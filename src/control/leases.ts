/**
 * Lease book: who holds which ports until when, and which of them are in use. Pure: the clock and what is asked go in, the
 * new state and a list of changes come out; no I/O, no timers.
 *
 * Results      every method gives `changes`, what it altered, in order (lease-state.ts says what each means), and `refusal`,
 *              null when all that was asked was done. A refused grant alters nothing, but the changes may still hold what
 *              had run out by then: commit and publish them in either case.
 * Clock        `now` is the wall clock in ms, so that `until` outlives the daemon; what had run out by then is ended first.
 * Count        one port held in both protocols counts once. Leases of the configuration have no end and do not count.
 * Committing   a change holds when the store has it. When a commit fails, restore() the book to what has been committed; what was
 *              decided on the changes that failed is not true any more, and has to be decided again.
 * Not here     which ports a block gets (allocator.ts), what a guest may have (lease-policy.ts), the store, the steering table.
 */
import { PortSet } from '../wire/port-set.js';
import type { AllocatorOptions } from './allocator.js';
import { Grants, heldByAnother, notLeased } from './lease-grants.js';
import { Journal } from './lease-journal.js';
import { counted, refuse, type GuestPolicy, type Refusal } from './lease-policy.js';
import type { Run } from './lease-ranges.js';
import { LeaseState, NEVER, NO_PORTS, PROTOS, type Block, type BookState, type Change, type Holding, type Ports, type ProtoName } from './lease-state.js';

export interface LeaseBookOptions extends AllocatorOptions {
  /** how long a released port is kept from other guests (D3); 0: not at all */
  readonly quarantineMs: number;
  /** how long a refused guest keeps its turn without asking again */
  readonly turnMs?: number;
  /** what the store loaded */
  readonly restored?: BookState;
}

export interface Result {
  readonly changes: readonly Change[];
  readonly refusal: Refusal | null;
}
export interface BlockResult extends Result {
  readonly block: Block | null;
}
/** Ports, a protocol left out being none. */
export type SomePorts = Partial<Ports>;
const TURN_MS = 30_000;

export class LeaseBook {
  readonly #state: LeaseState;
  readonly #journal: Journal;
  readonly #grants: Grants;

  constructor(options: LeaseBookOptions) {
    this.#state = new LeaseState(options.restored);
    this.#journal = new Journal(this.#state, options.quarantineMs);
    this.#grants = new Grants(this.#state, options, options.turnMs ?? TURN_MS);
  }

  /**
   * After a commit that failed: leases, epochs and what is in use are those of `committed` again, and the guests are these. What the
   * host was found to use stays known. Paused, since nobody could renew.
   */
  restore(committed: LeaseState, guests: ReadonlyMap<string, GuestPolicy>): void {
    this.#state.copy(committed);
    this.#grants.replace(guests);
    this.pause();
  }

  /** Nothing runs out until grace(). */
  pause(): void {
    this.#journal.pause();
  }

  /** Adds a guest, or replaces its policy: what it holds stays. Throws BerthError `ERR_POLICY`. */
  addGuest(guest: string, policy: GuestPolicy): void {
    this.#grants.add(guest, policy);
  }

  /** Takes all that the guest has, quarantined as if released. Also for one that only the restored state knows. */
  removeGuest(guest: string, now: number): Result {
    this.#begin(now);
    this.#journal.release(guest, this.#state.holding(guest).leased, now);
    if (this.#state.epochs.has(guest)) this.#journal.emit({ type: 'forget', guest });
    this.#grants.remove(guest);
    return this.#done();
  }

  /**
   * Makes the leases that the configuration gives the guest exactly these. Refused, with nothing altered: a port that another
   * guest holds, or that is quarantined after it. Whether the host has one is not asked: its sockets are tried at start.
   */
  setFixed(guest: string, ports: SomePorts, now: number): Result {
    this.#begin(now);
    const wanted = both(ports);
    const refusal = heldByAnother(this.#state, guest, wanted);
    if (refusal !== null) return this.#done(refusal);
    const { fixed } = this.#state.holding(guest);
    this.#journal.release(guest, { tcp: fixed.tcp.subtract(wanted.tcp), udp: fixed.udp.subtract(wanted.udp) }, now);
    for (const proto of PROTOS) this.#journal.lease(guest, proto, wanted[proto].subtract(fixed[proto]), now, NEVER, 0);
    return this.#done();
  }

  /** Whether setFixed would be refused at the same time. */
  checkFixed(guest: string, ports: SomePorts, now: number): Result {
    this.#begin(now);
    return this.#done(heldByAnother(this.#state, guest, both(ports)));
  }

  /** Other ports in place of `reservedByHost`, which nobody holds. */
  setReserved(ports: Ports): void {
    this.#grants.allocator.setReserved(ports);
  }

  /** Grants a block, in both protocols (R7, R8). */
  grantBlock(guest: string, now: number): BlockResult {
    this.#begin(now);
    const found = this.#grants.block(guest, now);
    this.#grants.settle(guest, found, now);
    if ('code' in found) return { ...this.#done(found), block: null };
    for (const proto of PROTOS) this.#journal.lease(guest, proto, PortSet.fromRanges([found]), now, found.until, found.first);
    return { ...this.#done(), block: found };
  }

  /** The block that grantBlock would grant at the same time: it can be tried on the host first (hostTook). */
  findBlock(guest: string, now: number): BlockResult {
    this.#begin(now);
    const found = this.#grants.block(guest, now);
    return 'code' in found ? { ...this.#done(found), block: null } : { ...this.#done(), block: found };
  }

  /** Grants ports by name, all of them or none; what the guest holds already stays as it is. */
  grantPorts(guest: string, ports: SomePorts, now: number): Result {
    this.#begin(now);
    const fresh = this.#fresh(guest, ports);
    const refusal = this.#grants.ports(guest, fresh, now);
    if (refusal !== null) return this.#done(refusal);
    const until = now + (this.guests.get(guest)?.leaseTimeMs ?? 0);
    for (const proto of PROTOS) this.#journal.lease(guest, proto, fresh[proto], now, until, 0);
    return this.#done();
  }

  /** Whether grantPorts would grant them at the same time. */
  checkPorts(guest: string, ports: SomePorts, now: number): Result {
    this.#begin(now);
    return this.#done(this.#grants.ports(guest, this.#fresh(guest, ports), now));
  }

  /** Ends leases; ports that the guest does not hold, and those of the configuration, are left alone and refused. */
  release(guest: string, ports: SomePorts, now: number): Result {
    this.#begin(now);
    const { leased, fixed } = this.#state.holding(guest);
    const own: Ports = { tcp: leased.tcp.subtract(fixed.tcp), udp: leased.udp.subtract(fixed.udp) };
    const wanted = both(ports);
    this.#journal.release(guest, { tcp: wanted.tcp.intersect(own.tcp), udp: wanted.udp.intersect(own.udp) }, now);
    return this.#done(notLeased(wanted, own));
  }

  /** All leases of the guest last from now on. `until` is null when it has none that ends. */
  renew(guest: string, now: number): Result & { readonly until: number | null } {
    this.#begin(now);
    const asker = this.#grants.asker(guest);
    if ('code' in asker) return { ...this.#done(asker), until: null };
    const until = now + asker.policy.leaseTimeMs;
    this.#journal.prolong(guest, () => until);
    const { leased, fixed } = this.#state.holding(guest);
    const ends = PROTOS.some((proto) => !leased[proto].isSubsetOf(fixed[proto]));
    return { ...this.#done(), until: ends ? until : null };
  }

  /** After the daemon or its store was away: nobody could renew, so every lease, over or not, lasts at least until now + `ms`. */
  grace(now: number, ms: number): Result {
    this.#journal.begin();
    for (const guest of this.holders) this.#journal.prolong(guest, ({ until }) => Math.max(until, now + ms));
    this.#journal.resume();
    return this.#done();
  }

  /** Ends what has run out: leases (then quarantined) and quarantines. */
  expire(now: number): Result {
    this.#begin(now);
    return this.#done();
  }

  /** When expire() has something to do, at the latest: it may find nothing. null: never. */
  nextDeadline(): number | null {
    return this.#journal.deadline >= NEVER ? null : this.#journal.deadline;
  }

  /** D4: a session begins. Its epoch may not be below that of an earlier session. */
  hello(guest: string, epoch: number): Result {
    this.#journal.begin();
    const asker = this.#grants.asker(guest);
    if ('code' in asker) return this.#done(asker);
    const current = this.#state.epochs.get(guest);
    if (current !== undefined && epoch < current) return this.#done(oldEpoch(epoch, current));
    if (epoch !== current) this.#journal.emit({ type: 'epoch', guest, epoch });
    return this.#done();
  }

  /** R3: the guest uses these ports. Those not leased to it are refused; the others are in use all the same. */
  use(guest: string, ports: SomePorts, epoch?: number): Result {
    return this.#indicate(guest, epoch, (used) => ({ tcp: used.tcp.union(ports.tcp ?? NO_PORTS.tcp), udp: used.udp.union(ports.udp ?? NO_PORTS.udp) }));
  }

  /** R6: the guest no longer uses these ports; those that it did not use are passed over. */
  endUse(guest: string, ports: SomePorts, epoch?: number): Result {
    return this.#indicate(guest, epoch, (used) => ({ tcp: used.tcp.subtract(ports.tcp ?? NO_PORTS.tcp), udp: used.udp.subtract(ports.udp ?? NO_PORTS.udp) }));
  }

  /** Makes what is in use exactly what the guest states; ports not leased to it are refused, as in use(). */
  resync(guest: string, used: SomePorts, epoch?: number): Result {
    return this.#indicate(guest, epoch, () => both(used));
  }

  /** D4: the guest said nothing for the grace period. Its indications end, its leases go on until they run out. */
  silence(guest: string): Result {
    this.#grants.leaveLine(guest);
    return this.#indicate(guest, undefined, () => NO_PORTS);
  }

  /** D5: the host was found to use the port. It is never leased from now on; a guest that holds it loses it. */
  hostTook(proto: ProtoName, port: number, now: number): Result {
    this.#begin(now);
    this.#grants.allocator.setHost(proto, port, true);
    const run = this.#state.runs[proto].at(port);
    if (run?.state === 'leased') this.#journal.release(run.guest, both({ [proto]: PortSet.parse(port) }), now);
    return this.#done();
  }

  /** The host uses the port no more. */
  hostFreed(proto: ProtoName, port: number): void {
    this.#grants.allocator.setHost(proto, port, false);
  }

  /** R5: at most `limit` ports a protocol that the guest may ask for by name and nobody holds. */
  listFree(guest: string, limit: number): Ports {
    const asker = this.#grants.asker(guest);
    if ('code' in asker) return NO_PORTS;
    const { allow, deny } = asker.policy;
    const free = (proto: ProtoName): PortSet => this.#grants.allocator.freeOf(asker, proto, allow[proto].subtract(deny[proto]), limit);
    return { tcp: free('tcp'), udp: free('udp') };
  }

  /** What the guest holds and uses, its blocks, and what counts towards its threshold. */
  holding(guest: string): Readonly<Holding> & { readonly blocks: readonly Block[]; readonly count: number } {
    const holding = this.#state.holding(guest);
    return { ...holding, blocks: this.#state.blocksOf(guest), count: counted(holding).size };
  }

  /** What there is to say about a port; `run` is null for one that nobody holds. */
  explain(proto: ProtoName, port: number): { readonly run: Run | null; readonly inUse: boolean; readonly hosts: boolean } {
    return { ...this.#state.at(proto, port), hosts: this.#grants.allocator.isHosts(proto, port) };
  }

  /** Everybody who holds a lease, also those that only the restored state knows. */
  get holders(): string[] {
    return this.#state.holders;
  }

  get guests(): ReadonlyMap<string, GuestPolicy> {
    return this.#grants.policies;
  }

  /** Ports of the pool that anybody could have, in both protocols. */
  get free(): PortSet {
    return this.#grants.allocator.free;
  }

  snapshot(): BookState {
    return this.#state.snapshot();
  }

  #indicate(guest: string, epoch: number | undefined, next: (used: Ports) => Ports): Result {
    this.#journal.begin();
    const current = this.#state.epochs.get(guest);
    if (epoch !== undefined && epoch !== current) return this.#done(oldEpoch(epoch, current ?? 0));
    const { used, leased } = this.#state.holding(guest);
    const stated = next(used);
    const refusal = notLeased(stated, leased);
    const begun = (proto: ProtoName): PortSet => stated[proto].intersect(leased[proto]).subtract(used[proto]);
    this.#journal.each('end-use', guest, { tcp: used.tcp.subtract(stated.tcp), udp: used.udp.subtract(stated.udp) });
    this.#journal.each('use', guest, { tcp: begun('tcp'), udp: begun('udp') });
    return this.#done(refusal);
  }

  #fresh(guest: string, ports: SomePorts): Ports {
    const { leased } = this.#state.holding(guest);
    const { tcp, udp } = both(ports);
    return { tcp: tcp.subtract(leased.tcp), udp: udp.subtract(leased.udp) };
  }

  #begin(now: number): void {
    this.#journal.begin();
    this.#journal.sweep(now);
  }

  #done(refusal: Refusal | null = null): Result {
    return { changes: this.#journal.changes, refusal };
  }
}

function both({ tcp, udp }: SomePorts): Ports {
  return { tcp: tcp ?? PortSet.EMPTY, udp: udp ?? PortSet.EMPTY };
}

function oldEpoch(got: number, current: number): Refusal {
  return refuse('ERR_OLD_EPOCH', `the session is not the current one (got epoch ${got}, expected ${current}); say hello with a later epoch`);
}
