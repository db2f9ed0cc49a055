/** Mapped guests while the daemon runs: maps more and fewer, guests that come, go and become cooperative, and what the others notice of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { Explanation, MapStatus } from '../../src/control/admin-api.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, type World } from '../support/live.js';

const INSIDE = '10.0.7.2';
const GATEWAY = '10.0.7.1';
const POOL = { ports: '20480-24575', reserve: 0, quarantine: '1s' };
const STAYS = { port: 9000, name: 'stays' };
const OTHER_ADDRESS = '192.0.2.20';

describe.skipIf(!liveTests('mapped-run-time'))('mapped guests at run time', { timeout: 90_000 }, () => {
  function build(label: string): { world: World; setting: Setting; berth: (...args: string[]) => ReturnType<World['berth']>; ask: <T>(path: string, query?: Record<string, string>) => Promise<T> } {
    const world = freshWorld(label);
    const socket = `${world.lab.folder}/admin.sock`;
    const setting: Setting = {
      admin: { socket },
      store: { path: `${world.lab.folder}/store` },
      pool: POOL,
      guests: {
        stays: { link: { netns: world.addGuest('stays') }, lease: { tcp: '9000' }, use: 'all' },
        legacy: { link: { netns: world.addGuest('legacy') }, mode: 'map', inside: INSIDE, map: [{ tcp: 8443, to: 443 }], block: 16 },
      },
    };
    return { world, setting, berth: (...args) => world.berth(...args, '--admin', socket), ask: (path, query = {}) => askAdmin(socket, { path, query }) };
  }

  it('maps are added and removed; what is added is there again after kill -9', async () => {
    const { world, setting, berth, ask } = build('mapadm');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    await world.enter('stays').http(STAYS.port, STAYS.name);
    await outside.poll(HOST_ADDRESS, STAYS);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    await Promise.all([legacy.http(443, 'legacy'), legacy.http(7001, 'more')]);

    const added = await berth('map', 'add', 'legacy', '--tcp', '8500-8501', '--to', '7000');
    expect(added).toMatchObject({ code: 0, errors: '' });
    expect(added.output).toMatch(/^legacy +tcp +8500-8501 +10\.0\.7\.2 +7000-7001$/m);
    expect(await outside.get(HOST_ADDRESS, 8501)).toMatch(/^more /);
    expect(await outside.get(HOST_ADDRESS, 8443)).toMatch(/^legacy /);
    expect((await ask<Explanation>('/explain', { port: '8501', proto: 'tcp' })).places[0].words[1]).toContain('readdressed to 10.0.7.2 port 7001');

    expect(await outside.pollEnd(STAYS.port)).toMatchObject({ failures: [] });
    await daemon.stop('SIGKILL');
    await world.start(setting);
    expect(await outside.get(HOST_ADDRESS, 8501)).toMatch(/^more /);
    await outside.poll(HOST_ADDRESS, STAYS);
    expect((await ask<MapStatus[]>('/maps')).map(({ guest, block, maps }) => [guest, block, maps.map(({ ports, to }) => `${ports}→${to}`)])).toEqual([['legacy', '24560-24575', ['8443→443', '8500-8501→7000-7001']]]);

    const removed = await berth('map', 'rm', 'legacy', '--tcp', '8500,8443');
    expect(removed).toMatchObject({ code: 0, errors: '' });
    expect(removed.output).toContain("they return at the daemon's next start");
    expect(await outside.get(HOST_ADDRESS, 8501)).toMatch(/^more /);
    expect(await outside.connect(HOST_ADDRESS, 8443, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect((await berth('map', 'ls')).output).toMatch(/^legacy +tcp\+udp +24560-24575 +10\.0\.7\.2 +its own connections$/m);
    expect(await outside.pollEnd(STAYS.port)).toMatchObject({ failures: [] });
  });

  it('what another guest, the block or the host has is refused with the owner\'s name, and nothing is changed', async () => {
    const { world, setting, berth } = build('mapref');
    const host = world.peer(world.lab.host);
    await host.http(8600, 'host');
    await world.start(setting);
    const refused = async (...args: string[]): Promise<string> => {
      const { code, errors } = await berth('map', 'add', ...args);
      expect(code).not.toBe(0);
      expect(errors.trim()).not.toContain('\n');
      return errors;
    };
    expect(await refused('legacy', '--tcp', '9000')).toContain('guests stays and legacy both lease tcp 9000 on 192.0.2.10');
    expect(await refused('legacy', '--tcp', '24570')).toContain('tcp 24570 is leased to guest legacy for what it begins itself');
    expect(await refused('legacy', '--tcp', '8600')).toMatch(/guest legacy: tcp port 8600 of 192\.0\.2\.10 is used by the host itself \(\S+, pid \d+\)/);
    expect(await refused('legacy', '--tcp', '8700', '--to', '443')).toContain('inside port 443 is mapped to twice for tcp');
    expect(await refused('stays', '--tcp', '8700')).toContain("guest stays shares the host's address, and nothing is mapped to it");
    expect(await refused('nobody', '--tcp', '8700')).toContain('there is no mapped guest nobody');
    expect((await berth('map', 'ls')).output.split('\n').filter((line) => /^legacy +tcp +/.test(line))).toHaveLength(1);
    expect(await world.peer(world.lab.outside).get(HOST_ADDRESS, 8600)).toMatch(/^host /);
  });

  it('what is mapped follows the host to another address', async () => {
    const { world, setting } = build('mapmove');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    const legacy = world.enterMapped('legacy', INSIDE, GATEWAY);
    await Promise.all([legacy.http(443, 'legacy'), outside.http(85, 'outside')]);
    expect(await outside.get(HOST_ADDRESS, 8443)).toMatch(/^legacy /);
    expect(await legacy.get(OUTSIDE_ADDRESS, 85)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
    for (const what of [['del', `${HOST_ADDRESS}/24`], ['add', `${OTHER_ADDRESS}/24`]]) world.lab.run(world.lab.host, ['ip', 'address', ...what, 'dev', 'eth0']);
    await daemon.says(/the host's addresses are 192\.0\.2\.20 now/);
    await sleep(300);
    expect(await outside.get(OTHER_ADDRESS, 8443)).toMatch(/^legacy /);
    expect(await legacy.get(OUTSIDE_ADDRESS, 85)).toMatch(new RegExp(`^outside / ${OTHER_ADDRESS} `));
    expect(await outside.connect(HOST_ADDRESS, 8443, { timeoutMs: 300 })).not.toMatchObject({ outcome: 'connected' });
  });

  it('a guest is mapped first and shares the address later, on the same link, and the others do not notice', async () => {
    const { world, setting, berth } = build('maplater');
    const outside = world.peer(world.lab.outside);
    await world.start(setting);
    await world.enter('stays').http(STAYS.port, STAYS.name);
    await outside.poll(HOST_ADDRESS, STAYS);
    const netns = world.addGuest('late');
    expect(await berth('guest', 'add', 'late', '--link', `netns=${netns}`, '--map', 'inside=10.0.9.2,block=16')).toMatchObject({ code: 0, errors: '' });
    expect(await berth('map', 'add', 'late', '--tcp', '8800', '--to', '80')).toMatchObject({ code: 0, errors: '' });
    const mapped = world.enterMapped('late', '10.0.9.2', '10.0.9.1');
    await mapped.http(80, 'mapped');
    await outside.http(85, 'outside');
    expect(await outside.get(HOST_ADDRESS, 8800)).toMatch(new RegExp(`^mapped / ${OUTSIDE_ADDRESS} `));
    expect(await mapped.get(OUTSIDE_ADDRESS, 85)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));

    expect(await berth('guest', 'rm', 'late')).toMatchObject({ code: 0 });
    expect(await outside.connect(HOST_ADDRESS, 8800, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    // At once: what is quarantined after a guest the same guest may have.
    expect(await berth('guest', 'add', 'late', '--link', `netns=${netns}`, '--lease', 'tcp=8800', '--use', 'all')).toMatchObject({ code: 0, errors: '' });
    const shares = world.enter('late');
    await shares.http(8800, 'shares');
    expect(await outside.get(HOST_ADDRESS, 8800)).toMatch(new RegExp(`^shares / ${OUTSIDE_ADDRESS} `));
    await sleep(50);
    expect(await outside.pollEnd(STAYS.port)).toMatchObject({ failures: [] });
  });
});
