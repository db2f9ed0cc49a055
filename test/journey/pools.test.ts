/**
 * Floating addresses on one NIC: a guest with `pool` has a dedicated address, which no interface of the host has. Berth answers ARP for it by
 * proxy while it is in use, announces it when its use moves, and is silent else; the store keeps who has it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { AddressExplanation } from '../../src/control/admin-api.js';
import { ArpWatch, forgetNeighbours } from '../support/arp.js';
import { liveTests, OUTSIDE_ADDRESS, until, type World } from '../support/live.js';
import { type PoolSite, poolSite } from '../support/pool-site.js';

const [A, B, C, D] = ['192.0.2.100', '192.0.2.101', '192.0.2.102', '192.0.2.103'];
const PORT = 8000;

describe.skipIf(!liveTests('pools', 'tcpdump', 'python3'))('prior system, floating addresses: dedicated, answered for by proxy', () => {
  function site(label: string, addresses: string, quarantine: string): PoolSite & { lines: () => Promise<string[]>; serve: (guest: string, address: string) => Promise<void> } {
    const made = poolSite(label, addresses, quarantine);
    return {
      ...made,
      lines: async () => (await made.pools()).map(({ address, state, guest }) => `${address} ${state} ${guest ?? '-'}`),
      serve: (guest, address) => made.enter(guest, address).http(PORT, guest),
    };
  }

  const unreachable = (world: World, address: string): Promise<unknown> => {
    forgetNeighbours(world);
    return world.peer(world.lab.outside).connect(address, PORT, { timeoutMs: 4000 });
  };

  it('R1, R3, R4: the address is answered for by proxy while it is in use and not before; the guest need not answer; the host has none of it', { timeout: 60_000 }, async () => {
    const { world, setting, start, berth, lines, serve } = site('pool-arp', `${A}-${B}, ${C}`, '60s');
    setting.guests = { db: { link: { netns: world.addGuest('db') }, pool: { name: 'any', policy: 'least-load' }, use: 'all' }, idle: { link: { netns: world.addGuest('idle') }, pool: { name: 'public' } } };
    const arp = await ArpWatch.start(world);
    await start();
    const mac = world.nicMac();
    expect(await lines()).toEqual([`${A} in use db`, `${B} leased idle`, `${C} unused -`]);

    // Announced twice, two seconds apart; the leased one is not.
    await until(() => arp.announcements(A).length === 2, 4000, () => `two announcements:\n${arp.lines.join('\n')}`);
    expect(arp.announcements(A)).toEqual([mac, mac]);
    expect(arp.announcements(B)).toEqual([]);

    // The guest has no address yet, so nothing in it could answer.
    const outside = world.peer(world.lab.outside);
    expect(await outside.connect(A, PORT, { timeoutMs: 1000 })).toMatchObject({ outcome: 'timeout' });
    expect(new Set(arp.replies(A))).toEqual(new Set([`${mac} ${mac}`]));
    await serve('db', A);
    expect(await outside.get(A, PORT)).toMatch(/^db /);
    expect(world.addresses(world.lab.host, 'eth0')).toEqual(['192.0.2.10/24']);

    // Leased, not in use: nobody answers; a frame that comes all the same is discarded.
    expect(await unreachable(world, B)).toMatchObject({ outcome: 'EHOSTUNREACH' });
    expect(arp.replies(B)).toEqual([]);
    const discarded = async (): Promise<number> => ((JSON.parse((await berth('status', '--json')).output) as { counters: { ingress: { discarded: Record<string, { frames: number }> } } }).counters.ingress.discarded['not-in-use']?.frames ?? 0);
    const before = await discarded();
    world.lab.run(world.lab.outside, ['ip', 'neigh', 'replace', B, 'lladdr', mac, 'dev', 'eth0']);
    expect(await outside.connect(B, PORT, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    expect(await discarded()).toBeGreaterThan(before);
    world.lab.run(world.lab.outside, ['ip', 'neigh', 'del', B, 'dev', 'eth0']);

    // Its guest's first frame is the indication: announced, answered, served.
    await outside.http(7777, 'outside');
    await serve('idle', B);
    expect(await world.peer(world.guest('idle')).get(OUTSIDE_ADDRESS, 7777)).toContain('outside');
    await until(() => arp.announcements(B).length > 0, 2000, () => `an announcement of ${B}`);
    forgetNeighbours(world);
    expect(await outside.get(B, PORT)).toMatch(/^idle /);
    expect(arp.replies(B).length).toBeGreaterThan(0);

    // Nobody's: not answered.
    expect(await unreachable(world, C)).toMatchObject({ outcome: 'EHOSTUNREACH' });

    const table = (await berth('pool', 'ls')).output;
    expect(table).toMatch(new RegExp(`^${A} +public +eth0 +in use +db +all +\\d{4}-`, 'm'));
    expect(table).toMatch(new RegExp(`^${C} +public +eth0 +unused +- +- +-$`, 'm'));
    const explained = await berth('explain', A);
    expect(explained.output).toMatch(/is leased to guest db since .*, and in use\.\nChosen by least-load: pool public on eth0, 0 % of 10 Gbit\/s in use\.\nBerth answers ARP for it/);
    expect(await berth('explain', '198.51.100.1')).toMatchObject({ code: 1, errors: expect.stringContaining('is in no pool') });
    expect(JSON.parse((await berth('explain', B, '--json')).output) as AddressExplanation).toMatchObject({ address: B, pool: 'public', network: 'eth0', lines: [{ state: 'in use', guest: 'idle', ports: 'all' }] });
  });

  it('a flood of requests is answered at the rate that is allowed, and counted', { timeout: 30_000 }, async () => {
    const { world, setting, start } = site('pool-flood', A, '60s');
    setting.guests = { db: { link: { netns: world.addGuest('db') }, pool: {}, use: 'all' } };
    await start();
    const replies = async (): Promise<number> => (await askAdmin<{ arpReplies: number }>(`${world.lab.folder}/admin.sock`, { path: '/counters' })).arpReplies;
    expect(await replies()).toBe(0);
    const began = performance.now();
    world.lab.run(world.lab.outside, ['python3', '-c', `
import socket
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
arp = bytes.fromhex('0001080006040001') + mac + socket.inet_aton('${OUTSIDE_ADDRESS}') + bytes(6) + socket.inet_aton('${A}')
frame = bytes.fromhex('ffffffffffff') + mac + bytes.fromhex('0806') + arp + bytes(18)
for n in range(5000): s.send(frame)
`]);
    await sleep(300);
    const answered = await replies();
    expect(answered).toBeGreaterThan(50);
    expect(answered).toBeLessThanOrEqual(100 + 0.9 * (performance.now() - began));
    expect(answered).toBeLessThan(5000);
  });

  it('D3: the same guest has the same address after kill -9; a released one waits, over a restart too, and is announced when another has it', { timeout: 90_000 }, async () => {
    const { world, setting, start, berth, lines, serve } = site('pool-store', `${A}-${C}`, '12s');
    setting.guests = { one: { link: { netns: world.addGuest('one') }, pool: {}, use: 'all' } };
    const first = await start();
    const add = (name: string): ReturnType<PoolSite['berth']> => berth('guest', 'add', name, '--link', `netns=${world.guest(name)}`, '--pool', 'any', '--policy', 'least-load', '--use', 'all');
    for (const name of ['two', 'three', 'four']) world.addGuest(name);
    const arp = await ArpWatch.start(world);
    expect(await add('two')).toMatchObject({ code: 0, errors: '' });
    expect(await add('three')).toMatchObject({ code: 0 });
    expect(await add('four')).toMatchObject({ code: 1, errors: 'berth: guest four: pool public on eth0: no address of it is unused; remove a guest, wait for the end of a quarantine, or add addresses\n' });
    const held = [`${A} in use one`, `${B} in use two`, `${C} in use three`];
    expect(await lines()).toEqual(held);
    const outside = world.peer(world.lab.outside);
    await serve('two', B);
    expect(await outside.get(B, PORT)).toMatch(/^two /);
    await until(() => [B, C].every((address) => arp.announcements(address).length === 2), 4000, () => 'the announcements');

    // Killed: the same, and nothing has moved.
    await first.stop('SIGKILL');
    const announcedSoFar = [A, B, C].map((address) => arp.announcements(address).length);
    const second = await start();
    expect(await lines()).toEqual(held);
    expect(await outside.get(B, PORT)).toMatch(/^two /);
    await sleep(500);
    expect([A, B, C].map((address) => arp.announcements(address).length)).toEqual(announcedSoFar);

    // Released: silence, in its quarantine and over a restart; another gets none, the same its own.
    expect(await berth('guest', 'rm', 'two')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual([held[0], `${B} quarantined two`, held[2]]);
    expect((await berth('explain', B)).output).toMatch(/was released by guest two at .*; another guest may have it from .* on\.\nNobody answers ARP for it/);
    await second.stop('SIGKILL');
    await start();
    expect(await lines()).toEqual([held[0], `${B} quarantined two`, held[2]]);
    const answered = arp.replies(B).length;
    expect(await unreachable(world, B)).toMatchObject({ outcome: 'EHOSTUNREACH' });
    expect(arp.replies(B).length).toBe(answered);
    expect((await add('four')).errors).toContain('no address of it is unused');
    expect(await add('two')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual(held);

    // After its time it is anybody's; the neighbours are told that it has moved.
    expect(await berth('guest', 'rm', 'two')).toMatchObject({ code: 0 });
    for (const give = performance.now() + 20_000; (await lines())[1] !== `${B} unused -` && performance.now() < give; ) await sleep(200);
    expect(await lines()).toEqual([held[0], `${B} unused -`, held[2]]);
    const announced = arp.announcements(B).length;
    expect(await add('four')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual([held[0], `${B} in use four`, held[2]]);
    await until(() => arp.announcements(B).length > announced, 2000, () => `an announcement of ${B}`);
  });

  it('a guest that the configuration no longer has leaves its address to its quarantine; an address that the host has is refused', { timeout: 60_000 }, async () => {
    const { world, setting, start, lines } = site('pool-config', `${A},${D}`, '60s');
    setting.guests = { one: { link: { netns: world.addGuest('one') }, pool: {} }, two: { link: { netns: world.addGuest('two') }, pool: {} } };
    const first = await start();
    expect(await lines()).toEqual([`${A} leased one`, `${D} leased two`]);
    expect((await first.stop()).code).toBe(0);
    delete setting.guests['one'];
    const second = await start();
    expect(await lines()).toEqual([`${A} quarantined one`, `${D} leased two`]);
    expect((await second.stop()).code).toBe(0);
    expect(world.hostState()).toMatchObject({ ruleset: '', stateFiles: [] });

    world.lab.run(world.lab.host, ['ip', 'address', 'add', `${D}/32`, 'dev', 'lo']);
    const refused = world.launch(setting);
    await until(() => !refused.isRunning, 5000, () => 'the daemon to end');
    expect(refused.errors).toMatch(/pools\.public\.addresses: 192\.0\.2\.103 is the host's own \(on lo\); take it out of the pool\n$/);
  });
});
