/**
 * A guest whose channel says anything at all: a clear error or a closed session, and nobody else is affected. The other
 * guest's service is asked all the while.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Channel, type ControlWorld, FIRST_PORT, freshControl } from '../support/control.js';
import { type GuestSetting, HOST_ADDRESS, liveTests, type RunningDaemon } from '../support/live.js';

const PORT = FIRST_PORT + 5;
/** What is long as a text: an answer to list-free is 6 KB. */
const EVERY_OTHER = Array.from({ length: 1000 }, (_, i) => 40_001 + 2 * i).join(',');

/** Resident memory, and open files and sockets. */
function memoryOf({ child }: RunningDaemon): { mb: number; files: number } {
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]);
  return { mb: Math.round(kilobytes / 1024), files: readdirSync(`/proc/${child.pid}/fd`).length };
}

describe.skipIf(!liveTests('control-hostile', 'python3'))('a hostile guest', () => {
  /** Guest `good` serves, and is asked until the end; `act` is what `bad` does. */
  async function beside(act: (world: ControlWorld, daemon: RunningDaemon) => Promise<void>, policy: GuestSetting['policy'] = { allow: { tcp: '8080' } }): Promise<void> {
    const world = freshControl('hostile', { good: {}, bad: { policy } });
    const daemon = await world.startDaemon();
    await world.startAgent('good');
    const [outside, good] = [world.peer(world.lab.outside), world.peer(world.guest('good'))];
    await good.http(PORT, 'good');
    await sleep(200);
    await outside.poll(HOST_ADDRESS, { port: PORT, name: 'good' });
    await act(world, daemon);
    const { count, failures } = await outside.pollEnd(PORT);
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(5);
    expect(daemon.isRunning).toBe(true);
    expect((await daemon.stop()).code).toBe(0);
  }

  it('garbage of every kind: an answer each, or the end of the session', { timeout: 40_000 }, () =>
    beside(async (world) => {
      let channel: Channel = await world.channel('bad');
      expect(await channel.outcome('use', { tcp: String(PORT) })).toBe('ERR_NO_HELLO');
      expect(await channel.outcome('hello', { version: 2, epoch: 5 })).toBe('ERR_VERSION');
      await channel.ends();

      ({ channel } = await world.session('bad', 1000));
      const rows: [string, number][] = [
        ['{"jsonrpc":"2.0","id":900,"method":"us', -32700],
        ['\xff\xfe garbage', -32700],
        ['[]', -32600],
        ['{"id":901,"method":"use"}', -32600],
        ['{"jsonrpc":"2.0","id":902,"method":"use","params":{"tcp":"0-99999"}}', -32602],
        ['{"jsonrpc":"2.0","id":903,"method":"use","params":{"tcp":[1]}}', -32602],
        ['{"jsonrpc":"2.0","id":904,"method":"__proto__"}', -32601],
        ['{"jsonrpc":"2.0","id":905,"method":"constructor"}', -32601],
        ['{"jsonrpc":"2.0","id":{},"method":"use"}', -32600],
      ];
      for (const [line, code] of rows) {
        const before = channel.lines.length;
        channel.socket.write(Buffer.from(`${line}\n`, 'latin1'));
        while (channel.lines.length === before && !channel.closed) await sleep(2);
        expect({ line, code: channel.lines.at(-1)?.error?.code }).toEqual({ line, code });
      }
      expect(await channel.outcome('renew')).toBe('ok');

      // Another guest's endpoint.
      for (const method of ['use', 'release', 'end-use']) expect([method, await channel.outcome(method, { tcp: String(PORT) })]).not.toEqual(['use', 'ok']);
      expect(await channel.outcome('use', { tcp: String(PORT) })).toBe('ERR_NOT_LEASED');
      expect(await channel.outcome('request', { tcp: String(PORT) })).toBe('ERR_NOT_ALLOWED');

      // Half a line, then the end; and then an old epoch.
      channel.write('{"jsonrpc":"2.0","id":1,"method":"use","para');
      channel.close();
      channel = await world.channel('bad');
      expect(await channel.outcome('hello', { version: 1, epoch: 999 })).toBe('ERR_OLD_EPOCH');
      await channel.ends();

      // 10 MB without an end.
      channel = await world.channel('bad');
      const start = performance.now();
      channel.socket.write(Buffer.alloc(10e6, 0x61));
      await channel.ends();
      expect(performance.now() - start).toBeLessThan(2000);
      expect(await (await world.session('bad', 1001)).channel.outcome('renew')).toBe('ok');
    }));

  it('a flood of messages ends the session, and sessions without end cost the others nothing', { timeout: 40_000 }, () =>
    beside(async (world) => {
      const { channel } = await world.session('bad', 1);
      const line = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'use', params: { tcp: '' } })}\n`;
      channel.write(line.repeat(50_000));
      await channel.ends(5000);
      const busy = await world.session('bad', 2);
      for (let i = 0; i < 200; i++) {
        const one = await world.channel('bad');
        if (i % 2 === 0) one.write('x'.repeat(1000));
        else one.close();
      }
      // None of them said hello: the session that did goes on.
      expect(await busy.channel.outcome('renew')).toBe('ok');
      expect(await (await world.session('bad', 3)).channel.outcome('renew')).toBe('ok');
    }));

  it('one that asks and never reads its answers, again and again: the daemon keeps none of it', { timeout: 60_000 }, () =>
    beside(async (world, daemon) => {
      await world.session('bad', 1); // its block is reserved: a socket a port
      const line = (id: number, method: string, params: object): string => `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`;
      // A session's questions in one go: 9 MB of answers.
      const questions = Array.from({ length: 1500 }, (_, id) => line(id + 1, 'list-free', { proto: 'tcp' })).join('');
      const sessions = async (first: number, last: number): Promise<void> => {
        for (let epoch = first; epoch <= last; epoch++) {
          const channel = await world.channel('bad', false);
          channel.write(line(0, 'hello', { version: 1, epoch }) + questions);
          await sleep(100);
        }
        await sleep(2000);
      };
      await sessions(2, 21); // the heap has grown to what the work itself takes
      const before = memoryOf(daemon);
      await sessions(22, 51);
      const after = memoryOf(daemon);
      process.stderr.write(`measured: the daemon's memory before and after 30 such sessions: ${before.mb} and ${after.mb} MB\n`);
      expect(after.mb - before.mb).toBeLessThan(60);
      expect(after.files - before.files).toBeLessThan(5);
    }, { allow: { tcp: EVERY_OTHER } }));

  it('an id as long as a line, which no answer can repeat, ends the session at most', { timeout: 40_000 }, () =>
    beside(async (world, daemon) => {
      for (const [epoch, method] of [[1, 'nothing'], [2, 'use'], [3, 'renew']] as const) {
        const { channel } = await world.session('bad', epoch);
        channel.write(`${JSON.stringify({ jsonrpc: '2.0', id: 'x'.repeat(65_450), method, params: { tcp: '1' } })}\n`);
        await sleep(300);
        expect({ method, running: daemon.isRunning, errors: daemon.errors }).toEqual({ method, running: true, errors: '' });
        channel.close();
      }
      expect(await (await world.session('bad', 10)).channel.outcome('renew')).toBe('ok');
    }));
});
