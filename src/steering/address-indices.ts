/**
 * Address indices: every address's part of its keys (table-layout.ts), and when one may be another address's.
 *
 *     ours ──leaves──▶ left ──rebuild──▶ dropped ──every reader has adopted it──▶ free ──▶ ours, of another address
 *       ◀──comes back──┘
 *
 * Left         in the newest buffer and in those before the address's pair still has the index: it is nobody else's.
 * Dropped      the newest buffer has no such pair; a reader may still be in one that has.
 * Lowest first the host filter has rows for low indices alone (io/host-filter.ts).
 */
import { MAX_ADDRESSES } from './table-layout.js';

export class AddressIndices {
  private highest = 0;
  /** The lowest last. */
  private free: number[] = [];
  /** With the first generation of the buffers that have the index no more. */
  private dropped: { index: number; since: number }[] = [];

  /** Whether none is free. */
  get areTaken(): boolean {
    return this.free.length === 0 && this.highest === MAX_ADDRESSES;
  }

  /** The lowest that is free, or 0. */
  take(): number {
    return this.areTaken ? 0 : (this.free.pop() ?? ++this.highest);
  }

  /** A buffer of generation `since` is made without the index. */
  drop(index: number, since: number): void {
    this.dropped.push({ index, since });
  }

  /** No reader is in a buffer older than generation `oldest` any more. */
  release(oldest: number): void {
    const free = this.dropped.filter(({ since }) => since <= oldest);
    if (free.length === 0) return;
    this.dropped = this.dropped.filter(({ since }) => since > oldest);
    this.free = [...this.free, ...free.map(({ index }) => index)].sort((a, b) => b - a);
  }
}
