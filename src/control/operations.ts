/**
 * Operations: each is decided at once, in the order asked, and takes effect when the store has it.
 *
 *     decided on the lease book ─▶ committed ─▶ made true (effects.ts) ─▶ settled
 *                 ▲                    │ fails: what needed the store fails, and the book is what was committed
 *                 └──── the others ◀───┘
 *
 * Batches      all that is decided while one is committed and made true is the next one: one commit and one transaction of nft for
 *              each operation took 2 ms and more of waiting, and a hundred guests wait together.
 * Committed    the leases that the store has, with what of them is in use. The book is ahead of it: only this may be answered
 *              and published.
 * Settled      an operation that is refused or changes nothing waits too: what it was decided on may not come about.
 * Failed       a commit is the failure of every operation that had something in it. All the others that are not committed yet, decided on
 *              what has not come about, are decided again. Said once, until a commit succeeds.
 * Time         while the store fails nothing runs out (lease-clock.ts).
 */
import { letGo } from './host-claims.js';
import type { HostStack } from './host-stack.js';
import { leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { type Change, changedPorts, LeaseState, NEVER } from './lease-state.js';
import type { LeaseBook, Result } from './leases.js';
import { isStored, isStoreFailure, type SettingRecord, type Store, type StoredChange } from './store.js';
import { Batches } from '../base/batches.js';
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';

/** Between a commit that failed and a try to have leases run out again. */
const RETRY_MS = 2000;

/** What an operation comes to, and what is kept of it beside leases. */
export type Decision = Result & { readonly record?: SettingRecord };

export interface Sequel {
  /** Follows the operation's own changes in the steering table, before those of the next; not where it was refused. */
  readonly after?: () => void | Promise<void>;
  /** Why leases end that do, for their guests; none: whoever asked tells. */
  readonly reason?: string;
}

export interface OperationsParts {
  plan: LeasePlan;
  store: Store;
  host: HostStack;
  log: Log;
}

export class Operation<R extends Decision = Decision> {
  result: R;
  /** What it fails with, once that is known. */
  failure: Error | null = null;
  readonly sequel: Sequel;
  private readonly decision: (now: number) => R;

  constructor(decision: (now: number) => R, sequel: Sequel, now: number) {
    this.decision = decision;
    this.sequel = sequel;
    this.result = decision(now);
  }

  get changes(): readonly Change[] {
    return this.result.changes;
  }

  get stored(): StoredChange[] {
    const { changes, record } = this.result;
    return [...changes.filter(isStored), ...(record === undefined ? [] : [record])];
  }

  decideAgain(): void {
    try {
      this.result = this.decision(Date.now());
    } catch (error) {
      this.failure = error as Error;
    }
  }
}

export class Operations {
  /** Altered in one go, when a commit has succeeded. */
  readonly committed: LeaseState;
  private readonly parts: OperationsParts;
  private readonly book: LeaseBook;
  private readonly makeTrue: (batch: readonly Operation[]) => Promise<void>;
  /** Decided and not committed, in order: the batch whose commit is under way, then those who wait. */
  private pending: Operation[] = [];
  private readonly batches = new Batches<Operation>((batch) => this.settle(batch));
  private isFailing = false;
  private resumeAt = NEVER;

  /** What the book holds has been committed. `makeTrue` gets what is, a batch at a time, and rejects for nothing. */
  constructor(parts: OperationsParts, book: LeaseBook, makeTrue: (batch: readonly Operation[]) => Promise<void>) {
    this.parts = parts;
    this.book = book;
    this.committed = new LeaseState(book.snapshot());
    this.makeTrue = makeTrue;
  }

  /** Decides at once; resolves with what was decided in the end, when that is true. A `decision` that throws has altered nothing. */
  async perform<R extends Decision>(decision: (now: number) => R, sequel: Sequel, now: number): Promise<R> {
    try {
      const operation = new Operation(decision, sequel, now);
      this.pending.push(operation);
      await this.batches.add(operation);
      if (operation.failure !== null) throw operation.failure;
      return operation.result;
    } catch (error) {
      // The store's failure has been said, once for all.
      if (!isStoreFailure(error)) this.parts.log.error({ err: error }, 'a control operation failed');
      throw error;
    }
  }

  /** When to try whether leases can run out again (wall clock, ms), which none does since a commit failed; NEVER: they do. */
  get retryAt(): number {
    return this.resumeAt;
  }

  /** Leases run out again. */
  resumed(): void {
    this.resumeAt = NEVER;
  }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> {
    return this.batches.idle();
  }

  private async settle(batch: readonly Operation[]): Promise<void> {
    await this.commit(batch);
    const done = batch.filter(({ failure }) => failure === null);
    this.pending.splice(0, done.length);
    for (const { changes } of done) for (const change of changes) this.committed.apply(change);
    await this.makeTrue(done);
  }

  private async commit(batch: readonly Operation[]): Promise<void> {
    for (;;) {
      const left = batch.filter(({ failure }) => failure === null);
      const changes = left.flatMap(({ stored }) => stored);
      if (changes.length === 0) return;
      try {
        await this.parts.store.commit(changes);
        if (this.isFailing) this.parts.log.info('the store can be written again');
        this.isFailing = false;
        return;
      } catch (error) {
        if (!this.isFailing) this.parts.log.error(`${messageOf(error)}; until it can be, what needs it is refused, and what is leased goes on`);
        this.isFailing = true;
        this.resumeAt = Date.now() + RETRY_MS;
        for (const operation of left) if (operation.stored.length > 0) operation.failure = error as Error;
        this.decideAgain();
      }
    }
  }

  /** The book is what was committed, and what was decided beyond that is decided anew; what was reserved for leases that are no more is let go. */
  private decideAgain(): void {
    const { plan, host } = this.parts;
    const claimed = changedPorts(this.pending.flatMap(({ changes }) => changes), ({ type }) => type === 'lease');
    this.book.restore(this.committed, new Map(plan.guests.map(({ name, policy }) => [name, policy])));
    this.book.setReserved(leasedElsewhere(plan));
    this.pending = this.pending.filter(({ failure }) => failure === null);
    for (const operation of this.pending) operation.decideAgain();
    this.pending = this.pending.filter(({ failure }) => failure === null);
    letGo(host, claimed, [this.committed, this.book]);
  }
}
