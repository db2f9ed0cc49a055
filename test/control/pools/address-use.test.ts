/** When a use of an address is announced: when it moves, and not again. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AddressBook, type AddressLease } from '../../../src/control/pools/address-book.js';
import { AddressUse } from '../../../src/control/pools/address-use.js';

const ADDRESS = 0xcb007110;
const POOL = { name: 'p', network: 'n', ranges: [{ first: ADDRESS, last: ADDRESS + 3 }], size: 4, speed: null, maxGuests: 4, class: null, policy: null };

describe('the use of an address', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function world(): { book: AddressBook; use: AddressUse; used: Set<number>; announced: number[]; lease: (guest: string) => void; quarantine: (guest: string, since: number, until: number) => void; nic: { mac: string } } {
    const book = new AddressBook([POOL]);
    const used = new Set<number>();
    const announced: number[] = [];
    const nic = { mac: 'a' };
    const use = new AddressUse({ book, isInUse: (address) => used.has(address), macOf: () => nic.mac, announce: (address) => announced.push(address), keep: (address, record) => book.set(address, record) });
    const quarantine = (guest: string, since: number, until: number): void => void book.set(ADDRESS, { ...(book.leaseOf(guest) as AddressLease).record, state: 'quarantined', since, until });
    return { book, use, used, announced, nic, quarantine, lease: (guest) => book.set(ADDRESS, book.leased(guest, { address: ADDRESS, block: null, words: [] }, null, 0)) };
  }

  it('is announced twice when it begins, and not when it begins again', () => {
    const { use, used, announced, lease } = world();
    lease('x');
    use.look(1);
    expect([announced, use.sinceOf(ADDRESS)]).toEqual([[], null]);
    used.add(ADDRESS);
    use.look(2);
    use.look(3);
    expect([announced.length, use.sinceOf(ADDRESS)]).toEqual([1, 2]);
    vi.advanceTimersByTime(2000);
    expect(announced).toHaveLength(2);
    used.clear();
    use.look(4);
    expect(use.sinceOf(ADDRESS)).toBeNull();
    used.add(ADDRESS);
    use.look(5);
    vi.advanceTimersByTime(5000);
    expect([announced.length, use.sinceOf(ADDRESS)]).toEqual([2, 5]);
  });

  it('is announced anew by another guest, and at another MAC; not by the same guest that had it before', () => {
    const { book, use, used, announced, nic, lease, quarantine } = world();
    lease('x');
    used.add(ADDRESS);
    use.look(1);
    quarantine('x', 2, 3);
    use.look(2);
    lease('x');
    use.look(3);
    expect(announced).toHaveLength(1);
    book.free(ADDRESS, null);
    use.look(4);
    lease('y');
    use.look(5);
    expect(announced).toHaveLength(2);
    quarantine('y', 6, 7);
    use.look(6);
    nic.mac = 'b';
    lease('y');
    use.look(7);
    expect(announced).toHaveLength(3);
  });

  it('by another guest of the address, which has other ports of it, is nothing new', () => {
    const { book, use, used, announced } = world();
    const take = (guest: string, first: number): boolean => book.set(ADDRESS, book.leased(guest, { address: ADDRESS, block: { first, last: first + 1023 }, words: [] }, null, 0));
    take('x', 1024);
    used.add(ADDRESS);
    use.look(1);
    take('y', 2048);
    use.look(2);
    expect([announced.length, book.recordsOf(ADDRESS).map((record) => record.announced)]).toEqual([1, ['a', 'a']]);
    used.clear();
    use.look(3);
    used.add(ADDRESS);
    use.look(4);
    expect([announced.length, use.sinceOf(ADDRESS)]).toEqual([1, 4]);
  });

  it('that has ended is not announced a second time', () => {
    const { use, used, announced, lease } = world();
    lease('x');
    used.add(ADDRESS);
    use.look(1);
    used.clear();
    vi.advanceTimersByTime(2000);
    expect(announced).toHaveLength(1);
    used.add(ADDRESS);
    use.close();
    vi.advanceTimersByTime(2000);
    expect(announced).toHaveLength(1);
  });
});
