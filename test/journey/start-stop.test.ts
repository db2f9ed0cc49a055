/**
 * Starting and stopping: what a daemon changes on its host while it runs, and that nothing of it is left afterwards,
 * however it ends; and that the host's own sockets stay off leased ports meanwhile.
 */
import { describe, expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, until, type World } from '../support/live.js';

/** A stop takes less than this, the process's end included. */
const STOP_MS = 1000;

describe.skipIf(!liveTests('start-stop', 'ethtool'))('a daemon that starts and stops', () => {
  /** A world with two sandbox guests and the tap of a VM, and a configuration for them. */
  function build(): { world: World; setting: Setting } {
    const world = freshWorld('stop');
    world.lab.run(world.lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    const setting: Setting = {
      guests: {
        web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080-8089', udp: '53' }, use: 'all' },
        db: { link: { netns: world.addGuest('db'), name: 'net0' }, lease: { tcp: '5432' } },
        vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000-7009' }, use: 'all' },
      },
    };
    return { world, setting };
  }

  function guestLinks(world: World): boolean[] {
    return [world.link(world.guest('web'), 'eth0') !== null, world.link(world.guest('db'), 'net0') !== null];
  }

  it.each([
    ['SIGINT', ''],
    ['SIGTERM', ''],
    ['SIGTERM', '8085,9000-9010'],
  ] as const)('ends by %s within a second and leaves nothing (ports reserved before: "%s")', async (signal, reserved) => {
    const { world, setting } = build();
    if (reserved !== '') world.setReservedPorts(reserved);
    const before = world.hostState();
    expect(before).toMatchObject({ ruleset: '', promiscuity: 0, stateFiles: [], reserved });
    const ipv6 = world.lab.run(world.lab.host, ['sh', '-c', 'cat /proc/sys/net/ipv6/conf/tap-vm/disable_ipv6 2>/dev/null || true']);

    const daemon = await world.start(setting);
    const during = world.hostState();
    expect(during.promiscuity).toBe(1);
    expect(during.ruleset).toContain('eth0');
    expect(during.stateFiles).toEqual(['NIC-eth0.lock', 'eth0.json', 'tap-tap-vm.lock']);
    expect(during.interfaces.filter((name) => !name.startsWith('berth-'))).toEqual(before.interfaces);
    const list = reserved === '' ? '53,5432,7000-7009,8080-8089' : '53,5432,7000-7009,8080-8089,9000-9010';
    expect(during.reserved).toBe(list);
    expect(guestLinks(world)).toEqual([true, true]);

    const { code, ms } = await daemon.stop(signal);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(STOP_MS);
    expect(daemon.errors).toBe('');
    expect(daemon.log.at(-1)!.msg).toBe('stopped');
    expect(world.hostState()).toEqual(before);
    expect(guestLinks(world)).toEqual([false, false]);
    expect(world.processes(world.lab.host)).toEqual([]);
    const ipv6After = world.lab.run(world.lab.host, ['sh', '-c', 'cat /proc/sys/net/ipv6/conf/tap-vm/disable_ipv6 2>/dev/null || true']);
    expect(ipv6After).toBe(ipv6);
  });

  it('ends within a second under load', async () => {
    const { world, setting } = build();
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    const web = world.enter('web');
    await web.sink(8080);
    void outside.upload(HOST_ADDRESS, 8080, 1e11).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { code, ms } = await daemon.stop();
    expect(code).toBe(0);
    expect(ms).toBeLessThan(STOP_MS);
    expect((await daemon.counters()).guests['web'].ingress.bytes).toBeGreaterThan(1e6);
  });

  it('can be started again at once, many times', async () => {
    const { world, setting } = build();
    const before = world.hostState();
    for (let round = 0; round < 3; round++) {
      const daemon = await world.start(setting);
      expect((await daemon.stop()).code).toBe(0);
    }
    expect(world.hostState()).toEqual(before);
  });

  it('berth clean removes all that a killed daemon left', async () => {
    const { world, setting } = build();
    world.setReservedPorts('9000-9010');
    const before = world.hostState();
    const daemon = await world.start(setting);
    await daemon.stop('SIGKILL');
    expect(world.hostState()).not.toEqual(before);

    const { code, output } = await world.berth('clean');
    expect(code).toBe(0);
    expect(output).toContain('eth0');
    expect(world.hostState()).toEqual(before);
    expect(guestLinks(world)).toEqual([false, false]);
    expect(await world.berth('clean')).toMatchObject({ code: 0, output: 'Nothing was left behind.\n' });
  });

  it('a clean start and stop after a kill leaves nothing either, even with other guests', async () => {
    const { world, setting } = build();
    const before = world.hostState();
    await (await world.start(setting)).stop('SIGKILL');
    const { web } = setting.guests;
    const daemon = await world.start({ guests: { web: { ...web, lease: { tcp: '8000' } } } });
    await until(() => world.reservedPorts() === '8000', 2000, () => `8000 alone to be reserved, not ${world.reservedPorts()}`); // written late
    expect(guestLinks(world)).toEqual([true, false]);
    await daemon.stop();
    expect(world.hostState()).toEqual(before);
    expect(guestLinks(world)).toEqual([false, false]);
  });

  it('berth clean leaves a running daemon alone', async () => {
    const { world, setting } = build();
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    await world.enter('web').http(8080, 'web');
    const during = world.hostState();
    const { errors } = await world.berth('clean');
    expect(errors.trim().split('\n').length).toBeLessThanOrEqual(1);
    expect({ ...world.hostState(), sockets: '' }).toEqual({ ...during, sockets: '' });
    expect(guestLinks(world)).toEqual([true, true]);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect((await daemon.stop()).code).toBe(0);
  });

  it('refuses leased ports to host processes, whatever the address, and gives them back', async () => {
    const { world, setting } = build();
    const host = world.peer(world.lab.host);
    const daemon = await world.start(setting);
    for (const address of [HOST_ADDRESS, '0.0.0.0']) {
      expect(await host.bind('tcp', address, 8080)).toBe('EADDRINUSE'); // in use
      expect(await host.bind('tcp', address, 5432)).toBe('EADDRINUSE'); // leased, not in use
      expect(await host.bind('udp', address, 53)).toBe('EADDRINUSE');
    }
    expect(await host.bind('tcp', HOST_ADDRESS, 53)).toBe('bound'); // leased for UDP only
    expect(await host.bind('tcp', HOST_ADDRESS, 9000)).toBe('bound');
    await daemon.stop();
    expect(await host.bind('tcp', HOST_ADDRESS, 8080)).toBe('bound');
  });

  it('keeps the host\'s automatic choice off leased ports', async () => {
    const { world, setting } = build();
    world.sysctl(world.lab.host, 'net/ipv4/ip_local_port_range', '40000 40999');
    const host = world.peer(world.lab.host);
    await world.peer(world.lab.outside).http(80, 'outside');
    setting.guests['vm'].lease = { tcp: '40000-40799', udp: '40000-40799' };
    const daemon = await world.start(setting);
    const { tcp, udp } = await host.automaticPorts(OUTSIDE_ADDRESS, 80, 100);
    for (const port of [...tcp, ...udp]) expect(port).toBeGreaterThanOrEqual(40_800);
    await daemon.stop();
  });

  it('reserves a thousand ports of both protocols and is ready in good time', async () => {
    const { world, setting } = build();
    setting.guests['vm'].lease = { tcp: '30000-31023', udp: '30000-31023' };
    const before = world.hostState();
    const start = performance.now();
    const daemon = await world.start(setting);
    expect(performance.now() - start).toBeLessThan(5000);
    await daemon.stop();
    expect(world.hostState()).toEqual(before);
  });
});
