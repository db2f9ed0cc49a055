/**
 * The lease book against a model that knows one thing a port: who has it, how, and until when. Whatever is asked, in whatever
 * order: no endpoint is owned twice, quarantine, threshold and reserve are kept, what is in use is leased, nothing is refused
 * that could have been had, and the changes replayed, stored and loaded again, or taken back after a commit that failed, make the
 * same state.
 *
 * The pool is five blocks of four ports, with named ports beside it and inside: every sequence soon runs it short.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LeaseState, NO_PORTS, PROTOS, type ProtoName } from '../../src/control/lease-state.js';
import { LeaseBook, type LeaseBookOptions, type Result } from '../../src/control/leases.js';
import { PortSet } from '../../src/wire/port-set.js';
import { policy, ports } from '../support/lease-book.js';

const SEQUENCES = 10_000;
const GUESTS = ['a', 'b', 'c'];
const BLOCK = 4;
const [POOL_FIRST, POOL_LAST] = [32, 51];
const MAX_PORTS = { a: 12, b: 14, c: 64 };
const QUARANTINE = 50;
const LEASE = 200;
const RESERVE = 8;
const NAMED = ports('8-11,30-35,48-49');
const OPTIONS: LeaseBookOptions = { pool: ports(`${POOL_FIRST}-${POOL_LAST}`), reserve: RESERVE, quarantineMs: QUARANTINE, reservedByHost: NO_PORTS };

interface Owner {
  readonly guest: string;
  readonly leased: boolean;
  readonly until: number;
}

/** The whole model: one entry a port that somebody has. */
class Model {
  now = 1;
  readonly owners: Record<ProtoName, Map<number, Owner>> = { tcp: new Map(), udp: new Map() };
  readonly used: Record<ProtoName, Map<number, string>> = { tcp: new Map(), udp: new Map() };
  readonly host: Record<ProtoName, Set<number>> = { tcp: new Set(), udp: new Set() };

  expire(): void {
    for (const proto of PROTOS) {
      for (const [port, { guest, leased, until }] of this.owners[proto]) if (until <= this.now) this.end(guest, proto, port, leased);
    }
  }
  lease(guest: string, proto: ProtoName, port: number): void {
    this.owners[proto].set(port, { guest, leased: true, until: this.now + LEASE });
  }
  end(guest: string, proto: ProtoName, port: number, leased = true): void {
    this.used[proto].delete(port);
    if (leased) this.owners[proto].set(port, { guest, leased: false, until: this.now + QUARANTINE });
    else this.owners[proto].delete(port);
  }
  holds(guest: string, proto: ProtoName, port: number): boolean {
    const owner = this.owners[proto].get(port);
    return owner?.guest === guest && owner.leased;
  }
  /** Whether the guest could be leased the port; null: whether anybody could. */
  isFree(guest: string | null, proto: ProtoName, port: number): boolean {
    const owner = this.owners[proto].get(port);
    return !this.host[proto].has(port) && (owner === undefined || (!owner.leased && owner.guest === guest));
  }
  count(guest: string): number {
    return new Set(PROTOS.flatMap((proto) => [...this.owners[proto].keys()].filter((port) => this.holds(guest, proto, port)))).size;
  }
  freeBlocks(guest: string | null): number[] {
    const found: number[] = [];
    for (let first = POOL_FIRST; first <= POOL_LAST; first += BLOCK) {
      if (run(first).every((port) => PROTOS.every((proto) => this.isFree(guest, proto, port)))) found.push(first);
    }
    return found;
  }
}

class Real {
  book = new LeaseBook(OPTIONS);
  replayed = new LeaseState();
  constructor() {
    this.addGuests();
  }
  addGuests(): void {
    const allow = { tcp: NAMED, udp: NAMED };
    for (const guest of GUESTS) this.book.addGuest(guest, policy({ block: BLOCK, maxPorts: maxPorts(guest), leaseTimeMs: LEASE, allow, threshold: guest === 'b' ? 'literal' : 'strict' }));
  }
  /** Replays the changes of a result, and hands the result on. */
  take<T extends Result>(result: T): T {
    for (const change of result.changes) this.replayed.apply(change);
    return result;
  }
}

const run = (first: number): number[] => Array.from({ length: BLOCK }, (_, i) => first + i);
const maxPorts = (guest: string): number => MAX_PORTS[guest as keyof typeof MAX_PORTS];
const over = (guest: string, holds: number, more: number): boolean => (guest === 'b' ? holds > maxPorts(guest) : holds + more > maxPorts(guest));

type Step = (model: Model, real: Real) => void;

/** One thing asked of the book, the same done to the model, then all that must hold. */
class Asked implements fc.Command<Model, Real> {
  readonly #text: string;
  readonly #step: Step;
  constructor(text: string, step: Step) {
    this.#text = text;
    this.#step = step;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    model.expire();
    this.#step(model, real);
    check(model, real);
  }
  toString(): string {
    return this.#text;
  }
}

function check(model: Model, { book, replayed }: Real): void {
  const state = book.snapshot();
  for (const proto of PROTOS) {
    const found = new Map<number, Owner>();
    for (const { first, last, guest, state: how, until } of state[proto]) {
      for (let port = first; port <= last; port++) {
        if (found.has(port)) throw new Error(`${proto} ${port} is owned twice`);
        found.set(port, { guest, leased: how === 'leased', until });
      }
    }
    if (!same(found, model.owners[proto])) expect([...found].sort()).toEqual([...model.owners[proto]].sort());
    const used = new Map<number, string>();
    for (const guest of GUESTS) {
      const holding = book.holding(guest);
      if (!holding.used[proto].isSubsetOf(holding.leased[proto])) throw new Error(`${guest} uses ${proto} ports outside its lease`);
      for (const port of holding.used[proto].ports()) used.set(port, guest);
    }
    if (used.size !== model.used[proto].size || ![...used].every(([port, guest]) => model.used[proto].get(port) === guest)) expect(used).toEqual(model.used[proto]);
  }
  if (JSON.stringify(replayed.snapshot()) !== JSON.stringify(state)) expect(replayed.snapshot()).toEqual(state);
  for (const guest of GUESTS) if (!replayed.holding(guest).used.tcp.equals(book.holding(guest).used.tcp)) throw new Error('replayed use differs');
}

function same(a: ReadonlyMap<number, Owner>, b: ReadonlyMap<number, Owner>): boolean {
  if (a.size !== b.size) return false;
  for (const [port, x] of a) {
    const y = b.get(port);
    if (y?.guest !== x.guest || y.leased !== x.leased || y.until !== x.until) return false;
  }
  return true;
}

function grantBlock(guest: string): Step {
  return (model, real) => {
    const holds = model.count(guest);
    const before = model.freeBlocks(null);
    const possible = model.freeBlocks(guest);
    const found = real.book.findBlock(guest, model.now).block;
    const { block, refusal } = real.take(real.book.grantBlock(guest, model.now));
    expect(block?.first).toBe(found?.first);
    expect(refusal?.code === 'ERR_OVER_THRESHOLD').toBe(over(guest, holds, BLOCK));
    if (refusal?.code === 'ERR_POOL_EMPTY') expect(possible).toEqual([]);
    if (refusal?.code === 'ERR_POOL_SHORT') expect(possible).not.toEqual([]);
    if (block === null) return;
    if (!possible.includes(block.first) || block.last !== block.first + BLOCK - 1) throw new Error(`block ${block.first} was not free`);
    for (const proto of PROTOS) for (const port of run(block.first)) model.lease(guest, proto, port);
    const after = model.freeBlocks(null);
    if (holds >= BLOCK && after.length < before.length && after.length * BLOCK < RESERVE) throw new Error('the reserve was given to a guest that has a block');
  };
}

function grantPorts(guest: string, proto: ProtoName, wanted: PortSet): Step {
  return (model, real) => {
    const fresh = [...wanted.ports()].filter((port) => !model.holds(guest, proto, port));
    const holds = model.count(guest);
    const other = proto === 'tcp' ? 'udp' : 'tcp';
    const more = fresh.filter((port) => !model.holds(guest, other, port)).length;
    const before = model.freeBlocks(null).length;
    const { refusal } = real.take(real.book.grantPorts(guest, { [proto]: wanted }, model.now));
    const allowed = fresh.every((port) => NAMED.has(port));
    expect(refusal?.code === 'ERR_NOT_ALLOWED').toBe(!allowed);
    if (allowed) expect(refusal?.code === 'ERR_OVER_THRESHOLD').toBe(more > 0 && over(guest, holds, more));
    if (refusal?.code === 'ERR_PORT_TAKEN') expect(fresh.some((port) => !model.isFree(guest, proto, port))).toBe(true);
    if (refusal !== null) return;
    if (!fresh.every((port) => model.isFree(guest, proto, port))) throw new Error('a named port was not free');
    for (const port of fresh) model.lease(guest, proto, port);
    const after = model.freeBlocks(null).length;
    if (after < before && after * BLOCK < RESERVE) throw new Error('named ports broke the reserve');
  };
}

function release(guest: string, proto: ProtoName, range: PortSet): Step {
  return (model, real) => {
    const own = [...range.ports()].filter((port) => model.holds(guest, proto, port));
    real.take(real.book.release(guest, { [proto]: range }, model.now));
    for (const port of own) model.end(guest, proto, port);
  };
}

function indicate(how: 'use' | 'endUse' | 'resync', guest: string, proto: ProtoName, range: PortSet): Step {
  return (model, real) => {
    const leased = [...range.ports()].filter((port) => model.holds(guest, proto, port));
    const { refusal } = real.take(real.book[how](guest, { [proto]: range }));
    if (how !== 'endUse') expect(refusal === null).toBe(leased.length === range.size);
    if (how === 'resync') for (const each of PROTOS) for (const [port, user] of model.used[each]) if (user === guest) model.used[each].delete(port);
    for (const port of leased) {
      if (how === 'endUse') model.used[proto].delete(port);
      else model.used[proto].set(port, guest);
    }
  };
}

const renew = (guest: string): Step => (model, real) => {
  real.take(real.book.renew(guest, model.now));
  for (const proto of PROTOS) for (const [port] of model.owners[proto]) if (model.holds(guest, proto, port)) model.lease(guest, proto, port);
};

const silence = (guest: string): Step => (model, real) => {
  real.take(real.book.silence(guest));
  for (const proto of PROTOS) for (const [port, user] of model.used[proto]) if (user === guest) model.used[proto].delete(port);
};

const pass = (ms: number): Step => (model, real) => {
  model.now += ms;
  model.expire();
  const deadline = real.book.nextDeadline();
  const { changes } = real.take(real.book.expire(model.now));
  if (changes.length > 0) expect(deadline).toBeLessThanOrEqual(model.now);
};

const host = (proto: ProtoName, port: number, taken: boolean): Step => (model, real) => {
  if (!taken) {
    real.book.hostFreed(proto, port);
    model.host[proto].delete(port);
    return;
  }
  real.take(real.book.hostTook(proto, port, model.now));
  model.host[proto].add(port);
  const owner = model.owners[proto].get(port);
  if (owner?.leased === true) model.end(owner.guest, proto, port);
};

const remove = (guest: string): Step => (model, real) => {
  real.take(real.book.removeGuest(guest, model.now));
  real.addGuests();
  for (const proto of PROTOS) for (const [port] of model.owners[proto]) if (model.holds(guest, proto, port)) model.end(guest, proto, port);
};

/** The daemon is killed and started again: what is stored stays, what was indicated is forgotten. */
const restart: Step = (model, real) => {
  const restored = JSON.parse(JSON.stringify(real.book.snapshot())) as ReturnType<LeaseBook['snapshot']>;
  real.book = new LeaseBook({ ...OPTIONS, restored });
  real.addGuests();
  real.replayed = new LeaseState(restored);
  for (const proto of PROTOS) {
    for (const port of model.host[proto]) real.take(real.book.hostTook(proto, port, model.now));
    model.used[proto].clear();
  }
};

/** The store does not take it: all is as it was. */
const lose = (ask: (book: LeaseBook, now: number) => unknown): Step => (model, real) => {
  const guests = new Map(real.book.guests);
  ask(real.book, model.now);
  real.book.restore(real.replayed, guests);
  real.take(real.book.grace(model.now, 0));
};

const guest = fc.constantFrom(...GUESTS);
const proto = fc.constantFrom(...PROTOS);
const port = fc.oneof(fc.integer({ min: POOL_FIRST, max: POOL_LAST }), fc.constantFrom(...NAMED.ports()));
const range = fc.tuple(port, fc.integer({ min: 0, max: 6 })).map(([first, more]) => PortSet.fromRanges([{ first, last: first + more }]));
const named = fc.oneof({ weight: 5, arbitrary: fc.subarray([...NAMED.ports()], { minLength: 1, maxLength: 3 }).map((list) => PortSet.fromRanges(list.map((p) => ({ first: p, last: p })))) }, { weight: 1, arbitrary: range });
const whole = fc.integer({ min: 0, max: 4 }).map((i) => ports(`${POOL_FIRST + BLOCK * i}-${POOL_FIRST + BLOCK * i + 3}`));
const block = guest.map((g) => new Asked(`grantBlock(${g})`, grantBlock(g)));

const commands = fc.commands(
  [
    ...Array.from({ length: 5 }, () => block),
    fc.tuple(guest, proto, named).map(([g, p, set]) => new Asked(`grantPorts(${g}, ${p} ${set.format()})`, grantPorts(g, p, set))),
    fc.tuple(guest, proto, fc.oneof(whole, range)).map(([g, p, set]) => new Asked(`release(${g}, ${p} ${set.format()})`, release(g, p, set))),
    fc.tuple(fc.constantFrom('use', 'use', 'endUse', 'resync'), guest, proto, fc.oneof(whole, range)).map(([how, g, p, set]) => new Asked(`${how}(${g}, ${p} ${set.format()})`, indicate(how, g, p, set))),
    guest.map((g) => new Asked(`renew(${g})`, renew(g))),
    guest.map((g) => new Asked(`silence(${g})`, silence(g))),
    fc.integer({ min: 1, max: 60 }).map((ms) => new Asked(`pass(${ms})`, pass(ms))),
    fc.tuple(proto, port, fc.boolean()).map(([p, n, taken]) => new Asked(`host(${p} ${n}, ${taken})`, host(p, n, taken))),
    guest.map((g) => new Asked(`remove(${g})`, remove(g))),
    fc.constant(new Asked('restart()', restart)),
    guest.map((g) => new Asked(`lose grantBlock(${g})`, lose((book, now) => book.grantBlock(g, now)))),
    fc.tuple(guest, proto, range).map(([g, p, set]) => new Asked(`lose release(${g}, ${p} ${set.format()})`, lose((book, now) => book.release(g, { [p]: set }, now)))),
    guest.map((g) => new Asked(`lose remove(${g})`, lose((book, now) => book.removeGuest(g, now)))),
  ],
  { maxCommands: 40, size: 'max' },
);

it(`keeps every rule over ${SEQUENCES} sequences of requests`, () => {
  const refused = new Map<string, number>();
  let sequences = 0;
  const property = fc.property(commands, (sequence) => {
    fc.modelRun(() => {
      const real = new Real();
      const grant = real.book.grantBlock.bind(real.book);
      real.book.grantBlock = (g, now) => {
        const result = grant(g, now);
        const code = result.refusal?.code ?? 'granted';
        refused.set(code, (refused.get(code) ?? 0) + 1);
        return result;
      };
      return { model: new Model(), real };
    }, sequence);
    sequences++;
  });
  fc.assert(property, { numRuns: SEQUENCES });
  expect(sequences).toBeGreaterThanOrEqual(SEQUENCES);
  // the sequences reach what they are there for
  for (const answer of ['granted', 'ERR_OVER_THRESHOLD', 'ERR_POOL_EMPTY', 'ERR_POOL_SHORT']) expect(refused.get(answer) ?? 0, answer).toBeGreaterThan(100);
}, 120_000);

