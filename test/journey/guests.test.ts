/** Guests added and removed while the daemon runs: what it means on the wire, on the host, and after a restart. */
import { once } from 'node:events';
import { readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import { endProcess } from '../../src/cli/lab.js';
import type { Explanation, GuestRemoval, GuestStatus, LeaseLine, Status } from '../../src/control/admin-api.js';
import type { NamedCounters } from '../../src/cli/stats.js';
import { type ControlWorld, freshControl, timeUntil } from '../support/control.js';
import { freshWorld, type GuestSetting, HOST_ADDRESS, liveTests, until } from '../support/live.js';

const STAYS = { port: 9000, name: 'stays' };

describe.skipIf(!liveTests('guests', 'python3'))('guests added and removed at run time', () => {
  interface Desk {
    world: ControlWorld;
    add: (name: string, setting: Partial<GuestSetting>) => Promise<GuestStatus>;
    remove: (name: string) => Promise<GuestRemoval>;
    refused: (name: string, setting: object) => Promise<string>;
    ask: <T>(path: string, query?: Record<string, string>) => Promise<T>;
  }

  function build(label: string, quarantine: string, guests: Record<string, Partial<GuestSetting>>): Desk {
    const world = freshControl(label, guests, { pool: { ports: '20480-29999', reserve: 0, quarantine } });
    const socket = `${world.lab.folder}/admin.sock`;
    const add: Desk['add'] = (name, setting) => askAdmin(socket, { method: 'POST', path: '/guests', body: { name, ...setting } });
    return {
      world,
      add,
      remove: (name) => askAdmin(socket, { method: 'DELETE', path: `/guests/${name}` }),
      ask: (path, query = {}) => askAdmin(socket, { path, query }),
      refused: (name, setting) =>
        add(name, setting).then(
          () => 'added',
          (error: Error & { code: string }) => {
            expect(error.message).not.toContain('\n');
            return `${error.code}: ${error.message}`;
          },
        ),
    };
  }

  /** The list of reserved ports follows a moment later. */
  const reservedIs = (world: ControlWorld, ports: string): Promise<void> => until(() => world.reservedPorts() === ports, 3000, () => `"${ports}" to be reserved, now "${world.reservedPorts()}"`);

  it('one is served as soon as it is added, silent and counted once it is removed, and kept over kill -9; others do not notice', { timeout: 90_000 }, async () => {
    const { world, add, remove, refused, ask } = build('guests', '3s', { stays: { lease: { tcp: '9000' }, use: 'all' } });
    const [first, late] = [await world.startDaemon(), world.addGuest('late')];
    const outside = world.peer(world.lab.outside);
    await world.enter('stays').http(STAYS.port, STAYS.name);
    await outside.poll(HOST_ADDRESS, STAYS);

    // By the command line: a static lease.
    const berth = (...args: string[]): ReturnType<typeof world.berth> => world.berth('guest', ...args, '--admin', `${world.lab.folder}/admin.sock`);
    const added = await berth('add', 'late', '--link', `netns=${late}`, '--lease', 'tcp=8100-8109,8200,udp=53', '--use', 'tcp=8100');
    expect(added).toMatchObject({ code: 0, errors: '' });
    expect(added.output).toMatch(/^late +eth0 in namespace \S+ +- +tcp 8100-8109,8200; udp 53 +tcp 8100 /m);
    await world.enter('late').http(8100, 'late');
    expect(await outside.get(HOST_ADDRESS, 8100)).toMatch(/^late /);
    expect((await berth('ls')).output).toMatch(/^late /m);
    expect((await ask<Status>('/status')).guests.map(({ name, source }) => `${name}: ${source}`)).toEqual(['stays: configuration', 'late: run time']);
    expect((await ask<LeaseLine[]>('/leases')).filter(({ guest }) => guest === 'late').map(({ proto, ports }) => `${proto} ${ports}`)).toEqual(['tcp 8100-8109', 'tcp 8200', 'udp 53']);
    expect((await ask<Explanation>('/explain', { port: '8100', proto: 'tcp' })).places[0]).toMatchObject({ state: 'in use', guest: 'late' });
    const granted = await world.berth('lease', 'grant', 'late', '--block', '--admin', `${world.lab.folder}/admin.sock`);
    expect(granted).toMatchObject({ code: 1, errors: 'berth: guest late has no agent: its leases come from its settings; remove the guest and add it with others\n' });
    expect((await ask<NamedCounters>('/counters')).guests['late'].ingress.frames).toBeGreaterThan(0);

    // With an agent: what it grows into.
    world.addGuest('agent');
    await add('agent', { link: { netns: world.guest('agent') }, agent: { socket: world.socketOf('agent') }, policy: { block: 16, allow: { tcp: '8400' } } });
    const agent = await world.startAgent('agent');
    await world.peer(world.guest('agent')).http(8400, 'agent');
    await timeUntil(outside, 8400, 'connected', 2000);

    // Killed: everything of them is there again.
    expect((await outside.pollEnd(STAYS.port)).failures).toEqual([]);
    await first.stop('SIGKILL');
    await world.startDaemon();
    expect(await outside.get(HOST_ADDRESS, 8100)).toMatch(/^late /);
    await agent.says(/back in session/);
    await timeUntil(outside, 8400, 'connected', 2000);
    await outside.poll(HOST_ADDRESS, STAYS);

    // Removed: silence, counted; nobody else may have the ports yet, the same guest may.
    expect(await remove('late')).toEqual({ name: 'late', returns: false, message: '' });
    expect(world.link(late, 'eth0')).toBeNull();
    expect(await outside.connect(HOST_ADDRESS, 8100, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect((await ask<NamedCounters>('/counters')).ingress.discarded.quarantined?.frames).toBeGreaterThan(0);
    expect((await ask<Explanation>('/explain', { port: '8100', proto: 'tcp' })).places[0]).toMatchObject({ state: 'quarantined', guest: 'late' });
    const setting: GuestSetting = { link: { netns: late }, lease: { tcp: '8100' }, use: 'all' };
    expect(await refused('other', setting)).toMatch(/^ERR_PORT_TAKEN: guest other: tcp port 8100 is quarantined after guest late/);
    await add('late', setting);
    expect((await ask<NamedCounters>('/counters')).guests['late'].ingress.frames).toBe(0);
    world.enter('late'); // the server in it has been there all the time
    expect(await outside.get(HOST_ADDRESS, 8100)).toMatch(/^late /);
    await remove('late');
    await sleep(3500);
    await add('other', setting);
    world.enter('late');
    expect(await outside.get(HOST_ADDRESS, 8100)).toMatch(/^late /);
    expect((await ask<NamedCounters>('/counters')).guests['other'].ingress.frames).toBeGreaterThan(0);

    await remove('agent');
    expect(await outside.connect(HOST_ADDRESS, 8400, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(readdirSync(world.lab.folder)).not.toContain('agent.sock');
    expect((await outside.pollEnd(STAYS.port)).failures).toEqual([]);

    // One of the configuration comes back.
    const gone = await berth('rm', 'stays', '--json');
    expect(JSON.parse(gone.output)).toMatchObject({ returns: true, message: expect.stringContaining("returns at the daemon's next start") });
    expect(await outside.connect(HOST_ADDRESS, STAYS.port, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(await berth('rm', 'stays')).toMatchObject({ code: 1, errors: expect.stringMatching(/^berth: there is no guest stays; [^\n]*\n$/) });
  });

  it('is refused in one line, with nothing changed, what a configuration would be refused for', { timeout: 60_000 }, async () => {
    const { world, add, remove, refused, ask } = build('refused', '60s', { web: { lease: { tcp: '8080' } } });
    await world.startDaemon();
    const [host, spare] = [world.peer(world.lab.host), world.addGuest('spare')];
    await host.http(8300, 'host');
    const link = { netns: spare };
    world.lab.run(world.lab.host, ['ip', 'link', 'add', 'eth7', 'type', 'veth', 'peer', 'name', 'eth8']);
    const before = world.hostState();
    const expectRefusal = async (name: string, setting: object, refusal: RegExp): Promise<void> => {
      expect(await refused(name, setting)).toMatch(refusal);
      expect(world.hostState()).toEqual(before);
      expect(world.link(spare, 'eth0')).toBeNull();
    };
    await expectRefusal('web', { link }, /^ERR_GUEST_EXISTS: there is a guest web already/);
    await expectRefusal('a b', { link }, /^ERR_CONFIG_VALUE: guests\."a b": wrong name/);
    await expectRefusal('x', {}, /^ERR_CONFIG_VALUE: guests\.x\.link: missing/);
    await expectRefusal('x', { link, leases: {} }, /^ERR_CONFIG_UNKNOWN_KEY: guests\.x\.leases: unknown key .*did you mean "lease"/);
    await expectRefusal('x', { link, lease: { tcp: '80-' } }, /^ERR_CONFIG_VALUE: guests\.x\.lease\.tcp: /);
    await expectRefusal('x', { link, lease: { tcp: '8000-8999' } }, /^ERR_PORT_TAKEN: guests\.x\.lease\.tcp: guests web and x both lease tcp 8080 on 192\.0\.2\.10; take it/);
    await expectRefusal('x', { link, lease: { tcp: '8300' } }, /^ERR_PORT_TAKEN: guest x: tcp port 8300 of 192\.0\.2\.10 is used by the host itself \(.*pid \d+\)/);
    await expectRefusal('x', { link: { tap: 'eth7' }, lease: { tcp: '7000' } }, /^ERR_LINK_TAKEN: eth7 is not a tap/);
    await expectRefusal('x', { link: { netns: world.guest('web') }, lease: { tcp: '7000' } }, /^ERR_LINK_TAKEN: .*is the link of guest web too; give/);
    await expectRefusal('x', { link: { ...link, mac: '02:00:00:00:00:99' } }, /^ERR_GUEST_MAC: /);
    await expectRefusal('x', { link, agent: { socket: world.socketOf('web') } }, /^ERR_SOCKET_TAKEN: .*is the agent socket of guest web too/);
    for (const socket of ['/proc/x.sock', '/proc/nowhere/x.sock']) await expectRefusal('x', { link, agent: { socket } }, /^ERR_AGENT_SOCKET: guest x: /);

    // A port granted to another, and one on an address of its own.
    const { channel } = await world.session('web', 1);
    await channel.ask('request', { block: true });
    expect(await refused('x', { link, lease: { tcp: '20490' } })).toMatch(/^ERR_PORT_TAKEN: guest x: tcp port 20490 is leased to guest web/);
    await add('x', { link, lease: { address: '192.0.2.20' }, use: 'all' });
    expect(await refused('y', { link: { netns: 'y' }, lease: { address: '192.0.2.20', tcp: '80' } })).toMatch(/^ERR_PORT_TAKEN: .*guests x and y both lease 192\.0\.2\.20/);
    await remove('x');
    expect((await ask<LeaseLine[]>('/leases')).filter(({ guest }) => guest === 'x')).toMatchObject([{ addresses: ['192.0.2.20'], proto: 'any', state: 'quarantined', source: 'run time' }]);
    expect((await ask<Explanation>('/explain', { port: '80', proto: 'tcp' })).places[1]).toMatchObject({ address: '192.0.2.20', state: 'quarantined', guest: 'x', verdict: 'discard' });
    expect(await refused('y', { link, lease: { address: '192.0.2.20', tcp: '80' } })).toMatch(/^ERR_PORT_TAKEN: guest y: what it leases on 192\.0\.2\.20 is quarantined after guest x until /);
    // D3: the same guest may have it at once; what it leaves out stays in quarantine.
    const stateOf = async (port: string): Promise<string> => {
      const { state, guest } = (await ask<Explanation>('/explain', { port, proto: 'tcp' })).places[1];
      return `${state} ${guest}`;
    };
    await add('x', { link, lease: { address: '192.0.2.20', tcp: '80' }, use: 'all' });
    expect([await stateOf('80'), await stateOf('81')]).toEqual(['in use x', 'quarantined x']);
    await remove('x');
    await add('x', { link, lease: { address: '192.0.2.20' }, use: 'all' });
    expect([await stateOf('80'), await stateOf('81')]).toEqual(['in use x', 'in use x']);
  });

  it('fifty guests come and go and leave nothing behind', { timeout: 90_000 }, async () => {
    const { world, add, remove, ask } = build('come-and-go', '0s', { web: { lease: { tcp: '8080' } } });
    const daemon = await world.startDaemon();
    const spare = world.addGuest('spare');
    const descriptors = (): number => readdirSync(`/proc/${daemon.child.pid}/fd`).length;
    const cycle = async (n: number): Promise<void> => {
      const lease = n % 2 === 0 ? { tcp: '7000-7099', udp: '7000' } : { address: `192.0.2.${20 + n}`, tcp: '7000' };
      await add(`guest-${n}`, { link: { netns: spare }, lease, use: 'all', agent: { socket: world.socketOf('spare') } });
      expect(world.link(spare, 'eth0')).not.toBeNull();
      await remove(`guest-${n}`);
      expect(world.link(spare, 'eth0')).toBeNull();
    };
    await cycle(0);
    await cycle(1);
    await reservedIs(world, '8080');
    const [before, open] = [world.hostState(), descriptors()];
    for (let n = 2; n < 52; n++) await cycle(n);
    await reservedIs(world, '8080');
    await until(() => descriptors() <= open + 2, 3000, () => `${open} descriptors, now ${descriptors()}`);
    expect(world.hostState()).toEqual(before);
    const status = await ask<Status>('/status');
    expect([status.guests.map(({ name }) => name), status.addresses]).toEqual([['web'], [HOST_ADDRESS]]);
    expect((await ask<LeaseLine[]>('/leases')).map(({ guest }) => guest)).toEqual(['web']);
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a VM: its tap is served while it is a guest, and given back as it was found', { timeout: 40_000 }, async () => {
    const { world, add, remove } = build('vm', '0s', { web: {} });
    const { lab } = world;
    lab.run(lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    world.addGuest('vm');
    await world.startDaemon();
    await world.startVm('tap-vm', 'vm');
    const [outside, vm] = [world.peer(lab.outside), world.enter('vm')];
    await vm.http(7000, 'vm');
    const tap = (): string[] => [lab.run(lab.host, ['cat', '/proc/sys/net/ipv6/conf/tap-vm/disable_ipv6']).trim(), String(world.link(lab.host, 'tap-vm')!.flags.includes('UP'))];
    const before = { host: world.hostState(), tap: tap() };
    for (const name of ['first', 'second']) {
      await add(name, { link: { tap: 'tap-vm' }, lease: { tcp: '7000' }, use: 'all' });
      await until(() => world.link(lab.host, 'tap-vm')!.flags.includes('LOWER_UP'), 3000, () => 'the link to be up');
      expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
      expect(world.hostState().ruleset).toContain('berth-tap-tap-vm');
      await remove(name);
      await reservedIs(world, before.host.reserved);
      expect({ host: world.hostState(), tap: tap() }).toEqual(before);
    }
  });

  it('one that no longer fits at a restart is left out and said to be; the daemon goes on', { timeout: 40_000 }, async () => {
    const { world, add, remove, ask } = build('misfits', '0s', { web: { policy: { allow: { tcp: '7000' } } } });
    const first = await world.startDaemon();
    const [one, two] = [world.addGuest('one'), world.addGuest('two')];
    await add('one', { link: { netns: one }, lease: { tcp: '7000' }, use: 'all' });
    await add('two', { link: { netns: two }, lease: { tcp: '7001' }, use: 'all' });
    await first.stop();
    const server = world.lab.spawn(world.lab.host, ['python3', '-c', `import socket, time; s = socket.create_server(("${HOST_ADDRESS}", 7000)); time.sleep(60)`]);
    await until(() => world.hostState().sockets.includes(':7000'), 3000, () => 'the host to listen at 7000');
    world.setting.guests['web'] = { ...world.setting.guests['web'], lease: { tcp: '7001' } };
    const second = await world.startDaemon();
    await second.says(/^guest one, which was added while the daemon ran, is left out: .*7000 .* is used by the host itself/);
    await second.says(/^guest two, .* is left out: .*guests web and two both lease tcp 7001/);
    expect((await ask<GuestStatus[]>('/guests')).map(({ name }) => name)).toEqual(['web']);

    // While it is left out another guest may be granted its port, and keeps it.
    await endProcess(server);
    const { channel } = await world.session('web', 1);
    expect(await channel.outcome('request', { tcp: '7000' })).toBe('ok');
    await second.stop();
    const third = await world.startDaemon();
    await third.says(/^guest one, .* is left out: guest one: tcp port 7000 is leased to guest web/);
    expect((await world.session('web', 2)).welcome.leases.tcp).toMatch(/^7000-7001,/);
    expect(await remove('one')).toMatchObject({ returns: false });
    await expect(remove('one')).rejects.toMatchObject({ code: 'ERR_UNKNOWN_GUEST' });
    expect((await third.stop()).code).toBe(0);
  });

  it('one whose agent\'s socket cannot be had at a restart is served without its agent until it can; the others do not notice', { timeout: 60_000 }, async () => {
    const { world, add, remove, ask } = build('sockets', '0s', { web: {} });
    const first = await world.startDaemon();
    const folder = `${world.lab.folder}/agents`;
    const socketOf = (name: string): string => `${folder}/${name}.sock`;
    for (const [n, name] of ['taken', 'file', 'gone'].entries()) {
      const agent = { socket: name === 'gone' ? socketOf('below/gone') : socketOf(name) };
      await add(name, { link: { netns: world.addGuest(name) }, lease: { tcp: `${7000 + n}` }, use: 'all', agent });
    }
    await first.stop();
    const server = createServer().listen(socketOf('taken'));
    await once(server, 'listening');
    writeFileSync(socketOf('file'), 'precious');
    rmdirSync(`${folder}/below`);
    writeFileSync(`${folder}/below`, '');

    const second = await world.startDaemon();
    const warnings = (name: string): string[] => second.log.filter(({ level, guest }) => level === 'warn' && guest === name).map(({ msg }) => msg);
    const mended = '; mend that, or name another path; it is tried again, and the guest served without its agent until then';
    expect(warnings('taken')).toEqual([`guest taken: its agent's socket ${socketOf('taken')} cannot be listened on (a program that runs has it)${mended}`]);
    expect(warnings('file')).toEqual([`guest file: its agent's socket ${socketOf('file')} cannot be listened on (there is a file that is no socket)${mended}`]);
    expect(warnings('gone')).toEqual([`guest gone: its agent's socket ${socketOf('below/gone')} cannot be listened on (${folder}/below is a file)${mended}`]);
    await world.startAgent('web');
    const outside = world.peer(world.lab.outside);
    await world.enter('taken').http(7000, 'taken');
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^taken /);
    expect((await ask<GuestStatus[]>('/guests')).map(({ name, agent }) => `${name}: ${agent}`).sort()).toEqual(['file: away', 'gone: away', 'taken: away', 'web: connected']);

    // Tried again, and not said again; what was in the way is not touched.
    await sleep(2500);
    for (const name of ['taken', 'file', 'gone']) expect(warnings(name)).toHaveLength(1);
    expect(readFileSync(socketOf('file'), 'utf8')).toBe('precious');
    server.close();
    rmSync(socketOf('file'));
    await second.says(/^guest taken: its agent can connect to .* now$/);
    await second.says(/^guest file: its agent can connect to .* now$/);
    await world.startAgent('taken', socketOf('taken'));
    await remove('gone');
    rmSync(`${folder}/below`);
    await sleep(2500);
    expect(readdirSync(folder).sort()).toEqual(['file.sock', 'taken.sock']);
    expect((await second.stop()).code).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('a daemon with static leases alone needs no store until a guest is added', { timeout: 30_000 }, async () => {
    const world = freshWorld('no-store');
    const web = { link: { netns: world.addGuest('web') }, lease: { tcp: '8080' }, use: 'all' as const };
    const spare = world.addGuest('spare');
    const path = `${world.write({ guests: {} }, 'a-file')}/store`;
    const daemon = await world.start({ store: { path }, guests: { web } });
    const before = world.hostState();
    const berth = await world.berth('guest', 'add', 'late', '--link', `netns=${spare}`, '--lease', 'tcp=7000', '--admin', `${world.lab.folder}/admin.sock`);
    expect(berth).toMatchObject({ code: 1, errors: expect.stringMatching(/^berth: the store \S*a-file\S* cannot be opened [^\n]*\n$/) });
    expect(world.hostState()).toEqual(before);
    expect(world.link(spare, 'eth0')).toBeNull();
    expect((await daemon.stop()).code).toBe(0);
  });
});
