/** The address book: one guest, one address; released addresses wait (D3); what is full or not for a guest is refused with words. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AddressWish } from '../../../src/base/config-pools.js';
import { AddressBook, type AddressRecord, type Rates } from '../../../src/control/pools/address-book.js';
import type { AddressPool } from '../../../src/control/pools/address-pools.js';
import { FreeAddresses } from '../../../src/control/pools/free-addresses.js';
import { formatIpv4 } from '../../../src/wire/address.js';
import { parseAddressRanges } from '../../../src/wire/address-ranges.js';

const WISH: AddressWish = { name: 'any', policy: 'first-fit', class: null, rule: 'together' };
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

function release(book: AddressBook, address: number, since: number, until: number): AddressRecord {
  const record = book.quarantined(address, since, until);
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
    const address = book.addressOf('x') as number;
    expect(release(book, address, 2000, 62_000)).toMatchObject({ guest: 'x', state: 'quarantined', since: 2000, until: 62_000 });
    expect(take(book, 'y')).toBe('203.0.113.5');
    expect(() => book.choose('z', WISH, IDLE)).toThrow(expect.objectContaining({ code: 'ERR_POOL_FULL', message: expect.stringContaining('no address of it is unused') }));
    expect(take(book, 'x')).toBe('203.0.113.4');
    release(book, address, 3000, 4000);
    book.free(address);
    expect(book.records.has(address)).toBe(false);
    expect(book.addressOf('x')).toBeUndefined();
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
    release(book, book.addressOf('w1') as number, 0, 1);
    release(book, book.addressOf('w2') as number, 0, 1);
    expect(take(book, 'w4', { policy: 'service-class', class: 'web' })).toBe('203.0.113.5');
  });

  it('that were kept are taken up; one that is in no pool any more is not', () => {
    const book = new AddressBook([pool('a', '203.0.113.4-203.0.113.5')]);
    const record = { guest: 'x', state: 'leased', since: 5, until: 0, class: null, words: ['why'], announced: null } as const;
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
