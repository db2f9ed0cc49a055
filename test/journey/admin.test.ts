/** The operator's commands against a daemon that runs, and what they bring about on the wire. */
import { existsSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Explanation, LeaseLine, Status } from '../../src/control/admin-api.js';
import { freshControl, timeUntil } from '../support/control.js';
import { freshWorld, HOST_ADDRESS, liveTests, until } from '../support/live.js';

describe.skipIf(!liveTests('admin', 'python3'))('berth status, lease and explain', () => {
  it('a granted port is served, explained, taken back, and silent', { timeout: 60_000 }, async () => {
    const world = freshControl('admin', { web: { policy: { block: 16, allow: { tcp: '8080-8089' } } }, idle: {} });
    const socket = `${world.lab.folder}/admin.sock`;
    const berth = async (...args: string[]): Promise<string> => {
      const { code, output, errors } = await world.berth(...args, '--admin', socket);
      expect({ code, errors }).toEqual({ code: 0, errors: '' });
      return output;
    };
    const refused = async (...args: string[]): Promise<string> => {
      const { code, output, errors } = await world.berth(...args, '--admin', socket);
      expect({ output, lines: errors.trim().split('\n').length }).toEqual({ output: '', lines: 1 });
      return `${code} ${errors.trim()}`;
    };
    const explain = async (port: string): Promise<Explanation> => (JSON.parse(await berth('explain', port, '--json')) as Explanation[])[0];

    const daemon = await world.startDaemon();
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    const agent = await world.startAgent('web');
    const [outside, web, host] = [world.peer(world.lab.outside), world.peer(world.guest('web')), world.peer(world.lab.host)];
    await host.http(9090, 'host');

    const status = JSON.parse(await berth('status', '--json')) as Status;
    expect(status).toMatchObject({ pid: daemon.child.pid, addresses: [HOST_ADDRESS], nic: { name: 'eth0' }, guests: [{ name: 'web', agent: 'connected', link: { attached: true } }, { name: 'idle', agent: 'away' }] });
    expect(status.guests[0].blocks).toHaveLength(1);
    expect(await berth('status')).toMatch(/^web +eth0 in namespace \S+ +connected +tcp\+udp 20480-20495 .* 16\/4096$/m);

    expect((await explain('8080/tcp')).places[0]).toMatchObject({ state: 'free', verdict: 'pass' });
    expect(await berth('lease', 'grant', 'web', '--tcp', '8080')).toMatch(/^granted: tcp 8080\nguest web has now: tcp 8080,20480-20495; udp /);
    expect((await explain('8080/tcp')).places[0]).toMatchObject({ state: 'leased', guest: 'web', verdict: 'discard', reason: 'not-in-use' });
    await agent.says(/^the host has granted more; leased tcp 8080,20480-20495 /);
    await web.http(8080, 'web');
    await timeUntil(outside, 8080, 'connected', 2000);
    expect(await berth('explain', '8080')).toMatch(/tcp 8080 is leased to guest web since .* and in use: its agent says so\.\nA frame for it goes to guest web: eth0 in namespace/);
    expect((await explain('9090/tcp')).words.at(-1)).toMatch(/^The host itself has there: .*:9090 LISTEN \(.*, pid \d+\)\.$/);

    const lines = JSON.parse(await berth('lease', 'ls', 'web', '--json')) as LeaseLine[];
    expect(lines.map(({ proto, ports, block }) => `${proto} ${ports} ${block}`)).toEqual(['tcp 8080 false', 'tcp 20480-20495 true', 'udp 20480-20495 true']);
    expect(await berth('lease', 'renew', 'web')).toMatch(/^renewed: tcp 8080,20480-20495; udp 20480-20495\n/);
    expect(await berth('lease', 'ls')).toMatch(/^web +192\.0\.2\.10 +tcp +8080 +granted /m);

    expect(await refused('lease', 'grant', 'idle', '--tcp', '8080')).toMatch(/^1 berth: .*not allowed/);
    expect(await refused('lease', 'grant', 'nobody', '--block')).toMatch(/^1 berth: there is no guest nobody/);
    expect(await refused('lease', 'grant', 'web', '--tcp', '80-')).toMatch(/^2 berth: not a port/);
    expect(await refused('explain', '0')).toMatch(/^2 berth: not a port/);

    // A port of the block: the policy does not allow it by name, so the agent cannot have it again.
    await web.http(20485, 'web');
    await timeUntil(outside, 20485, 'connected', 2000);
    expect(await berth('lease', 'revoke', 'web', '--tcp', '20485')).toMatch(/^taken back: tcp 20485\n/);
    await timeUntil(outside, 20485, 'timeout', 2000);
    await agent.says(/^the host takes back tcp 20485: taken back by the operator/);
    expect((await explain('20485/tcp')).places[0]).toMatchObject({ state: 'quarantined', guest: 'web', verdict: 'discard', reason: 'quarantined' });
    expect(await outside.connect(HOST_ADDRESS, 8080)).toMatchObject({ outcome: 'connected' });

    // A block takes effect in the guest at once: its kernel chooses from it too.
    expect(await berth('lease', 'grant', 'web', '--block')).toMatch(/^granted: tcp\+udp 20496-20511/);
    await agent.says(/^the host has granted more/, 2, 1000);
    expect(world.lab.run(world.guest('web'), ['cat', '/proc/sys/net/ipv4/ip_local_port_range']).trim()).toMatch(/^2048[06]\s+20511$/);

    await daemon.stop('SIGKILL');
    expect(existsSync(socket)).toBe(true);
    expect(await refused('status')).toMatch(/^1 berth: no daemon answers at .*; start one/);
    const second = await world.startDaemon();
    expect((JSON.parse(await berth('status', '--json')) as Status).pid).toBe(second.child.pid);
    expect((await second.stop()).code).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });

  it('a daemon without agents answers too; a second one is not let at its socket, and changes nothing', { timeout: 30_000 }, async () => {
    const world = freshWorld('admin');
    const setting = { guests: { web: { link: { netns: world.addGuest('web') }, lease: { tcp: '80' }, use: 'all' as const } } };
    const daemon = await world.start(setting);
    const { lab } = world;
    const berth = (...args: string[]): ReturnType<typeof world.berth> => world.berth(...args, '--admin', `${lab.folder}/admin.sock`);
    expect((await berth('lease', 'ls')).output).toMatch(/^web +192\.0\.2\.10 +tcp +80 +configured +\S+ +no end$/m);
    expect((await berth('explain', '80/tcp')).output).toContain('in use: the configuration says so');
    expect(await berth('lease', 'grant', 'web', '--block')).toMatchObject({ code: 1, errors: expect.stringContaining('web has no agent') });

    lab.run(lab.host, ['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth2']);
    lab.run(lab.host, ['ip', 'link', 'set', 'eth1', 'up']);
    const other = world.launch({ nic: 'eth1', addresses: ['192.0.2.77'], guests: {} });
    await until(() => !other.isRunning, 10_000, () => 'the second daemon to be refused');
    expect({ code: other.child.exitCode, errors: other.errors }).toEqual({ code: 1, errors: expect.stringContaining('admin.sock cannot be listened on (a program that runs has it)') });
    expect((await berth('status', '--json')).code).toBe(0);
    expect((await daemon.stop()).code).toBe(0);
  });
});
