/** The address book: one guest, one address; released addresses wait (D3); what is full or not for a guest is refused with words. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AddressWish } from '../../../src/base/config-pools.js';
import { AddressBook, type AddressLease, type AddressRecord, type Rates } from '../../../src/control/pools/address-book.js';
import type { AddressPool } from '../../../src/control/pools/address-pools.js';
import { FreeAddresses } from '../../../src/control/pools/free-addresses.js';
import { formatIpv4 } from '../../../src/wire/address.js';
import { parseAddressRanges } from '../../../src/wire/address-ranges.js';

const WISH: AddressWish = { name: 'any', ports: null, policy: 'first-fit', class: null, rule: 'together' };
const IDLE = (): Rates => ({ load: 0, speed: 1e9 });

function pool(name: string, addresses: string, more: Partial<AddressPool> = {}): AddressPool {
  const ranges = parseAddressRanges(addresses);
  const size = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  return { name, network: `${name}-net`, ranges, size, speed: null, maxGuests: size, class: null, policy: null, ...more };
}

function take(book: AddressBook, guest: string, wish: Partial<AddressWish> = {}, ratesOf = IDLE): string {
  const choice = book.choose(guest, { ...WISH, ...wish }, ratesOf);
  book.set(choice.address, book.leased(guest, choice, wish.class ?? null, 1000));
  return formatIpv4(choice.address);
}

/** What the guest has is quarantined. */
function release(book: AddressBook, guest: string, since: number, until: number): AddressRecord {
  const { address, record: before } = book.leaseOf(guest) as AddressLease;
  const record = { ...before, state: 'quarantined', since, until } as const;
  book.set(address, record);
  return record;
}

describe('prior system, floating addresses: the list with its use state (D1, D3)', () => {
  it('are given in the order of writing, one to a guest, and the same one again', () => {
    const book = new AddressBook([pool('a', '203.0.113.9,203.0.113.4-203.0.113.5')]);
    expect(['x', 'y', 'x', 'z'].map((guest) => take(book, guest))).toEqual(['203.0.113.9', '203.0.113.4', '203.0.113.9', '203.0.113.5']);
    expect(() => take(book, 'w')).toThrow(/guest w: pool a on a-net: it has its 3 guests; remove a guest/);
  });

  it('wait after a release, but not for the guest that had them; then they are anybody\'s', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.5')]);
    take(book, 'x');
    const { address } = book.leaseOf('x') as AddressLease;
    expect(release(book, 'x', 2000, 62_000)).toMatchObject({ guest: 'x', state: 'quarantined', since: 2000, until: 62_000 });
    expect(take(book, 'y')).toBe('203.0.113.5');
    expect(() => book.choose('z', WISH, IDLE)).toThrow(expect.objectContaining({ code: 'ERR_POOL_FULL', message: expect.stringContaining('no address of it is unused') }));
    expect(take(book, 'x')).toBe('203.0.113.4');
    release(book, 'x', 3000, 4000);
    book.free(address, null);
    expect(book.records.has(address)).toBe(false);
    expect(book.leaseOf('x')).toBeUndefined();
    expect(take(book, 'z')).toBe('203.0.113.4');
  });

  it('of a pool with fewer guests than addresses: the guests are the limit', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.9', { maxGuests: 1 }), pool('b', '203.0.113.20')]);
    expect(['x', 'y'].map((guest) => take(book, guest))).toEqual(['203.0.113.4', '203.0.113.20']);
    expect(() => take(book, 'z')).toThrow(/pool a on a-net: it has its 1 guests; pool b/);
  });

  it('come from the pool that is named, or by the policy of a pool where the guest names none', () => {
    const rates = (network: string): Rates => ({ load: network === 'a-net' ? 9e8 : 0, speed: 1e9 });
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.9', { policy: 'least-load' }), pool('b', '203.0.113.20-203.0.113.29')]);
    const choice = book.choose('x', { ...WISH, policy: null }, rates);
    expect(choice.words).toEqual(['Chosen by least-load: pool b on b-net, 0 % of 1 Gbit/s in use.', 'Not pool a on a-net: 90 % of 1 Gbit/s in use.']);
    expect(take(book, 'y', { name: 'a' }, rates as typeof IDLE)).toBe('203.0.113.4');
    expect(() => take(book, 'z', { name: 'c' })).toThrow(expect.objectContaining({ code: 'ERR_NO_POOL' }));
  });

  it('of a class are kept together on one network, apart on another, by what is there', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.9'), pool('b', '203.0.113.20-203.0.113.29')]);
    take(book, 'w1', { name: 'b', class: 'web' });
    expect(take(book, 'w2', { policy: 'service-class', class: 'web' })).toBe('203.0.113.21');
    expect(take(book, 'w3', { policy: 'service-class', class: 'web', rule: 'apart' })).toBe('203.0.113.4');
    release(book, 'w1', 0, 1);
    release(book, 'w2', 0, 1);
    expect(take(book, 'w4', { policy: 'service-class', class: 'web' })).toBe('203.0.113.5');
  });

  it('by ports are shared: the first with room for a block comes before an unused one, and one that is leased so is nobody\'s own', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.6', { maxGuests: null })]);
    const block = (guest: string, ports: number): string => {
      const address = take(book, guest, { ports });
      const { first, last } = book.leaseOf(guest)?.record.block ?? { first: 0, last: 0 };
      return `${address} ${first}-${last}`;
    };
    expect([block('x', 1024), block('y', 16_384), block('z', 1024), block('x', 1024)]).toEqual(['203.0.113.4 1024-2047', '203.0.113.4 16384-32767', '203.0.113.4 2048-3071', '203.0.113.4 1024-2047']);
    expect(take(book, 'own')).toBe('203.0.113.5');
    expect([block('v', 32_768), block('w', 32_768)]).toEqual(['203.0.113.4 32768-65535', '203.0.113.6 32768-65535']);
    expect(() => book.choose('u', { ...WISH, ports: 32_768 }, IDLE)).toThrow(expect.objectContaining({ code: 'ERR_POOL_FULL', message: 'guest u: pool a on a-net: no address of it has a block of 32768 ports free; remove a guest, wait for the end of a quarantine, or add addresses' }));
    expect(() => book.choose('u', WISH, IDLE)).toThrow(/no address of it is unused/);
    // What is quarantined is nobody else's; the last record that goes leaves the address unused.
    release(book, 'w', 0, 1);
    expect(() => book.choose('u', { ...WISH, ports: 32_768 }, IDLE)).toThrow(/no address of it has/);
    expect(block('w', 32_768)).toBe('203.0.113.6 32768-65535');
    book.free(parseAddressRanges('203.0.113.6')[0].first, { first: 32_768, last: 65_535 });
    expect(take(book, 'u')).toBe('203.0.113.6');
  });

  it('a guest that wishes something else than it had gets something else', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.5')]);
    take(book, 'x');
    release(book, 'x', 0, 1);
    expect(take(book, 'x', { ports: 256 })).toBe('203.0.113.5');
    expect([book.leaseOf('x')?.record, book.recordsOf(0xcb007104)]).toMatchObject([{ block: { first: 1024, last: 1279 } }, [{ guest: 'x', state: 'quarantined' }]]);
  });

  it('by ports: occupancy is guests in those that fit, or in those that are allowed', () => {
    const book = new AddressBook([pool('a', '203.0.113.4', { maxGuests: null }), pool('b', '203.0.113.20', { maxGuests: 2 })]);
    const wish = { policy: 'lowest-occupancy', ports: 16_384 } as const;
    expect(book.choose('x', { ...WISH, ...wish }, IDLE).words).toEqual(['Chosen by lowest-occupancy: pool a on a-net, 0 of 3 guests configured.', 'Not pool b on b-net: 0 of 2 guests configured: as good, and later in the configuration.']);
    expect(['x', 'y', 'z', 'w', 'v'].map((guest) => take(book, guest, wish))).toEqual(['203.0.113.4', '203.0.113.20', '203.0.113.4', '203.0.113.20', '203.0.113.4']);
    expect(() => take(book, 'u', wish)).toThrow(/pool a on a-net: no address of it has a block of 16384 ports free; pool b on b-net: it has its 2 guests;/);
  });

  it('by ports never overlap, whoever comes and goes; what a guest has is a block of what it wished, and its own again', () => {
    const step = fc.record({ guest: fc.constantFrom(...'abcdefgh'), ports: fc.constantFrom(null, 1, 1024, 8192, 32_768), what: fc.constantFrom('add', 'add', 'remove', 'expire') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.5', { maxGuests: null }), pool('b', '203.0.113.20')]);
        const there = new Map<string, number | null>();
        for (const { guest, ports, what } of steps) {
          if (what === 'add' && !there.has(guest)) {
            const before = book.leaseOf(guest);
            try {
              const choice = book.choose(guest, { ...WISH, ports }, IDLE);
              if (before !== undefined && (before.record.block === null ? null : before.record.block.last - before.record.block.first + 1) === ports) expect(choice.address).toBe(before.address);
              book.set(choice.address, book.leased(guest, choice, null, 0));
              there.set(guest, ports);
            } catch (error) {
              expect(error).toMatchObject({ code: 'ERR_POOL_FULL' });
            }
          } else if (what === 'remove' && there.delete(guest)) release(book, guest, 0, 1);
          else if (what === 'expire') {
            for (const [address, records] of [...book.records]) for (const { guest: whose, state, block } of records) if (whose === guest && state === 'quarantined') book.free(address, block);
          }
          const leased = new Map<string, number | null>();
          for (const records of book.records.values()) {
            for (const { guest: whose, state, block } of records) {
              if (state === 'leased') leased.set(whose, block === null ? null : block.last - block.first + 1);
              expect(block !== null || records.length === 1).toBe(true);
              if (block !== null) expect(block.first % (block.last - block.first + 1)).toBe(0);
            }
            const ranges = records.flatMap(({ block }) => block ?? []).sort((x, y) => x.first - y.first);
            for (let at = 1; at < ranges.length; at++) expect(ranges[at].first).toBeGreaterThan(ranges[at - 1].last);
          }
          expect(leased).toEqual(there);
        }
      }),
    );
  });

  it('that were kept are taken up; one that is in no pool any more is not', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.5')]);
    const record = { guest: 'x', block: null, state: 'leased', since: 5, until: 0, class: null, words: ['why'], announced: null } as const;
    const [kept, gone] = parseAddressRanges('203.0.113.5,203.0.113.6').map(({ first }) => first);
    expect([book.set(kept, record), book.set(gone, { ...record, guest: 'y' })]).toEqual([true, false]);
    expect(book.choose('x', WISH, IDLE)).toMatchObject({ address: kept, words: ['why'] });
    expect(take(book, 'y')).toBe('203.0.113.4');
  });

  it('unused ones: the first is the lowest bit that is set, whatever was taken and given before', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(99))), (steps) => {
        const ranges = parseAddressRanges('10.0.0.50-10.0.0.89,10.0.0.200-10.0.1.3');
        const free = new FreeAddresses(ranges);
        const all = ranges.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, at) => first + at));
        const model = new Set(all);
        for (const [taken, at] of steps) {
          free[taken ? 'take' : 'give'](all[at]);
          model[taken ? 'delete' : 'add'](all[at]);
          expect([free.first(), free.count]).toEqual([all.find((address) => model.has(address)) ?? null, model.size]);
        }
      }),
    );
  });
});
