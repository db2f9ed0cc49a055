/**
 * kill -9 of the daemon and start again: guests keep their links, the host stays mute, and connections live on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Capture } from '../support/capture.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type Setting, type World } from '../support/live.js';

/** A transfer of about five seconds: 64 KiB, a pause, and again. */
const SLOW_BYTES = 40e6;
const PAUSE_MS = 6;

describe.skipIf(!liveTests('restart', 'tcpdump'))('a daemon that is killed and started again', () => {
  function build(): { world: World; setting: Setting; before: unknown } {
    const world = freshWorld('restart');
    world.lab.run(world.lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    world.addGuest('vm');
    const setting: Setting = {
      guests: {
        web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080-8089', udp: '53' }, use: 'all' },
        vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000-7009' }, use: 'all' },
      },
    };
    return { world, setting, before: { ...world.hostState(), sockets: '' } };
  }

  it('long transfers of both guests go on after the restart, and nobody resets them meanwhile', { timeout: 60_000 }, async () => {
    const { world, setting, before } = build();
    const { lab } = world;
    const vmm = await world.startVm('tap-vm', 'vm');
    const outside = world.peer(lab.outside);
    const host = world.peer(lab.host);
    await host.http(9090, 'host');
    const first = await world.start(setting);
    const [web, vm] = [world.enter('web'), world.enter('vm')];
    await Promise.all([web.source(8080, SLOW_BYTES, PAUSE_MS), vm.source(7000, SLOW_BYTES, PAUSE_MS), web.http(8081, 'web'), vm.http(7001, 'vm'), web.udpEcho(53)]);
    const resets = await Capture.start(lab, lab.outside, `src host ${HOST_ADDRESS} and (tcp[tcpflags] & tcp-rst != 0 or icmp[icmptype] = icmp-unreach)`);

    const transfers = [outside.download(HOST_ADDRESS, 8080), outside.download(HOST_ADDRESS, 7000)];
    await sleep(1000);
    const ifindex = lab.run(world.guest('web'), ['cat', '/sys/class/net/eth0/ifindex']);
    await first.stop('SIGKILL');

    // Without a daemon: the guest keeps its tap and its address, and the host is silent for leased ports.
    await sleep(300);
    expect(world.addresses(world.guest('web'), 'eth0')).toEqual([`${HOST_ADDRESS}/24`]);
    expect(lab.run(world.guest('web'), ['ip', 'route', 'show', 'default'])).toContain('dev eth0');
    expect(await outside.connect(HOST_ADDRESS, 8081, { timeoutMs: 700 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.connect(HOST_ADDRESS, 7001, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.udp(HOST_ADDRESS, 53, [100], { timeoutMs: 300 })).toEqual(['timeout']);
    expect(await outside.get(HOST_ADDRESS, 9090)).toMatch(/^host /);

    const second = await world.start(setting);
    expect(lab.run(world.guest('web'), ['cat', '/sys/class/net/eth0/ifindex'])).toBe(ifindex);
    expect(world.addresses(world.guest('web'), 'eth0')).toEqual([`${HOST_ADDRESS}/24`]);
    expect(await outside.get(HOST_ADDRESS, 8081)).toMatch(/^web /);
    expect(await outside.get(HOST_ADDRESS, 7001)).toMatch(/^vm /);
    const [fromWeb, fromVm] = await Promise.all(transfers);
    expect(fromWeb).toEqual({ bytes: SLOW_BYTES, received: await web.sourceHash(8080) });
    expect(fromVm).toEqual({ bytes: SLOW_BYTES, received: await vm.sourceHash(7000) });
    expect(resets.lines).toEqual([]);

    const { code } = await second.stop();
    expect(code).toBe(0);
    expect({ ...world.hostState(), sockets: '' }).toEqual(before);
    expect(world.link(world.guest('web'), 'eth0')).toBeNull();
    expect(vmm.exitCode).toBeNull();
  });

  it('a transfer into a guest survives three kills', { timeout: 60_000 }, async () => {
    const { world, setting } = build();
    const outside = world.peer(world.lab.outside);
    let daemon = await world.start(setting);
    const web = world.enter('web');
    await web.sink(8080);
    await outside.source(80, SLOW_BYTES, PAUSE_MS);
    await web.http(8081, 'web');
    const transfer = web.download(OUTSIDE_ADDRESS, 80, 8089);
    for (let kill = 0; kill < 3; kill++) {
      await sleep(500);
      await daemon.stop('SIGKILL');
      daemon = await world.start(setting);
    }
    expect(await transfer).toEqual({ bytes: SLOW_BYTES, received: await outside.sourceHash(80) });
    expect(await outside.get(HOST_ADDRESS, 8081)).toMatch(/^web /);
    expect((await daemon.stop()).code).toBe(0);
  });

  it.each(['sends', 'only receives'])('a connection that made its port a used one by itself (D7) lives on: the guest %s', { timeout: 30_000 }, async (way) => {
    const { world, setting } = build();
    setting.guests['web'].use = {};
    const outside = world.peer(world.lab.outside);
    const first = await world.start(setting);
    const web = world.enter('web');
    await Promise.all([outside.sink(80), outside.source(81, SLOW_BYTES / 2, PAUSE_MS)]);
    const resets = await Capture.start(world.lab, world.lab.outside, `src host ${HOST_ADDRESS} and tcp[tcpflags] & tcp-rst != 0`);
    const ended = way === 'sends' ? web.upload(OUTSIDE_ADDRESS, 80, 1e9, 8089) : web.download(OUTSIDE_ADDRESS, 81, 8089);
    await sleep(700);
    await first.stop('SIGKILL');
    const second = await world.start(setting);
    const outcome = await Promise.race([ended, sleep(15_000, 'stalled', { ref: false })]);
    expect(outcome).not.toBe('stalled');
    expect(resets.lines).toEqual([]);
    expect((await second.stop()).code).toBe(0);
  });
});
