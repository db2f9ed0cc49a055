/**
 * The portable back end (`backend: cap`, libpcap): the same traffic without super-frames.
 *
 * As its users must, the test switches checksum and segmentation offload off on the outside and receive offload on the NIC.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

describe.skipIf(!liveTests('cap', 'ping', 'ethtool'))('back end cap', () => {
  let world: World;
  let daemon: RunningDaemon;
  let outside: Peer, host: Peer, web: Peer, db: Peer;
  let before: ReturnType<World['hostState']>;

  beforeAll(async () => {
    world = new World('cap');
    const { lab } = world;
    lab.run(lab.outside, ['ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off', 'gso', 'off']);
    lab.run(lab.host, ['ethtool', '-K', 'eth0', 'gro', 'off']);
    const netns = { web: world.addGuest('web'), db: world.addGuest('db') };
    before = world.hostState();
    outside = world.peer(lab.outside);
    host = world.peer(lab.host);
    await host.http(9090, 'host', HOST_ADDRESS);
    daemon = await world.start({
      backend: 'cap',
      guests: {
        web: { link: { netns: netns.web }, lease: { tcp: '8080-8089', udp: '8080-8089' }, use: { tcp: '8080-8084', udp: '8080' } },
        db: { link: { netns: netns.db }, lease: { tcp: '5432' }, use: 'all' },
      },
    });
    web = world.enter('web');
    db = world.enter('db');
    await Promise.all([web.http(8080, 'web'), web.sink(8081), web.source(8082, 2e7), web.udpEcho(8080), db.http(5432, 'db')]);
    await Promise.all([outside.udpEcho(7), outside.http(80, 'outside')]);
  });

  afterAll(() => world?.close());

  it('connections reach each guest and the host', async () => {
    const targets = [{ port: 8080, name: 'web' }, { port: 5432, name: 'db' }, { port: 9090, name: 'host' }];
    expect(await outside.exchanges({ host: HOST_ADDRESS, targets, count: 150, atOnce: 1, remote: OUTSIDE_ADDRESS })).toEqual([]);
    expect(await outside.exchanges({ host: HOST_ADDRESS, targets, count: 60, atOnce: 20, remote: OUTSIDE_ADDRESS })).toEqual([]);
  });

  it('bulk is unharmed both ways', { timeout: 60_000 }, async () => {
    const { sent, received } = await outside.upload(HOST_ADDRESS, 8081, 2e7);
    expect(received).toBe(sent);
    expect(await outside.download(HOST_ADDRESS, 8082)).toEqual({ bytes: 2e7, received: await web.sourceHash(8082) });
  });

  it('datagrams, fragmented ones too, both ways', async () => {
    expect(await outside.udp(HOST_ADDRESS, 8080, [1, 1472, 30_000, 65_000])).toEqual(['equal', 'equal', 'equal', 'equal']);
    expect(await web.udp(OUTSIDE_ADDRESS, 7, [100, 30_000], { localPort: 8089 })).toEqual(['equal', 'equal']);
  });

  it('pings, and a connection out of a leased port', async () => {
    const { output } = await world.run(world.guest('web'), ['ping', '-n', '-c', '5', '-i', '0.05', '-W', '2', OUTSIDE_ADDRESS]);
    expect(output).toContain('5 received, 0% packet loss');
    expect(await web.get(OUTSIDE_ADDRESS, 80, 8088)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
  });

  it('is silent for what is not in use, and stops cleanly', async () => {
    expect(await outside.connect(HOST_ADDRESS, 8085, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    const { code, ms } = await daemon.stop();
    expect(code).toBe(0);
    expect(ms).toBeLessThan(1000);
    const { ingress, egress } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThanOrEqual(1);
    expect(ingress.discarded['too-long']).toBeUndefined();
    expect(egress.discarded).toEqual({});
    expect(world.link(world.guest('web'), 'eth0')).toBeNull();
    expect({ ...world.hostState(), sockets: '' }).toEqual({ ...before, sockets: '' });
  });
});
