/**
 * DHCP on a network besides the first: guests of its pool are told their address there, with the mask and gateway of that network and the MAC of
 * its NIC, on which the host need have no address.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { DhcpClient } from '../support/dhcp-client.js';
import { freshWorld, liveTests, OUTSIDE_ADDRESS, type Setting, type World } from '../support/live.js';

const SECOND_OUTSIDE = '198.51.100.1';
const OWN = '198.51.100.100';
const SHARED = '198.51.100.101';
const BOUND = /^bound /;

describe.skipIf(!liveTests('dhcp-networks', 'udhcpc', 'busybox'))('DHCP on a second network', () => {
  function site(gateway?: string): { world: World; setting: Setting } {
    const world = freshWorld('dhcp2');
    const { host, outside, folder } = world.lab;
    world.lab.run(host, ['ip', 'route', 'add', 'default', 'via', OUTSIDE_ADDRESS]);
    world.lab.run(host, ['ip', 'link', 'add', 'eth1', 'mtu', '1400', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', outside]);
    world.lab.run(host, ['ip', 'link', 'set', 'eth1', 'up']);
    world.lab.configure(outside, 'eth1', SECOND_OUTSIDE);
    const setting: Setting = {
      store: { path: `${folder}/store` },
      networks: { uplink1: { nic: 'eth0' }, uplink2: { nic: 'eth1', ...(gateway === undefined ? {} : { gateway }) } },
      pools: { two: { network: 'uplink2', addresses: `${OWN}-${SHARED}`, speed: '100Mbit' } },
      guests: {
        own: { link: { netns: world.addGuest('own'), configure: 'dhcp' }, pool: {}, use: 'all' },
        job: { link: { netns: world.addGuest('job'), configure: 'dhcp' }, pool: { ports: 1024 } },
      },
    };
    return { world, setting };
  }

  it('udhcpc gets the dedicated address, and the one whose ports it shares; connections work both ways, and so do renewals', { timeout: 60_000 }, async () => {
    const { world, setting } = site(`${SECOND_OUTSIDE}/24`);
    const daemon = await world.start(setting);
    const own = new DhcpClient(world, 'own', 'udhcpc', ['-O', '159']);
    const job = new DhcpClient(world, 'job', 'udhcpc', ['-O', '159']);
    const told = (address: string): string => `${address}/24 via ${SECOND_OUTSIDE} mtu 1400 server 169.254.0.67 lease 300`;
    expect(await own.is(BOUND)).toBe(`bound ${told(OWN)}`);
    expect(await job.is(BOUND)).toBe(`bound ${told(SHARED)}`);
    expect(world.lab.portRange(world.guest('job'))).toEqual({ first: 1024, last: 2047 });
    for (const name of ['own', 'job']) expect(world.link(world.guest(name), 'eth0')!.address).toBe(world.link(world.lab.host, 'eth1')!.address);

    const outside = world.peer(world.lab.outside);
    await Promise.all([outside.http(7777, 'outside'), world.peer(world.guest('own')).http(80, 'own'), world.peer(world.guest('job')).http(1500, 'job')]);
    expect(await outside.get(OWN, 80)).toMatch(/^own /);
    for (const [name, address] of [['own', OWN], ['job', SHARED]] as const) expect(await world.peer(world.guest(name)).get(SECOND_OUTSIDE, 7777)).toMatch(new RegExp(`^outside / ${address} `));
    for (const client of [own, job]) {
      client.child.kill('SIGUSR1');
      expect(await client.is(/^renew /)).toContain(` via ${SECOND_OUTSIDE} `);
    }
    expect((await daemon.counters()).dhcp).toMatchObject({ naks: 0, malformed: 0, foreign: 0, 'other-server': 0 });
  });

  it('mask and gateway are the host\'s own there where it has some, as they are now; none of them where nobody says', { timeout: 60_000 }, async () => {
    const { world, setting } = site();
    await world.start(setting);
    const own = new DhcpClient(world, 'own', 'udhcpc');
    expect(await own.is(BOUND)).toBe(`bound ${OWN}/32 via  mtu 1400 server 169.254.0.67 lease 300`);
    own.child.kill();
    world.lab.run(world.lab.host, ['sh', '-ec', 'ip addr add 198.51.100.9/25 dev eth1; ip route add default via 198.51.100.2 dev eth1 metric 500']);
    await sleep(1100); // what is told may be a second old
    const job = new DhcpClient(world, 'job', 'udhcpc');
    expect(await job.is(BOUND)).toBe(`bound ${SHARED}/25 via 198.51.100.2 mtu 1400 server 169.254.0.67 lease 300`);
  });
});
