/**
 * The lease book, by tables: each row is one sentence of what it does. The rules by their names are in requirements.test.ts,
 * what must hold whatever is asked in leases-model.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { NEVER, NO_PORTS } from '../../src/control/lease-state.js';
import type { LeaseBook, Result } from '../../src/control/leases.js';
import { answer, bookOf, policy, ports, short, tcp, udp } from '../support/lease-book.js';

const block = (book: LeaseBook, guest: string, now = 0): string => answer(book.grantBlock(guest, now));
const code = (result: Result): string => result.refusal?.code ?? 'granted';
const lines = (result: Result): string[] => result.changes.map(short);

describe('what is asked for, and what is answered', () => {
  const rows: { name: string; ask: (book: LeaseBook) => string; gets: string }[] = [
    { name: 'a block is the lowest free one', ask: (book) => block(book, 'a'), gets: '1024-1039' },
    { name: 'a second block is another', ask: (book) => (block(book, 'a'), block(book, 'a')), gets: '1040-1055' },
    { name: 'a block passes over a port that the host uses in one protocol', ask: (book) => (book.hostTook('udp', 1030, 0), block(book, 'a')), gets: '1040-1055' },
    { name: 'a block passes over a lease of the configuration', ask: (book) => (book.setFixed('b', tcp('1039'), 0), block(book, 'a')), gets: '1040-1055' },
    { name: 'a block keeps off ports that the policy denies', ask: (book) => (book.addGuest('a', policy({ deny: { tcp: ports('1024'), udp: ports('1041') } })), block(book, 'a')), gets: '1056-1071' },
    { name: 'a block is aligned to its own size', ask: (book) => (book.addGuest('a', policy({ block: 64 })), block(book, 'b'), block(book, 'a')), gets: '1088-1151' },
    { name: 'a block larger than the pool is refused', ask: (book) => (book.addGuest('a', policy({ block: 256, maxPorts: 256 })), block(book, 'a')), gets: 'ERR_POOL_EMPTY' },
    { name: 'a guest that was not added gets nothing', ask: (book) => block(book, 'nobody'), gets: 'ERR_UNKNOWN_GUEST' },
    { name: 'a removed guest gets nothing', ask: (book) => (book.removeGuest('a', 0), block(book, 'a')), gets: 'ERR_UNKNOWN_GUEST' },
    { name: 'a port that the policy allows is granted by name, outside the pool too', ask: (book) => code(book.grantPorts('a', tcp('443'), 0)), gets: 'granted' },
    { name: 'one that it does not allow is refused', ask: (book) => code(book.grantPorts('a', tcp('22'), 0)), gets: 'ERR_NOT_ALLOWED' },
    { name: 'one that it allows in the other protocol is refused', ask: (book) => code(book.grantPorts('a', udp('80'), 0)), gets: 'ERR_NOT_ALLOWED' },
    { name: 'deny goes before allow', ask: (book) => (book.addGuest('a', policy({ deny: { tcp: ports('80'), udp: ports('80') } })), code(book.grantPorts('a', tcp('80'), 0))), gets: 'ERR_NOT_ALLOWED' },
    { name: 'one that another guest holds is refused', ask: (book) => (book.grantPorts('b', tcp('80'), 0), code(book.grantPorts('a', tcp('80'), 0))), gets: 'ERR_PORT_TAKEN' },
    { name: 'the same number in the other protocol is another endpoint', ask: (book) => (book.grantPorts('b', tcp('443'), 0), code(book.grantPorts('a', udp('443'), 0))), gets: 'granted' },
    { name: 'one that it holds already is granted again', ask: (book) => (book.grantPorts('a', tcp('80'), 0), code(book.grantPorts('a', tcp('80'), 0))), gets: 'granted' },
    { name: 'named ports that would go past the threshold are refused', ask: (book) => (book.addGuest('a', policy({ maxPorts: 1 })), code(book.grantPorts('a', tcp('80,443'), 0))), gets: 'ERR_OVER_THRESHOLD' },
    { name: 'a port held in both protocols counts once', ask: (book) => (book.addGuest('a', policy({ maxPorts: 1 })), code(book.grantPorts('a', { tcp: ports('443'), udp: ports('443') }, 0))), gets: 'granted' },
    { name: 'leases of the configuration do not count', ask: (book) => (book.addGuest('a', policy({ maxPorts: 16 })), book.setFixed('a', tcp('8000-8099'), 0), block(book, 'a')), gets: '1024-1039' },
    { name: 'releasing what is another guest\'s is refused', ask: (book) => (block(book, 'b'), code(book.release('a', tcp('1024'), 0))), gets: 'ERR_NOT_LEASED' },
    { name: 'a lease of the configuration is not released by its guest', ask: (book) => (book.setFixed('a', tcp('80'), 0), code(book.release('a', tcp('80'), 0))), gets: 'ERR_NOT_LEASED' },
    { name: 'a lease of the configuration that another guest holds is refused', ask: (book) => (block(book, 'a'), code(book.setFixed('b', udp('1024'), 0))), gets: 'ERR_PORT_TAKEN' },
    { name: 'using what is another guest\'s is refused', ask: (book) => (block(book, 'b'), code(book.use('a', tcp('1024')))), gets: 'ERR_NOT_LEASED' },
  ];
  it.each(rows)('$name', ({ ask, gets }) => expect(ask(bookOf(['a', 'b']))).toBe(gets));

  it('grants named ports all together or not at all', () => {
    const book = bookOf(['a', 'b']);
    book.grantPorts('b', tcp('443'), 0);
    const before = book.snapshot();
    const result = book.grantPorts('a', { tcp: ports('80,443'), udp: ports('53') }, 0);
    expect(code(result)).toBe('ERR_PORT_TAKEN');
    expect(result.refusal?.message).toMatch(/tcp port 443 is leased to another guest/);
    expect(result.changes).toEqual([]);
    expect(book.snapshot()).toEqual(before);
  });

  it('says beforehand what it would grant, and changes nothing by it', () => {
    const book = bookOf(['a', 'b']);
    const before = book.snapshot();
    const found = answer(book.findBlock('a', 5));
    expect(code(book.checkPorts('a', tcp('80'), 5))).toBe('granted');
    expect(book.snapshot()).toEqual(before);
    expect(block(book, 'a', 5)).toBe(found);
  });

  it('refuses a policy that makes no sense', () => {
    const book = bookOf([]);
    for (const wrong of [{ block: 0 }, { block: 1000 }, { block: 65_536 }, { maxPorts: -1 }, { leaseTimeMs: 0 }]) {
      expect(() => book.addGuest('a', policy(wrong))).toThrowError(expect.objectContaining({ code: 'ERR_POLICY' }));
    }
  });
});

describe('changes: what the store and the steering table are told', () => {
  it('a block is leased in both protocols', () => {
    expect(lines(bookOf(['a']).grantBlock('a', 0))).toEqual(['lease a tcp 1024-1039', 'lease a udp 1024-1039']);
  });

  it('what is released while in use ends its use first, then is quarantined', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.use('a', tcp('1024-1030'));
    expect(lines(book.release('a', tcp('1028-1039'), 1))).toEqual(['end-use a tcp 1028-1030', 'release a tcp 1028-1039', 'quarantine a tcp 1028-1039']);
  });

  it('a quarantine of no time frees at once', () => {
    const book = bookOf(['a'], { quarantineMs: 0 });
    book.grantPorts('a', tcp('80'), 0);
    expect(lines(book.release('a', tcp('80'), 1))).toEqual(['release a tcp 80', 'free a tcp 80']);
  });

  it('use and end of use are told once', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    expect(lines(book.use('a', tcp('1024-1025')))).toEqual(['use a tcp 1024-1025']);
    expect(lines(book.use('a', tcp('1025-1026')))).toEqual(['use a tcp 1026']);
    expect(lines(book.use('a', tcp('1025-1026')))).toEqual([]);
    expect(lines(book.endUse('a', { tcp: ports('1020-1024'), udp: ports('1024') }))).toEqual(['end-use a tcp 1024']);
  });

  it('of a batch that is leased only in part, that part is in use', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    const result = book.use('a', tcp('22,1024'));
    expect(lines(result)).toEqual(['use a tcp 1024']);
    expect(result.refusal).toEqual({ code: 'ERR_NOT_LEASED', message: 'tcp 22 is not leased to the guest; ask for it first' });
  });

  it('a port that the host was found to use is taken from its guest', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.use('a', tcp('1024-1039'));
    expect(lines(book.hostTook('tcp', 1030, 9))).toEqual(['end-use a tcp 1030', 'release a tcp 1030', 'quarantine a tcp 1030']);
    expect(book.explain('tcp', 1030)).toMatchObject({ hosts: true, inUse: false, run: { state: 'quarantined' } });
  });

  it('a removed guest loses all it had, and its epoch', () => {
    const book = bookOf(['a']);
    book.hello('a', 3);
    book.setFixed('a', tcp('80'), 0);
    expect(lines(book.removeGuest('a', 1))).toEqual(['release a tcp 80', 'quarantine a tcp 80', 'forget a']);
    expect(book.holders).toEqual([]);
  });

  it('leases of the configuration follow it', () => {
    const book = bookOf(['a']);
    expect(lines(book.setFixed('a', tcp('80,8000-8009'), 0))).toEqual(['lease a tcp 80', 'lease a tcp 8000-8009']);
    expect(lines(book.setFixed('a', tcp('80,8000-8009'), 1))).toEqual([]);
    expect(lines(book.setFixed('a', tcp('8000-8010'), 2))).toEqual(['release a tcp 80', 'quarantine a tcp 80', 'lease a tcp 8010']);
  });
});

describe('time', () => {
  it('a lease ends at its time and not before', () => {
    const book = bookOf(['a'], {}, { leaseTimeMs: 1000 });
    book.grantBlock('a', 0);
    expect(book.nextDeadline()).toBe(1000);
    expect(lines(book.expire(999))).toEqual([]);
    expect(lines(book.expire(1000))).toEqual(['release a tcp 1024-1039', 'quarantine a tcp 1024-1039', 'release a udp 1024-1039', 'quarantine a udp 1024-1039']);
    expect(book.nextDeadline()).toBe(61_000);
    expect(lines(book.expire(61_000))).toEqual(['free a tcp 1024-1039', 'free a udp 1024-1039']);
    expect(book.nextDeadline()).toBeNull();
  });

  it('renewing makes all leases last from now on', () => {
    const book = bookOf(['a'], {}, { leaseTimeMs: 1000 });
    book.grantBlock('a', 0);
    book.grantPorts('a', tcp('80'), 500);
    const result = book.renew('a', 900);
    expect(result.until).toBe(1900);
    expect(lines(result)).toEqual(['renew a tcp 80', 'renew a tcp 1024-1039', 'renew a udp 1024-1039']);
    expect(book.holding('a').blocks).toEqual([{ first: 1024, last: 1039, until: 1900 }]);
    expect(lines(book.expire(1899))).toEqual([]);
  });

  it('a lease that is over is not renewed, however late the renewal comes', () => {
    const book = bookOf(['a'], {}, { leaseTimeMs: 1000 });
    book.grantBlock('a', 0);
    const result = book.renew('a', 5000);
    expect(result.until).toBeNull();
    expect(book.holding('a').count).toBe(0);
  });

  it('leases of the configuration have no end', () => {
    const book = bookOf(['a']);
    book.setFixed('a', tcp('80'), 0);
    expect(book.nextDeadline()).toBeNull();
    expect(lines(book.expire(NEVER - 1))).toEqual([]);
    expect(book.renew('a', 5).until).toBeNull();
  });

  it('after the daemon was away, leases that ran out meanwhile get a while to be renewed', () => {
    const before = bookOf(['a'], {}, { leaseTimeMs: 1000 });
    before.grantBlock('a', 0);
    const book = bookOf(['a'], { restored: before.snapshot() }, { leaseTimeMs: 1000 });
    expect(lines(book.grace(50_000, 300))).toEqual(['renew a tcp 1024-1039', 'renew a udp 1024-1039']);
    expect(lines(book.expire(50_299))).toEqual([]);
    expect(book.expire(50_300).changes).not.toEqual([]);
  });
});

describe('when the pool runs short', () => {
  it('the reserve is given to guests with less than a block, and to no other', () => {
    const book = bookOf(['hog', 'a', 'b'], { reserve: 32 }, { maxPorts: 1000 });
    const got = Array.from({ length: 8 }, () => block(book, 'hog'));
    expect(got.slice(0, 6).every((text) => text.includes('-'))).toBe(true);
    expect(got.slice(6)).toEqual(['ERR_POOL_SHORT', 'ERR_POOL_SHORT']);
    expect(block(book, 'a')).toBe('1120-1135');
    expect(block(book, 'a')).toBe('ERR_POOL_SHORT');
    expect(block(book, 'b')).toBe('1136-1151');
    expect(block(book, 'b')).toBe('ERR_POOL_EMPTY');
  });

  it('the reserve is not used up by single ports named here and there', () => {
    const book = bookOf(['hog', 'a', 'b'], { reserve: 32 }, { maxPorts: 1000, allow: { tcp: ports('1024-1151'), udp: ports('') } });
    const granted = Array.from({ length: 8 }, (_, i) => code(book.grantPorts('hog', tcp(`${1024 + 16 * i}`), 0)));
    expect(granted).toEqual([...Array<string>(6).fill('granted'), 'ERR_POOL_SHORT', 'ERR_POOL_SHORT']);
    expect([block(book, 'a'), block(book, 'b')]).toEqual(['1120-1135', '1136-1151']);
  });

  it('one that asks again and again does not starve one that waits', () => {
    const book = bookOf(['hog', 'waiter'], { quarantineMs: 10 }, { maxPorts: 1000 });
    while (block(book, 'hog') !== 'ERR_POOL_EMPTY');
    expect(block(book, 'waiter', 1)).toBe('ERR_POOL_EMPTY');
    book.release('hog', { tcp: ports('1040-1055'), udp: ports('1040-1055') }, 2);
    for (let now = 12; now < 20; now++) expect(block(book, 'hog', now)).toBe('ERR_POOL_SHORT');
    expect(block(book, 'waiter', 20)).toBe('1040-1055');
  });

  it('those with nothing come first, then those who asked first, not those who ask most', () => {
    const book = bookOf(['x', 'a', 'b', 'c'], { quarantineMs: 0 }, { maxPorts: 1000 });
    expect([block(book, 'a'), block(book, 'b')]).toEqual(['1024-1039', '1040-1055']);
    for (let i = 0; i < 6; i++) block(book, 'x');
    for (const guest of ['b', 'a', 'c', 'a', 'a']) expect(block(book, guest, 1)).toBe('ERR_POOL_EMPTY');
    const free = (range: string): Result => book.release('x', { tcp: ports(range), udp: ports(range) }, 2);
    free('1056-1071');
    for (const guest of ['a', 'b', 'x']) expect(block(book, guest, 3)).toBe('ERR_POOL_SHORT');
    expect(block(book, 'c', 3)).toBe('1056-1071');
    free('1072-1087');
    for (const guest of ['a', 'c']) expect(block(book, guest, 4)).toBe('ERR_POOL_SHORT');
    expect(block(book, 'b', 4)).toBe('1072-1087');
  });

  it('one that waits for what cannot be had holds up nobody', () => {
    const book = bookOf(['big', 'a'], {}, { maxPorts: 1000 });
    book.addGuest('big', policy({ block: 128, maxPorts: 1000 }));
    block(book, 'a');
    expect(block(book, 'big')).toBe('ERR_POOL_EMPTY');
    expect(block(book, 'a')).toBe('1040-1055');
  });

  it('one that waits and does not ask again loses its turn', () => {
    const book = bookOf(['hog', 'waiter'], { quarantineMs: 0, turnMs: 100 }, { maxPorts: 1000 });
    while (block(book, 'hog') !== 'ERR_POOL_EMPTY');
    block(book, 'waiter', 1);
    book.release('hog', { tcp: ports('1040-1055'), udp: ports('1040-1055') }, 2);
    expect(block(book, 'hog', 101)).toBe('ERR_POOL_SHORT');
    expect(block(book, 'hog', 102)).toBe('1040-1055');
  });
});

describe('what can be asked about it', () => {
  it('a block of which a part was released is its rest', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.release('a', udp('1030'), 0);
    expect(book.holding('a').blocks.map(({ first, last }) => `${first}-${last}`)).toEqual(['1024-1029', '1031-1039']);
    expect(book.holding('a').count).toBe(16);
  });

  it('two blocks side by side stay two', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.grantBlock('a', 0);
    expect(book.holding('a').blocks.map(({ first, last }) => `${first}-${last}`)).toEqual(['1024-1039', '1040-1055']);
  });

  it('who has a port, since when and until when', () => {
    const book = bookOf(['a'], {}, { leaseTimeMs: 100 });
    book.grantBlock('a', 7);
    book.renew('a', 50);
    book.use('a', udp('1024'));
    expect(book.explain('udp', 1024)).toEqual({ hosts: false, inUse: true, run: { first: 1024, last: 1039, guest: 'a', state: 'leased', since: 7, until: 150, block: 1024 } });
    expect(book.explain('tcp', 1040)).toEqual({ hosts: false, inUse: false, run: null });
  });

  it('nothing runs out while it is paused; then what would be over lasts as long as is said', () => {
    const book = bookOf(['a', 'b'], {}, { leaseTimeMs: 100 });
    book.grantBlock('a', 0);
    book.pause();
    expect([lines(book.expire(150)), book.nextDeadline(), block(book, 'b', 150)]).toEqual([[], null, '1040-1055']);
    expect(lines(book.grace(160, 30))).toEqual(['renew a tcp 1024-1039', 'renew a udp 1024-1039']);
    expect([book.nextDeadline(), lines(book.expire(189)), lines(book.expire(190))[0]]).toEqual([190, [], 'release a tcp 1024-1039']);
  });

  it('what the host said goodbye to is free again, but not what was its own from the start', () => {
    const book = bookOf(['a'], { reservedByHost: { tcp: ports('1024-1039'), udp: ports('') } });
    book.hostTook('udp', 1040, 0);
    expect(block(book, 'a')).toBe('1056-1071');
    book.hostFreed('udp', 1040);
    book.hostFreed('tcp', 1024);
    expect(block(book, 'a')).toBe('1040-1055');
    expect(book.free.format()).toBe('1072-1151');
  });
});

describe('speed', () => {
  it('grants 100 guests 4,096 ports each in well under a second', () => {
    const guests = Array.from({ length: 100 }, (_, i) => `g${i}`);
    const book = bookOf(guests, { pool: ports('1024-65535'), reserve: 2048, quarantineMs: 10, reservedByHost: NO_PORTS }, { block: 1024, maxPorts: 4096 });
    const start = performance.now();
    let granted = 0;
    guests.forEach((guest, turn) => {
      // 65,536 ports hold fifteen such guests at a time: each one that comes is preceded by one that goes
      if (turn >= 14) book.removeGuest(guests[turn - 14], turn * 20 - 11);
      for (let i = 0; i < 4; i++) granted += book.grantBlock(guest, turn * 20).block === null ? 0 : 1024;
    });
    expect(granted).toBe(100 * 4096);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
