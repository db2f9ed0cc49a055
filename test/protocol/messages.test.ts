/** What messages may carry, and that the examples of the documentation are what it says they are. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeRequest, MAX_LINE_BYTES, parseMessage } from '../../src/protocol/codec.js';
import { checkNotice, checkParams, checkResult, inParts, isMethod, isNotification, type Method, NOTIFICATIONS, readRefusal, REQUESTS } from '../../src/protocol/messages.js';
import { PortSet } from '../../src/wire/port-set.js';

const README = readFileSync(new URL('../../src/protocol/README.md', import.meta.url), 'utf8');
const WELCOME = { guest: 'web', addresses: [{ address: '192.0.2.10', prefix: 24 }], leases: { tcp: '80', udp: '' }, epoch: 1 };

describe('messages', () => {
  it('ignores unknown fields and fills in what is left out', () => {
    expect(checkParams('hello', { version: 1, epoch: 2, later: {} })).toEqual({ ok: true, value: { version: 1, epoch: 2, used: { tcp: PortSet.EMPTY, udp: PortSet.EMPTY } } });
    const read = checkResult('hello', { ...WELCOME, later: 1 });
    expect(read).toMatchObject({ ok: true, value: { gateway: null, mtu: null, blocks: [], policy: { leaseTimeMs: 3_600_000, implicit: true } } });
    expect(read.ok && 'later' in read.value).toBe(false);
  });

  it('reads sets of ports', () => {
    const read = checkParams('use', { tcp: '80,8000-8002' });
    expect(read.ok && [...read.value.tcp.ports()]).toEqual([80, 8000, 8001, 8002]);
    expect(read.ok && read.value.udp.isEmpty).toBe(true);
  });

  const wrong: [Method, unknown, RegExp][] = [
    ['use', { tcp: '0' }, /tcp/],
    ['use', { tcp: '70000' }, /tcp/],
    ['use', { tcp: '9-8' }, /tcp/],
    ['use', { tcp: 80 }, /tcp/],
    ['use', { tcp: 'all' }, /tcp/],
    ['use', [], /object/],
    ['hello', {}, /version/],
    ['hello', { version: 1, epoch: -1 }, /epoch/],
    ['hello', { version: 1, epoch: 1e300 }, /epoch/],
    ['hello', { version: 1, epoch: 1, used: 'all' }, /used/],
    ['list-free', { proto: 'sctp' }, /proto/],
    ['list-free', { limit: 1.5 }, /limit/],
    ['request', { block: 'yes' }, /block/],
  ];
  it.each(wrong)('says what is wrong with %s %j', (method, value, problem) => {
    const read = checkParams(method, value);
    expect(read.ok ? '' : read.problem).toMatch(problem);
  });

  it.each([{ addresses: [{ address: '010.0.0.1', prefix: 24 }] }, { gateway: 'router' }, { mtu: 1 }, { mac: 'aa' }, { blocks: [{ first: 2, last: 1 }] }])('does not take a welcome with %j', (part) =>
    expect(checkResult('hello', { ...WELCOME, ...part }).ok).toBe(false),
  );

  it('never throws, and a problem is one short line', () => {
    fc.assert(
      fc.property(fc.constantFrom(...(Object.keys(REQUESTS) as Method[])), fc.jsonValue(), (method, value) => {
        const read = checkParams(method, value);
        if (!read.ok) expect(read.problem.length).toBeLessThanOrEqual(300);
        checkResult(method, value);
        readRefusal(value);
      }),
    );
  });

  it('no method comes from the prototype of an object', () => {
    for (const name of ['constructor', '__proto__', 'toString']) expect([isMethod(name), isNotification(name)]).toEqual([false, false]);
  });

  it('cuts any sets into parts that fit in a line and make the whole', () => {
    const every = (step: number): PortSet => PortSet.fromRanges(Array.from({ length: Math.floor(55_000 / step) }, (_, i) => ({ first: 10_000 + i * step, last: 10_000 + i * step + (step > 2 ? 1 : 0) })));
    for (const used of [{ tcp: every(2), udp: every(3) }, { tcp: PortSet.ALL, udp: PortSet.EMPTY }, { tcp: PortSet.EMPTY, udp: PortSet.EMPTY }]) {
      const parts = inParts(used);
      for (const part of parts) expect(encodeRequest(2 ** 31, 'end-use', part).length).toBeLessThanOrEqual(MAX_LINE_BYTES);
      expect(parts.reduce((set, { tcp }) => set.union(tcp), PortSet.EMPTY).equals(used.tcp)).toBe(true);
      expect(parts.reduce((set, { udp }) => set.union(udp), PortSet.EMPTY).equals(used.udp)).toBe(true);
    }
  });
});

describe('README.md', () => {
  const examples = [...README.matchAll(/^([→←]) (\{.*\})$/gm)].map(([, from, line]) => ({ from, line }));

  it('has an example of each request, its answer, and each notification, and each is valid', () => {
    const [asked, answered, notified] = [new Set<string>(), new Set<string>(), new Set<string>()];
    const methods = new Map<number | string, Method>();
    for (const { from, line } of examples) {
      const message = parseMessage(line);
      expect(message.kind, line).not.toBe('invalid');
      if (message.kind === 'request') {
        expect([from, isMethod(message.method)], line).toEqual(['→', true]);
        expect(checkParams(message.method as Method, message.params), line).toMatchObject({ ok: true });
        methods.set(message.id, message.method as Method);
        asked.add(message.method);
      } else if (message.kind === 'answer') {
        const method = methods.get(message.id)!;
        expect(checkResult(method, message.result), line).toMatchObject({ ok: true });
        answered.add(method);
      } else if (message.kind === 'notification') {
        expect([from, isNotification(message.method)], line).toEqual(['←', true]);
        expect(checkNotice(message.method as 'revoked', message.params), line).toMatchObject({ ok: true });
        notified.add(message.method);
      }
    }
    const requests = Object.keys(REQUESTS).sort();
    expect([[...asked].sort(), [...answered].sort(), [...notified].sort()]).toEqual([requests, requests, Object.keys(NOTIFICATIONS).sort()]);
  });
});
