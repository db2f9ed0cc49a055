/**
 * R1–R10 and D1–D5 (design §2), as far as the lease book decides them; what the data plane and the agent decide is tested
 * where they are: test/README.md has each rule's tests and what turned them red.
 */
import { describe, expect, it } from 'vitest';
import { answer, bookOf, policy, ports, short, tcp, udp } from '../support/lease-book.js';

const both = (text: string): ReturnType<typeof tcp> => ({ ...tcp(text), ...udp(text) });

describe('requirements of the lease book', () => {
  it('R1: the host allocates endpoints to a named guest, and to no other', () => {
    const book = bookOf(['a', 'b']);
    expect(answer(book.grantBlock('a', 0))).toBe('1024-1039');
    expect(book.holding('a').leased.tcp.format()).toBe('1024-1039');
    expect(book.holding('b').leased.tcp.isEmpty).toBe(true);
    expect(book.explain('tcp', 1024).run?.guest).toBe('a');
    expect(answer(book.grantBlock('b', 0))).toBe('1040-1055');
    expect(book.grantPorts('b', tcp('1024'), 0).refusal).not.toBeNull();
    expect(book.holding('a').leased.tcp.format()).toBe('1024-1039');
    expect(book.grantBlock('stranger', 0).refusal?.code).toBe('ERR_UNKNOWN_GUEST');
  });

  it('R3: only an indication from the guest turns a leased endpoint into a used one', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.renew('a', 1);
    expect(book.holding('a').used.tcp.isEmpty).toBe(true);
    book.use('a', tcp('1025'));
    expect(book.holding('a').used.tcp.format()).toBe('1025');
  });

  it('R5: the guest can be sent a list of free endpoints, and any of them can be had', () => {
    const book = bookOf(['a', 'b'], { reservedByHost: { tcp: ports('8005'), udp: ports('') } }, { allow: { tcp: ports('80,8000-8019'), udp: ports('53') }, deny: { tcp: ports('8001'), udp: ports('') } });
    book.grantPorts('b', tcp('80,8002'), 0);
    book.grantPorts('b', tcp('8003'), 0);
    book.release('b', tcp('8003'), 0);
    const free = book.listFree('a', 10);
    expect(free.tcp.format()).toBe('8000,8004,8006-8013');
    expect(free.udp.format()).toBe('53');
    expect(book.grantPorts('a', free, 0).refusal).toBeNull();
    expect(book.listFree('a', 3).tcp.format()).toBe('8014-8016');
  });

  it('R6: after the guest says it stopped, the endpoint is no longer in use', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.use('a', tcp('1024-1030'));
    expect(book.endUse('a', tcp('1027')).changes.map(short)).toEqual(['end-use a tcp 1027']);
    expect(book.explain('tcp', 1027).inUse).toBe(false);
    expect(book.explain('tcp', 1028).inUse).toBe(true);
  });

  it('R7: several endpoints are allocated at once, contiguous, a power of two, in both protocols', () => {
    const book = bookOf(['a'], { pool: ports('20000-59999') }, { block: 1024, maxPorts: 4096 });
    expect(book.grantBlock('a', 0).changes.map(short)).toEqual(['lease a tcp 20480-21503', 'lease a udp 20480-21503']);
  });

  it('R8: the guest may ask for more and gets a second set', () => {
    const book = bookOf(['a']);
    expect([answer(book.grantBlock('a', 0)), answer(book.grantBlock('a', 0))]).toEqual(['1024-1039', '1040-1055']);
    expect(book.holding('a').count).toBe(32);
  });

  describe('R9: before that, the count is compared with the threshold', () => {
    const rows: { name: string; threshold: 'strict' | 'literal'; maxPorts: number; blocks: number }[] = [
      { name: 'strict: up to the threshold exactly', threshold: 'strict', maxPorts: 32, blocks: 2 },
      { name: 'strict: not one port past it', threshold: 'strict', maxPorts: 31, blocks: 1 },
      { name: 'strict: not even the first block', threshold: 'strict', maxPorts: 15, blocks: 0 },
      { name: 'literal: under it, the whole block', threshold: 'literal', maxPorts: 31, blocks: 2 },
      { name: 'literal: at it, the whole block', threshold: 'literal', maxPorts: 32, blocks: 3 },
      { name: 'literal: over it, nothing', threshold: 'literal', maxPorts: 15, blocks: 1 },
    ];
    it.each(rows)('$name', ({ threshold, maxPorts, blocks }) => {
      const book = bookOf(['a'], {}, { threshold, maxPorts });
      for (let i = 0; i < blocks; i++) expect(book.grantBlock('a', 0).refusal).toBeNull();
      const { refusal, changes } = book.grantBlock('a', 0);
      expect(refusal?.code).toBe('ERR_OVER_THRESHOLD');
      expect(refusal?.message).toContain(`holds ${16 * blocks} ports and asks for 16 more`);
      expect(changes).toEqual([]);
    });
  });

  it('R10: ports are addresses: what is leased is the port asked for, and nobody else has it on the outside', () => {
    const book = bookOf(['a', 'b']);
    expect(book.grantPorts('a', tcp('443'), 0).changes.map(short)).toEqual(['lease a tcp 443']);
    expect(book.grantPorts('b', tcp('443'), 0).refusal?.code).toBe('ERR_PORT_TAKEN');
  });

  it('D1: free, leased, in use, leased, quarantined, free', () => {
    const book = bookOf(['a']);
    const state = (): string => {
      const { run, inUse } = book.explain('tcp', 80);
      return inUse ? 'in use' : (run?.state ?? 'free');
    };
    const seen = [state()];
    const steps = [() => book.grantPorts('a', tcp('80'), 0), () => book.use('a', tcp('80')), () => book.endUse('a', tcp('80')), () => book.release('a', tcp('80'), 1), () => book.expire(60_001)];
    for (const step of steps) {
      step();
      seen.push(state());
    }
    expect(seen).toEqual(['free', 'leased', 'in use', 'leased', 'quarantined', 'free']);
  });

  it('D1: an endpoint that is released while in use is in use no more before it is anything else', () => {
    const book = bookOf(['a']);
    book.grantPorts('a', tcp('80'), 0);
    book.use('a', tcp('80'));
    expect(book.release('a', tcp('80'), 1).changes.map(short)).toEqual(['end-use a tcp 80', 'release a tcp 80', 'quarantine a tcp 80']);
  });

  it('D3: a released endpoint is kept from another guest for the quarantine, and not a moment longer', () => {
    const book = bookOf(['a', 'b'], { pool: ports('1024-1039') });
    book.grantBlock('a', 0);
    book.grantPorts('a', tcp('80'), 0);
    book.release('a', { tcp: ports('80,1024-1039'), udp: ports('1024-1039') }, 1000);
    expect(book.grantBlock('b', 60_999).refusal?.code).toBe('ERR_POOL_EMPTY');
    const refusal = book.grantPorts('b', tcp('80'), 60_999).refusal;
    expect(refusal).toMatchObject({ code: 'ERR_PORT_TAKEN', message: expect.stringContaining('quarantined') });
    expect(answer(book.grantBlock('b', 61_000))).toBe('1024-1039');
    expect(book.grantPorts('b', tcp('80'), 61_000).refusal).toBeNull();
  });

  it('D3: the same guest may have it at once, and gets it rather than a fresh one', () => {
    const book = bookOf(['a', 'b']);
    book.grantBlock('b', 0);
    book.grantBlock('a', 0);
    book.grantBlock('b', 0);
    book.release('a', both('1040-1055'), 1);
    book.release('b', both('1056-1071'), 60_001);
    expect(book.free.has(1040)).toBe(true); // fresh, and lower
    expect(book.grantBlock('b', 60_002).changes.map(short).filter((change) => !change.startsWith('free'))).toEqual(['lease b tcp 1056-1071', 'lease b udp 1056-1071']);
  });

  it('D3: quarantine outlives the daemon', () => {
    const before = bookOf(['a', 'b'], { pool: ports('1024-1039') });
    before.grantBlock('a', 0);
    before.release('a', both('1024-1039'), 1000);
    const book = bookOf(['a', 'b'], { pool: ports('1024-1039'), restored: before.snapshot() });
    expect(book.grantBlock('b', 60_999).refusal?.code).toBe('ERR_POOL_EMPTY');
    expect(book.grantBlock('b', 61_000).refusal).toBeNull();
  });

  it('D4: a guest that dies without a word loses its indications, and its lease at expiry', () => {
    const book = bookOf(['a'], {}, { leaseTimeMs: 1000 });
    book.grantBlock('a', 0);
    book.use('a', both('1024-1025'));
    expect(book.silence('a').changes.map(short)).toEqual(['end-use a tcp 1024-1025', 'end-use a udp 1024-1025']);
    expect(book.holding('a').count).toBe(16);
    book.expire(1000);
    expect(book.holding('a').count).toBe(0);
  });

  it('D4: a late message of an old session changes nothing', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    expect(book.hello('a', 7).changes.map(short)).toEqual(['epoch a 7']);
    book.use('a', tcp('1024'), 7);
    expect(book.hello('a', 8).refusal).toBeNull();
    for (const late of [book.use('a', tcp('1030'), 7), book.endUse('a', tcp('1024'), 7), book.resync('a', {}, 7), book.hello('a', 7)]) {
      expect(late.refusal?.code).toBe('ERR_OLD_EPOCH');
      expect(late.changes).toEqual([]);
    }
    expect(book.hello('a', 8).changes).toEqual([]);
    expect(book.holding('a').used.tcp.format()).toBe('1024');
  });

  it('D4: the epoch outlives the daemon', () => {
    const before = bookOf(['a']);
    before.hello('a', 7);
    const book = bookOf(['a'], { restored: before.snapshot() });
    expect(book.hello('a', 6).refusal?.code).toBe('ERR_OLD_EPOCH');
  });

  it('D4: a guest that comes back states all it uses, and that is what is in use', () => {
    const book = bookOf(['a']);
    book.grantBlock('a', 0);
    book.use('a', tcp('1024-1026'));
    const { changes, refusal } = book.resync('a', { tcp: ports('1026-1027,9999'), udp: ports('1024') });
    expect(changes.map(short)).toEqual(['end-use a tcp 1024-1025', 'use a tcp 1027', 'use a udp 1024']);
    expect(refusal?.code).toBe('ERR_NOT_LEASED');
  });

  it('D5: the host\'s own ports are never leased, neither in a block nor by name', () => {
    const fresh = bookOf(['a'], { reservedByHost: { tcp: ports('1039'), udp: ports('1040') } });
    expect(answer(fresh.grantBlock('a', 0))).toBe('1056-1071');
    const book = bookOf(['a'], { reservedByHost: { tcp: ports('80,1024-1100'), udp: ports('1120') } });
    book.addGuest('a', policy({ maxPorts: 1000 }));
    book.hostTook('tcp', 1151, 0);
    expect(answer(book.grantBlock('a', 0))).toBe('1104-1119');
    expect(book.grantBlock('a', 0).refusal?.code).toBe('ERR_POOL_EMPTY');
    expect(book.grantPorts('a', tcp('80'), 0).refusal).toMatchObject({ code: 'ERR_PORT_TAKEN', message: expect.stringContaining('used by the host itself') });
  });
});
