/** A port that was asked for by name: kept while any socket has it, given back when none has had it for a while. */
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Agent } from '../../src/agent/agent.js';
import { unixSocket } from '../../src/agent/channel.js';
import { NamedPorts } from '../../src/agent/named-ports.js';
import type { Log } from '../../src/base/log.js';
import { freshFolder, startCore } from '../support/control-core.js';
import { ports } from '../support/lease-book.js';
import { until } from '../support/live.js';

const PORT = 61_007;
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined } as unknown as Log;

async function listen(port: number): Promise<Server> {
  const server = createServer().listen({ port, host: '0.0.0.0', exclusive: true });
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  return server;
}

describe('ports asked for by name', () => {
  it('are idle from their last use on, and only those still leased are given back', () => {
    const named = new NamedPorts(100);
    for (const port of [80, 81, 82]) named.add('tcp', port, 0);
    named.note({ tcp: ports('80,8080'), udp: ports('81') }, 50);
    expect(named.takeIdle({ tcp: ports('80-81'), udp: ports('81') }, 99)).toEqual({ tcp: ports(''), udp: ports('') });
    expect(named.takeIdle({ tcp: ports('80-81'), udp: ports('81') }, 149)).toEqual({ tcp: ports('81'), udp: ports('') });
    expect(named.takeIdle({ tcp: ports('80-81'), udp: ports('81') }, 150)).toEqual({ tcp: ports('80'), udp: ports('') });
    expect(named.takeIdle({ tcp: ports('80-81'), udp: ports('81') }, 1000)).toEqual({ tcp: ports(''), udp: ports('') });
  });

  it.runIf(process.platform === 'linux')('are released when unused, and asked for again when an application comes back; what the operator leased stays', async () => {
    const core = await startCore(freshFolder(), { a: { block: 16, allow: { tcp: `${PORT}-${PORT + 1}` } } });
    const agent = new Agent({ open: unixSocket(core.socketOf('a')), networkInterface: null, log: silent, restateMs: 50, namedMs: 300, retryMs: 100 });
    onTestFinished(() => agent.stop());
    agent.start();
    const leased = (): string => core.plane.book.holding('a').leased.tcp.format();
    await core.plane.grantPorts('a', { tcp: ports(String(PORT + 1)), udp: ports('') });
    const first = await listen(PORT);
    await until(() => leased().startsWith(`${PORT}-${PORT + 1},`), 2000, () => `a lease of ${PORT}: ${leased()}`);
    await sleep(700);
    expect(core.delivered('a').tcp.format()).toBe(String(PORT));
    first.close();
    await until(() => leased() === `${PORT + 1},61440-61455`, 2000, () => `the release of ${PORT}: ${leased()}`);
    await listen(PORT);
    await until(() => core.delivered('a').tcp.format() === String(PORT), 2000, () => 'the use of what was asked for again');
  });
});
