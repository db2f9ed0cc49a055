/**
 * Pool desk: the addresses of the pools for the operator, and why one was chosen.
 *
 * Lines    one an address, in the order of the configuration, and one a block where an address is leased by ports; unused neighbours of a
 *          pool of more than MOST_SINGLE are one line.
 * Truth    whether it is in use is read from the steering table; since when, what the daemon has seen since it runs, and of a block since
 *          when it is leased.
 */
import type { AddressExplanation, PoolLine } from '../admin-api.js';
import type { AddressRecord } from './address-book.js';
import { type AddressPool, poolOf } from './address-pools.js';
import type { FloatingAddresses } from './floating.js';
import { formatRate, formatShare } from './policy.js';
import { formatIpv4 } from '../../wire/address.js';
import { formatAddressRange } from '../../wire/address-ranges.js';
import type { PortRange } from '../../wire/port-set.js';

const MOST_SINGLE = 1024;

export interface PoolDeskParts {
  pools: readonly AddressPool[];
  floating: FloatingAddresses;
  /** Whether anything of the address is in use, or of that block of it, by the steering table. */
  isInUse: (address: number, network: string, block: PortRange | null) => boolean;
  /** The only ports that the guest leases of its own address; empty: all. */
  limitsOf: (guest: string) => string;
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
    const records = sorted(floating.book.recordsOf(address));
    const lines = records.length === 0 ? [this.lineOf(pool, address, undefined)] : records.map((record) => this.lineOf(pool, address, record));
    const place = { address: formatIpv4(address), pool: pool.name, network: pool.network };
    const where = `${place.address} of pool ${pool.name} on ${pool.network}`;
    const { load, speed } = floating.ratesOf(pool.network);
    const carried = `Network ${pool.network} carries ${formatRate(load)} now, ${formatShare(load / (pool.speed ?? speed))} of ${formatRate(pool.speed ?? speed)}.`;
    if (records.length === 0) return { ...place, lines, words: [`${where} is unused.`, 'Nobody answers ARP for it, and a frame for it is not ours.', carried] };
    const isUsed = isInUse(address, pool.network, null);
    const answered = isUsed ? 'Berth answers ARP for it' : 'Nobody answers ARP for it';
    const refused = `discarded${rejecting ? ' and answered' : ''} (not-in-use)`;
    if (records[0].block !== null) {
      const leases = records.flatMap((record, at) => this.explainBlock(record, lines[at]));
      return { ...place, lines, words: [`${where} is leased by ports.`, ...leases, `${answered}. A frame for a port in use goes to its guest, one for a port that is not, or that nobody leases, is ${refused}.`, carried] };
    }
    const [[record], [line]] = [records, lines];
    if (record.state === 'quarantined') {
      return { ...place, lines, words: [`${where} was ${released(record, line)}; another guest may have it from ${line.until ?? ''} on.`, 'Nobody answers ARP for it, and a frame for it is discarded (quarantined).', carried] };
    }
    const limited = line.ports === 'all' ? [] : [`Only ${line.ports ?? ''} of it: a frame for any other port is ${refused}.`];
    const goes = isUsed ? `${answered}, and a frame for what is in use of it goes to the guest.` : `${answered}, and a frame for it is ${refused}, until the guest's first frame from it.`;
    return { ...place, lines, words: [`${where} is ${leased(record, line)}.`, ...limited, ...record.words, goes, carried] };
  }

  private explainBlock(record: AddressRecord, line: PoolLine): string[] {
    if (record.state === 'quarantined') return [`Ports ${line.ports ?? ''} of it were ${released(record, line)}; another guest may have them from ${line.until ?? ''} on.`];
    return [`Ports ${line.ports ?? ''} of it are ${leased(record, line)}.`, ...record.words];
  }

  private linesOf(pool: AddressPool): PoolLine[] {
    const { book } = this.parts.floating;
    const lines: PoolLine[] = [];
    for (const { first, last } of pool.ranges) {
      for (let address = first; address <= last; address++) {
        const records = sorted(book.recordsOf(address));
        if (records.length > 0) {
          lines.push(...records.map((record) => this.lineOf(pool, address, record)));
          continue;
        }
        const end = pool.size > MOST_SINGLE ? this.lastUnused(address, last) : address;
        lines.push({ ...this.lineOf(pool, address, undefined), address: formatAddressRange({ first: address, last: end }), count: end - address + 1 });
        address = end;
      }
    }
    return lines;
  }

  /** The last of the unused addresses that begin with this one. */
  private lastUnused(address: number, last: number): number {
    const { records } = this.parts.floating.book;
    let end = address;
    while (end < last && !records.has(end + 1)) end++;
    return end;
  }

  private lineOf({ name, network }: AddressPool, address: number, record: AddressRecord | undefined): PoolLine {
    const line = { pool: name, network, address: formatIpv4(address), count: 1 };
    if (record === undefined) return { ...line, state: 'unused', guest: null, ports: null, since: null, until: null };
    const { floating, isInUse, limitsOf } = this.parts;
    const { guest, block, state, since, until } = record;
    const limits = state === 'leased' ? limitsOf(guest) : '';
    const ports = block !== null ? `${block.first}-${block.last}` : limits === '' ? 'all' : limits;
    if (state === 'quarantined') return { ...line, state, guest, ports, since: when(since), until: when(until) };
    const used = isInUse(address, network, block);
    const began = used && block === null ? (floating.usedSince(address) ?? Date.now()) : since;
    return { ...line, state: used ? 'in use' : 'leased', guest, ports, since: when(began), until: null };
  }
}

/** By their ports. */
function sorted(records: readonly AddressRecord[]): AddressRecord[] {
  return [...records].sort((a, b) => (a.block?.first ?? 0) - (b.block?.first ?? 0));
}

function leased({ guest, since }: AddressRecord, { state }: PoolLine): string {
  return `leased to guest ${guest} since ${when(since)}, ${state === 'in use' ? 'and in use' : 'and not in use'}`;
}

function released({ guest }: AddressRecord, { since }: PoolLine): string {
  return `released by guest ${guest} at ${since ?? ''}`;
}

function when(ms: number): string {
  return new Date(ms).toISOString();
}
