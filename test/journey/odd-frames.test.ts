/**
 * Odd frames from outside: tagged ones, frames for other stations, frames that cannot be read. They go where the
 * specification says, nobody answers them, and traffic goes on.
 */
import { describe, expect, it } from 'vitest';
import { eth, fragment } from '../../src/wire/frame-builder.js';
import { Capture } from '../support/capture.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const OTHER_STATION = '02:00:5e:10:00:99';
const toHost = { src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS };

describe.skipIf(!liveTests('odd-frames', 'tcpdump'))('odd frames from outside', () => {
  async function build(): Promise<{ world: World; daemon: RunningDaemon; outside: Peer; ethernet: { src: string; dst: string }; atGuest: Capture; atOutside: Capture }> {
    const world = freshWorld('odd');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start({ guests: { web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080', udp: '8080' }, use: 'all' } } });
    const web = world.enter('web');
    await Promise.all([web.http(8080, 'web'), web.hold('udp', HOST_ADDRESS, 8080)]);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    const nic = world.nicMac();
    const atGuest = await Capture.start(world.lab, world.guest('web'), `not ether src ${nic}`);
    const atOutside = await Capture.start(world.lab, world.lab.outside, `ether src ${nic}`);
    return { world, daemon, outside, ethernet: { src: world.outsideMac(), dst: nic }, atGuest, atOutside };
  }

  it('a tagged frame for a port in use reaches the guest with its tags', async () => {
    const { daemon, outside, ethernet, atGuest } = await build();
    await outside.frames([
      eth(ethernet).vlan(7).ipv4(toHost).udp(40001, 8080, { payload: 'one tag' }).build(),
      eth(ethernet).vlan(8, 0x88a8).vlan(9).ipv4(toHost).udp(40002, 8080, { payload: 'two tags' }).build(),
      eth(ethernet).ipv4(toHost).udp(40003, 8080, { payload: 'marker' }).build(),
    ]);
    await atGuest.seen(/\.40003 > /);
    expect(atGuest.matching(/vlan 7,.*\.40001 > /)).toHaveLength(1);
    expect(atGuest.matching(/vlan 8,.*vlan 9,.*\.40002 > /)).toHaveLength(1);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a frame for another station reaches no guest', async () => {
    const { daemon, outside, ethernet, atGuest, atOutside } = await build();
    const other = { src: ethernet.src, dst: OTHER_STATION };
    await outside.frames([
      eth(other).ipv4(toHost).udp(40001, 8080, { payload: 'other' }).build(),
      eth(other).ipv4(toHost).tcp(40001, 8080).build(),
      eth(ethernet).ipv4(toHost).udp(40003, 8080, { payload: 'marker' }).build(),
    ]);
    await atGuest.seen(/\.40003 > /);
    expect(atGuest.matching(/\.40001 > /)).toEqual([]);
    expect(atOutside.matching(/40001/)).toEqual([]);
    expect((await daemon.counters()).ingress.passed['other-station']!.frames).toBe(2);
  });

  it('what cannot be read is the host\'s affair, and counted', async () => {
    const { daemon, outside, ethernet, atGuest, atOutside } = await build();
    const good = eth(ethernet).ipv4(toHost);
    const unreadable = [
      good.proto(6, new Uint8Array(10)).build(), // half a TCP header
      eth(ethernet).ipv4({ ...toHost, ihl: 3 }).tcp(40001, 8080).build(),
      eth(ethernet).ipv4({ ...toHost, version: 5 }).tcp(40001, 8080).build(),
      eth(ethernet).ipv4({ ...toHost, totalLength: 12 }).tcp(40001, 8080).build(),
    ];
    await outside.frames([...unreadable, good.udp(40003, 8080, { payload: 'marker' }).build()]);
    await atGuest.seen(/\.40003 > /);
    expect(atGuest.matching(/40001|bad/)).toEqual([]);
    expect(atOutside.matching(/\.8080 > /)).toEqual([]);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect((await daemon.counters()).ingress.passed['malformed']!.frames).toBe(unreadable.length);
  });

  it('later fragments follow the first: to the guest, or nowhere near it', async () => {
    const { daemon, outside, ethernet, atGuest } = await build();
    const datagram = (port: number, id: number): Uint8Array[] =>
      fragment(eth(ethernet).ipv4({ ...toHost, id }).udp(40001, port, { payload: new Uint8Array(3000) }).build(), 1500);
    const orphans = datagram(8080, 4711).slice(1);
    await outside.frames([...datagram(8080, 11), ...datagram(9999, 12), ...orphans, eth(ethernet).ipv4(toHost).udp(40003, 8080, { payload: 'marker' }).build()]);
    await atGuest.seen(/\.40003 > /);
    expect(atGuest.lines.filter((line) => !line.includes('40003') && !line.includes('ARP'))).toHaveLength(3);
    const { ingress } = await daemon.counters();
    expect(ingress.passed['orphan-fragment']!.frames).toBe(orphans.length);
    expect(ingress.passed['not-leased']!.frames).toBe(3);
  });
});
