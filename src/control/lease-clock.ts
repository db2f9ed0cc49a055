/**
 * Lease clock: ends what has run out, in time, by operations of its own.
 *
 * Before       anything else is decided what has run out by then is ended: nobody else's operation does it, or fails with it.
 * Away         while the daemon is, or the store fails, nobody can renew and nothing runs out. Then what would be over lasts RETURN_MS
 *              longer, and who asked meanwhile is renewed. As long as the store does not take that, it is tried again.
 */
import type { Effects } from './effects.js';
import { NEVER } from './lease-state.js';
import type { LeaseBook, Result } from './leases.js';
import type { Operations } from './operations.js';

/** Timers of Node take at most 2^31 ms. */
const LONGEST_TIMER_MS = 2 ** 30;
/** Leases that ended while the daemon or its store was away last this long, so that their guests can renew. */
const RETURN_MS = 30_000;
/** Why a lease ended, as its guest is told. */
const RUN_OUT = 'the lease has run out';
const NOTHING: Result = { changes: [], refusal: null };

export class LeaseClock {
  private readonly book: LeaseBook;
  private readonly operations: Operations;
  private readonly effects: Effects;
  /** Guests whose renewal failed with the store. */
  private readonly unrenewed = new Set<string>();
  private timer: NodeJS.Timeout | null = null;
  private closed = false;

  constructor(book: LeaseBook, operations: Operations, effects: Effects) {
    this.book = book;
    this.operations = operations;
    this.effects = effects;
  }

  /** Ends what has run out by `now`. */
  tick(now: number): void {
    if ((this.book.nextDeadline() ?? NEVER) <= now) this.ask((at) => this.book.expire(at), { reason: RUN_OUT }, now);
  }

  /** The guest asked for a renewal, which the store did not take. */
  owe(guest: string): void {
    this.unrenewed.add(guest);
  }

  /** Looks again when there is something due; to be called when anything has changed. */
  watch(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    const due = Math.min(this.book.nextDeadline() ?? NEVER, this.operations.retryAt, this.effects.retryAt);
    if (due === NEVER || this.closed) return;
    this.timer = setTimeout(() => this.look(Date.now()), Math.min(Math.max(1, due - Date.now()), LONGEST_TIMER_MS));
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  /** Leases run out again, unless the store does not take it. */
  async resume(): Promise<void> {
    const { book, operations, unrenewed } = this;
    const decide = (now: number): Result => {
      const { changes } = book.grace(now, RETURN_MS);
      return { changes: [...changes, ...[...unrenewed].flatMap((guest) => book.renew(guest, now).changes)], refusal: null };
    };
    const resumed = (): void => {
      operations.resumed();
      unrenewed.clear();
    };
    await operations.perform(decide, { after: resumed }, Date.now()).catch(() => undefined); // logged, and tried again
  }

  private look(now: number): void {
    this.tick(now);
    if (this.operations.retryAt <= now) void this.resume();
    else this.ask(() => NOTHING, {}, now); // with it the effects look at what they owe
  }

  private ask(...operation: Parameters<Operations['perform']>): void {
    this.operations.perform(...operation).catch(() => undefined); // the operations have logged it
  }
}
