/** The agent's end of the protocol against a fake host: sessions, time-outs, back-off, and a host that says nonsense. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { unixSocket } from '../../src/agent/channel.js';
import { Client, type ClientOptions } from '../../src/agent/client.js';
import type { Ports, Welcome } from '../../src/protocol/messages.js';
import { PortSet } from '../../src/wire/port-set.js';
import { FakeHost, type FakeSettings } from '../support/fake-host.js';
import { until } from '../support/live.js';

const NO_SESSION = '\n{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"say hello","data":{"code":"ERR_NO_HELLO"}}}\n';

class Recorded {
  used: Ports = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };
  readonly welcomes: Welcome[] = [];
  readonly lost: string[] = [];
  readonly revoked: string[] = [];
  readonly granted: string[] = [];
  readonly changed: object[] = [];
  readonly host: FakeHost;
  readonly client: Client;

  constructor(host: FakeHost, options: Partial<ClientOptions> = {}) {
    this.host = host;
    this.client = new Client(
      {
        inUse: () => this.used,
        onWelcome: (welcome) => this.welcomes.push(welcome),
        onRevoked: ({ tcp, reason }) => this.revoked.push(`${tcp.format()} ${reason}`),
        onGranted: ({ leases }) => this.granted.push(leases.tcp.format()),
        onChanged: (notice) => this.changed.push(notice),
        onLost: (reason) => this.lost.push(reason),
      },
      { open: unixSocket(host.path), firstDelayMs: 5, mostDelayMs: 40, requestTimeoutMs: 200, ...options },
    );
  }

  async welcomed(times = 1): Promise<void> {
    await until(() => this.welcomes.length >= times, 3000, () => `welcome ${times}; lost: ${this.lost.join('; ')}`);
  }
}

async function session(settings: Partial<FakeSettings> = {}, options: Partial<ClientOptions> = {}, listening = true): Promise<Recorded> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-client-'));
  const host = new FakeHost(join(folder, 'agent.sock'), settings);
  if (listening) await host.listen();
  const recorded = new Recorded(host, options);
  onTestFinished(async () => {
    recorded.client.stop();
    if (recorded.host.hellos.length > 0 || listening) await host.close();
    rmSync(folder, { recursive: true, force: true });
  });
  recorded.client.start();
  return recorded;
}

describe('client', () => {
  it('states what is used, and is welcomed', async () => {
    const one = await session();
    await one.welcomed();
    expect(one.welcomes[0].leases.tcp.format()).toBe('20000-21023');
    expect(one.host.hellos[0].version).toBe(1);
  });

  it('waits for a host that is not there yet', async () => {
    const one = await session({}, {}, false);
    await until(() => one.lost.length >= 3, 2000, () => 'attempts');
    await one.host.listen();
    await one.welcomed();
  });

  it('states all it uses again after a cut, with a higher epoch', async () => {
    const one = await session();
    await one.welcomed();
    one.used = { tcp: PortSet.parse('20000-20002'), udp: PortSet.parse('20010') };
    one.host.cut();
    await one.welcomed(2);
    const [first, second] = one.host.hellos;
    expect(second.epoch).toBeGreaterThan(first.epoch);
    expect([second.used.tcp.format(), second.used.udp.format()]).toEqual(['20000-20002', '20010']);
  });

  it('goes above the epoch that the host has, though the clock is behind it', async () => {
    const one = await session();
    await one.welcomed();
    one.host.refuseBelow = Date.now() + 1_000_000_000;
    one.host.cut();
    await one.welcomed(2);
    expect(one.host.hellos.at(-1)!.epoch).toBeGreaterThan(one.host.refuseBelow);
  });

  it('states what does not fit in one line in several', async () => {
    const one = await session();
    await one.welcomed();
    one.used = { tcp: PortSet.fromRanges(Array.from({ length: 20_000 }, (_, i) => ({ first: 10_000 + 2 * i, last: 10_000 + 2 * i }))), udp: PortSet.EMPTY };
    one.host.cut();
    await one.welcomed(2);
    expect(one.host.inUse.tcp.equals(one.used.tcp)).toBe(true);
  });

  it('rejects with the code of the refusal', async () => {
    const one = await session();
    await one.welcomed();
    await expect(one.client.request('request', { tcp: '443' })).rejects.toMatchObject({ code: 'ERR_NOT_ALLOWED' });
    expect(one.client.inSession).toBe(true);
  });

  it('a request without an answer ends the session, and the next one begins', async () => {
    const one = await session();
    await one.welcomed();
    one.host.mute.add('renew');
    await expect(one.client.request('renew', {})).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    await one.welcomed(2);
  });

  it('a host that does not answer hello is tried again', async () => {
    const one = await session();
    one.host.mute.add('hello');
    one.host.cut();
    await until(() => one.lost.some((reason) => /no answer to hello/.test(reason)), 2000, () => one.lost.join('; '));
    one.host.mute.clear();
    await one.welcomed();
  });

  it('asks nothing outside a session', async () => {
    const one = await session({}, {}, false);
    await expect(one.client.request('renew', {})).rejects.toMatchObject({ code: 'ERR_DISCONNECTED' });
  });

  it('what was under way when the session ends is rejected', async () => {
    const one = await session();
    await one.welcomed();
    one.host.mute.add('use');
    const asked = one.client.request('use', { tcp: '20000' });
    const rejected = expect(asked).rejects.toMatchObject({ code: 'ERR_DISCONNECTED' });
    await sleep(20);
    one.host.cut();
    await rejected;
  });

  it.each([
    ['what is no JSON', 'nonsense\n'],
    ['what is no UTF-8', Uint8Array.of(0xff, 0xfe, 10)],
    ['a line without end', 'x'.repeat(100_000)],
    ['the host\'s word that it knows no session', NO_SESSION],
    ['a notification that is wrong', '{"jsonrpc":"2.0","method":"revoked","params":{"tcp":"nine"}}\n'],
  ])('begins anew after %s', async (_, bytes) => {
    const one = await session();
    await one.welcomed();
    one.host.send(bytes);
    await one.welcomed(2);
  });

  it('goes on with a hello that is under way when the host says that it waits for one', async () => {
    const one = await session();
    await one.welcomed();
    one.host.mute.add('hello');
    one.host.cut();
    await until(() => one.host.said.filter(({ method }) => method === 'hello').length === 2, 1000, () => 'hello');
    one.host.send(NO_SESSION);
    await sleep(50);
    expect(one.lost).toHaveLength(1); // of the cut
  });

  it('does not mind unknown notifications, late answers and requests', async () => {
    const one = await session();
    await one.welcomed();
    one.host.send('{"jsonrpc":"2.0","method":"later","params":{}}\n{"jsonrpc":"2.0","id":"old","result":{}}\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n\n');
    one.host.notify('revoked', { tcp: '80', reason: 'expired' });
    one.host.notify('granted', { leases: { tcp: '80,20000-21023' }, blocks: [{ first: 20000, last: 21023 }] });
    one.host.notify('changed', { mtu: 1400 });
    await until(() => one.changed.length === 1, 1000, () => 'changed');
    expect(one.revoked).toEqual(['80 expired']);
    expect(one.granted).toEqual(['80,20000-21023']);
    expect([one.client.inSession, one.lost]).toEqual([true, []]);
  });

  it('a welcome that cannot be read is none', async () => {
    const one = await session({ welcome: { addresses: [{ address: 'here', prefix: 24 }] } });
    await until(() => one.lost.some((reason) => /cannot be read/.test(reason)), 2000, () => one.lost.join('; '));
    expect(one.client.inSession).toBe(false);
  });

  it('tries often at first: a host that is started again is found at once', async () => {
    const one = await session({}, { firstDelayMs: 100, mostDelayMs: 2000 }, false);
    const start = performance.now();
    await until(() => one.lost.length >= 7, 5000, () => 'attempts');
    // At most 0.1, 0.2 and then 0.25 s between them; doubling on would take 2.5 s at the least.
    expect(performance.now() - start).toBeLessThan(2400);
  });

  it('backs off, not all guests alike', async () => {
    const one = await session({}, { firstDelayMs: 10, mostDelayMs: 80 }, false);
    const start = performance.now();
    await until(() => one.lost.length >= 6, 3000, () => 'attempts');
    // Delays of 5–10, 10–20, 20–40, 40–80, 40–80 ms.
    expect(performance.now() - start).toBeGreaterThan(100);
  });
});
