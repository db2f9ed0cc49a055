/**
 * The host's own traffic does not come to the engine at all, is counted all the same, and the line between it and the
 * guests' follows leases that come and go at run time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freshControl } from '../support/control.js';
import { freshWorld, HOST_ADDRESS, liveTests, type World } from '../support/live.js';

/** More than the ring of small slots holds. */
const BURST = 10_000;
const PORT = 8080;
const EACH = 200;

/** Datagrams for ports without a socket that a namespace has got. */
const arrived = (world: World, namespace: string): number => Number(/^Udp: \d+ (\d+)/m.exec(world.lab.run(namespace, ['cat', '/proc/net/snmp']))![1]);

describe.skipIf(!liveTests('host-traffic'))('the host\'s own traffic', () => {
  it('needs nothing of a daemon that stands still, and is counted as passed', async () => {
    const world = freshWorld('host');
    const daemon = await world.start({ guests: { web: { link: { netns: world.addGuest('web') }, lease: { udp: `${PORT}` }, use: 'all' } } });
    const outside = world.peer(world.lab.outside);
    onTestFinished(() => void daemon.child.kill('SIGCONT'));
    daemon.child.kill('SIGSTOP');
    await outside.flood(HOST_ADDRESS, PORT + 1, 100, BURST);
    daemon.child.kill('SIGCONT');
    expect(arrived(world, world.lab.host)).toBe(BURST);
    await sleep(1500); // the kernel's drops are read once a second
    const { kernelDrops, ingress } = await daemon.counters();
    expect(kernelDrops).toBe(0);
    expect(ingress.passed['not-leased']).toEqual({ frames: BURST, bytes: BURST * (14 + 20 + 8 + 100) });
    expect(daemon.log.filter(({ level }) => level !== 'info')).toEqual([]);
  });

  it('ends where a lease begins, and begins again where it has ended', { timeout: 40_000 }, async () => {
    const allow = { udp: `${PORT}` };
    const world = freshControl(
      'line',
      { a: { policy: { allow } }, b: { policy: { allow } }, db: { lease: { tcp: '5432' }, use: 'all' } },
      { pool: { ports: '20480-29999', reserve: 0, quarantine: '500ms' } },
    );
    const daemon = await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    for (const name of ['a', 'b']) world.enter(name);
    await world.enter('db').http(5432, 'db');
    const [{ channel: a }, { channel: b }] = [await world.session('a', 1), await world.session('b', 1)];
    const hosts = { a: world.guest('a'), b: world.guest('b'), host: world.lab.host };
    const sent = { a: 0, b: 0, host: 0 };
    /** Datagrams for the port, which come to `who` and to nobody else. */
    const send = async (who: keyof typeof hosts | null): Promise<void> => {
      await outside.flood(HOST_ADDRESS, PORT, 50, EACH);
      expect(await outside.get(HOST_ADDRESS, 5432)).toMatch(/^db /); // the engine is done with them
      if (who !== null) sent[who] += EACH;
      expect(Object.fromEntries(Object.entries(hosts).map(([name, namespace]) => [name, arrived(world, namespace)]))).toEqual(sent);
    };
    const udp = { udp: `${PORT}` };

    await send('host');
    expect(await a.outcome('request', udp)).toBe('ok');
    await send(null); // leased
    expect(await a.outcome('use', udp)).toBe('ok');
    await send('a');
    expect(await a.outcome('end-use', udp)).toBe('ok');
    await send(null);
    expect(await a.outcome('release', udp)).toBe('ok');
    await send(null); // quarantined
    await sleep(900);
    await send('host');
    expect(await b.outcome('request', udp)).toBe('ok');
    expect(await b.outcome('use', udp)).toBe('ok');
    await send('b');

    const { ingress } = await daemon.counters();
    expect(ingress.passed['not-leased']!.frames).toBe(2 * EACH);
    expect(ingress.discarded['not-in-use']!.frames).toBe(2 * EACH);
    expect(ingress.discarded['quarantined']!.frames).toBe(EACH);
  });
});
