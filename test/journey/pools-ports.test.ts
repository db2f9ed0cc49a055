/**
 * Ports on the best address: guests that ask for a block of ports share an address of a pool, which no interface of the host has; Berth answers
 * ARP for it while one of them uses something of it. And a dedicated address of which a guest has only some ports.
 */
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { GuestStatus } from '../../src/control/admin-api.js';
import { ArpWatch, forgetNeighbours } from '../support/arp.js';
import { liveTests, OUTSIDE_ADDRESS, until } from '../support/live.js';
import { type PoolSite, poolSite } from '../support/pool-site.js';

const [A, B] = ['192.0.2.100', '192.0.2.101'];

describe.skipIf(!liveTests('pools-ports', 'tcpdump'))('prior system, floating addresses: ports on the best address', () => {
  function site(label: string, addresses: string, quarantine: string): PoolSite & { lines: () => Promise<string[]> } {
    const made = poolSite(label, addresses, quarantine);
    return { ...made, lines: async () => (await made.pools()).map(({ address, state, guest, ports }) => `${address} ${state} ${guest ?? '-'} ${ports ?? '-'}`) };
  }

  it('R2, R4, R7: two guests share one address, each has its own ports of it; one that does not fit gets another address, or is refused; over kill -9', { timeout: 90_000 }, async () => {
    const { world, setting, start, berth, lines, enter } = site('ports-shared', `${A}-${B}`, '60s');
    setting.guests = { one: { link: { netns: world.addGuest('one') }, pool: { ports: 32_768, policy: 'least-load' }, use: 'all' } };
    for (const name of ['two', 'three', 'four']) world.addGuest(name);
    const arp = await ArpWatch.start(world);
    const first = await start();
    const add = (name: string, ports: number): ReturnType<PoolSite['berth']> => berth('guest', 'add', name, '--link', `netns=${world.guest(name)}`, '--pool', `name=any,ports=${ports}`, '--policy', 'least-load');
    const added = await add('two', 1024);
    expect(added.output).toContain(`tcp+udp 1024-2047 of ${A}`);
    expect(await add('three', 32_768)).toMatchObject({ code: 0, errors: '' });
    expect(await add('four', 32_768)).toMatchObject({ code: 1, errors: 'berth: guest four: pool public on eth0: no address of it has a block of 32768 ports free; remove a guest, wait for the end of a quarantine, or add addresses\n' });
    expect(await lines()).toEqual([`${A} leased two 1024-2047`, `${A} in use one 32768-65535`, `${B} leased three 32768-65535`]);

    // In use from the start: announced, and answered for. Each is reached at its own ports.
    await until(() => arp.announcements(A).length === 2, 4000, () => `two announcements:\n${arp.lines.join('\n')}`);
    const outside = world.peer(world.lab.outside);
    const [one, two, three] = [enter('one', A), enter('two', A), enter('three', B)];
    await Promise.all([one.http(40_000, 'one'), two.http(1500, 'two'), three.http(40_000, 'three'), outside.http(7777, 'outside')]);
    expect(await outside.get(A, 40_000)).toMatch(/^one /);
    // Not used yet: discarded. Then its own first frame is the indication.
    expect(await outside.connect(A, 1500, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    world.sysctl(world.guest('two'), 'net/ipv4/ip_local_port_range', '1500 1999');
    expect(await two.get(OUTSIDE_ADDRESS, 7777)).toMatch(new RegExp(`^outside / ${A} `));
    // A port of the other, and one that nobody leases: not theirs to send from, and discarded from outside.
    world.sysctl(world.guest('two'), 'net/ipv4/ip_local_port_range', '40000 40099');
    expect(await two.connect(OUTSIDE_ADDRESS, 7777, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    world.sysctl(world.guest('two'), 'net/ipv4/ip_local_port_range', '9000 9099');
    expect(await two.connect(OUTSIDE_ADDRESS, 7777, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.connect(A, 9000, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });

    // Nobody answers for what is not in use, until its guest's first frame.
    forgetNeighbours(world);
    expect(await outside.connect(B, 40_000, { timeoutMs: 4000 })).toMatchObject({ outcome: 'EHOSTUNREACH' });
    world.sysctl(world.guest('three'), 'net/ipv4/ip_local_port_range', '50000 50999');
    expect(await three.get(OUTSIDE_ADDRESS, 7777)).toMatch(new RegExp(`^outside / ${B} `));
    await until(() => arp.announcements(B).length > 0, 2000, () => `an announcement of ${B}`);
    forgetNeighbours(world);
    expect(await outside.connect(B, 40_001, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    expect(new Set(arp.replies(B))).toEqual(new Set([`${world.nicMac()} ${world.nicMac()}`]));

    expect(await lines()).toEqual([`${A} in use two 1024-2047`, `${A} in use one 32768-65535`, `${B} in use three 32768-65535`]);
    const explained = (await berth('explain', A)).output;
    expect(explained).toMatch(/^192\.0\.2\.100 of pool public on eth0 is leased by ports\.\nPorts 1024-2047 of it are leased to guest two since .*, and in use\.\nChosen by least-load: pool public on eth0, .* in use\.\nPorts 32768-65535 of it are leased to guest one since .*, and in use\.\n/);
    expect((await berth('explain', `${A}:40000/tcp`)).output).toMatch(/^192\.0\.2\.100 tcp 40000 is leased to guest one since .*, by the configuration, and in use: the configuration says so\.\nA frame for it goes to guest one: /);
    expect((await berth('explain', `${A}:9000/udp`)).output).toMatch(/^192\.0\.2\.100 udp 9000 is leased to nobody: other ports of the address, which is of a pool, are\.\nA frame for it is discarded \(not-in-use\)\.\n/);
    expect(await berth('explain', `198.51.100.1:80`)).toMatchObject({ code: 1, errors: expect.stringContaining('198.51.100.1 is not shared, and nothing of it is leased') });
    expect((await berth('pool', 'ls')).output).toMatch(new RegExp(`^${A} +public +eth0 +in use +two +1024-2047 +\\d{4}-`, 'm'));
    // The host keeps its own ports: what is leased at an address that it does not have is nothing to it.
    expect(world.reservedPorts()).toBe('');

    await first.stop('SIGKILL');
    await start();
    expect(await lines()).toEqual([`${A} in use two 1024-2047`, `${A} in use one 32768-65535`, `${B} in use three 32768-65535`]);
    expect(await outside.get(A, 40_000)).toMatch(/^one /);
    expect(await outside.get(B, 50_000).catch(() => 'nobody')).toBe('nobody');
  });

  it('R6, D3: what is released waits, and is nobody else\'s meanwhile; the others go on; the last use that ends is silence', { timeout: 60_000 }, async () => {
    const { world, start, berth, lines, enter } = site('ports-release', A, '60s');
    for (const name of ['one', 'two', 'three']) world.addGuest(name);
    const add = (name: string, ports = 32_768): ReturnType<PoolSite['berth']> => berth('guest', 'add', name, '--link', `netns=${world.guest(name)}`, '--pool', `name=public,ports=${ports}`, '--use', 'all');
    const arp = await ArpWatch.start(world);
    const first = await start();
    expect(await add('one')).toMatchObject({ code: 0 });
    expect(await add('two', 16_384)).toMatchObject({ code: 0 });
    const outside = world.peer(world.lab.outside);
    await Promise.all([enter('one', A).http(40_000, 'one'), enter('two', A).http(20_000, 'two')]);
    expect(await Promise.all([outside.get(A, 40_000), outside.get(A, 20_000)])).toEqual([expect.stringMatching(/^one /), expect.stringMatching(/^two /)]);

    expect(await berth('guest', 'rm', 'one')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual([`${A} in use two 16384-32767`, `${A} quarantined one 32768-65535`]);
    expect(await outside.connect(A, 40_000, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.get(A, 20_000)).toMatch(/^two /);
    expect((await add('three')).errors).toContain('no address of it has a block of 32768 ports free');
    expect((await berth('explain', A)).output).toMatch(/Ports 32768-65535 of it were released by guest one at .*; another guest may have them from .* on\./);
    expect((await berth('explain', `${A}:40000/tcp`)).output).toMatch(/was released by guest one at .*\nA frame for it is discarded \(quarantined\)/);

    // Over a restart too; and the same guest has its own again.
    await first.stop('SIGKILL');
    await start();
    expect(await lines()).toEqual([`${A} in use two 16384-32767`, `${A} quarantined one 32768-65535`]);
    expect((await add('three')).errors).toContain('no address of it has a block of 32768 ports free');
    expect(await add('one')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual([`${A} in use two 16384-32767`, `${A} in use one 32768-65535`]);

    for (const name of ['one', 'two']) expect(await berth('guest', 'rm', name)).toMatchObject({ code: 0 });
    const answered = arp.replies(A).length;
    forgetNeighbours(world);
    expect(await outside.connect(A, 20_000, { timeoutMs: 4000 })).toMatchObject({ outcome: 'EHOSTUNREACH' });
    expect(arp.replies(A).length).toBe(answered);
  });

  it('a dedicated address with port limits: its ports and no others, in use as they are said to be; the rest is discarded', { timeout: 60_000 }, async () => {
    const { world, setting, start, berth, lines, enter } = site('ports-limits', A, '60s');
    setting.guests = { web: { link: { netns: world.addGuest('web') }, pool: { name: 'public' }, lease: { tcp: '80,443' }, use: { tcp: '80' } } };
    const socket = `${world.lab.folder}/admin.sock`;
    const daemon = await start();
    expect(await lines()).toEqual([`${A} in use web tcp 80, 443`]);
    const web = enter('web', A);
    const outside = world.peer(world.lab.outside);
    await Promise.all([web.http(80, 'web'), web.http(443, 'web'), web.http(8080, 'web')]);
    expect(await outside.get(A, 80)).toMatch(/^web /);
    for (const port of [443, 8080]) expect([port, await outside.connect(A, port, { timeoutMs: 500 })]).toMatchObject([port, { outcome: 'timeout' }]);
    expect((await berth('explain', A)).output).toMatch(/is leased to guest web since .*, and in use\.\nOnly tcp 80, 443 of it: a frame for any other port is discarded \(not-in-use\)\.\n/);
    // Its own: nobody else has ports of it.
    world.addGuest('job');
    expect((await berth('guest', 'add', 'job', '--link', `netns=${world.guest('job')}`, '--pool', 'name=any,ports=1024')).errors).toContain('no address of it has a block of 1024 ports free');
    expect((await askAdmin<GuestStatus[]>(socket, { path: '/guests' }))[0]).toMatchObject({ whole: null, address: A, leased: { tcp: '80,443', udp: '' }, used: { tcp: '80', udp: '' } });

    // Removed, and added with other ports within the quarantine: the same address.
    expect(await berth('guest', 'rm', 'web')).toMatchObject({ code: 0 });
    expect(await lines()).toEqual([`${A} quarantined web all`]);
    expect(await berth('guest', 'add', 'web', '--link', `netns=${world.guest('web')}`, '--pool', 'any', '--lease', 'tcp=8080', '--use', 'all')).toMatchObject({ code: 0, errors: '' });
    expect(await lines()).toEqual([`${A} in use web tcp 8080`]);
    world.lab.configure(world.guest('web'), 'eth0', A, OUTSIDE_ADDRESS);
    expect(await outside.get(A, 8080)).toMatch(/^web /);
    expect(await outside.connect(A, 80, { timeoutMs: 500 })).toMatchObject({ outcome: 'timeout' });
    expect((await daemon.counters()).ingress.discarded['not-in-use']?.frames).toBeGreaterThan(1);
    expect(world.hostState()).toMatchObject({ ruleset: '', stateFiles: [] });
  });
});
