/**
 * Allocator: which ports a guest that asks may have now. It looks and never changes anything.
 *
 * Block        a run of the guest's block size, aligned to it, inside the pool and free in both protocols. What is
 *              quarantined for the asker itself comes first (D3: nobody else could have it), then the lowest.
 * Reserve      so many ports stay in whole free blocks, for guests that hold less than one block. They are counted in
 *              blocks of the largest size that fits into the reserve: single free ports between leases are no reserve.
 * Fairness     who was refused for want of ports waits in line: first who holds less than a block, then who came first.
 *              What those ahead could have now is not free for others; what none of them can have is.
 * Cost         one pass over the runs, no step a port.
 * Not here     threshold and policy (lease-policy.ts), the line itself (waiting-line.ts).
 */
import { PortSet, type PortRange } from '../wire/port-set.js';
import { refuse, type Asker, type Refusal } from './lease-policy.js';
import { NO_PORTS, PROTOS, type LeaseState, type Ports, type ProtoName } from './lease-state.js';

export interface AllocatorOptions {
  readonly pool: PortSet;
  /** ports that no guest can exhaust; 0: none are held back */
  readonly reserve: number;
  /** the host's own ports (D5), known from the start */
  readonly reservedByHost: Ports;
}

export class Allocator {
  readonly #state: LeaseState;
  readonly #pool: PortSet;
  readonly #reserve: number;
  /** known from the start, and those that the host was found to use */
  #hostFixed: Ports;
  #hostFound: Ports = NO_PORTS;
  /** both of them */
  #host: Ports;
  /** the pool without the host's ports */
  #base: PortSet;

  constructor(state: LeaseState, { pool, reserve, reservedByHost }: AllocatorOptions) {
    this.#state = state;
    this.#pool = pool;
    this.#reserve = reserve;
    this.#hostFixed = reservedByHost;
    this.#host = reservedByHost;
    this.#base = pool.subtract(reservedByHost.tcp).subtract(reservedByHost.udp);
  }

  isHosts(proto: ProtoName, port: number): boolean {
    return this.#host[proto].has(port);
  }

  /** A port that the host was found to use, or uses no more. Those of `reservedByHost` stay the host's. */
  setHost(proto: ProtoName, port: number, taken: boolean): void {
    const one = PortSet.parse(port);
    const found = this.#hostFound[proto];
    this.#hostFound = { ...this.#hostFound, [proto]: taken ? found.union(one) : found.subtract(one) };
    this.#setHost();
  }

  /** Other ports in place of `reservedByHost`. */
  setReserved(ports: Ports): void {
    this.#hostFixed = ports;
    this.#setHost();
  }

  #setHost(): void {
    this.#host = { tcp: this.#hostFixed.tcp.union(this.#hostFound.tcp), udp: this.#hostFixed.udp.union(this.#hostFound.udp) };
    this.#base = this.#pool.subtract(this.#host.tcp).subtract(this.#host.udp);
  }

  /** Ports of the pool that anybody could have, in both protocols. */
  get free(): PortSet {
    return PortSet.fromRanges(this.#stretches(this.#base, null));
  }

  /** The block that the guest gets now. `ahead`: those before it in the line, first one first; `unit`: see reserveUnit. */
  block(asker: Asker, ahead: readonly Asker[], unit: number): PortRange | Refusal {
    const range = this.#find(asker, this.#claims(ahead, unit), unit, true);
    if (range !== null) return range;
    const { block } = asker.policy;
    if (this.#find(asker, PortSet.EMPTY, unit, false) === null) {
      return refuse('ERR_POOL_EMPTY', `no block of ${block} ports is free; ask again later, or for a smaller block`);
    }
    return refuse('ERR_POOL_SHORT', `the free ports are kept for guests that have none or asked before; ask again later`);
  }

  /** Why the guest may not have these ports, none of which it holds, by name; null when it may. */
  named(asker: Asker, wanted: Ports, waiting: readonly Asker[], unit: number): Refusal | null {
    for (const proto of PROTOS) {
      for (const range of wanted[proto].ranges()) {
        const taken = this.#takenBy(asker.name, proto, range);
        if (taken !== null) return refuse('ERR_PORT_TAKEN', taken);
      }
    }
    const inPool = wanted.tcp.union(wanted.udp).intersect(this.#base);
    if (inPool.isEmpty) return null;
    const short = inPool.overlaps(this.#claims(waiting, unit)) || this.#breaksReserve(inPool, unit);
    return short ? refuse('ERR_POOL_SHORT', `the last free ports of the pool are kept for whole blocks; name ports outside ${this.#pool.format()}`) : null;
  }

  /** At most `limit` ports of `wanted` that nobody holds: R5's list. */
  freeOf(asker: Asker, proto: ProtoName, wanted: PortSet, limit: number): PortSet {
    const found: PortRange[] = [];
    let left = limit;
    const candidates = wanted.subtract(this.#host[proto]);
    for (const { first, last } of this.#stretches(candidates, asker.name, [proto])) {
      if (left <= 0) break;
      found.push({ first, last: Math.min(last, first + left - 1) });
      left -= last - first + 1;
    }
    return PortSet.fromRanges(found);
  }

  #takenBy(asker: string, proto: ProtoName, range: PortRange): string | null {
    const hosts = this.#host[proto].firstCommon(PortSet.fromRanges([range]));
    if (hosts !== null) return `${proto} port ${hosts} is used by the host itself; choose another port`;
    const run = this.#state.runs[proto].next(range.first, asker);
    if (run === null || run.first > range.last) return null;
    const port = Math.max(run.first, range.first);
    if (run.state === 'leased') return `${proto} port ${port} is leased to another guest; choose another port`;
    return `${proto} port ${port} was released by another guest and is quarantined; choose another port, or ask again later`;
  }

  /** What those ahead could have now, each after the one before it. */
  #claims(ahead: readonly Asker[], unit: number): PortSet {
    let claimed = PortSet.EMPTY;
    for (const asker of ahead) {
      const range = this.#find(asker, claimed, unit, true);
      if (range !== null) claimed = claimed.union(PortSet.fromRanges([range]));
    }
    return claimed;
  }

  #find(asker: Asker, except: PortSet, unit: number, keepReserve: boolean): PortRange | null {
    const { policy, name, holds } = asker;
    let area = this.#base.subtract(policy.deny.tcp).subtract(policy.deny.udp).subtract(except);
    if (keepReserve && this.#reserve > 0 && holds >= policy.block) {
      const whole = this.#whole(unit, except);
      if (whole.size - Math.max(unit, policy.block) < this.#reserve) area = area.subtract(whole);
    }
    return this.#first(this.#ownQuarantine(asker).intersect(area), area, asker) ?? firstAligned(this.#stretches(area, name), policy.block);
  }

  /** The first block inside `area` that has a port of `near`. */
  #first(near: PortSet, area: PortSet, { name, policy: { block } }: Asker): PortRange | null {
    for (const { first, last } of near.ranges()) {
      const window = PortSet.fromRanges([{ first: Math.max(1, first - block + 1), last: Math.min(65535, last + block - 1) }]);
      const found = firstAligned(this.#stretches(window.intersect(area), name), block);
      if (found !== null) return found;
    }
    return null;
  }

  #ownQuarantine({ name }: Asker): PortSet {
    const isOwn = (run: { guest: string; state: string }): boolean => run.guest === name && run.state === 'quarantined';
    return PortSet.fromRanges(PROTOS.flatMap((proto) => this.#state.runs[proto].all.filter(isOwn)));
  }

  /** Ports that lie in whole free blocks of `unit`, free for anybody. */
  #whole(unit: number, except: PortSet): PortSet {
    const blocks: PortRange[] = [];
    for (const { first, last } of this.#stretches(this.#base.subtract(except), null)) {
      const from = alignUp(first, unit);
      const to = alignUp(last - unit + 2, unit) - 1;
      if (from <= to) blocks.push({ first: from, last: to });
    }
    return PortSet.fromRanges(blocks);
  }

  #breaksReserve(ports: PortSet, unit: number): boolean {
    if (this.#reserve === 0) return false;
    const whole = this.#whole(unit, PortSet.EMPTY);
    const broken = PortSet.fromRanges(
      Array.from(ports.intersect(whole).ranges(), ({ first, last }) => ({ first: first - (first % unit), last: Math.min(65535, alignUp(last + 1, unit) - 1) })),
    );
    return !broken.isEmpty && whole.size - broken.size < this.#reserve;
  }

  /** The stretches of `area` where `asker` could be leased something, ascending. */
  *#stretches(area: PortSet, asker: string | null, protos = PROTOS): Generator<PortRange> {
    for (const { first, last } of area.ranges()) {
      for (let port = first; port <= last; ) {
        let end = last;
        let after = 0;
        for (const proto of protos) {
          const run = this.#state.runs[proto].next(port, asker);
          if (run === null) continue;
          if (run.first <= port) after = Math.max(after, run.last + 1);
          else end = Math.min(end, run.first - 1);
        }
        if (after === 0) yield { first: port, last: end };
        port = after === 0 ? end + 1 : after;
      }
    }
  }
}

/** The unit that the reserve is counted in: the largest block of these that fits into it, 1 when none does. */
export function reserveUnit(blocks: Iterable<number>, reserve: number): number {
  let unit = 1;
  for (const block of blocks) if (block <= reserve && block > unit) unit = block;
  return unit;
}

function firstAligned(stretches: Iterable<PortRange>, block: number): PortRange | null {
  for (const { first, last } of stretches) {
    const from = alignUp(first, block);
    if (from + block - 1 <= last) return { first: from, last: from + block - 1 };
  }
  return null;
}

function alignUp(port: number, unit: number): number {
  return Math.ceil(port / unit) * unit;
}
