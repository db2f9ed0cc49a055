/**
 * The fast path, live: what is in use does not wait for the daemon, and all else is as without it.
 *
 * Stopped      by SIGSTOP: what comes through while the daemon stands still, the kernel has steered.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freshControl } from '../support/control.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type Setting, type World } from '../support/live.js';

const WEB = { link: { netns: '' }, lease: { tcp: '8080-8089', udp: '53,8080-8089' }, use: { tcp: '8080-8084', udp: '53' } };

describe.skipIf(!liveTests('fast-path'))('the fast path', () => {
  function build(): { world: World; setting: Setting } {
    const world = freshWorld('fast');
    return { world, setting: { guests: { web: { ...WEB, link: { netns: world.addGuest('web') } } } } };
  }

  /** While the daemon stands still. */
  async function withoutEngine(daemon: RunningDaemon, work: () => Promise<void>): Promise<void> {
    const resume = (): boolean => daemon.child.kill('SIGCONT');
    onTestFinished(() => void resume());
    daemon.child.kill('SIGSTOP');
    await work();
    resume();
  }

  it('a sandbox whose ports are in use is served while the daemon stands still, and counted', async () => {
    const { world, setting } = build();
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start(setting);
    const web = world.enter('web');
    await Promise.all([web.http(8080, 'web'), web.sink(8081), web.source(8082, 1e7), web.udpEcho(53)]);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(new RegExp(`^web / ${OUTSIDE_ADDRESS} `));
    await withoutEngine(daemon, async () => {
      expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
      const { sent, received } = await outside.upload(HOST_ADDRESS, 8081, 1e7);
      expect(received).toBe(sent);
      expect(await outside.download(HOST_ADDRESS, 8082)).toEqual({ bytes: 1e7, received: await web.sourceHash(8082) });
      expect(await outside.udp(HOST_ADDRESS, 53, [1, 1000])).toEqual(['equal', 'equal']);
      // Leased, and not in use: nobody's to steer but the engine's.
      expect(await outside.connect(HOST_ADDRESS, 8085, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    });
    const { guests, ingress, egress } = await daemon.counters();
    const { web: counted } = guests;
    expect(counted.ingress.bytes).toBeGreaterThan(1e7);
    expect(counted.egress.bytes).toBeGreaterThan(1e7);
    expect(ingress.forwarded).toEqual(counted.ingress);
    expect(egress.forwarded).toEqual(counted.egress);
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThan(0);
  });

  it('so is a VM', async () => {
    const world = freshWorld('fast');
    world.lab.run(world.lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    world.addGuest('vm');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start({ guests: { vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000-7009' }, use: 'all' } } });
    await world.startVm('tap-vm', 'vm');
    const vm = world.enter('vm');
    await Promise.all([vm.http(7000, 'vm'), vm.source(7001, 1e7)]);
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    await withoutEngine(daemon, async () => {
      expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
      expect(await outside.download(HOST_ADDRESS, 7001)).toEqual({ bytes: 1e7, received: await vm.sourceHash(7001) });
    });
    expect((await daemon.stop()).code).toBe(0);
  });

  it('so is what only the guest\'s own frames have indicated (D7), once the daemon has looked', async () => {
    const { world, setting } = build();
    const outside = world.peer(world.lab.outside);
    await outside.udpEcho(7);
    const daemon = await world.start(setting);
    const web = world.enter('web');
    const exchange = (): Promise<string[]> => web.udp(OUTSIDE_ADDRESS, 7, [100], { localPort: 8089, timeoutMs: 300 });
    expect(await exchange()).toEqual(['equal']);
    await sleep(500); // two looks
    await withoutEngine(daemon, async () => {
      expect(await exchange()).toEqual(['equal']);
      expect(await web.udp(OUTSIDE_ADDRESS, 7, [100], { localPort: 8088, timeoutMs: 300 })).toEqual(['timeout']);
    });
    const { egress, ingress } = await daemon.counters();
    expect(ingress.discarded).toEqual({});
    expect(egress.discarded).toEqual({});
  });

  it('the end of a use ends it: what the agent says no longer is in use, is discarded', async () => {
    const world = freshControl('fast', { web: {} }, { pool: { ports: '20480-29999', reserve: 0 } });
    const daemon = await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const { channel, welcome } = await world.session('web', 1);
    const web = world.enter('web');
    const port = welcome.blocks[0].first;
    const listed = { tcp: `${port}` };
    await web.http(port, 'web');
    for (let round = 0; round < 3; round++) {
      expect(await channel.outcome('use', listed)).toBe('ok');
      expect(await outside.get(HOST_ADDRESS, port)).toMatch(/^web /); // the guest knows its neighbour from here on
      await withoutEngine(daemon, async () => expect(await outside.get(HOST_ADDRESS, port)).toMatch(/^web /));
      expect(await channel.outcome('end-use', listed)).toBe('ok');
      expect(await outside.connect(HOST_ADDRESS, port, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    }
  });

  it('ends with a daemon that is killed; the other setting serves what it left', { timeout: 60_000 }, async () => {
    const { world, setting } = build();
    const before = world.hostState();
    const outside = world.peer(world.lab.outside);
    await (await world.start(setting)).stop('SIGKILL');
    const web = world.enter('web');
    await web.http(8080, 'web');
    expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    const second = await world.start({ ...setting, fastPath: 'off' });
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    await withoutEngine(second, async () => expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' }));
    expect((await second.stop()).code).toBe(0);
    expect(world.hostState()).toEqual(before);

    await (await world.start({ ...setting, fastPath: 'off' })).stop('SIGKILL');
    world.lab.configure(world.guest('web'), 'eth0', HOST_ADDRESS, OUTSIDE_ADDRESS);
    const fourth = await world.start(setting);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect((await fourth.stop()).code).toBe(0);
    expect(world.hostState()).toEqual(before);
  });

  it('a guest that has renamed its interface, or moved it away, keeps nothing of it after the daemon', async () => {
    for (const end of ['stop', 'clean'] as const) {
      const { world, setting } = build();
      const before = world.hostState();
      const daemon = await world.start(setting);
      world.lab.run(world.guest('web'), ['sh', '-c', 'ip link set eth0 down; ip link set eth0 name other0; ip link set other0 up']);
      if (end === 'stop') expect((await daemon.stop()).code).toBe(0);
      else {
        await daemon.stop('SIGKILL');
        expect((await world.berth('clean')).output).toContain('1 guest link,');
      }
      expect(world.hostState()).toEqual(before);
      expect(world.link(world.guest('web'), 'other0')).toBeNull();
    }
  });

  it('nothing of the guest reaches the host\'s own stack', async () => {
    const { world, setting } = build();
    const host = world.peer(world.lab.host);
    await host.http(9090, 'host');
    await world.start(setting);
    const web = world.enter('web');
    const end = world.hostState().interfaces.find((name) => name.startsWith('berth-'))!;
    const mac = world.lab.run(world.lab.host, ['cat', `/sys/class/net/${end}/address`]).trim();
    const { lab } = world;
    // The host's end as a neighbour, by an address of the host and by one that it does not have.
    for (const address of ['192.0.2.66', '192.0.2.67']) lab.run(world.guest('web'), ['ip', 'neighbour', 'add', address, 'lladdr', mac, 'dev', 'eth0']);
    const arrived = (): string => lab.run(lab.host, ['sh', '-c', 'grep -E "^(Ip|Icmp):" /proc/net/snmp | head -2 | tail -1 | cut -d" " -f4']);
    const before = arrived();
    await web.udp('192.0.2.66', 9090, [10, 10, 10], { timeoutMs: 100, localPort: 8089 });
    await web.connect('192.0.2.67', 9090, { timeoutMs: 200 });
    await sleep(100);
    expect(arrived()).toBe(before);
    expect(lab.run(lab.host, ['ip', 'neighbour', 'show', 'dev', end])).toBe('');
  });
});
