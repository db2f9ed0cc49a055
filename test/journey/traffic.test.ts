/**
 * Real traffic at one address: two guests and the host itself, all reached at HOST_ADDRESS, each at its own ports.
 *
 * One daemon for the file; offloads on (veth's default) unless a test says otherwise, so checksums are partial and frames
 * come as super-frames. A client polls a service of the host itself from before the daemon starts until after it stops.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Capture } from '../support/capture.js';
import { HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const GIGABYTE = 1e9;
const WEB = 8080;
const DB = 5432;
const HOST_SERVICE = 9090;
const POLLED = 9091;
/** A guest's ports for what it sends itself. */
const LOCAL = { web: 20000, db: 30000 };

describe.skipIf(!liveTests('traffic', 'ping', 'ethtool', 'tcpdump')).each(['auto', 'off'] as const)('traffic at one address, fast path %s', (fastPath) => {
  let world: World;
  let daemon: RunningDaemon;
  let outside: Peer, host: Peer, web: Peer, db: Peer, far: Peer;

  beforeAll(async () => {
    world = new World('traffic');
    const { lab } = world;
    outside = world.peer(lab.outside);
    host = world.peer(lab.host);
    far = await joinFar(world);
    await host.http(HOST_SERVICE, 'host');
    await host.http(POLLED, 'host');
    await outside.poll(HOST_ADDRESS, { port: POLLED, name: 'host' });

    daemon = await world.start(
      {
        fastPath,
        guests: {
          web: {
            link: { netns: world.addGuest('web') },
            lease: { tcp: '8000-8999,20000-20999', udp: '53,20000-20999' },
            use: { tcp: '8000-8999', udp: '53' },
          },
          db: {
            link: { netns: world.addGuest('db') },
            lease: { tcp: '5432-5439,30000-30999', udp: '5432,30000-30999' },
            use: { tcp: '5432-5439', udp: '5432' },
          },
        },
      },
      '--stats',
    );
    web = world.enter('web');
    db = world.enter('db');
    await Promise.all([web.http(WEB, 'web'), db.http(DB, 'db'), web.sink(8001), web.source(8002, GIGABYTE), web.source(8003, GIGABYTE / 10)]);
    await Promise.all([web.udpEcho(53), db.udpEcho(5432), outside.udpEcho(7), outside.sink(7001), far.udpEcho(7), far.sink(7001)]);
  });

  afterAll(() => world?.close());

  it('answers for each guest and for the host at its own port, and shows the real client', async () => {
    for (const [port, name] of [[WEB, 'web'], [DB, 'db'], [HOST_SERVICE, 'host']] as const) {
      expect(await outside.get(HOST_ADDRESS, port)).toMatch(new RegExp(`^${name} / ${OUTSIDE_ADDRESS.replaceAll('.', '\\.')} `));
    }
    expect(await web.httpLog(WEB)).toEqual([OUTSIDE_ADDRESS]);
    expect(await db.httpLog(DB)).toEqual([OUTSIDE_ADDRESS]);
    expect(await host.httpLog(HOST_SERVICE)).toEqual([OUTSIDE_ADDRESS]);
  });

  it('gives the guest the address and the MAC of the host', () => {
    for (const name of ['web', 'db']) {
      expect(world.addresses(world.guest(name), 'eth0')).toEqual([`${HOST_ADDRESS}/24`]);
      expect(world.link(world.guest(name), 'eth0')!.address).toBe(world.nicMac());
    }
  });

  it('carries 1 GB into a guest unharmed', { timeout: 90_000 }, async () => {
    const { sent, received } = await outside.upload(HOST_ADDRESS, 8001, GIGABYTE);
    expect(received).toBe(sent);
  });

  it('carries 1 GB out of a guest unharmed', { timeout: 90_000 }, async () => {
    const { bytes, received } = await outside.download(HOST_ADDRESS, 8002);
    expect(bytes).toBe(GIGABYTE);
    expect(received).toBe(await web.sourceHash(8002));
  });

  it('serves 1,000 connections one after another', { timeout: 60_000 }, async () => {
    const targets = [{ port: WEB, name: 'web' }, { port: DB, name: 'db' }];
    expect(await outside.exchanges({ host: HOST_ADDRESS, targets, count: 1000, atOnce: 1, remote: OUTSIDE_ADDRESS })).toEqual([]);
  });

  it('serves 200 connections at once', { timeout: 60_000 }, async () => {
    const targets = [{ port: WEB, name: 'web' }, { port: DB, name: 'db' }, { port: HOST_SERVICE, name: 'host' }];
    expect(await outside.exchanges({ host: HOST_ADDRESS, targets, count: 200, atOnce: 200, remote: OUTSIDE_ADDRESS })).toEqual([]);
  });

  it('carries datagrams of every size to a guest and back, fragmented ones too', async () => {
    const sizes = [1, 100, 1472, 1473, 9000, 30_000, 65_000];
    expect(await outside.udp(HOST_ADDRESS, 53, sizes)).toEqual(sizes.map(() => 'equal'));
    expect(await outside.udp(HOST_ADDRESS, 5432, sizes)).toEqual(sizes.map(() => 'equal'));
    expect(new Set((await web.datagramLog(53)).map((from) => from.split(':')[0]))).toEqual(new Set([OUTSIDE_ADDRESS]));
  });

  it('carries datagrams that a guest sends, fragmented ones too', async () => {
    const sizes = [1, 1472, 1473, 30_000, 65_000];
    expect(await web.udp(OUTSIDE_ADDRESS, 7, sizes, { localPort: LOCAL.web })).toEqual(sizes.map(() => 'equal'));
    expect(new Set(await outside.datagramLog(7))).toEqual(new Set([`${HOST_ADDRESS}:${LOCAL.web}`]));
  });

  it('keeps fragmented datagrams of two guests apart', async () => {
    const sizes = Array.from({ length: 20 }, (_, n) => 20_000 + n * 1000);
    const all = await Promise.all([
      outside.udp(HOST_ADDRESS, 53, sizes),
      outside.udp(HOST_ADDRESS, 5432, sizes),
      web.udp(OUTSIDE_ADDRESS, 7, sizes, { localPort: LOCAL.web + 1 }),
      db.udp(OUTSIDE_ADDRESS, 7, sizes, { localPort: LOCAL.db + 1 }),
    ]);
    expect(all.flat().filter((outcome) => outcome !== 'equal')).toEqual([]);
  });

  it.each([56, 4000])('brings the replies to pings of %i bytes to the guest that sent them, and to the host', async (size) => {
    const ping = async (namespace: string, identifier: number, pattern: string): Promise<void> => {
      const command = ['ping', '-n', '-c', '10', '-i', '0.05', '-W', '2', '-e', `${identifier}`, '-p', pattern, '-s', `${size}`, OUTSIDE_ADDRESS];
      const { output } = await world.run(namespace, command);
      expect(output).toContain('10 packets transmitted, 10 received, 0% packet loss');
      expect(output).not.toMatch(/DUP|wrong data/);
    };
    // Patterns differ: a reply that went to the wrong guest would be seen as "wrong data byte".
    await Promise.all([ping(world.guest('web'), 1001, 'aa'), ping(world.guest('db'), 1002, 'bb'), ping(world.lab.host, 1003, 'cc')]);
  });

  it('still answers pings from outside, once', async () => {
    const { output } = await world.run(world.lab.outside, ['ping', '-n', '-c', '5', '-i', '0.05', '-W', '2', HOST_ADDRESS]);
    expect(output).toContain('5 packets transmitted, 5 received, 0% packet loss');
    expect(output).not.toContain('DUP');
  });

  it('tells a guest that a port outside is closed (ICMP port unreachable)', async () => {
    expect(await web.udp(OUTSIDE_ADDRESS, 4444, [100], { localPort: LOCAL.web + 10 })).toEqual(['ECONNREFUSED']);
    expect(await db.udp(OUTSIDE_ADDRESS, 4444, [100], { localPort: LOCAL.db + 10 })).toEqual(['ECONNREFUSED']);
  });

  it('brings a router\'s time-exceeded to the guest that sent the datagram, and to no other', async () => {
    const filter = 'icmp[icmptype] = icmp-timxceed';
    const [atWeb, atDb] = await Promise.all(['web', 'db'].map((name) => Capture.start(world.lab, world.guest(name), filter)));
    world.sysctl(world.guest('web'), 'net/ipv4/ip_default_ttl', '1');
    try {
      expect(await web.udp(FAR_ADDRESS, 33434, [32], { localPort: LOCAL.web + 11, timeoutMs: 300 })).not.toEqual(['equal']);
      await atWeb.seen(new RegExp(`${OUTSIDE_ADDRESS} > ${HOST_ADDRESS}: ICMP time exceeded`));
    } finally {
      world.sysctl(world.guest('web'), 'net/ipv4/ip_default_ttl', '64');
    }
    const { output } = await world.run(world.guest('web'), ['ping', '-n', '-c', '1', '-t', '1', '-W', '2', FAR_ADDRESS]);
    expect(output).toContain('Time to live exceeded');
    expect(atDb.lines).toEqual([]);
    await Promise.all([atWeb.stop(), atDb.stop()]);
  });

  it('brings a router\'s fragmentation-needed to the guest: a smaller MTU on the way is found', async () => {
    expect(await web.udp(FAR_ADDRESS, 7, [100], { localPort: LOCAL.web + 12 })).toEqual(['equal']);
    const { sent, received } = await web.upload(FAR_ADDRESS, 7001, 10e6, LOCAL.web + 13);
    expect(received).toBe(sent);
  });

  it('carries bulk both ways with every offload of the outside switched off', { timeout: 60_000 }, async () => {
    world.lab.run(world.lab.outside, ['ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
    const into = await outside.upload(HOST_ADDRESS, 8001, GIGABYTE / 10);
    expect(into.received).toBe(into.sent);
    const out = await outside.download(HOST_ADDRESS, 8003);
    expect(out.bytes).toBe(GIGABYTE / 10);
    expect(out.received).toBe(await web.sourceHash(8003));
  });

  it('carries bulk both ways with the offloads of the host\'s NIC switched off too', { timeout: 60_000 }, async () => {
    world.lab.run(world.lab.host, ['ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
    const into = await outside.upload(HOST_ADDRESS, 8001, GIGABYTE / 10);
    expect(into.received).toBe(into.sent);
    const out = await outside.download(HOST_ADDRESS, 8003);
    expect(out.received).toBe(await web.sourceHash(8003));
  });

  it('counts, and never disturbed the service of the host itself', async () => {
    await daemon.says(/frames\/s/);
    const counters = await daemon.counters();
    const { count, failures } = await outside.pollEnd(POLLED);
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(100);

    expect(counters.guests['web'].ingress.bytes).toBeGreaterThan(GIGABYTE);
    expect(counters.guests['web'].egress.bytes).toBeGreaterThan(GIGABYTE);
    expect(counters.guests['db'].egress.frames).toBeGreaterThan(1000);
    expect(counters.egress.discarded['spoofed']).toBeUndefined();
    expect(counters.ingress.passed['not-leased']!.frames).toBeGreaterThan(100);
    expect(daemon.log.filter((line) => line.level !== 'info')).toEqual([]);
  });
});

const FAR_ADDRESS = '198.51.100.2';

/** A namespace behind the outside, which becomes a router with a smaller MTU on its far side. */
async function joinFar(world: World): Promise<Peer> {
  const { lab } = world;
  const namespace = lab.addGuest('far');
  lab.run(lab.outside, ['ip', 'link', 'add', 'far', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  lab.configure(lab.outside, 'far', '198.51.100.1');
  lab.configure(namespace, 'eth0', FAR_ADDRESS, '198.51.100.1');
  lab.run(lab.outside, ['ip', 'link', 'set', 'far', 'mtu', '1280']);
  world.sysctl(lab.outside, 'net/ipv4/ip_forward', '1');
  return world.peer(namespace);
}
