/**
 * A hostile guest: what it sends in another's name does not appear outside, and is counted; design §3 (egress), D6.
 *
 * Each row puts one frame on the guest's link as it is; a good datagram behind it marks the point up to which the
 * capture outside is complete.
 */
import { describe, expect, it } from 'vitest';
import { type FrameBuilder, eth } from '../../src/wire/frame-builder.js';
import { Capture } from '../support/capture.js';
import { freshWorld, type GuestSetting, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const FOREIGN_MAC = '02:00:5e:10:00:66';
const FOREIGN_ADDRESS = '192.0.2.66';
const MARKER_PORT = 20001;

interface Row {
  name: string;
  frame: (macs: { nic: string; outside: string }) => FrameBuilder;
  reason: 'spoofed' | 'announcement' | 'tagged' | 'not-ipv4' | 'orphan-fragment' | 'malformed' | 'other-protocol';
}

const rows: Row[] = [
  { name: 'a TCP segment from an address that is not ours', reason: 'spoofed', frame: (m) => from(m).ipv4({ src: FOREIGN_ADDRESS, dst: OUTSIDE_ADDRESS }).tcp(20000, 7777) },
  { name: 'a datagram from an address that is not ours', reason: 'spoofed', frame: (m) => from(m).ipv4({ src: FOREIGN_ADDRESS, dst: OUTSIDE_ADDRESS }).udp(20000, 7777) },
  { name: 'a TCP segment from a port that nobody leases', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).tcp(22, 7777) },
  { name: 'a TCP segment from another guest\'s port', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).tcp(5432, 7777) },
  { name: 'a datagram from a port leased for TCP only', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).udp(8080, 7777) },
  { name: 'a good segment from another MAC', reason: 'spoofed', frame: (m) => eth({ src: FOREIGN_MAC, dst: m.outside }).ipv4(ours).tcp(20000, 7777) },
  { name: 'a ping from an address that is not ours', reason: 'spoofed', frame: (m) => from(m).ipv4({ src: FOREIGN_ADDRESS, dst: OUTSIDE_ADDRESS }).icmpEcho('request', 77) },
  { name: 'an echo reply in the name of the host', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).icmpEcho('reply', 77) },
  { name: 'an ICMP error about a packet it cannot have received', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).icmpError(3, 3, eth().ipv4({ src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS }).tcp(7777, 22).packet()) },
  { name: 'an ICMP redirect', reason: 'spoofed', frame: (m) => from(m).ipv4(ours).icmpError(5, 1, eth().ipv4({ src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS }).tcp(7777, 8080).packet(), 0xc0000242) },
  { name: 'a gratuitous ARP request for the shared address', reason: 'announcement', frame: (m) => eth({ src: m.nic }).arp('request', { senderIp: HOST_ADDRESS, targetIp: HOST_ADDRESS }) },
  { name: 'a gratuitous ARP reply for the shared address', reason: 'announcement', frame: (m) => eth({ src: m.nic, dst: 'ff:ff:ff:ff:ff:ff' }).arp('reply', { senderIp: HOST_ADDRESS, targetIp: HOST_ADDRESS }) },
  { name: 'an ARP announcement of the shared address under another MAC', reason: 'spoofed', frame: () => eth({ src: FOREIGN_MAC }).arp('request', { senderIp: HOST_ADDRESS, targetIp: HOST_ADDRESS }) },
  { name: 'an ARP reply that gives the shared address another MAC', reason: 'spoofed', frame: (m) => from(m).arp('reply', { senderMac: FOREIGN_MAC, senderIp: HOST_ADDRESS, targetIp: OUTSIDE_ADDRESS }) },
  { name: 'an ARP question in our name under another MAC', reason: 'spoofed', frame: () => eth({ src: FOREIGN_MAC }).arp('request', { senderIp: HOST_ADDRESS, targetIp: OUTSIDE_ADDRESS }) },
  { name: 'a good ping from another MAC', reason: 'spoofed', frame: (m) => eth({ src: FOREIGN_MAC, dst: m.outside }).ipv4(ours).icmpEcho('request', 77) },
  { name: 'an ARP request in another\'s name', reason: 'spoofed', frame: (m) => eth({ src: m.nic }).arp('request', { senderIp: FOREIGN_ADDRESS, targetIp: OUTSIDE_ADDRESS }) },
  { name: 'an ARP reply for another\'s address', reason: 'spoofed', frame: (m) => from(m).arp('reply', { senderIp: FOREIGN_ADDRESS, targetIp: OUTSIDE_ADDRESS }) },
  { name: 'a good segment under a VLAN tag', reason: 'tagged', frame: (m) => from(m).vlan(7).ipv4(ours).tcp(20000, 7777) },
  { name: 'a frame that is not IPv4', reason: 'not-ipv4', frame: (m) => from(m).raw(0x88cc, new Uint8Array(60)) },
  { name: 'a later fragment of a datagram that never began', reason: 'orphan-fragment', frame: (m) => from(m).ipv4({ ...ours, id: 4711, fragmentOffset: 1480 }).proto(17, new Uint8Array(100)) },
  { name: 'a TCP header that is cut off', reason: 'malformed', frame: (m) => from(m).ipv4(ours).proto(6, new Uint8Array(12)) },
  { name: 'another protocol (GRE)', reason: 'other-protocol', frame: (m) => from(m).ipv4(ours).proto(47, new Uint8Array(40)) },
];

const ours = { src: HOST_ADDRESS, dst: OUTSIDE_ADDRESS };

function from(macs: { nic: string; outside: string }): FrameBuilder {
  return eth({ src: macs.nic, dst: macs.outside });
}

describe.skipIf(!liveTests('spoofing', 'tcpdump'))('D6: a guest that spoofs', () => {
  async function build(label: string, use: GuestSetting['use'] = { tcp: '8080' }): Promise<{ world: World; daemon: RunningDaemon; outside: Peer; bad: Peer; good: Peer; capture: Capture }> {
    const world = freshWorld(label);
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start({
      guests: {
        bad: { link: { netns: world.addGuest('bad') }, lease: { tcp: '8080,20000-20999', udp: '20000-20999' }, use },
        good: { link: { netns: world.addGuest('good') }, lease: { tcp: '5432' }, use: 'all' },
      },
    });
    const bad = world.enter('bad');
    const good = world.enter('good');
    await Promise.all([good.http(5432, 'good'), bad.http(8080, 'bad'), outside.hold('udp', OUTSIDE_ADDRESS, 7)]);
    // Everybody has learnt everybody's MAC before the capture begins.
    expect(await outside.get(HOST_ADDRESS, 5432)).toMatch(/^good /);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^bad /);
    const capture = await Capture.start(world.lab, world.lab.outside, `not ether src ${world.outsideMac()}`);
    return { world, daemon, outside, bad, good, capture };
  }

  const dishonest: [string, number[]][] = [
    ['over the source port', [1, 0, 0, 34, 0]],
    ['over the source address', [1, 0, 0, 14, 12]],
    ['into the payload', [1, 0, 0, 34, 40]],
    ['of TCP in a datagram', [1, 0, 0, 34, 16]],
    ['with TCP segmentation of a datagram', [1, 1, 8, 34, 6]],
    ['none, but segmentation', [0, 5, 8, 0, 0]],
    ['and segments longer than its MTU', [1, 5, 5000, 34, 6]],
  ];
  // From a port that the engine watches, and from one in use, which the kernel would steer itself.
  const ports: [string, GuestSetting['use']][] = [['leased', { tcp: '8080' }], ['in use', 'all']];
  it.each(ports.flatMap(([state, use]) => dishonest.map(([name, header]) => [state, name, use, header] as const)))('from a port %s, has the NIC write a checksum %s: not seen outside', async (_state, _name, use, [flags, gso, size, start, at]) => {
    const { world, daemon, bad, capture } = await build('vnet', use);
    const macs = { nic: world.nicMac(), outside: world.outsideMac() };
    const header = new Uint8Array(10);
    new DataView(header.buffer).setUint8(0, flags);
    new DataView(header.buffer).setUint8(1, gso);
    for (const [n, value] of [42, size, start, at].entries()) new DataView(header.buffer).setUint16(2 + 2 * n, value, true);
    const good = from(macs).ipv4(ours).udp(20000, 9, { payload: new Uint8Array(size > 1000 ? 2 * size : 25) }).build();
    const marker = from(macs).ipv4(ours).udp(MARKER_PORT, 7, { payload: 'marker' }).build();
    // Honest: it goes out, so that nothing but the header keeps the others in.
    await bad.frames([Buffer.concat([new Uint8Array(10), from(macs).ipv4(ours).udp(MARKER_PORT, 8).build()])], { headers: true });
    await capture.seen(new RegExp(`${MARKER_PORT} > ${OUTSIDE_ADDRESS}\\.8:`));
    // The sender's own kernel refuses headers that make no sense to it, which is as good.
    await bad.frames([Buffer.concat([header, good])], { headers: true }).catch(() => undefined);
    await bad.frames([marker]);
    await capture.seen(new RegExp(`${MARKER_PORT} > ${OUTSIDE_ADDRESS}\\.7:`));
    expect(capture.lines.filter((line) => !isExpected(line, macs.nic))).toEqual([]);
    const { egress } = await daemon.counters();
    expect(egress.discarded['malformed']?.frames ?? 0).toBeLessThanOrEqual(1);
  });

  it.each(rows.map((row) => [row.name, row.reason, row] as const))('%s: not seen outside, counted as %s', async (_name, reason, { frame }) => {
    const { world, daemon, outside, bad, capture } = await build('spoof');
    const macs = { nic: world.nicMac(), outside: world.outsideMac() };
    const marker = from(macs).ipv4(ours).udp(MARKER_PORT, 7, { payload: 'marker' }).build();
    await bad.frames([frame(macs).build(), marker]);
    await capture.seen(new RegExp(`${MARKER_PORT} > ${OUTSIDE_ADDRESS}\\.7:`));
    expect(capture.lines.filter((line) => !isExpected(line, macs.nic))).toEqual([]);

    // Nobody is the worse for it: no neighbour cache was moved.
    expect(await outside.get(HOST_ADDRESS, 5432)).toMatch(/^good /);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^bad /);
    const { egress, guests } = await daemon.counters();
    expect(egress.discarded).toEqual({ [reason]: { frames: 1, bytes: frame(macs).build().length } });
    expect(guests['bad'].refused).toBe(1);
    expect(guests['good'].refused).toBe(0);
  });

  it('a flood of spoofed frames: another guest is served all the while', async () => {
    const { world, daemon, outside, bad, good, capture } = await build('spoof');
    const macs = { nic: world.nicMac(), outside: world.outsideMac() };
    await outside.poll(HOST_ADDRESS, { port: 5432, name: 'good' });
    const flood = rows.slice(0, 7);
    await bad.frames(flood.map(({ frame }) => frame(macs).build()), { repeat: 2000 });
    const { failures } = await outside.pollEnd(5432);
    expect(failures).toEqual([]);
    expect(await good.httpLog(5432)).toEqual([OUTSIDE_ADDRESS]);
    expect(capture.matching(/192\.0\.2\.66|02:00:5e:10:00:66/).slice(0, 3)).toEqual([]);
    // What the queue of the guest's own link could not hold never reached the daemon.
    expect((await daemon.counters()).guests['bad'].refused).toBeGreaterThan(flood.length * 100);
  });
});

/** Good frames: the marker, and ARP that the host or a guest asks and the host answers, under the NIC's MAC. */
function isExpected(line: string, nicMac: string): boolean {
  if (!line.includes(` ${nicMac} > `)) return false;
  if (line.includes(`${HOST_ADDRESS}.${MARKER_PORT} > `)) return true;
  if (line.includes(`Request who-has ${OUTSIDE_ADDRESS}`)) return line.includes(`tell ${HOST_ADDRESS}`);
  return line.includes(`Reply ${HOST_ADDRESS} is-at ${nicMac}`) && !line.includes('ff:ff:ff:ff:ff:ff');
}
