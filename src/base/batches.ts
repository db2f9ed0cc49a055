/**
 * Batches: all that comes while one is worked on is the next one. What is rare is done at once, what is frequent shares the cost.
 */
export class Batches<T> {
  private readonly work: (items: readonly T[]) => Promise<void>;
  private items: T[] = [];
  private current: Promise<void> = Promise.resolve();
  private next: Promise<void> | null = null;

  /** `work` is called with a batch, in the order of `add`, and not again before it has settled. */
  constructor(work: (items: readonly T[]) => Promise<void>) {
    this.work = work;
  }

  /** Settles as the item's batch does. */
  add(item: T): Promise<void> {
    this.items.push(item);
    this.next ??= this.current
      .catch(() => undefined) // told to those whose batch it was
      .then(() => {
        this.next = null;
        this.current = this.work(this.items.splice(0));
        return this.current;
      });
    return this.next;
  }

  /** Resolves when nothing that has been added is left to do. */
  async idle(): Promise<void> {
    await (this.next ?? this.current).catch(() => undefined);
  }
}
