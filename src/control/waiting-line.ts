/**
 * The waiting line: guests that were refused a block for want of ports, in the order in which they first asked.
 *
 * A place is kept while the guest asks again within `keepMs`, and does not get better by asking more often. It ends when
 * the guest is served, is refused for another reason, falls silent or is removed.
 */
export class WaitingLine {
  /** guest → when it last asked; in the order of the first asking */
  readonly #asked = new Map<string, number>();
  readonly #keepMs: number;

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  join(guest: string, now: number): void {
    this.#asked.set(guest, now);
  }

  leave(guest: string): void {
    this.#asked.delete(guest);
  }

  /** Those whose place is kept, first one first. */
  at(now: number): string[] {
    for (const [guest, asked] of this.#asked) if (now - asked > this.#keepMs) this.#asked.delete(guest);
    return [...this.#asked.keys()];
  }
}
