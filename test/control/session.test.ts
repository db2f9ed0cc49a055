/** Sessions over real sockets: what a guest is told without asking, and what one that speaks badly can cost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { freshFolder, startCore } from '../support/control-core.js';
import type { Channel } from '../support/control.js';
import { until } from '../support/live.js';
import { ports, tcp } from '../support/lease-book.js';

const notices = (channel: Channel, method: string): (Record<string, unknown> | undefined)[] => channel.lines.filter((line) => line.method === method).map(({ params }) => params);

describe('a session begins in one turn', () => {
  it('two beginnings and a grant at once: one first block, and what was granted', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, maxPorts: 64 } });
    await core.plane.hello('a', 1);
    await Promise.all([core.plane.grantBlock('a'), core.plane.begin('a', 1, {}), core.plane.begin('a', 1, {})]);
    expect(core.plane.book.holding('a').count).toBe(16);
  });

  it('a port that the operator leased before is no block: the guest gets its first one', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, allow: { tcp: '8080' } } });
    await core.plane.grantPorts('a', { tcp: ports('8080'), udp: ports('') });
    await core.session('a', 1);
    expect(core.plane.book.holding('a').leased.tcp.format()).toBe('8080,61440-61455');
  });

  it('D4: one that a later session has overtaken changes nothing', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16 } });
    await core.session('a', 5, { tcp: '61440' });
    expect((await core.plane.begin('a', 4, tcp('61441'))).refusal?.code).toBe('ERR_OLD_EPOCH');
    expect(core.delivered('a').tcp.format()).toBe('61440');
  });
});

describe('a session that begins renews', () => {
  it('what the guest holds lasts as after a renew', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, leaseTime: '400ms' } });
    await core.session('a', 1);
    await sleep(300);
    const a = await core.session('a', 2, { tcp: '61440' });
    await sleep(200);
    expect(core.delivered('a').tcp.format()).toBe('61440');
    expect(notices(a, 'revoked')).toEqual([]);
  });
});

describe('what a guest states', () => {
  it('a later session on the same stream is welcomed as on another, and the earlier one is over', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16 } });
    const a = await core.session('a', 1, { tcp: '61440' });
    expect((await a.ask('hello', { version: 1, epoch: 2, used: { tcp: '61441' } })).result).toMatchObject({ epoch: 2 });
    expect(core.delivered('a').tcp.format()).toBe('61441');
    expect(await a.outcome('use', { tcp: '61442' })).toBe('ok');
  });

  it('use with all: nothing else is in use, what is not leased is ignored, and the answer is all that is held', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16 } });
    const a = await core.session('a', 1, { tcp: '61440-61442', udp: '61440' });
    const { result } = await a.ask('use', { tcp: '61442-61443,9999', all: true });
    expect(result).toMatchObject({ leases: { tcp: '61440-61455', udp: '61440-61455' }, blocks: [{ first: 61_440, last: 61_455 }] });
    expect(core.delivered('a')).toMatchObject({ tcp: ports('61442-61443'), udp: ports('') });
  });
});

describe('a guest is told', () => {
  it('that a lease has run out, also when another guest\'s request is what finds it', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, leaseTime: '300ms' }, b: { block: 16 } });
    const [a, b] = [await core.session('a', 1), await core.session('b', 1)];
    // The clock of the plane is not what ends it: b asks without pause.
    for (const end = performance.now() + 500; performance.now() < end; ) await b.ask('release', {});
    await until(() => notices(a, 'revoked').length > 0, 1000, () => 'revoked');
    expect(notices(a, 'revoked')).toEqual([{ tcp: '61440-61455', udp: '61440-61455', reason: 'the lease has run out' }]);
    expect(notices(b, 'revoked')).toEqual([]);
  });

  it('nothing of what it has released itself', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16 } });
    const a = await core.session('a', 1);
    expect(await a.outcome('release', { tcp: '61440-61447' })).toBe('ok');
    expect(await a.outcome('renew')).toBe('ok');
    expect(notices(a, 'revoked')).toEqual([]);
  });

  it('at once what has been granted to it unasked', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, maxPorts: 64, allow: { tcp: '8080' } } });
    const a = await core.session('a', 1);
    await core.plane.grantPorts('a', { tcp: ports('8080'), udp: ports('') });
    core.server.granted('a');
    await until(() => notices(a, 'granted').length > 0, 1000, () => 'granted');
    expect(notices(a, 'granted')).toMatchObject([{ leases: { tcp: '8080,61440-61455', udp: '61440-61455' }, blocks: [{ first: 61_440, last: 61_455 }] }]);
  });
});

describe.runIf(process.platform === 'linux')('a guest that asks and does not read its answers', () => {
  /** Every other port: an answer to list-free is 6 KB. */
  const MANY = Array.from({ length: 1000 }, (_, i) => 20_001 + 2 * i).join(',');
  const ask = (id: number, bytes: number): string => `${JSON.stringify({ jsonrpc: '2.0', id, method: 'list-free', params: { proto: 'tcp', padding: 'x'.repeat(bytes) } })}\n`;
  const hello = '{"jsonrpc":"2.0","id":0,"method":"hello","params":{"version":1,"epoch":1}}\n';

  it('is not read from until it takes them, and then gets every one', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, allow: { tcp: MANY } } });
    const a = await core.raw('a');
    a.socket.pause();
    a.write(hello);
    // 4 MB of questions, which have 6 MB of answers.
    let taken = 0;
    const question = (id: number): void => void (id <= 1000 && a.socket.write(ask(id, 4000), () => question((taken = id) + 1)));
    question(1);
    await until(() => taken > 20, 2000, () => 'questions to be read');
    await sleep(500);
    const before = taken;
    await sleep(300);
    expect({ taken, closed: a.closed, isConnected: core.server.isConnected('a') }).toEqual({ taken: before, closed: false, isConnected: true });
    expect(taken).toBeLessThan(400);
    a.socket.resume();
    await until(() => a.lines.length === 1001, 5000, () => `1001 answers; ${a.lines.length} came`);
    expect(a.lines.map(({ id }) => id)).toEqual(Array.from({ length: 1001 }, (_, i) => i));
    expect(core.server.counters.closed).toBe(0);
  });

  it('and asks more at once than may be kept: its session is ended, though it never reads that', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, allow: { tcp: MANY } }, b: { block: 16 } });
    const b = await core.session('b', 1);
    const a = await core.raw('a');
    a.socket.pause();
    a.write(hello + Array.from({ length: 1500 }, (_, i) => ask(i + 1, 0)).join(''));
    await until(() => core.server.counters.closed === 1, 3000, () => 'the session to be ended');
    expect(core.log).toEqual(['guest a: session ended: it does not read its answers']);
    // And its end of the socket is gone, with all that was kept in it.
    await until(() => core.connections('a') === 0, 3000, () => 'the socket to be closed');
    expect(await b.outcome('renew')).toBe('ok');
  });
});
