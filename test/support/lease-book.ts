/** What tests of the lease book share: policies, a small book, changes in short. */
import type { GuestPolicy } from '../../src/control/lease-policy.js';
import { NO_PORTS, type Change, type Ports } from '../../src/control/lease-state.js';
import { LeaseBook, type LeaseBookOptions } from '../../src/control/leases.js';
import { PortSet } from '../../src/wire/port-set.js';

export const ports = (text: string): PortSet => (text === '' ? PortSet.EMPTY : PortSet.parse(text));
export const tcp = (text: string): Partial<Ports> => ({ tcp: ports(text) });
export const udp = (text: string): Partial<Ports> => ({ udp: ports(text) });

/** Blocks of 16, at most 64 ports, strict, 80 and 443 by name, an hour. */
export function policy(changed: Partial<GuestPolicy> = {}): GuestPolicy {
  const allow = { tcp: ports('80,443'), udp: ports('53,443') };
  return { block: 16, maxPorts: 64, threshold: 'strict', allow, deny: NO_PORTS, implicit: true, leaseTimeMs: 3_600_000, ...changed };
}

/** A pool of 1024-1151 (eight blocks of 16), no reserve, a minute of quarantine, and the guests named, all with one policy. */
export function bookOf(guests: readonly string[], options: Partial<LeaseBookOptions> = {}, changed: Partial<GuestPolicy> = {}): LeaseBook {
  const book = new LeaseBook({ pool: ports('1024-1151'), reserve: 0, quarantineMs: 60_000, reservedByHost: NO_PORTS, ...options });
  for (const guest of guests) book.addGuest(guest, policy(changed));
  return book;
}

/** `lease a tcp 1024-1039`: a change as one line. */
export function short(change: Change): string {
  if (change.type === 'epoch') return `epoch ${change.guest} ${change.epoch}`;
  if (change.type === 'forget') return `forget ${change.guest}`;
  const { type, guest, proto, first, last } = change;
  return `${type} ${guest} ${proto} ${first === last ? first : `${first}-${last}`}`;
}

/** `1024-1039`, or the code of the refusal. */
export function answer(result: { block: { first: number; last: number } | null; refusal: { code: string } | null }): string {
  return result.block === null ? (result.refusal?.code ?? '') : `${result.block.first}-${result.block.last}`;
}
