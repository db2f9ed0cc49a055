/**
 * Journal: the moves that lease changes are made of, and the list of those made since begin().
 *
 *   lease     one change, or none for a port that has just that lease
 *   release   end-use where it was in use, then release, then quarantine (free, when the time is 0)
 *   sweep     what has run out: leases are released, quarantines become free; nothing while it is paused
 *
 * Every move goes through LeaseState.apply: the list replayed makes the same state.
 */
import { PortSet } from '../wire/port-set.js';
import { NEVER, PROTOS, type Change, type LeaseState, type Ports, type ProtoName } from './lease-state.js';
import type { Run } from './lease-ranges.js';

export class Journal {
  readonly #state: LeaseState;
  readonly #quarantineMs: number;
  /** nothing ends before this time; it may be earlier than need be, after a renewal */
  #deadline = NEVER;
  #paused = false;
  #changes: Change[] = [];

  constructor(state: LeaseState, quarantineMs: number) {
    this.#state = state;
    this.#quarantineMs = quarantineMs;
    this.#findDeadline();
  }

  get deadline(): number {
    return this.#paused ? NEVER : this.#deadline;
  }

  /** Nothing runs out until resume(). The state may be another meanwhile. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#findDeadline();
  }

  /** Starts a new list. */
  begin(): void {
    this.#changes = [];
  }

  /** The list so far, which the caller may keep. */
  get changes(): readonly Change[] {
    return this.#changes;
  }

  emit(change: Change): void {
    this.#state.apply(change);
    this.#changes.push(change);
  }

  lease(guest: string, proto: ProtoName, ports: PortSet, since: number, until: number, block: number): void {
    for (const { first, last } of ports.ranges()) this.emit({ type: 'lease', guest, proto, first, last, since, until, block });
    if (!ports.isEmpty) this.#deadline = Math.min(this.#deadline, until);
  }

  /** The guest holds all of `ports`. */
  release(guest: string, ports: Ports, now: number): void {
    const { used } = this.#state.holding(guest);
    this.each('end-use', guest, { tcp: used.tcp.intersect(ports.tcp), udp: used.udp.intersect(ports.udp) });
    const until = now + this.#quarantineMs;
    for (const proto of PROTOS) {
      for (const { first, last } of ports[proto].ranges()) {
        this.emit({ type: 'release', guest, proto, first, last });
        if (until > now) this.emit({ type: 'quarantine', guest, proto, first, last, since: now, until });
        else this.emit({ type: 'free', guest, proto, first, last });
      }
      if (until > now && !ports[proto].isEmpty) this.#deadline = Math.min(this.#deadline, until);
    }
  }

  each(type: 'use' | 'end-use', guest: string, ports: Ports): void {
    for (const proto of PROTOS) for (const { first, last } of ports[proto].ranges()) this.emit({ type, guest, proto, first, last });
  }

  /** Gives the guest's leases that end another end. */
  prolong(guest: string, untilOf: (run: Run) => number): void {
    for (const proto of PROTOS) {
      for (const range of this.#state.holding(guest).leased[proto].ranges()) {
        for (const { first, last, since, until: old, block } of this.#state.runs[proto].overlapping(range).filter((run) => run.until !== NEVER)) {
          const until = untilOf({ first, last, guest, state: 'leased', since, until: old, block });
          if (until !== old) this.emit({ type: 'renew', guest, proto, first, last, since, until, block });
          this.#deadline = Math.min(this.#deadline, until);
        }
      }
    }
  }

  sweep(now: number): void {
    if (now < this.deadline) return;
    for (const proto of PROTOS) {
      const over = this.#state.runs[proto].all.filter((run) => run.until <= now);
      const leases = new Map<string, Run[]>();
      for (const run of over) {
        const { guest, first, last } = run;
        if (run.state === 'quarantined') this.emit({ type: 'free', guest, proto, first, last });
        else leases.set(guest, [...(leases.get(guest) ?? []), run]);
      }
      for (const [guest, runs] of leases) {
        const ports = PortSet.fromRanges(runs);
        this.release(guest, { tcp: PortSet.EMPTY, udp: PortSet.EMPTY, [proto]: ports }, now);
      }
    }
    this.#findDeadline();
  }

  #findDeadline(): void {
    this.#deadline = NEVER;
    for (const proto of PROTOS) for (const { until } of this.#state.runs[proto].all) this.#deadline = Math.min(this.#deadline, until);
  }
}
