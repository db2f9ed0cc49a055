/**
 * Address use: since when each address of the pools is in use, of itself or of ports of it, and whether the neighbours know where.
 *
 *     steering table ──look──▶ use begins ─▶ announced, unless they were told of this guest at this MAC      again after AGAIN_MS
 *
 * Looks        from the outside, since a guest's own frame begins a use too, in the table alone (D7). A use that ended and began between
 *              two looks has not ended.
 * Announced    when the use moves: to another guest, another NIC, or from another host. A daemon that is started again says nothing new,
 *              nor does another guest that comes to those who have ports of the address.
 * Source       RFC 5227 §2.3: two announcements, two seconds between them.
 */
import type { AddressBook, AddressRecord } from './address-book.js';

const AGAIN_MS = 2000;

export interface UseParts {
  book: AddressBook;
  /** Whether anything of the address is in use, by the steering table. */
  isInUse: (address: number, network: string) => boolean;
  /** The MAC of the network's NIC. */
  macOf: (network: string) => string;
  announce: (address: number, network: string) => void;
  /** Keeps what has changed of the address. */
  keep: (address: number, record: AddressRecord) => void;
}

export class AddressUse {
  private readonly parts: UseParts;
  private readonly begun = new Map<number, number>();
  private readonly again = new Set<NodeJS.Timeout>();

  constructor(parts: UseParts) {
    this.parts = parts;
  }

  /** When the use of the address began, as far as this daemon saw; null while it is not in use. */
  sinceOf(address: number): number | null {
    return this.begun.get(address) ?? null;
  }

  /** `now`: wall clock, ms. */
  look(now: number): void {
    const { book } = this.parts;
    for (const address of this.begun.keys()) if (!this.isUsed(address)) this.begun.delete(address);
    for (const address of book.records.keys()) {
      if (this.begun.has(address) || !this.isUsed(address)) continue;
      this.begun.set(address, now);
      this.tell(address);
    }
  }

  close(): void {
    for (const timer of this.again) clearTimeout(timer);
  }

  private isUsed(address: number): boolean {
    const pool = this.parts.book.poolOf(address);
    return this.leasesOf(address).length > 0 && pool !== undefined && this.parts.isInUse(address, pool.network);
  }

  private leasesOf(address: number): AddressRecord[] {
    return this.parts.book.recordsOf(address).filter(({ state }) => state === 'leased');
  }

  private tell(address: number): void {
    const { book, macOf, announce, keep } = this.parts;
    const network = book.poolOf(address)?.network ?? '';
    const mac = macOf(network);
    const unsaid = this.leasesOf(address).filter(({ announced }) => announced !== mac);
    if (unsaid.length === 0) return;
    announce(address, network);
    const timer = setTimeout(() => {
      this.again.delete(timer);
      if (this.isUsed(address)) announce(address, network);
    }, AGAIN_MS);
    this.again.add(timer);
    for (const record of unsaid) keep(address, { ...record, announced: mac });
  }
}
