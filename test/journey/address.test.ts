/** The host's address changes while guests run: everything follows without a restart, where the addresses are the NIC's own. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { Explanation, LeaseLine, Status } from '../../src/control/admin-api.js';
import { type ControlWorld, FIRST_PORT, freshControl } from '../support/control.js';
import { HOST_ADDRESS, liveTests, until } from '../support/live.js';

const PORT = FIRST_PORT + 10;
const [SECOND, THIRD] = ['192.0.2.11', '192.0.2.12'];

describe.skipIf(!liveTests('address', 'python3'))('a change of the host\'s address', () => {
  const inHost = (world: ControlWorld, ...commands: string[]): void => void world.lab.run(world.lab.host, ['sh', '-ec', commands.join('; ')]);
  const becomes = (world: ControlWorld, from: string, to: string): void => inHost(world, `ip addr del ${from}/24 dev eth0`, `ip addr add ${to}/24 dev eth0`, 'ip route replace default via 192.0.2.1');
  /** A guest without an agent beside the others. */
  const withStatic = (world: ControlWorld, tcp: string): ControlWorld => {
    world.setting.guests['static'] = { link: { netns: world.addGuest('static') }, lease: { tcp }, use: 'all' };
    return world;
  };
  const ask = <T>(world: ControlWorld, path: string, query: Record<string, string> = {}): Promise<T> => askAdmin(`${world.lab.folder}/admin.sock`, { path, query });

  it('guests are reachable at the new address and silent at the old; a second address serves too; a restart keeps the leases', { timeout: 60_000 }, async () => {
    const world = withStatic(freshControl('moves', { a: {} }), '9000');
    const first = await world.startDaemon();
    const agent = await world.startAgent('a');
    const [outside, a, host] = [world.peer(world.lab.outside), world.peer(world.guest('a')), world.peer(world.lab.host)];
    await Promise.all([a.http(PORT, 'a'), world.enter('static').http(9000, 'static')]);
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    const leases = (await ask<LeaseLine[]>(world, '/leases')).map(({ guest, proto, ports }) => `${guest} ${proto} ${ports}`);

    becomes(world, HOST_ADDRESS, SECOND);
    await agent.says(/^the host's network has changed: 192\.0\.2\.11\/24 via 192\.0\.2\.1/);
    expect(world.addresses(world.guest('a'), 'eth0')).toEqual([`${SECOND}/24`]);
    expect(world.lab.run(world.guest('a'), ['ip', 'route', 'show', 'default'])).toContain('via 192.0.2.1');
    world.lab.run(world.guest('static'), ['sh', '-c', `ip addr flush dev eth0; ip addr add ${SECOND}/24 dev eth0; ip route replace default via 192.0.2.1`]);
    expect(await outside.get(SECOND, PORT)).toMatch(/^a /);
    expect(await outside.get(SECOND, 9000)).toMatch(/^static /);
    for (const port of [PORT, 9000]) expect(await outside.connect(HOST_ADDRESS, port, { timeoutMs: 300 })).toMatchObject({ outcome: expect.stringMatching(/timeout|EHOSTUNREACH/) });
    expect((await ask<Explanation>(world, '/explain', { port: String(PORT), proto: 'tcp' })).places).toMatchObject([{ address: SECOND, state: 'in use', guest: 'a' }]);
    expect((await ask<Status>(world, '/status')).addresses).toEqual([SECOND]);
    expect((await ask<LeaseLine[]>(world, '/leases')).map(({ guest, proto, ports }) => `${guest} ${proto} ${ports}`)).toEqual(leases);
    // On the host: nothing of the old address is left, the new one is kept as the old one was.
    const { sockets, ruleset } = world.hostState();
    for (const text of [sockets, ruleset]) expect([text.includes(HOST_ADDRESS), text.includes(SECOND)]).toEqual([false, true]);
    for (const port of [PORT, 9000]) expect(await host.bind('tcp', SECOND, port)).toBe('EADDRINUSE');

    // A guest's own connections come from the new address.
    await outside.http(7777, 'outside');
    expect(await a.get('192.0.2.1', 7777)).toContain('outside');

    await outside.poll(SECOND, { port: PORT, name: 'a' });
    inHost(world, `ip addr add ${THIRD}/24 dev eth0`);
    await agent.says(/^the host's network has changed: 192\.0\.2\.11\/24, 192\.0\.2\.12\/24/);
    expect(await outside.get(THIRD, PORT)).toMatch(/^a /);
    expect((await outside.pollEnd(PORT)).failures).toEqual([]);

    await first.stop('SIGKILL');
    inHost(world, `ip addr del ${SECOND}/24 dev eth0`, `ip addr add ${THIRD}/24 dev eth0 || true`, 'ip route replace default via 192.0.2.1');
    const second = await world.startDaemon();
    await agent.says(/^back in session as a at 192\.0\.2\.12; leased tcp 20480-/);
    expect((await ask<LeaseLine[]>(world, '/leases')).map(({ guest, proto, ports }) => `${guest} ${proto} ${ports}`)).toEqual(leases);
    await until(() => world.addresses(world.guest('a'), 'eth0').join() === `${THIRD}/24`, 3000, () => `the guest to have ${THIRD}`);
    expect(await outside.get(THIRD, PORT)).toMatch(/^a /);
    await agent.stop();
    expect(world.addresses(world.guest('a'), 'eth0')).toEqual([]);
    expect((await second.stop()).code).toBe(0);
    expect(world.hostState()).toMatchObject({ ruleset: '', reserved: '', sockets: expect.not.stringContaining(String(PORT)) });
  });

  it('without an address the old ones stay; a port that the host has at the new one is the host\'s, and the guest is told', { timeout: 60_000 }, async () => {
    const world = withStatic(freshControl('taken', { a: { policy: { block: 16 } } }, { pool: { ports: '20480-29999', reserve: 0, quarantine: '1s' } }), '9000-9001');
    const daemon = await world.startDaemon();
    const { channel } = await world.session('a', 1, { tcp: `${FIRST_PORT}` });
    const [outside, host] = [world.peer(world.lab.outside), world.peer(world.lab.host)];
    world.sysctl(world.lab.host, 'net/ipv4/ip_nonlocal_bind', '1');
    await Promise.all([host.http(FIRST_PORT + 3, 'host', SECOND), host.http(9001, 'host', SECOND)]);
    inHost(world, `ip addr del ${HOST_ADDRESS}/24 dev eth0`);
    await sleep(600);
    expect((await ask<Status>(world, '/status')).addresses).toEqual([HOST_ADDRESS]);

    inHost(world, `ip addr add ${SECOND}/24 dev eth0`);
    await daemon.says(/is used by the host itself at its new address/);
    await until(() => channel.lines.some(({ method }) => method === 'changed'), 3000, () => 'the agent to be told of the address');
    expect(channel.lines.find(({ method }) => method === 'changed')?.params).toMatchObject({ addresses: [{ address: SECOND, prefix: 24 }] });
    expect(channel.lines.find(({ method }) => method === 'revoked')?.params).toMatchObject({ tcp: `${FIRST_PORT + 3}`, udp: '', reason: 'the host itself uses it at its new address' });
    const { guests } = await ask<Status>(world, '/status');
    expect(guests.map(({ leased }) => leased.tcp)).toEqual([`${FIRST_PORT}-${FIRST_PORT + 2},${FIRST_PORT + 4}-${FIRST_PORT + 15}`, '9000']);
    expect(guests[0].used.tcp).toBe(`${FIRST_PORT}`);
    await sleep(1500);
    for (const port of [FIRST_PORT + 3, 9001]) expect(await outside.get(SECOND, port)).toMatch(/^host /);
    expect(await channel.outcome('renew')).toBe('ok');
  });

  it('static leases follow where no guest has an agent', { timeout: 30_000 }, async () => {
    const world = withStatic(freshControl('static', {}), '9000');
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    await world.enter('static').http(9000, 'static');
    becomes(world, HOST_ADDRESS, SECOND);
    world.lab.run(world.guest('static'), ['sh', '-c', `ip addr flush dev eth0; ip addr add ${SECOND}/24 dev eth0; ip route replace default via 192.0.2.1`]);
    await until(() => world.hostState().ruleset.includes(SECOND), 3000, () => 'the mute to follow');
    expect(await outside.get(SECOND, 9000)).toMatch(/^static /);
  });

  it('addresses that the configuration lists do not follow', { timeout: 30_000 }, async () => {
    const world = freshControl('listed', { a: {} }, { addresses: [HOST_ADDRESS] });
    await world.startDaemon();
    inHost(world, `ip addr add ${SECOND}/24 dev eth0`);
    await sleep(600);
    expect((await ask<Status>(world, '/status')).addresses).toEqual([HOST_ADDRESS]);
  });
});
