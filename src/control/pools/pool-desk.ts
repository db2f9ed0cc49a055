/**
 * Pool desk: the addresses of the pools for the operator, and why one was chosen.
 *
 * Lines    one an address, in the order of the configuration; unused neighbours of a pool of more than MOST_SINGLE are one line.
 * Truth    whether an address is in use is read from the steering table; since when, what the daemon has seen since it runs.
 */
import type { AddressExplanation, PoolLine } from '../admin-api.js';
import type { AddressRecord } from './address-book.js';
import { type AddressPool, poolOf } from './address-pools.js';
import type { FloatingAddresses } from './floating.js';
import { formatRate, formatShare } from './policy.js';
import { formatIpv4 } from '../../wire/address.js';
import { formatAddressRange } from '../../wire/address-ranges.js';

const MOST_SINGLE = 1024;

export interface PoolDeskParts {
  pools: readonly AddressPool[];
  floating: FloatingAddresses;
  /** Whether the steering table has the whole address in use. */
  isInUse: (address: number, network: string) => boolean;
  rejecting: boolean;
}

export class PoolDesk {
  private readonly parts: PoolDeskParts;

  constructor(parts: PoolDeskParts) {
    this.parts = parts;
  }

  list(): PoolLine[] {
    return this.parts.pools.flatMap((pool) => this.linesOf(pool));
  }

  /** Null for an address that is in no pool. */
  explain(address: number): AddressExplanation | null {
    const { pools, floating, isInUse, rejecting } = this.parts;
    const pool = poolOf(pools, address);
    if (pool === undefined) return null;
    const record = floating.book.records.get(address);
    const line = this.lineOf(pool, address, record);
    const { load, speed } = floating.ratesOf(pool.network);
    const carried = `Network ${pool.network} carries ${formatRate(load)} now, ${formatShare(load / (pool.speed ?? speed))} of ${formatRate(pool.speed ?? speed)}.`;
    if (record === undefined) return { ...line, words: [`${line.address} of pool ${pool.name} on ${pool.network} is unused.`, 'Nobody answers ARP for it, and a frame for it is not ours.', carried] };
    if (record.state === 'quarantined') {
      return { ...line, words: [`${line.address} of pool ${pool.name} on ${pool.network} was released by guest ${record.guest} at ${line.since ?? ''}; another guest may have it from ${line.until ?? ''} on.`, 'Nobody answers ARP for it, and a frame for it is discarded (quarantined).', carried] };
    }
    const goes = isInUse(address, pool.network)
      ? 'Berth answers ARP for it, and a frame for it goes to the guest.'
      : `Nobody answers ARP for it, and a frame for it is discarded${rejecting ? ' and answered' : ''} (not-in-use), until the guest's first frame from it.`;
    return { ...line, words: [`${line.address} of pool ${pool.name} on ${pool.network} is leased to guest ${record.guest} since ${when(record.since)}, ${line.state === 'in use' ? 'and in use' : 'and not in use'}.`, ...record.words, goes, carried] };
  }

  private linesOf(pool: AddressPool): PoolLine[] {
    const { records } = this.parts.floating.book;
    const lines: PoolLine[] = [];
    for (const { first, last } of pool.ranges) {
      for (let address = first; address <= last; address++) {
        const end = pool.size > MOST_SINGLE ? this.lastUnused(address, last) : address;
        lines.push({ ...this.lineOf(pool, address, records.get(address)), address: formatAddressRange({ first: address, last: end }), count: end - address + 1 });
        address = end;
      }
    }
    return lines;
  }

  /** The last of the unused addresses that begin with this one; the address itself where it is not unused. */
  private lastUnused(address: number, last: number): number {
    const { records } = this.parts.floating.book;
    let end = address;
    if (!records.has(address)) while (end < last && !records.has(end + 1)) end++;
    return end;
  }

  private lineOf({ name, network }: AddressPool, address: number, record: AddressRecord | undefined): PoolLine {
    const line = { pool: name, network, address: formatIpv4(address), count: 1 };
    if (record === undefined) return { ...line, state: 'unused', guest: null, since: null, until: null };
    const { floating, isInUse } = this.parts;
    const { guest, state, since, until } = record;
    if (state === 'quarantined') return { ...line, state, guest, since: when(since), until: when(until) };
    const used = isInUse(address, network);
    return { ...line, state: used ? 'in use' : 'leased', guest, since: when(used ? (floating.usedSince(address) ?? Date.now()) : since), until: null };
  }
}

function when(ms: number): string {
  return new Date(ms).toISOString();
}
