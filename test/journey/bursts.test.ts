/**
 * What came to the NIC while the engine's thread had no processor: all of it reaches the guest, in order. Without the fast path, which
 * does not wait for the engine.
 *
 * Stopped      by SIGSTOP: the daemon gets no processor for as long as it takes, which no timing on this machine changes.
 * Large        frames that do not fit the ring of small slots, from an outside with an MTU of 9,000.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eth } from '../../src/wire/frame-builder.js';
import { Capture } from '../support/capture.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, until, type World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const BURST = 4000;
const SMALL_BYTES = 100;
const LARGE_BYTES = 4000;

describe.skipIf(!liveTests('bursts', 'tcpdump'))('a burst while the daemon stands still', () => {
  async function build(): Promise<{ world: World; daemon: RunningDaemon; outside: Peer }> {
    const world = freshWorld('bursts');
    for (const side of [world.lab.host, world.lab.outside]) world.lab.run(side, ['ip', 'link', 'set', 'dev', 'eth0', 'mtu', '9000']);
    const daemon = await world.start({ fastPath: 'off', guests: { web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080', udp: '8080' }, use: 'all' } } });
    await world.enter('web').http(8080, 'web');
    const outside = world.peer(world.lab.outside);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    return { world, daemon, outside };
  }

  async function whileStopped(daemon: RunningDaemon, work: () => Promise<void>): Promise<void> {
    const resume = (): boolean => daemon.child.kill('SIGCONT');
    onTestFinished(() => void resume());
    daemon.child.kill('SIGSTOP');
    await work();
    resume();
  }

  it(`${BURST} small datagrams all arrive`, async () => {
    const { world, daemon, outside } = await build();
    // Nothing listens there: the guest's kernel counts each one that comes.
    const arrived = (): number => Number(/^Udp: \d+ (\d+)/m.exec(world.lab.run(world.guest('web'), ['cat', '/proc/net/snmp']))![1]);
    expect(arrived()).toBe(0);
    await whileStopped(daemon, () => outside.flood(HOST_ADDRESS, 8080, 18, BURST));
    await until(() => arrived() >= BURST, 5000, () => `${BURST} datagrams; ${arrived()} have arrived`);
    expect((await daemon.counters()).kernelDrops).toBe(0);
    expect(arrived()).toBe(BURST);
  });

  it('small and large frames keep their order', async () => {
    const { world, daemon, outside } = await build();
    const ethernet = { src: world.outsideMac(), dst: world.nicMac() };
    const lengths = Array.from({ length: 200 }, (_, n) => (n % 3 === 0 ? LARGE_BYTES : SMALL_BYTES) + n);
    const frames = lengths.map((length) => eth(ethernet).ipv4({ src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS }).udp(40001, 8080, { payload: new Uint8Array(length) }).build());
    const atGuest = await Capture.start(world.lab, world.guest('web'), 'udp dst port 8080');
    await whileStopped(daemon, () => outside.frames(frames));
    await atGuest.seen(new RegExp(`length ${lengths.at(-1)}$`));
    expect(atGuest.lines.map((line) => Number(/length (\d+)$/.exec(line)![1]))).toEqual(lengths);
    expect((await daemon.stop()).code).toBe(0);
  });

  it('frames of both sizes come through again after the NIC was down', async () => {
    const { world, daemon, outside } = await build();
    const { lab } = world;
    await world.peer(world.guest('web')).udpEcho(8080);
    lab.run(lab.host, ['ip', 'link', 'set', 'dev', 'eth0', 'down']);
    await daemon.says(/NIC eth0 went down/);
    lab.run(lab.host, ['ip', 'link', 'set', 'dev', 'eth0', 'up']);
    await sleep(100);
    expect(await outside.udp(HOST_ADDRESS, 8080, [SMALL_BYTES, LARGE_BYTES])).toEqual(['equal', 'equal']);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect(daemon.log.filter((line) => line.msg.includes('went down'))).toHaveLength(1);
    expect((await daemon.stop()).code).toBe(0);
  });
});
