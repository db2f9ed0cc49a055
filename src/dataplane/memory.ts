/**
 * What the two verdict stages share: decisions about earlier frames, and which guests have which address.
 */
import { DISCARD, PASS } from './frame-batch.js';
import { FORGOTTEN, Recent } from './recent.js';
import { ADDRESS_INDEX_MASK, ADDRESS_WHOLE } from '../steering/table-layout.js';
import { MISS, probe, type SteeringTable } from '../steering/table.js';

/** Link indices of the guests that lease something on an address, by address index. */
export type GuestsByAddress = readonly (readonly number[] | undefined)[];

export class Memory {
  /** Ingress: (source, destination, protocol and id) → `packDecision`. */
  readonly fragments = new Recent();
  /** Egress: the same key → link + 1. */
  readonly sentFragments = new Recent();
  /** (our address, remote address, identifier) → link + 1. */
  readonly echoes = new Recent(4096);
  guests: GuestsByAddress = [];
  /** Links on which Berth serves DHCP. */
  readonly dhcpLinks = new Set<number>();

  /** Nothing that the guest on `link` did before concerns the next one there. */
  forgetLink(link: number): void {
    this.dhcpLinks.delete(link);
    const isOwn = (value: number): boolean => value === link + 1;
    this.echoes.forget(isOwn);
    this.sentFragments.forget(isOwn);
    this.fragments.forget((decision) => verdictOf(decision) === link + 1);
  }

  /** Does the guest on `link` lease anything on `address`? */
  sharesAddress(table: SteeringTable, address: number, link: number): boolean {
    const guests = this.guests[table.address(address) & ADDRESS_INDEX_MASK];
    return guests !== undefined && guests.includes(link);
  }
}

/** The value of the wildcard entry of `address`, as a signed number (recent.ts says why); 0 (free) where it is not a dedicated address. */
export function wholeValue(table: SteeringTable, address: number): number {
  const entry = table.address(address);
  if ((entry & ADDRESS_WHOLE) === 0) return 0;
  const at = probe(table.words, table.base, table.mask, table.shift, (entry & ADDRESS_INDEX_MASK) << 17);
  return at === MISS ? 0 : table.words[at] | 0;
}

/** One word, never FORGOTTEN, for a verdict (DISCARD, PASS or a port) and its reason. */
export function packDecision(verdict: number, reason: number): number {
  return (((verdict - PASS + 1) << 8) | reason) | 0;
}

export function verdictOf(decision: number): number {
  return decision === FORGOTTEN ? DISCARD : (decision >>> 8) + PASS - 1;
}

export function reasonOf(decision: number): number {
  return decision & 0xff;
}
