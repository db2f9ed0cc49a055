/**
 * Mapped guests, live: plain guests with private addresses, reached at the host's, with the receiving kernels judging every checksum.
 *
 * Checksums    the error counters of outside and guest (nstat: InCsumErrors of IP, TCP, UDP and ICMP) stay 0, with offloads on and off.
 * Needs        root, ip, nft, ss, ethtool, ping, nstat.
 */
import { describe, expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, type World } from '../support/live.js';

const INSIDE = '10.0.7.2';
const GATEWAY = '10.0.7.1';
const BYTES = 2e7;
/** The highest block of the pool. */
const POOL = '20480-24575';
const BLOCK = { first: 23_552, last: 24_575 };

const MAPPED = {
  mode: 'map' as const,
  inside: INSIDE,
  map: [{ tcp: 8443, to: 443 }, { tcp: '9000-9009', to: 7000 }, { udp: '5000-5009', to: 6000 }],
  block: 1024,
};

function build(label: string, setting: Partial<Setting> = {}): { world: World; setting: Setting } {
  const world = freshWorld(label);
  return { world, setting: { pool: { ports: POOL }, ...setting, guests: { legacy: { link: { netns: world.addGuest('legacy') }, ...MAPPED } } } };
}

/** Packets that a namespace's kernel has found to be wrong. */
function wrong(world: World, namespace: string): string {
  const text = world.lab.run(namespace, ['nstat', '-az', 'IpInHdrErrors', 'TcpInCsumErrors', 'UdpInCsumErrors', 'IcmpInCsumErrors', 'TcpInErrs', 'UdpInErrors']);
  return text.split('\n').slice(1).map((line) => line.trim().split(/\s+/).slice(0, 2).join(' ')).join(', ').replace(/, $/, '');
}

const NONE = 'IpInHdrErrors 0, IcmpInCsumErrors 0, TcpInErrs 0, TcpInCsumErrors 0, UdpInErrors 0, UdpInCsumErrors 0';

describe.skipIf(!liveTests('mapped', 'ethtool', 'ping', 'nstat'))('a mapped guest', { timeout: 60_000 }, () => {
  /** `completed`: partial checksums of outside and guest are completed by the host's kernel, from what Berth made of them, and judged. */
  const KINDS: [string, 'on' | 'off' | 'completed', Partial<Setting>][] = [
    ['a veth', 'on', {}],
    ['a veth', 'off', {}],
    ['a veth', 'completed', {}],
    ['a tap', 'on', { fastPath: 'off' }],
    ['a tap', 'off', { fastPath: 'off' }],
    ['a tap under the portable back end', 'off', { backend: 'cap' }],
  ];
  for (const [kind, offloads, options] of KINDS) {
    it(`on ${kind} with offloads ${offloads} is reached at the host's address, and reaches out`, async () => {
      const { world, setting } = build('map', options);
      const { lab } = world;
      if (offloads === 'off') for (const namespace of [lab.outside, lab.host]) lab.run(namespace, ['ethtool', '-K', 'eth0', 'tx', 'off', 'rx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
      const outside = world.peer(lab.outside);
      const daemon = await world.start(setting);
      const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
      if (offloads === 'completed') for (const name of ['eth0', world.hostState().interfaces.find((one) => one.startsWith('berth-'))!]) lab.run(lab.host, ['ethtool', '-K', name, 'tx', 'off']);
      if (offloads === 'off') lab.run(world.guest('legacy'), ['ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
      await Promise.all([legacy.http(443, 'legacy'), legacy.sink(7000), legacy.source(7001, BYTES), legacy.udpEcho(6003)]);
      await Promise.all([outside.http(80, 'outside'), outside.sink(81), outside.source(82, BYTES), outside.udpEcho(83)]);

      // In: outside ports to inside ones, and the server sees the client's own address.
      expect(await outside.get(HOST_ADDRESS, 8443)).toMatch(new RegExp(`^legacy / ${OUTSIDE_ADDRESS} `));
      const up = await outside.upload(HOST_ADDRESS, 9000, BYTES);
      expect(up.received).toBe(up.sent);
      expect(await outside.download(HOST_ADDRESS, 9001)).toEqual({ bytes: BYTES, received: await legacy.sourceHash(7001) });
      expect(await outside.udp(HOST_ADDRESS, 5003, [1, 1000, 1400])).toEqual(['equal', 'equal', 'equal']);
      // Out: by the host's address.
      expect(await legacy.get(OUTSIDE_ADDRESS, 80)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
      const out = await legacy.upload(OUTSIDE_ADDRESS, 81, BYTES);
      expect(out.received).toBe(out.sent);
      expect(await legacy.download(OUTSIDE_ADDRESS, 82)).toEqual({ bytes: BYTES, received: await outside.sourceHash(82) });
      expect(await legacy.udp(OUTSIDE_ADDRESS, 83, [1, 1000, 1400])).toEqual(['equal', 'equal', 'equal']);
      expect(lab.run(world.guest('legacy'), ['ping', '-c', '2', '-i', '0.1', '-W', '1', OUTSIDE_ADDRESS])).toContain(' 0% packet loss');

      expect(wrong(world, lab.outside)).toBe(NONE);
      expect(wrong(world, world.guest('legacy'))).toBe(NONE);
      const { guests } = await daemon.counters();
      // A NIC that cannot cut super-frames loses the first; the next ones are cut before it (native-bindings, StopBypass).
      expect(guests['legacy'].lost).toBeLessThanOrEqual(offloads === 'completed' ? 1 : 0);
    });
  }

  it('answers nobody at a port of its block, and nobody else reaches what it has not mapped', async () => {
    const { world, setting } = build('map');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    await legacy.http(BLOCK.first, 'legacy');
    expect(await outside.connect(HOST_ADDRESS, BLOCK.first, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.connect(HOST_ADDRESS, 443, { timeoutMs: 300 })).toMatchObject({ outcome: 'ECONNREFUSED' });
    const { ingress } = await daemon.counters();
    expect(ingress.discarded['no-flow']!.frames).toBeGreaterThan(0);
  });
});
