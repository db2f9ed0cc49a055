/**
 * A channel that a VMM carries into its guest: the daemon connects to it, and sees neither the agent's coming nor its going. The VMM
 * is played by a Unix socket that listens; what it does with a real guest is in journey/vm.test.ts.
 *
 * Time         of timers is the test's own, so that minutes pass at once.
 */
import { createServer, type Socket } from 'node:net';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Core, freshFolder, startCore } from '../support/control-core.js';
import { Channel } from '../support/control.js';
import { until } from '../support/live.js';

const USED = { tcp: '61440' };
const RESTATE_MS = 30_000;

/** Guest `a` of a core, and the guest's end of its channel, anew whenever the daemon has connected; `said`: each one's bytes. */
async function start(): Promise<{ core: Core; channels: Channel[]; said: string[]; connected: (times: number) => Promise<Channel> }> {
  const folder = freshFolder();
  const channels: Channel[] = [];
  const said: string[] = [];
  const sockets: Socket[] = [];
  const vmm = createServer((socket) => {
    sockets.push(socket);
    channels.push(new Channel(socket, true));
    const number = said.push('') - 1;
    socket.on('data', (bytes: Buffer) => (said[number] += bytes.toString()));
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    vmm.close();
  });
  vmm.listen(`${folder}/a.sock`);
  const core = await startCore(folder, { a: { block: 16 } }, { vmm: ['a'] });
  const connected = async (times: number): Promise<Channel> => {
    await until(() => channels.length === times && channels[times - 1].lines.length > 0, 2000, () => `connection ${times}, have ${channels.length}`);
    return channels[times - 1];
  };
  return { core, channels, said, connected };
}

describe('a channel of a VMM', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
  });

  it('begins with an empty line, which ends what was left half written, and the host\'s word that it knows no session', async () => {
    const { said, connected } = await start();
    await connected(1);
    expect(said).toEqual(['\n{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"say hello","data":{"code":"ERR_NO_HELLO"}}}\n']);
  });

  it('waits for an agent for ever, and says nothing of it', async () => {
    const { core, channels, connected } = await start();
    const channel = await connected(1);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect((await channel.ask('hello', { version: 1, epoch: 1, used: USED })).result).toMatchObject({ epoch: 1 });
    expect({ channels: channels.length, log: core.log }).toEqual({ channels: 1, log: [] });
  });

  it('D4: an agent that says nothing any more is gone, and after the grace period nothing is in use', async () => {
    const { core, connected } = await start();
    const channel = await connected(1);
    await channel.ask('hello', { version: 1, epoch: 1, used: USED });
    for (let times = 0; times < 10; times++) {
      await vi.advanceTimersByTimeAsync(RESTATE_MS);
      expect(await channel.outcome('use', { ...USED, all: true })).toBe('ok');
    }
    await vi.advanceTimersByTimeAsync(3 * RESTATE_MS);
    await channel.ends();
    expect(core.log).toEqual(['guest a: session ended: its agent has said nothing for 90 s']);
    expect(core.delivered('a').tcp.format()).toBe(USED.tcp);
    await until(() => !core.server.isConnected('a'), 1000, () => 'the end of the session');
    await vi.advanceTimersByTimeAsync(10_000);
    await until(() => core.delivered('a').tcp.isEmpty, 1000, () => 'the end of the use');

    // It was only asleep.
    const next = await connected(2);
    await next.ask('hello', { version: 1, epoch: 2, used: USED });
    expect(core.delivered('a').tcp.format()).toBe(USED.tcp);
  });
});
