/** Mapped guests, live, that send what only a hostile one would: the host's own stack hears nothing of it, and the daemon goes on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS } from '../support/live.js';
import { eth, type Ipv4Options } from '../../src/wire/frame-builder.js';

const INSIDE = '10.0.7.2';
const GATEWAY = '10.0.7.1';
const GATEWAY_MAC = '02:62:65:72:74:68';
/** A virtio-net header: flags, segmentation, then four numbers of 16 bits. */
const PARTIAL_UDP = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0);

describe.skipIf(!liveTests('mapped-hostile'))('a hostile mapped guest', { timeout: 60_000 }, () => {
  it('reaches the host at none of its addresses, and ends nothing', async () => {
    const world = freshWorld('maphost');
    const { lab } = world;
    // Of the NIC, but not shared; of another interface.
    lab.run(lab.host, ['ip', 'address', 'add', '192.0.2.77/32', 'dev', 'eth0']);
    lab.run(lab.host, ['ip', 'link', 'add', 'inner', 'type', 'veth', 'peer', 'name', 'inner-end']);
    lab.run(lab.host, ['ip', 'address', 'add', '10.99.0.1/24', 'dev', 'inner']);
    lab.run(lab.host, ['ip', 'link', 'set', 'inner', 'up']);
    const [host, outside] = [world.peer(lab.host), world.peer(lab.outside)];
    await Promise.all([host.udpEcho(7777), outside.udpEcho(83)]);
    const daemon = await world.start({ addresses: [HOST_ADDRESS], guests: { bad: { link: { netns: world.addGuest('bad') }, mode: 'map', inside: INSIDE } } });
    const bad = world.enterMapped('bad', INSIDE, GATEWAY);
    const to = (dst: string, more: Ipv4Options = {}): Uint8Array => eth({ src: world.nicMac(), dst: GATEWAY_MAC }).ipv4({ src: INSIDE, dst, ...more }).udp(40_000, 7777, { payload: dst }).build();

    await bad.frames(['127.0.0.1', '127.3.2.1', '0.0.0.0', '192.0.2.77', '10.99.0.1', HOST_ADDRESS].map((address) => to(address)));
    await bad.frames([Buffer.concat([PARTIAL_UDP, to('198.51.100.9', { totalLength: 0 })])], { headers: true });
    expect(await bad.udp(OUTSIDE_ADDRESS, 83, [10])).toEqual(['equal']);
    await host.udp('127.0.0.1', 7777, [10]);
    expect((await host.datagramLog(7777)).map((line) => line.split(':')[0])).toEqual(['127.0.0.1']);
    expect(daemon.isRunning).toBe(true);
  });

  it('does not take the host’s stack from the others', async () => {
    const world = freshWorld('maphand');
    const { lab } = world;
    const outside = world.peer(lab.outside);
    for (let port = 80; port < 84; port++) await outside.http(port, 'outside');
    const guest = (name: string, inside: string) => ({ link: { netns: world.addGuest(name) }, mode: 'map' as const, inside });
    const daemon = await world.start({ guests: { bad: guest('bad', INSIDE), good: guest('good', '10.0.8.2') } });
    const bad = world.enterMapped('bad', INSIDE, GATEWAY);
    const good = world.enterMapped('good', '10.0.8.2', '10.0.8.1');
    // Addresses that nobody has: no next hop is ever known.
    const frames = Array.from({ length: 100 }, (_, n) => eth({ src: world.nicMac(), dst: GATEWAY_MAC }).ipv4({ src: INSIDE, dst: `192.0.2.${100 + n}` }).udp(40_000, 53).build());
    const flood = bad.frames(frames, { repeat: 150, pauseMs: 10 });
    await sleep(300);
    for (let port = 80; port < 84; port++) {
      const begun = performance.now();
      expect(await good.get(OUTSIDE_ADDRESS, port)).toMatch(/^outside /);
      expect(performance.now() - begun).toBeLessThan(900); // a lost SYN is sent again after a second
    }
    await flood;
    const { guests } = await daemon.counters();
    expect(guests['good'].refused).toBe(0);
    expect(guests['bad'].refused).toBeGreaterThan(1000);
  });
});
