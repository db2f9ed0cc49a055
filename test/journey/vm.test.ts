/**
 * A guest that is a real virtual machine: its own kernel in QEMU, on a tap of the host, its agent on a virtio port.
 *
 * Needs        root, an x86-64 machine, QEMU, and a kernel (support/vm-image.ts). The guest is emulated: no /dev/kvm.
 * Time         nine seconds a boot on a quiet machine, and ten for the grace of D4.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type ControlWorld, FIRST_PORT, freshControl, measured, timeUntil } from '../support/control.js';
import { type GuestSetting, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS } from '../support/live.js';
import { Vm } from '../support/vm.js';
import { guestKernel } from '../support/vm-image.js';

const [WEB, SINK, SOURCE, SLOW, LAST] = [5, 6, 7, 8, 9].map((n) => FIRST_PORT + n);
/** In the second block, where another guest has the first. */
const SECOND = FIRST_PORT + 1024 + 5;
const TAP = 'tap-vm';
const MTU = 1400;
const BULK_BYTES = 1e8;
const BACK_BYTES = 3e7;
const SLOW_BYTES = 4e6;
const kernel = liveTests('vm', 'python3', 'qemu-system-x86_64', 'busybox', 'cpio') ? guestKernel() : null;

/** A world with the guest `vm`, whose VMM is not there yet, beside `others`. */
function freshVmWorld(others: Record<string, Partial<GuestSetting>> = {}): ControlWorld {
  const world = freshControl('vm', others);
  const { lab } = world;
  lab.run(lab.host, ['ip', 'tuntap', 'add', 'dev', TAP, 'mode', 'tap', 'vnet_hdr']);
  for (const namespace of [lab.host, lab.outside]) lab.run(namespace, ['ip', 'link', 'set', 'dev', 'eth0', 'mtu', String(MTU)]);
  world.setting.guests['vm'] = { link: { tap: TAP }, agent: { socket: world.socketOf('vm'), connect: true } };
  return world;
}

async function boot(world: ControlWorld): Promise<Vm> {
  const start = performance.now();
  const vm = await Vm.start(world, kernel!, TAP, world.socketOf('vm'));
  await vm.agent.says(/^welcomed as vm /, 1, 20_000);
  measured('start of a VM to its agent\'s welcome', performance.now() - start);
  return vm;
}

describe.skipIf(kernel === null)('a guest VM', () => {
  it('is served from its boot to its crash, and through crashes of the daemon', { timeout: 90_000 }, async () => {
    const world = freshVmWorld();
    const outside = world.peer(world.lab.outside);
    await outside.http(80, 'outside');
    let daemon = await world.startDaemon();
    const vm = await boot(world);

    // The agent has made the guest's network what the host says.
    const [link] = JSON.parse(await vm.run('/bin/ip -json address show dev eth0')) as Record<string, unknown>[];
    expect(link).toMatchObject({ address: world.nicMac(), mtu: MTU, addr_info: expect.arrayContaining([expect.objectContaining({ local: HOST_ADDRESS, prefixlen: 24 })]) as unknown });
    expect(link['permaddr']).not.toBe(world.nicMac());
    expect(await vm.run('/bin/ip -4 route show default')).toMatch(`default via ${OUTSIDE_ADDRESS} dev eth0`);
    expect(await vm.run('cat /proc/sys/net/ipv4/ip_local_port_range')).toBe(`${FIRST_PORT}\t${FIRST_PORT + 1023}`);

    // R2, R4, R10: both ways, and each sees the other's own address.
    const { peer, pid } = await vm.startPeer();
    await Promise.all([peer.http(WEB, 'vm'), peer.udpEcho(WEB), peer.sink(SINK), peer.source(SOURCE, BACK_BYTES), peer.source(SLOW, SLOW_BYTES, 40)]);
    measured('listen() in a VM to the first connect from outside', await timeUntil(outside, WEB, 'connected', 2000));
    expect(await outside.get(HOST_ADDRESS, WEB)).toMatch(new RegExp(`^vm / ${OUTSIDE_ADDRESS} `));
    expect(await peer.get(OUTSIDE_ADDRESS, 80)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
    expect(await outside.udp(HOST_ADDRESS, WEB, [1, 1372, 65_000])).toEqual(['equal', 'equal', 'equal']);
    await vm.run(`ping -c 2 -W 2 -s 4000 ${OUTSIDE_ADDRESS}`);

    const { sent, received } = await outside.upload(HOST_ADDRESS, SINK, BULK_BYTES);
    expect(received).toBe(sent);
    expect(await outside.download(HOST_ADDRESS, SOURCE)).toEqual({ bytes: BACK_BYTES, received: await peer.sourceHash(SOURCE) });
    // In super-frames: whole segments and checksums were left to the other side.
    for (const way of ['rx', 'tx']) {
      const [frames, length] = (await vm.run(`cd /sys/class/net/eth0/statistics; cat ${way}_packets ${way}_bytes`)).split('\n').map(Number);
      expect(length / frames).toBeGreaterThan(4 * MTU);
    }

    // The daemon crashes under a connection …
    const download = outside.timedDownload(HOST_ADDRESS, SLOW);
    await sleep(300);
    await daemon.stop('SIGKILL');
    let crashed = performance.now();
    daemon = await world.startDaemon();
    await vm.agent.says(/^back in session as vm /);
    measured('kill -9 of the daemon to a VM back in session', performance.now() - crashed);
    expect(await outside.get(HOST_ADDRESS, WEB)).toMatch(/^vm /);
    const { bytes, received: hash, longestPauseMs } = await download;
    expect({ bytes, hash }).toEqual({ bytes: SLOW_BYTES, hash: await peer.sourceHash(SLOW) });
    measured('a connection through it stood still', longestPauseMs);

    // … and under a VM that stands still: its agent cannot see that the host's end was closed in between.
    vm.pause();
    await daemon.stop('SIGKILL');
    daemon = await world.startDaemon();
    vm.resume();
    crashed = performance.now();
    await vm.agent.says(/^back in session as vm /, 2, 5000);
    measured('a VM that goes on to back in session', performance.now() - crashed);
    expect(await outside.get(HOST_ADDRESS, WEB)).toMatch(/^vm /);

    // R6: the server is killed.
    await vm.run(`kill -9 ${pid}`);
    measured('kill -9 of a server in a VM to silence', await timeUntil(outside, WEB, 'timeout', 2000));
    expect(await outside.udp(HOST_ADDRESS, WEB, [10], { timeoutMs: 300 })).toEqual(['timeout']);

    // D4: the VM is killed.
    await vm.spawn(`nc -ll -p ${LAST} -e true`);
    await timeUntil(outside, LAST, 'connected', 2000);
    await vm.kill();
    crashed = performance.now();
    await daemon.says(/^guest vm: its agent is away; nothing is in use/, 1, 15_000);
    measured('kill -9 of a VM to the end of its indications', performance.now() - crashed);
    expect((await world.berth('explain', `${LAST}/tcp`, '--admin', world.setting.admin!.socket)).output).toMatch(/ is leased to guest vm .* and not in use: its agent is not connected\.\n/);
    expect(await outside.connect(HOST_ADDRESS, LAST, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    const { ingress, egress } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThan(0);
    expect(Object.keys(egress.discarded).filter((reason) => reason !== 'not-ipv4')).toEqual([]); // the guest has IPv6
    expect(daemon.log.filter(({ level }) => level !== 'info')).toEqual([]);
  });

  it('may write anything at all to its port: others are served, and its next agent is welcomed', { timeout: 60_000 }, async () => {
    const world = freshVmWorld({ db: {} });
    const daemon = await world.startDaemon();
    await world.startAgent('db');
    const [outside, db] = [world.peer(world.lab.outside), world.peer(world.guest('db'))];
    await db.http(WEB, 'db');
    await timeUntil(outside, WEB, 'connected', 2000);
    const vm = await boot(world);
    await outside.poll(HOST_ADDRESS, { port: WEB, name: 'db' });

    const port = `/dev/${await vm.run('basename $(dirname $(grep -l berth.agent.0 /sys/class/virtio-ports/*/name))')}`;
    await vm.run('kill -9 $(pidof node); sleep 0.1');
    await vm.run(`head -c 300000 /dev/urandom >${port}`);
    await vm.run(`head -c 200000 /dev/zero >${port}`);
    await daemon.says(/^guest vm: session ended: a line of more than 65536 bytes/);
    await vm.run(`printf '{"jsonrpc":"2.0","id":1,"method":"us' >${port}`);

    await vm.spawn('berth-agent');
    await vm.agent.says(/^welcomed as vm /, 2, 20_000);
    await vm.spawn(`nc -ll -p ${SECOND} -e true`);
    await timeUntil(outside, SECOND, 'connected', 2000);
    const { count, failures } = await outside.pollEnd(WEB);
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(50);
    await vm.kill();
    expect((await daemon.stop()).code).toBe(0);
  });
});
