/**
 * Ranges of IPv4 addresses as written: `203.0.113.16-203.0.113.31, 203.0.113.40`. Both ends belong to a range; the order of writing
 * is kept, since the first free address is taken first.
 */
import { formatIpv4, parseIpv4 } from './address.js';
import { BerthError } from '../base/errors.js';

/** Both ends inclusive, as numbers in host order. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

const EXPECTED = 'addresses as 203.0.113.16 or "203.0.113.16-203.0.113.31,203.0.113.40"';

/** Reads a list of addresses and ranges. ERR_ADDRESS_RANGE for one that is none, or that ends before it begins. */
export function parseAddressRanges(text: string): AddressRange[] {
  return text.split(',').map((item) => parseRange(item.trim()));
}

/** `203.0.113.16`, or `203.0.113.16-203.0.113.31`. */
export function formatAddressRange({ first, last }: AddressRange): string {
  return first === last ? formatIpv4(first) : `${formatIpv4(first)}-${formatIpv4(last)}`;
}

function parseRange(item: string): AddressRange {
  const ends = item.split('-').map((end) => parseIpv4(end.trim()));
  const first = ends[0] ?? null;
  const last = ends[ends.length - 1] ?? null;
  if (first === null || last === null || ends.length > 2) throw new BerthError('ERR_ADDRESS_RANGE', `not a range of addresses (got ${JSON.stringify(item.slice(0, 80))}, expected ${EXPECTED})`);
  if (last < first) throw new BerthError('ERR_ADDRESS_RANGE', `${item} ends before it begins; write ${formatAddressRange({ first: last, last: first })}`);
  return { first, last };
}
