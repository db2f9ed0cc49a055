/**
 * Grants: the decision on what a guest asks for. Policy, then threshold, then whether the ports can be had in its turn.
 *
 * It decides and changes no lease: the lease book does what was decided. What it keeps is who the guests are, and the line
 * of those who were refused for want of ports.
 */
import type { PortSet } from '../wire/port-set.js';
import { Allocator, reserveUnit, type AllocatorOptions } from './allocator.js';
import { checkPolicy, counted, notAllowed, overThreshold, refuse, type Asker, type GuestPolicy, type Refusal } from './lease-policy.js';
import { PROTOS, type Block, type LeaseState, type Ports } from './lease-state.js';
import { WaitingLine } from './waiting-line.js';

export class Grants {
  readonly allocator: Allocator;
  readonly policies = new Map<string, GuestPolicy>();
  readonly #state: LeaseState;
  readonly #reserve: number;
  readonly #line: WaitingLine;
  #unit = 1;

  constructor(state: LeaseState, options: AllocatorOptions, turnMs: number) {
    this.allocator = new Allocator(state, options);
    this.#state = state;
    this.#reserve = options.reserve;
    this.#line = new WaitingLine(turnMs);
  }

  add(guest: string, policy: GuestPolicy): void {
    checkPolicy(guest, policy);
    this.policies.set(guest, policy);
    this.#setUnit();
  }

  remove(guest: string): void {
    this.policies.delete(guest);
    this.#line.leave(guest);
    this.#setUnit();
  }

  /** These guests and no others, each with its place in the line as far as it has one. */
  replace(policies: ReadonlyMap<string, GuestPolicy>): void {
    for (const guest of this.policies.keys()) if (!policies.has(guest)) this.#line.leave(guest);
    this.policies.clear();
    for (const [guest, policy] of policies) this.policies.set(guest, policy);
    this.#setUnit();
  }

  asker(name: string): Asker | Refusal {
    const policy = this.policies.get(name);
    if (policy === undefined) return refuse('ERR_UNKNOWN_GUEST', `there is no guest ${name}; add it first`);
    return { name, policy, holds: counted(this.#state.holding(name)).size };
  }

  block(guest: string, now: number): Block | Refusal {
    const asker = this.asker(guest);
    if ('code' in asker) return asker;
    const over = overThreshold(asker, asker.policy.block);
    if (over !== null) return over;
    const found = this.allocator.block(asker, this.#ahead(asker, now), this.#unit);
    return 'code' in found ? found : { ...found, until: now + asker.policy.leaseTimeMs };
  }

  /** `fresh`: ports that the guest does not hold. */
  ports(guest: string, fresh: Ports, now: number): Refusal | null {
    const asker = this.asker(guest);
    if ('code' in asker) return asker;
    for (const proto of PROTOS) {
      const refusal = notAllowed(asker, proto, fresh[proto]);
      if (refusal !== null) return refusal;
    }
    const all = counted(this.#state.holding(guest)).union(fresh.tcp).union(fresh.udp);
    const over = all.size === asker.holds ? null : overThreshold(asker, all.size - asker.holds);
    return over ?? this.allocator.named(asker, fresh, this.#inTurn(now, guest), this.#unit);
  }

  /** Puts the guest in the line when it was refused for want of ports, and takes it out of it otherwise. */
  settle(guest: string, answer: Block | Refusal, now: number): void {
    const waits = 'code' in answer && (answer.code === 'ERR_POOL_EMPTY' || answer.code === 'ERR_POOL_SHORT');
    if (waits) this.#line.join(guest, now);
    else this.#line.leave(guest);
  }

  leaveLine(guest: string): void {
    this.#line.leave(guest);
  }

  /** Those whose turn is before the asker's. */
  #ahead(asker: Asker, now: number): Asker[] {
    const line = this.#inTurn(now, null);
    const place = line.findIndex(({ name }) => name === asker.name);
    if (place >= 0) return line.slice(0, place);
    return hasBlock(asker) ? line : line.filter((other) => !hasBlock(other));
  }

  /** The line without `except` and without those who may not have more: first those with less than a block. */
  #inTurn(now: number, except: string | null): Asker[] {
    const line: Asker[] = [];
    for (const name of this.#line.at(now)) {
      const asker = this.asker(name);
      if (name !== except && !('code' in asker) && overThreshold(asker, asker.policy.block) === null) line.push(asker);
    }
    return [...line.filter((asker) => !hasBlock(asker)), ...line.filter(hasBlock)];
  }

  #setUnit(): void {
    this.#unit = reserveUnit(Array.from(this.policies.values(), ({ block }) => block), this.#reserve);
  }
}

/** What two sets of ports name that `leased` has not; null: nothing. */
export function notLeased(stated: Ports, leased: Ports): Refusal | null {
  const outside = PROTOS.map((proto): [string, PortSet] => [proto, stated[proto].subtract(leased[proto])]).filter(([, ports]) => !ports.isEmpty);
  if (outside.length === 0) return null;
  const text = outside.map(([proto, ports]) => `${proto} ${ports.format()}`).join(' and ');
  return refuse('ERR_NOT_LEASED', `${text} is not leased to the guest; ask for it first`);
}

/** Why the operator may not give the guest these ports: another holds one, or did until lately; null: none does. */
export function heldByAnother(state: LeaseState, guest: string, ports: Ports): Refusal | null {
  for (const proto of PROTOS) {
    for (const range of ports[proto].ranges()) {
      const run = state.runs[proto].overlapping(range).find((each) => each.guest !== guest);
      if (run === undefined) continue;
      const how = run.state === 'leased' ? 'leased to' : 'quarantined after';
      return refuse('ERR_PORT_TAKEN', `${proto} port ${Math.max(run.first, range.first)} is ${how} guest ${run.guest}; release it there and wait, or lease another port`);
    }
  }
  return null;
}

function hasBlock({ holds, policy }: Asker): boolean {
  return holds >= policy.block;
}
