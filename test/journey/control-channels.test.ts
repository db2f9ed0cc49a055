/** Who may bind what; a guest behind a VMM's socket; several shared addresses; and all that runs killed at once. */
import { createServer, type Socket } from 'node:net';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FIRST_PORT, freshControl, measured, timeUntil } from '../support/control.js';
import { HOST_ADDRESS, liveTests } from '../support/live.js';

const PORT = FIRST_PORT + 5;
const SILENT_MS = 300;

/**
 * Plays a VMM: what comes on one of its two sockets goes out on the other. As with a virtio port, the host's end outlives the
 * agents in the guest, and without a host's end there is nobody to speak to.
 */
async function relay(hostEnd: string, guestEnd: string): Promise<void> {
  let host: Socket | null = null;
  let guest: Socket | null = null;
  const listen = async (path: string, accept: (socket: Socket) => void): Promise<void> => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      accept(socket);
    });
    onTestFinished(() => void server.close());
    server.listen(path);
    await once(server, 'listening');
  };
  await listen(hostEnd, (socket) => {
    host = socket.on('data', (bytes) => guest?.write(bytes));
    socket.once('close', () => {
      host = null;
      guest?.destroy();
    });
  });
  await listen(guestEnd, (socket) => {
    if (host === null) socket.destroy();
    else guest = socket.on('data', (bytes) => host?.write(bytes));
    socket.once('close', () => (guest = guest === socket ? null : guest));
  });
}

describe.skipIf(!liveTests('control-channels', 'python3'))('channels and addresses', () => {
  it('guest\'s port cannot be bound by the host', { timeout: 30_000 }, async () => {
    const world = freshControl('bound', { a: { policy: { allow: { tcp: '8080' } } } });
    await world.startDaemon();
    await world.startAgent('a');
    const [host, outside, guest] = [world.peer(world.lab.host), world.peer(world.lab.outside), world.peer(world.guest('a'))];
    await Promise.all([guest.http(PORT, 'a'), guest.http(8080, 'a')]);
    for (const port of [PORT, 8080]) {
      await timeUntil(outside, port, 'connected', 2000);
      expect([port, await host.bind('tcp', HOST_ADDRESS, port), await host.bind('tcp', '0.0.0.0', port)]).toEqual([port, 'EADDRINUSE', 'EADDRINUSE']);
    }
    expect(await host.bind('udp', HOST_ADDRESS, PORT)).toBe('EADDRINUSE');
  });

  it('host\'s port cannot be bound by the guest', { timeout: 30_000 }, async () => {
    const world = freshControl('hosts-own', { a: { policy: { allow: { tcp: '8080' } } } });
    const [host, outside, guest] = [world.peer(world.lab.host), world.peer(world.lab.outside), world.peer(world.guest('a'))];
    await host.http(8080, 'host');
    await world.startDaemon();
    const agent = await world.startAgent('a');
    // The guest's kernel lets it bind; the host refuses the lease, tells why, and keeps its port.
    await guest.http(8080, 'a');
    await agent.says(/tcp port 8080, which the host refuses: .*used by the host itself.*ERR_PORT_TAKEN.*cannot be reached from outside/);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^host /);
    expect(await guest.httpLog(8080)).toEqual([]);
  });

  it('connect: true: the daemon comes to the socket of a VMM, again after each end of either, and leaves it there', { timeout: 60_000 }, async () => {
    const world = freshControl('vmm', { a: {} });
    const { folder } = world.lab;
    const [hostEnd, guestEnd] = [`${folder}/vmm.sock`, `${folder}/port.sock`];
    world.setting.guests['a'].agent = { socket: hostEnd, connect: true };
    const first = await world.startDaemon(); // before the VMM is there
    await relay(hostEnd, guestEnd);
    const agent = await world.startAgent('a', guestEnd);
    const [outside, guest] = [world.peer(world.lab.outside), world.peer(world.guest('a'))];
    await guest.http(PORT, 'a');
    await timeUntil(outside, PORT, 'connected', 2000);
    expect((await first.stop()).code).toBe(0);
    expect(existsSync(hostEnd)).toBe(true);
    await world.startDaemon();
    await agent.says(/^back in session/);
    await timeUntil(outside, PORT, 'connected', 2000);
    await agent.stop('SIGKILL');
    await world.startAgent('a', guestEnd);
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
  });

  it('several shared addresses: a server in the guest is served at each, and silent at each when it ends', { timeout: 30_000 }, async () => {
    const world = freshControl('addresses', { a: { policy: { allow: { tcp: '8080' } } } }, { addresses: [HOST_ADDRESS, '192.0.2.12'] });
    world.lab.run(world.lab.host, ['ip', 'address', 'add', '192.0.2.12/24', 'dev', 'eth0']);
    await world.startDaemon();
    const agent = await world.startAgent('a');
    expect(world.addresses(world.guest('a'), 'eth0').sort()).toEqual([`${HOST_ADDRESS}/24`, '192.0.2.12/24']);
    const [outside, host, guest] = [world.peer(world.lab.outside), world.peer(world.lab.host), world.sockets(world.guest('a'))];
    for (const port of [PORT, 8080]) {
      await guest.do('listen', `s${port}`, { port, backlog: 50 });
      await timeUntil(outside, port, 'connected', 2000);
      for (const address of [HOST_ADDRESS, '192.0.2.12']) {
        expect(await outside.connect(address, port)).toMatchObject({ outcome: 'connected' });
        expect(await host.bind('tcp', address, port)).toBe('EADDRINUSE');
      }
      await guest.do('close', `s${port}`);
      await timeUntil(outside, port, 'timeout', 2000);
      expect(await outside.connect('192.0.2.12', port, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
    }
    expect(agent.isRunning).toBe(true);
  });

  it('agent and daemon killed at once, while servers come and go: what is open then is served, and nothing else', { timeout: 60_000 }, async () => {
    const world = freshControl('killed', { a: {}, b: {} });
    let daemon = await world.startDaemon();
    let agent = await world.startAgent('a');
    await world.startAgent('b');
    const [outside, guest] = [world.peer(world.lab.outside), world.sockets(world.guest('a'))];
    for (let round = 0; round < 3; round++) {
      const [old, fresh] = [PORT + 2 * round, PORT + 2 * round + 1];
      await guest.do('listen', `s${old}`, { port: old, backlog: 50 });
      await timeUntil(outside, old, 'connected', 3000);
      await Promise.all([daemon.stop('SIGKILL'), agent.stop('SIGKILL')]);
      await guest.do('close', `s${old}`);
      await guest.do('listen', `s${fresh}`, { port: fresh, backlog: 50 });
      [daemon, agent] = [await world.startDaemon(), await world.startAgent('a')];
      measured('both killed; both back to the first connect', await timeUntil(outside, fresh, 'connected', 3000));
      await sleep(100);
      expect(await outside.connect(HOST_ADDRESS, old, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
      await guest.do('close', `s${fresh}`);
    }
  });
});
