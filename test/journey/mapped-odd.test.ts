/** Mapped guests, live: what is not a plain exchange. ICMP errors, fragments, hairpin, ports that run out, a daemon that is killed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, type World } from '../support/live.js';

const INSIDE = '10.0.7.2';
const GATEWAY = '10.0.7.1';

describe.skipIf(!liveTests('mapped-odd', 'ping'))('mapped guests', { timeout: 90_000 }, () => {
  function build(label: string, block: number): { world: World; setting: Setting } {
    const world = freshWorld(label);
    const guests = {
      legacy: { link: { netns: world.addGuest('legacy') }, mode: 'map' as const, inside: INSIDE, map: [{ tcp: 8443, to: 443 }, { udp: 5000, to: 6000 }], block },
      other: { link: { netns: world.addGuest('other') }, mode: 'map' as const, inside: '10.0.8.2', block },
    };
    return { world, setting: { pool: { ports: '20480-24575', reserve: 0 }, store: { path: `${world.lab.folder}/store` }, guests } };
  }

  it('reach one another by the outside address', async () => {
    const { world, setting } = build('maphair', 16);
    await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    const other = world.enterMapped('other', '10.0.8.2', '10.0.8.1');
    await Promise.all([legacy.http(443, 'legacy'), legacy.udpEcho(6000), legacy.sink(444)]);
    expect(await other.get(HOST_ADDRESS, 8443)).toMatch(new RegExp(`^legacy / ${HOST_ADDRESS} `));
    expect(await other.udp(HOST_ADDRESS, 5000, [10, 1400])).toEqual(['equal', 'equal']);
    expect(await legacy.get(HOST_ADDRESS, 8443)).toMatch(/^legacy /);
  });

  it('in a VM, whose MAC is asked for before its first frame', async () => {
    const { world, setting } = build('mapvm', 16);
    const { lab } = world;
    lab.run(lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    world.addGuest('vm');
    setting.guests['vm'] = { link: { tap: 'tap-vm' }, mode: 'map', inside: '10.0.9.2', map: [{ tcp: 8900, to: 80 }] };
    const outside = world.peer(lab.outside);
    await world.start(setting);
    await world.startVm('tap-vm', 'vm');
    const vm = world.enterMapped('vm', '10.0.9.2', '10.0.9.1');
    await Promise.all([vm.http(80, 'vm'), outside.sink(81)]);
    expect(await outside.get(HOST_ADDRESS, 8900)).toMatch(new RegExp(`^vm / ${OUTSIDE_ADDRESS} `));
    const { sent, received } = await vm.upload(OUTSIDE_ADDRESS, 81, 1e7);
    expect(received).toBe(sent);
  });

  it('learn that a port is closed, both ways, and exchange datagrams in fragments', async () => {
    const { world, setting } = build('mapicmp', 16);
    const outside = world.peer(world.lab.outside);
    await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    // Nobody listens: the guest's port unreachable comes out, the outside's comes in.
    const refusals = (namespace: string): string => world.lab.run(namespace, ['sh', '-c', 'nstat -az IcmpInDestUnreachs | tail -1']).trim().split(/\s+/)[1];
    await outside.udp(HOST_ADDRESS, 5000, [10], { timeoutMs: 200 });
    expect(Number(refusals(world.lab.outside))).toBeGreaterThan(0);
    await legacy.udp(OUTSIDE_ADDRESS, 99, [10], { timeoutMs: 200 });
    await legacy.udp(OUTSIDE_ADDRESS, 99, [10], { timeoutMs: 200 });
    expect(Number(refusals(world.guest('legacy')))).toBeGreaterThan(0);
    await Promise.all([legacy.udpEcho(6000), outside.udpEcho(83)]);
    expect(await outside.udp(HOST_ADDRESS, 5000, [4000, 9000])).toEqual(['equal', 'equal']);
    expect(await legacy.udp(OUTSIDE_ADDRESS, 83, [4000, 9000])).toEqual(['equal', 'equal']);
    expect(world.lab.run(world.guest('legacy'), ['ping', '-c', '1', '-s', '4000', '-W', '2', OUTSIDE_ADDRESS])).toContain(' 0% packet loss');
  });

  it('whose ports run out are told of in one line, and go on when some are free', async () => {
    const { world, setting } = build('mapports', 2);
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    await outside.source(82, 3e5, 500);
    await outside.http(85, 'outside');
    const downloads = [legacy.download(OUTSIDE_ADDRESS, 82), legacy.download(OUTSIDE_ADDRESS, 82)];
    await sleep(500);
    expect(await legacy.connect(OUTSIDE_ADDRESS, 82, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    await daemon.says(/guest legacy: every port of its block of 2 is in use towards one address and port/);
    expect(await legacy.get(OUTSIDE_ADDRESS, 85)).toMatch(/^outside /); // towards another they are free
    await Promise.all(downloads);
    for (let n = 0; n < 6; n++) expect(await legacy.get(OUTSIDE_ADDRESS, 85)).toMatch(/^outside /); // closed connections give theirs up
    const { egress } = await daemon.counters();
    expect(egress.discarded['ports-exhausted']!.frames).toBeGreaterThan(0);
    expect(daemon.log.filter(({ msg }) => /every port of its block/.test(msg))).toHaveLength(1);
  });

  it('keep their connections, both ways, while the daemon is killed and started again', async () => {
    const { world, setting } = build('mapkill', 16);
    const outside = world.peer(world.lab.outside);
    const first = await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    await legacy.source(443, 4e6, 30);
    const download = outside.download(HOST_ADDRESS, 8443);
    await outside.source(82, 4e6, 30);
    const own = legacy.download(OUTSIDE_ADDRESS, 82); // in which the guest only listens
    await sleep(1600); // what is established is written down once a second
    await first.stop('SIGKILL');
    await sleep(200);
    await world.start(setting);
    expect(await download).toEqual({ bytes: 4e6, received: await legacy.sourceHash(443) });
    expect(await own).toEqual({ bytes: 4e6, received: await outside.sourceHash(82) });
  });
});
