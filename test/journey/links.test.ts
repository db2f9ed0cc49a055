/**
 * Guest links that go away, return, fill up or go down: the other guests do not notice, and the link is attached again.
 *
 * VM           a process that holds the tap as a VMM does and plays the guest's interface in a namespace (vmm.mjs).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { endProcess } from '../../src/cli/lab.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type Setting, type World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const DB = { port: 5432, name: 'db' };

describe.skipIf(!liveTests('links', 'ping'))('guest links', () => {
  let stopped: (() => void)[] = [];
  afterEach(() => {
    for (const resume of stopped.splice(0)) resume();
  });

  /** Guest `db` is there throughout and polled until `unharmed`; the other is the test's. */
  async function build(other: (world: World) => Setting['guests']): Promise<{ world: World; daemon: RunningDaemon; outside: Peer; unharmed: () => Promise<void> }> {
    const world = freshWorld('links');
    const outside = world.peer(world.lab.outside);
    await outside.udpEcho(7);
    const others = other(world);
    const daemon = await world.start({ guests: { ...others, db: { link: { netns: world.addGuest('db') }, lease: { tcp: '5432' }, use: 'all' } } });
    await world.enter('db').http(DB.port, DB.name);
    await outside.poll(HOST_ADDRESS, DB);
    const unharmed = async (): Promise<void> => {
      const { count, failures } = await outside.pollEnd(DB.port);
      expect(failures).toEqual([]);
      expect(count).toBeGreaterThan(10);
    };
    return { world, daemon, outside, unharmed };
  }

  const sandbox = (netns: string): Setting['guests'] => ({ web: { link: { netns }, lease: { tcp: '8080-8089', udp: '8080-8089' }, use: 'all' } });
  const machine = (): Setting['guests'] => ({ vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000-7009', udp: '7000-7009' }, use: 'all' } });

  function addTap(world: World): void {
    world.lab.run(world.lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
  }

  it('a namespace that is deleted and made again is attached again', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => sandbox(one.addGuest('web')));
    for (const round of [1, 2]) {
      const web = world.enter('web');
      await web.http(8080, `web${round}`);
      expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(new RegExp(`^web${round} `));
      await endProcess(web.child);
      world.lab.removeNamespace(world.guest('web'));
      await daemon.says(/guest web: .*went away/, round);
      expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
      world.addGuest('web');
      await daemon.says(/guest web attached/, round + 1);
    }
    await world.enter('web').http(8080, 'web3');
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web3 /);
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
    expect(world.link(world.guest('web'), 'eth0')).toBeNull();
  });

  it('so is one whose old processes live on', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => sandbox(one.addGuest('web')));
    const old = world.enter('web');
    await old.http(8080, 'old');
    world.lab.removeNamespace(world.guest('web'));
    world.addGuest('web');
    await daemon.says(/guest web attached/, 2);
    await world.enter('web').http(8080, 'new');
    for (let n = 0; n < 20; n++) expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^new /);
    expect(await old.httpLog(8080)).toEqual([]);
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a namespace that is not there at the start is attached when it appears', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      const name = one.addGuest('web');
      one.lab.removeNamespace(name);
      return sandbox(name);
    });
    await daemon.says(/guest web: .*not there yet/);
    world.addGuest('web');
    await daemon.says(/guest web attached/);
    await world.enter('web').http(8080, 'web');
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a VM is served like a sandbox: connections, bulk, datagrams, pings, both ways', { timeout: 60_000 }, async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      addTap(one);
      one.addGuest('vm');
      return machine();
    });
    await world.startVm('tap-vm', 'vm');
    const vm = world.enter('vm');
    await Promise.all([vm.http(7000, 'vm'), vm.sink(7001), vm.source(7002, 2e8), vm.udpEcho(7000)]);
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(new RegExp(`^vm / ${OUTSIDE_ADDRESS} `));
    expect(await outside.exchanges({ host: HOST_ADDRESS, targets: [{ port: 7000, name: 'vm' }, DB], count: 200, atOnce: 50, remote: OUTSIDE_ADDRESS })).toEqual([]);
    const { sent, received } = await outside.upload(HOST_ADDRESS, 7001, 2e8);
    expect(received).toBe(sent);
    expect(await outside.download(HOST_ADDRESS, 7002)).toEqual({ bytes: 2e8, received: await vm.sourceHash(7002) });
    expect(await outside.udp(HOST_ADDRESS, 7000, [1, 1472, 30_000, 65_000])).toEqual(['equal', 'equal', 'equal', 'equal']);
    expect(await vm.udp(OUTSIDE_ADDRESS, 7, [100, 65_000], { localPort: 7009 })).toEqual(['equal', 'equal']);
    for (const size of ['56', '4000']) {
      const { output } = await world.run(world.guest('vm'), ['ping', '-n', '-c', '3', '-i', '0.05', '-W', '2', '-s', size, OUTSIDE_ADDRESS]);
      expect(output).toContain('3 received, 0% packet loss');
    }
    await unharmed();
    expect((await daemon.counters()).egress.discarded).toEqual({});
    expect(daemon.log.filter(({ level }) => level !== 'info')).toEqual([]); // nor at the end, when the tap is given back
    expect(world.link(world.lab.host, 'tap-vm')).not.toBeNull(); // not Berth's to remove
  });

  it('a VMM without offloads is served too: frames are cut and summed for it', { timeout: 60_000 }, async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      addTap(one);
      one.addGuest('vm');
      return machine();
    });
    await world.startVm('tap-vm', 'vm', false);
    const vm = world.enter('vm');
    await Promise.all([vm.http(7000, 'vm'), vm.sink(7001), vm.source(7002, 2e7)]);
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    const { sent, received } = await outside.upload(HOST_ADDRESS, 7001, 2e7);
    expect(received).toBe(sent);
    expect(await outside.download(HOST_ADDRESS, 7002)).toEqual({ bytes: 2e7, received: await vm.sourceHash(7002) });
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a VMM that ends and returns, on the same tap', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      addTap(one);
      one.addGuest('vm');
      return machine();
    });
    for (const round of [1, 2, 3]) {
      const vmm = await world.startVm('tap-vm', 'vm');
      const vm = world.enter('vm');
      await vm.http(7000, `vm${round}`);
      expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(new RegExp(`^vm${round} `));
      vmm.kill('SIGKILL');
      await endProcess(vmm);
      await endProcess(vm.child);
      expect(await outside.connect(HOST_ADDRESS, 7000, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    }
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a tap that comes and goes with its VMM, and is not there at the start', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      one.addGuest('vm');
      return machine();
    });
    await daemon.says(/guest vm: tap tap-vm is not there yet/);
    for (const round of [1, 2, 3]) {
      const vmm = await world.startVm('tap-vm', 'vm'); // makes the tap, which is gone when it ends
      await daemon.says(/guest vm attached/, round);
      const vm = world.enter('vm');
      await vm.http(7000, `vm${round}`);
      expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(new RegExp(`^vm${round} `));
      await endProcess(vmm);
      await endProcess(vm.child);
      await daemon.says(/guest vm: tap tap-vm went away/, round);
      expect(await outside.connect(HOST_ADDRESS, 7000, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    }
    await unharmed();
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a guest that sets its interface down, and up again', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => sandbox(one.addGuest('web')));
    const web = world.enter('web');
    await web.http(8080, 'web');
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    world.lab.run(world.guest('web'), ['ip', 'link', 'set', 'eth0', 'down']);
    await daemon.says(/guest web: .*is down/);
    await outside.flood(HOST_ADDRESS, 8081, 1000, 2000);
    expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    await sleep(1000);
    world.lab.configure(world.guest('web'), 'eth0', HOST_ADDRESS, OUTSIDE_ADDRESS);
    await daemon.says(/guest web attached/, 2);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    await unharmed();
    const { ingress, guests } = await daemon.counters();
    expect(ingress.discarded['link-down']!.frames).toBeGreaterThanOrEqual(2000);
    expect(guests['web'].lost).toBe(ingress.discarded['link-down']!.frames);
    expect(guests['db'].lost).toBe(0);
  });

  it('a VM whose tap is set down by the operator, and up again', async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      addTap(one);
      one.addGuest('vm');
      return machine();
    });
    await world.startVm('tap-vm', 'vm');
    await world.enter('vm').http(7000, 'vm');
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    world.lab.run(world.lab.host, ['ip', 'link', 'set', 'tap-vm', 'down']);
    await daemon.says(/guest vm: .*went away/);
    await outside.flood(HOST_ADDRESS, 7001, 1000, 2000);
    expect(await outside.connect(HOST_ADDRESS, 7000, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    world.lab.run(world.lab.host, ['ip', 'link', 'set', 'tap-vm', 'up']);
    await sleep(1500);
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    await unharmed();
    const { ingress, guests } = await daemon.counters();
    expect(ingress.discarded['link-down']!.frames).toBeGreaterThanOrEqual(2000);
    expect(guests['db'].lost).toBe(0);
  });

  it('a VM that stands still while it is flooded', { timeout: 60_000 }, async () => {
    const { world, daemon, outside, unharmed } = await build((one) => {
      addTap(one);
      one.addGuest('vm');
      return machine();
    });
    const vmm = await world.startVm('tap-vm', 'vm');
    await world.enter('vm').http(7000, 'vm');
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    vmm.kill('SIGSTOP');
    stopped = [() => vmm.kill('SIGCONT')];
    await outside.flood(HOST_ADDRESS, 7001, 1000, 20_000);
    vmm.kill('SIGCONT');
    expect(await outside.get(HOST_ADDRESS, 7000)).toMatch(/^vm /);
    await unharmed();
    const { guests } = await daemon.counters();
    expect(guests['vm'].lost).toBeGreaterThan(1000);
    expect(guests['db'].lost).toBe(0);
  });
});
