/**
 * Two physical networks in one daemon: an address is chosen by what they carry, its guest is bound to its network, and each is served by its
 * own NIC. The second network's NIC has no address of the host at all.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { GuestStatus, PoolLine } from '../../src/control/admin-api.js';
import { loadProgram } from '../../src/cli/demo/script.js';
import type { NamedCounters } from '../../src/cli/stats.js';
import { ArpWatch, forgetNeighbours } from '../support/arp.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, until, type World } from '../support/live.js';

const [FIRST, SECOND] = ['192.0.2.100', '198.51.100.100'];
const SECOND_OUTSIDE = '198.51.100.1';
const PORT = 8000;
/** As long as a new load needs to be most of the average. */
const SETTLE_MS = 3000;

describe.skipIf(!liveTests('pools-networks', 'tcpdump'))('prior system, floating addresses: two networks in one daemon', () => {
  function site(): { world: World; setting: Setting } {
    const world = freshWorld('networks');
    const { host, outside, folder } = world.lab;
    world.lab.run(host, ['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', outside]);
    world.lab.run(host, ['ip', 'link', 'set', 'eth1', 'up']);
    world.lab.configure(outside, 'eth1', SECOND_OUTSIDE);
    const setting: Setting = {
      store: { path: `${folder}/store` },
      pool: { quarantine: '60s' },
      networks: { uplink1: { nic: 'eth0' }, uplink2: { nic: 'eth1' } },
      pools: { one: { network: 'uplink1', addresses: `${FIRST}-192.0.2.103`, speed: '100Mbit' }, two: { network: 'uplink2', addresses: `${SECOND}-198.51.100.103`, speed: '100Mbit' } },
      guests: { shared: { link: { netns: world.addGuest('shared') }, lease: { tcp: '8080' }, use: 'all' } },
    };
    return { world, setting };
  }

  it('least-load takes the other one; each guest is at its own NIC, over kill -9; a released address is silent; nothing is left', { timeout: 90_000 }, async () => {
    const { world, setting } = site();
    const { lab } = world;
    const socket = `${lab.folder}/admin.sock`;
    const add = async (name: string, pool = 'any'): Promise<string | null> => {
      world.addGuest(name);
      return (await askAdmin<GuestStatus>(socket, { method: 'POST', path: '/guests', body: { name, link: { netns: world.guest(name) }, pool: { name: pool, policy: 'least-load' }, use: 'all' } })).whole;
    };
    const held = async (): Promise<string[]> => (await askAdmin<PoolLine[]>(socket, { path: '/pools' })).filter(({ guest }) => guest !== null).map(({ address, network, state, guest }) => `${address} ${network} ${state} ${guest}`);
    const first = await world.start(setting);
    const [arp1, arp2] = [await ArpWatch.start(world), await ArpWatch.start(world, lab.outside, 'eth1')];
    const [mac1, mac2] = [world.nicMac(), world.link(lab.host, 'eth1')!.address];
    const outside = world.peer(lab.outside);
    await world.enter('shared').http(8080, 'shared');

    // Load on the first network: the second is chosen, and the words say why.
    const onFirst = lab.spawn(lab.outside, [process.execPath, '-e', loadProgram(HOST_ADDRESS)]);
    await sleep(SETTLE_MS);
    expect(await add('db')).toBe(SECOND);
    expect((await world.berth('explain', SECOND, '--admin', socket)).output).toMatch(/Chosen by least-load: pool two on uplink2, 0 % of 100 Mbit\/s in use\.\nNot pool one on uplink1: \d+(\.\d)? % of 100 Mbit\/s in use\./);
    onFirst.kill();
    lab.configure(world.guest('db'), 'eth0', SECOND, SECOND_OUTSIDE);
    await world.peer(world.guest('db')).http(PORT, 'db');
    expect(world.link(world.guest('db'), 'eth0')!.address).toBe(mac2);
    await until(() => arp2.announcements(SECOND).length === 2, 4000, () => 'the announcements on the second network');
    forgetNeighbours(world);
    expect(await outside.get(SECOND, PORT)).toMatch(/^db /);
    expect(new Set(arp2.replies(SECOND))).toEqual(new Set([`${mac2} ${mac2}`]));
    expect([arp1.announcements(SECOND), arp1.replies(SECOND)]).toEqual([[], []]);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^shared /);

    // Load on the second: the first is chosen.
    const onSecond = lab.spawn(lab.outside, [process.execPath, '-e', loadProgram(SECOND)]);
    await sleep(SETTLE_MS);
    expect(await add('www')).toBe(FIRST);
    onSecond.kill();
    lab.configure(world.guest('www'), 'eth0', FIRST, OUTSIDE_ADDRESS);
    await world.peer(world.guest('www')).http(PORT, 'www');
    expect(world.link(world.guest('www'), 'eth0')!.address).toBe(mac1);
    expect(await outside.get(FIRST, PORT)).toMatch(/^www /);
    const { guests } = await askAdmin<NamedCounters>(socket, { path: '/counters' });
    for (const name of ['shared', 'db', 'www']) expect([name, guests[name].ingress.frames > 0, guests[name].egress.frames > 0]).toEqual([name, true, true]);

    expect((await world.berth('status', '--admin', socket)).output).toContain(`\nNetwork uplink2: NIC eth1 (${mac2})\n`);
    const both = [`${FIRST} uplink1 in use www`, `${SECOND} uplink2 in use db`];
    expect(await held()).toEqual(both);
    await first.stop('SIGKILL');
    const second = await world.start(setting);
    expect(await held()).toEqual(both);
    for (const [address, name] of [[FIRST, 'www'], [SECOND, 'db']] as const) expect(await outside.get(address, PORT)).toMatch(new RegExp(`^${name} `));

    // Released on the second network: quarantined there, nobody answers.
    expect(await world.berth('guest', 'rm', 'db', '--admin', socket)).toMatchObject({ code: 0 });
    expect(await held()).toEqual([both[0], `${SECOND} uplink2 quarantined db`]);
    const answered = arp2.replies(SECOND).length;
    forgetNeighbours(world);
    expect(await outside.connect(SECOND, PORT, { timeoutMs: 4000 })).toMatchObject({ outcome: 'EHOSTUNREACH' });
    expect(arp2.replies(SECOND).length).toBe(answered);

    expect((await second.stop()).code).toBe(0);
    expect(world.hostState()).toMatchObject({ ruleset: '', stateFiles: [], promiscuity: 0 });
    expect(world.link(lab.host, 'eth1')!.promiscuity).toBe(0);
  });

  it('an address whose pool is on another network from now on is announced there; a guest of the configuration goes with it', { timeout: 60_000 }, async () => {
    const { world, setting } = site();
    setting.guests = { db: { link: { netns: world.addGuest('db') }, pool: { name: 'two' }, use: 'all' } };
    const [arp1, arp2] = [await ArpWatch.start(world), await ArpWatch.start(world, world.lab.outside, 'eth1')];
    const first = await world.start(setting);
    await until(() => arp2.announcements(SECOND).length === 2, 4000, () => 'the announcements on the second network');
    expect((await first.stop()).code).toBe(0);
    setting.pools!['two'].network = 'uplink1';
    await world.start(setting);
    await until(() => arp1.announcements(SECOND).length === 2, 4000, () => 'the announcements on the first network');
    expect(new Set(arp1.announcements(SECOND))).toEqual(new Set([world.nicMac()]));
    expect(world.link(world.guest('db'), 'eth0')!.address).toBe(world.nicMac());
  });
});
