/**
 * The daemon's store is on a disk that gets full: guests are served as before, what needs the store is refused in one line, also over a
 * kill -9, and with room again everything works without a restart.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { LeaseAnswer, LeaseLine, Status } from '../../src/control/admin-api.js';
import { type Channel, FIRST_PORT, freshControl, timeUntil } from '../support/control.js';
import { HOST_ADDRESS, liveTests, until } from '../support/live.js';
import { hasSmallDisks, smallDisk } from '../support/small-disk.js';

const PORT = FIRST_PORT + 7;
const SECOND = '192.0.2.11';
/** Every other port: as many records. */
const SCATTERED = Array.from({ length: 2500 }, (_, i) => 31_001 + 2 * i);

/** Asks for ports, so many at once, until a request is refused for want of room; the ports of that one. */
async function askUntilFull(channel: Channel, atOnce: number, from = 0): Promise<number[]> {
  for (let next = from; next < SCATTERED.length; next += atOnce) {
    const asked = SCATTERED.slice(next, next + atOnce);
    const outcome = await channel.outcome('request', { tcp: asked.join(',') });
    if (outcome === '-32603') return asked;
    expect(outcome).toBe('ok');
  }
  throw new Error('the store has taken everything');
}

describe.skipIf(!liveTests('full-disk', 'python3') || !hasSmallDisks('journey/full-disk'))('a daemon whose disk is full', () => {
  it('serves on, refuses what it cannot keep, and needs no restart', { timeout: 90_000 }, async () => {
    const disk = await smallDisk(2048);
    const policy = { maxPorts: 4096, allow: { tcp: `8080,${SCATTERED.join(',')}` } };
    const world = freshControl('full', { a: { policy: { allow: { tcp: '8080' } } }, b: { policy }, c: {} }, { store: { path: disk.folder } });
    const first = await world.startDaemon();
    const admin = `${world.lab.folder}/admin.sock`;
    const grant = (guest: string, tcp: string): Promise<LeaseAnswer> => askAdmin(admin, { method: 'POST', path: '/leases', body: { guest, tcp } });
    const leases = async (): Promise<string[]> => (await askAdmin<LeaseLine[]>(admin, { path: '/leases' })).map(({ guest, proto, ports, state }) => `${guest} ${proto} ${ports} ${state}`);
    const agent = await world.startAgent('a');
    const [outside, a, host] = [world.peer(world.lab.outside), world.peer(world.guest('a')), world.peer(world.lab.host)];
    await a.http(PORT, 'a');
    await timeUntil(outside, PORT, 'connected', 3000);
    await outside.poll(HOST_ADDRESS, { port: PORT, name: 'a' });
    const { channel: b } = await world.session('b', 1);

    disk.fill();
    const refused = await askUntilFull(b, 100);
    const before = await leases();
    const { ruleset } = world.hostState();
    for (let i = 0; i < 5; i++) expect(await b.outcome('request', { tcp: refused.join(',') })).toBe('-32603');
    await expect(grant('b', refused.join(','))).rejects.toMatchObject({ code: 'ERR_STORE_WRITE', message: expect.stringMatching(/no space left on device.*check the disk/) });
    expect(await leases()).toEqual(before);
    expect(world.hostState().ruleset).toBe(ruleset);
    expect(ruleset).not.toContain(String(refused[0]));
    expect(await host.bind('tcp', HOST_ADDRESS, refused[0])).toBe('bound');
    // An indication needs no store: a server is reached as soon as it listens.
    await a.http(PORT + 1, 'a too');
    await timeUntil(outside, PORT + 1, 'connected', 1000);
    expect((await outside.pollEnd(PORT)).failures).toEqual([]);
    expect(first.log.filter(({ level }) => level === 'error').map(({ msg }) => msg)).toEqual([expect.stringMatching(/^the store \S+ cannot be written \(ENOSPC/)]);
    expect(first.errors).toBe('');

    // Killed with the disk full, it begins again with all that it has answered.
    await first.stop('SIGKILL');
    const second = await world.startDaemon();
    expect(await leases()).toEqual(before);
    await sleep(500);

    disk.empty();
    await agent.says(/back in session/);
    await timeUntil(outside, PORT, 'connected', 3000);
    const { channel: again, welcome } = await world.session('b', 2);
    expect(welcome.leases.tcp).not.toContain(String(refused[0]));
    expect(await again.outcome('request', { tcp: refused.join(',') })).toBe('ok');
    expect((await grant('a', '8080')).leased.tcp).toContain('8080');
    await a.http(8080, 'a by name');
    await timeUntil(outside, 8080, 'connected', 3000);
    expect((await world.session('c', 1)).welcome.blocks).toHaveLength(1);
    expect((await second.stop()).code).toBe(0);
  });

  it('an address that costs a lease is followed when there is room again', { timeout: 60_000 }, async () => {
    const disk = await smallDisk(2048);
    const world = freshControl('follow', { a: { policy: { maxPorts: 4096, allow: { tcp: SCATTERED.join(',') } } } }, { store: { path: disk.folder } });
    const daemon = await world.startDaemon();
    const { channel } = await world.session('a', 1, { tcp: String(PORT) });
    const host = world.peer(world.lab.host);
    world.sysctl(world.lab.host, 'net/ipv4/ip_nonlocal_bind', '1');
    await host.http(FIRST_PORT + 3, 'host', SECOND);
    disk.fill();
    let from = 0;
    for (const atOnce of [100, 10, 1]) [from] = (await askUntilFull(channel, atOnce, SCATTERED.indexOf(from) + 1)).slice(-1);
    world.lab.run(world.lab.host, ['sh', '-ec', `ip addr del ${HOST_ADDRESS}/24 dev eth0; ip addr add ${SECOND}/24 dev eth0`]);
    await daemon.says(/could not be followed yet: the store \S+ cannot be written/);
    await sleep(2500);
    const { addresses } = await askAdmin<Status>(`${world.lab.folder}/admin.sock`, { path: '/status' });
    expect(addresses).toEqual([HOST_ADDRESS]);
    disk.empty();
    await until(() => channel.lines.some(({ method }) => method === 'changed'), 5000, () => 'the agent to be told of the address');
    expect(channel.lines.find(({ method }) => method === 'revoked')?.params).toMatchObject({ tcp: `${FIRST_PORT + 3}`, udp: '' });
    expect(daemon.log.filter(({ msg }) => /could not be followed/.test(msg))).toHaveLength(1);
  });
});
