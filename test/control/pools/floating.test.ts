/** Floating addresses and their store: what is taken up of it at a start, and what is in it after each step. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { AddressWish } from '../../../src/base/config.js';
import { createLog } from '../../../src/base/log.js';
import { FloatingAddresses } from '../../../src/control/pools/floating.js';
import type { AddressRecords } from '../../../src/control/store.js';

const [A, B] = [0xcb007110, 0xcb007111];
const POOL = { name: 'p', network: 'n', ranges: [{ first: A, last: B }], size: 2, speed: 1e9, maxGuests: null, class: null, policy: null };
const WISH: AddressWish = { name: 'any', ports: null, policy: null, class: null, rule: 'together' };
const PORTS: AddressWish = { ...WISH, ports: 1024 };
const LEASED = { state: 'leased', since: 5, until: 0, class: null, words: [], announced: null };

describe('floating addresses in the store', () => {
  beforeEach(() => void vi.useFakeTimers({ now: 1000 }));
  afterEach(() => void vi.useRealTimers());

  /** What is stored comes back as it was written: through JSON. */
  class Records implements AddressRecords {
    readonly kept = new Map<number, string>();
    addresses(): Map<number, unknown> {
      return new Map(Array.from(this.kept, ([address, text]) => [address, JSON.parse(text) as unknown]));
    }
    putAddress(address: number, record: object): void {
      this.kept.set(address, JSON.stringify(record));
    }
    removeAddress(address: number): void {
      this.kept.delete(address);
    }
  }

  const start = (store: AddressRecords, wishes: Record<string, AddressWish>, quarantineMs = 500): { floating: FloatingAddresses; waiting: string[] } => {
    const floating = new FloatingAddresses([POOL], new Map(), createLog({ level: 'silent' }));
    const waiting = floating.restore(store, new Map(Object.entries(wishes)), quarantineMs);
    return { floating, waiting: waiting.map(({ address, record }) => `${address - A} ${record.guest} ${record.block?.first ?? 'all'} ${record.until}`) };
  };
  const states = ({ book }: FloatingAddresses): string[] => [...book.records].flatMap(([address, records]) => records.map(({ guest, block, state }) => `${address - A} ${guest} ${block?.first ?? 'all'} ${state}`)).sort();

  it('are there again as they were, blocks of one address too; the record of an earlier version is that of a whole one', () => {
    const store = new Records();
    store.putAddress(B, { ...LEASED, guest: 'own' });
    const { floating } = start(store, { own: WISH });
    for (const guest of ['x', 'y']) floating.take(guest, floating.choose(guest, PORTS), PORTS);
    expect(states(floating)).toEqual(['0 x 1024 leased', '0 y 2048 leased', '1 own all leased']);
    const again = start(store, { own: WISH, x: PORTS, y: PORTS });
    expect([states(again.floating), again.waiting]).toEqual([states(floating), []]);
    expect(again.floating.choose('y', PORTS)).toMatchObject({ address: A, block: { first: 2048, last: 3071 } });
  });

  it('wait where the guest is gone, or wishes something else than it had; are unused once that is over', () => {
    const store = new Records();
    const { floating } = start(store, {});
    for (const guest of ['gone', 'other', 'same']) floating.take(guest, floating.choose(guest, PORTS), PORTS);
    const again = start(store, { other: { ...PORTS, ports: 2048 }, same: PORTS });
    expect(again.waiting).toEqual(['0 gone 1024 1500', '0 other 2048 1500']);
    expect(states(again.floating)).toEqual(['0 gone 1024 quarantined', '0 other 2048 quarantined', '0 same 3072 leased']);
    vi.setSystemTime(2000);
    const later = start(store, { same: PORTS });
    expect([states(later.floating), later.waiting]).toEqual([['0 same 3072 leased'], []]);
    later.floating.release('same', 2000, 2500);
    later.floating.free({ name: 'same', addresses: [A], until: 2499 }); // of another quarantine
    expect(states(later.floating)).toEqual(['0 same 3072 quarantined']);
    later.floating.free({ name: 'same', addresses: [A], until: 2500 });
    expect([states(later.floating), store.kept.size]).toEqual([[], 0]);
  });

  it('are as before where taking them is undone', () => {
    const store = new Records();
    const { floating } = start(store, {});
    floating.take('x', floating.choose('x', PORTS), PORTS);
    const before = new Map(store.kept);
    floating.take('y', floating.choose('y', PORTS), PORTS)();
    expect([states(floating), store.kept]).toEqual([['0 x 1024 leased'], before]);
    floating.release('x', 1000, 1500);
    const quarantined = new Map(store.kept);
    floating.take('x', floating.choose('x', PORTS), PORTS)();
    expect([states(floating), store.kept]).toEqual([['0 x 1024 quarantined'], quarantined]);
  });

  it.each([
    ['a block that ends before it begins', { ...LEASED, guest: 'x', block: { first: 9, last: 8 } }],
    ['a block of no ports', { ...LEASED, guest: 'x', block: {} }],
    ['a list with something else in it', [{ ...LEASED, guest: 'x' }, 7]],
  ])('are refused when the store has %s', (_name, value) => {
    const store = new Records();
    store.putAddress(A, value);
    expect(() => start(store, {})).toThrow(expect.objectContaining({ code: 'ERR_STORE_DAMAGED', message: expect.stringContaining('203.0.113.16') }));
  });
});
