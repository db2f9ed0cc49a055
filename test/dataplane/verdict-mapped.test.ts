/**
 * Mapped guests: a row is a sentence about what becomes of frames, each compared byte for byte, checksums included, with the frame that
 * the same builder makes for the other side. The world is in support/mapped-world.ts.
 */
import { describe, expect, it } from 'vitest';
import { DISCARD, type FrameIn, PASS, Plane, type PlaneOptions, TAKEN, TO_NIC, toGuest } from '../support/dataplane-harness.js';
import {
  BLOCK, fromGuest, fromOutside, GATEWAY, GATEWAY_MAC, GUEST_MAC, INSIDE, MAPPED_WORLD, MAPS, NIC, OTHER_BLOCK, OTHER_INSIDE, OTHER_MAC, REMOTE, ROUTER, SECOND, SHARED, toGuestFrame, toOutside,
} from '../support/mapped-world.js';
import type { Reason } from '../../src/dataplane/frame-batch.js';
import { eth, fragment, ipv4 } from '../../src/wire/frame-builder.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../src/wire/tcp.js';

interface Step {
  from?: number | 'nic';
  frame: Uint8Array | FrameIn;
  at?: number;
  verdict: number;
  reason?: Reason;
  /** What the frame is afterwards; default: not looked at. */
  becomes?: Uint8Array;
}

interface Row extends Partial<Step> {
  name: string;
  steps?: Step[];
  world?: PlaneOptions;
}

const START = 1_700_000_000;

function table(rows: readonly Row[]): void {
  it.each(rows)('$name', (row) => {
    const plane = new Plane({ ...MAPPED_WORLD, ...row.world });
    (row.steps ?? [row as Step]).forEach((step, n) => {
      const given = step.frame instanceof Uint8Array ? { bytes: step.frame } : step.frame;
      const frame = { seconds: START + (step.at ?? 0), ...given };
      const from = step.from ?? row.from ?? 'nic';
      const [decision] = from === 'nic' ? plane.ingress(frame) : plane.egress(from, frame);
      expect(decision, `frame ${n + 1}`).toMatchObject({ verdict: step.verdict, reason: step.reason ?? '' });
      if (step.becomes !== undefined) expect(Buffer.from(plane.bytesOf()).toString('hex'), `frame ${n + 1}`).toBe(Buffer.from(step.becomes).toString('hex'));
    });
  });
}

const payload = Uint8Array.from({ length: 33 }, (_, n) => n * 7);
/** The port of the block that an inside port leaves by, as long as it is free. */
const outsidePort = (insidePort: number): number => BLOCK.first + (insidePort % 4);
const own = (insidePort: number, control = TCP_SYN, at = 0): Step => ({
  from: 0,
  at,
  frame: fromGuest().tcp(insidePort, 80, { flags: control }).build(),
  verdict: TAKEN,
});
const answer = (port: number, control = TCP_SYN | TCP_ACK, at = 0): Step => ({ at, frame: fromOutside().tcp(80, port, { flags: control }).build(), verdict: toGuest(0) });
const unasked = (frame: Uint8Array, at = 0): Step => ({ at, frame, verdict: DISCARD, reason: 'no-flow' });

describe('from outside', () => {
  table([
    { name: 'TCP for a configured port goes to the inside port', frame: fromOutside().tcp(40000, 8443, { payload }).build(), verdict: toGuest(0), becomes: toGuestFrame().tcp(40000, 443, { payload }).build() },
    { name: 'UDP for a port of a range goes to the inside port beside it', frame: fromOutside().udp(40000, 5007, { payload }).build(), verdict: toGuest(0), becomes: toGuestFrame().udp(40000, 6007, { payload }).build() },
    { name: 'on every shared address', frame: fromOutside({ dst: SECOND }).tcp(40000, 8443).build(), verdict: toGuest(0), becomes: toGuestFrame().tcp(40000, 443).build() },
    { name: 'UDP without a checksum stays without', frame: fromOutside().udp(40000, 5000, { checksum: 0 }).build(), verdict: toGuest(0), becomes: toGuestFrame().udp(40000, 6000, { checksum: 0 }).build() },
    { name: 'under IP options', frame: fromOutside({ options: [1, 1, 1, 1] }).tcp(40000, 8443, { payload }).build(), verdict: toGuest(0), becomes: toGuestFrame({ options: [1, 1, 1, 1] }).tcp(40000, 443, { payload }).build() },
    { name: 'a reset of no connection is not believed', ...unasked(fromOutside().tcp(40000, 8443, { flags: TCP_RST }).build()) },
    { name: 'a port of the block takes nothing that answers nothing', ...unasked(fromOutside().tcp(80, BLOCK.first).build()) },
    { name: 'what answers a flow goes to the port that it came from', steps: [own(40000), { ...answer(outsidePort(40000)), becomes: toGuestFrame().tcp(80, 40000, { flags: TCP_SYN | TCP_ACK }).build() }] },
    { name: 'another host does not answer it', steps: [own(40000), unasked(fromOutside({ src: '198.51.100.8' }).tcp(80, outsidePort(40000)).build())] },
    { name: 'nor another port of that host', steps: [own(40000), unasked(fromOutside().tcp(81, outsidePort(40000)).build())] },
    { name: 'nor the other protocol', steps: [own(40000), unasked(fromOutside().udp(80, outsidePort(40000)).build())] },
    { name: 'a guest whose MAC is not known is asked for it', world: { maps: { ...MAPS, guests: [{ ...MAPS.guests[0], mac: null }] } }, frame: fromOutside().tcp(1, 8443).build(), verdict: toGuest(0), becomes: eth({ src: GATEWAY_MAC }).arp('request', { senderIp: GATEWAY, targetIp: INSIDE }).build() },
    {
      name: 'and what it answers is the MAC that the next frame goes to',
      world: { maps: { ...MAPS, guests: [{ ...MAPS.guests[0], mac: null }] } },
      steps: [
        { from: 0, frame: eth({ src: OTHER_MAC, dst: GATEWAY_MAC }).arp('reply', { senderIp: INSIDE, targetIp: GATEWAY }).build(), verdict: TAKEN },
        { frame: fromOutside().tcp(1, 8443).build(), verdict: toGuest(0), becomes: toGuestFrame({}, { dst: OTHER_MAC }).tcp(1, 443).build() },
      ],
    },
    { name: 'what is not known to be mapped yet is not forwarded as it is', world: { maps: { outside: [], guests: [] } }, frame: fromOutside().tcp(1, 8443).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'a port of a guest that shares is forwarded as it is', frame: fromOutside().tcp(1, 8080).build(), verdict: toGuest(2), becomes: fromOutside().tcp(1, 8080).build() },
    { name: 'a port of nobody is the host’s', frame: fromOutside().tcp(1, 443).build(), verdict: PASS, reason: 'not-leased' },
  ]);
});

describe('from the guest', () => {
  const inward = (port = 40000): Step => ({ frame: fromOutside().tcp(port, 8443).build(), verdict: toGuest(0) });
  table([
    { name: 'an answer leaves by the outside port, to the station that the question came from', steps: [inward(), { from: 0, frame: fromGuest().tcp(443, 40000, { payload }).build(), verdict: TO_NIC, becomes: toOutside().tcp(8443, 40000, { payload }).build() }] },
    { name: 'and from the address that was asked', steps: [{ frame: fromOutside({ dst: SECOND }).udp(1, 5001).build(), verdict: toGuest(0) }, { from: 0, frame: fromGuest().udp(6001, 1).build(), verdict: TO_NIC, becomes: toOutside({ src: SECOND }).udp(5001, 1).build() }] },
    { name: 'an answer without a flow, after a restart, leaves by the configured port too', from: 0, frame: fromGuest().tcp(443, 40000, { flags: TCP_ACK }).build(), verdict: TAKEN, becomes: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).tcp(8443, 40000, { flags: TCP_ACK }).build() },
    { name: 'its own flow leaves by a port of its block; the first frame by the host’s stack', from: 0, frame: fromGuest().tcp(40001, 80, { payload }).build(), verdict: TAKEN, becomes: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).tcp(outsidePort(40001), 80, { payload }).build() },
    { name: 'and when it is answered, to the station that answered', steps: [own(40001), answer(outsidePort(40001)), { from: 0, frame: fromGuest().tcp(40001, 80, { flags: TCP_ACK }).build(), verdict: TO_NIC, becomes: toOutside().tcp(outsidePort(40001), 80, { flags: TCP_ACK }).build() }] },
    { name: 'a station that was not heard for 31 s is no next hop', steps: [inward(), { from: 0, at: 30, frame: fromGuest().tcp(443, 40000).build(), verdict: TO_NIC }, { from: 0, at: 31, frame: fromGuest().tcp(443, 40000).build(), verdict: TAKEN }] },
    { name: 'two inside ports that would leave by the same outside port leave by two', steps: [own(40000), own(40004), answer(outsidePort(40000)), { ...answer(outsidePort(40001)), becomes: toGuestFrame().tcp(80, 40004, { flags: TCP_SYN | TCP_ACK }).build() }] },
    { name: 'five flows to one remote end do not fit into four ports', steps: [own(1), own(2), own(3), own(4), { ...own(5), verdict: DISCARD, reason: 'ports-exhausted' }] },
    { name: 'to another remote end they do', steps: [own(1), own(2), own(3), own(4), { from: 0, frame: fromGuest().tcp(5, 81).build(), verdict: TAKEN }] },
    {
      name: 'a closed connection gives its port up when there is no other',
      steps: [
        own(1), own(2), own(3), own(4),
        answer(outsidePort(2)),
        { ...own(2, TCP_FIN | TCP_ACK), verdict: TO_NIC },
        answer(outsidePort(2), TCP_FIN | TCP_ACK),
        own(5),
        { ...answer(outsidePort(2)), becomes: toGuestFrame().tcp(80, 5, { flags: TCP_SYN | TCP_ACK }).build() },
      ],
    },
    { name: 'another’s source address is spoofed', from: 0, frame: fromGuest({ src: OTHER_INSIDE }).tcp(1, 80).build(), verdict: DISCARD, reason: 'spoofed' },
    { name: 'the shared address is spoofed too, also from a mapped port', from: 0, frame: fromGuest({ src: SHARED }).tcp(8443, 80).build(), verdict: DISCARD, reason: 'spoofed' },
    { name: 'a frame to another station than the gateway stays', from: 0, frame: fromGuest({}, { dst: ROUTER }).tcp(1, 80).build(), verdict: DISCARD, reason: 'other-station' },
    { name: 'multicast stays', from: 0, frame: fromGuest({ dst: '224.0.0.251' }).udp(5353, 5353).build(), verdict: DISCARD, reason: 'not-ours' },
    ...['127.0.0.1', '127.255.255.254', '0.0.0.0', '0.1.2.3'].map((dst) => ({ name: `${dst}, which is the host itself, stays`, from: 0, frame: fromGuest({ dst }).udp(1, 53).build(), verdict: DISCARD, reason: 'not-ours' as const })),
    { name: 'tagged frames stay', from: 0, frame: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).vlan(5).ipv4({ src: INSIDE, dst: REMOTE }).tcp(1, 80).build(), verdict: DISCARD, reason: 'tagged' },
    { name: 'another protocol stays', from: 0, frame: fromGuest().proto(47, payload).build(), verdict: DISCARD, reason: 'other-protocol' },
    { name: 'IPv6 stays', from: 0, frame: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).raw(0x86dd, new Uint8Array(40)).build(), verdict: DISCARD, reason: 'not-ipv4' },
    { name: 'a reset of no connection stays', from: 0, frame: fromGuest().tcp(443, 80, { flags: TCP_RST }).build(), verdict: DISCARD, reason: 'no-flow' },
    { name: 'ARP for the gateway is answered on the link', from: 0, frame: eth({ src: GUEST_MAC }).arp('request', { senderIp: INSIDE, targetIp: GATEWAY }).build(), verdict: toGuest(0), becomes: eth({ src: GATEWAY_MAC, dst: GUEST_MAC }).arp('reply', { senderIp: GATEWAY, targetIp: INSIDE, senderMac: GATEWAY_MAC, targetMac: GUEST_MAC }).build() },
    { name: 'ARP for another address is not', from: 0, frame: eth({ src: GUEST_MAC }).arp('request', { senderIp: INSIDE, targetIp: OTHER_INSIDE }).build(), verdict: DISCARD, reason: 'not-ours' },
    { name: 'a guest on another link has flows of its own', steps: [own(40000), { from: 1, frame: eth({ src: OTHER_MAC, dst: GATEWAY_MAC }).ipv4({ src: OTHER_INSIDE, dst: REMOTE }).tcp(40000, 80).build(), verdict: TAKEN, becomes: eth({ src: OTHER_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).tcp(OTHER_BLOCK.first, 80).build() }] },
  ]);
});

describe('ages', () => {
  const udpOut = (at = 0): Step => ({ from: 0, at, frame: fromGuest().udp(4000, 53).build(), verdict: TAKEN });
  const udpIn = (at: number): Uint8Array => fromOutside({ id: at & 0xffff }).udp(53, outsidePort(4000)).build();
  table([
    { name: 'UDP is remembered for 300 s', steps: [udpOut(), { at: 300, frame: udpIn(300), verdict: toGuest(0) }] },
    { name: 'and not for 301', steps: [udpOut(), unasked(udpIn(301), 301)] },
    { name: 'each datagram keeps it', steps: [udpOut(), { at: 200, frame: udpIn(200), verdict: toGuest(0) }, { at: 500, frame: udpIn(500), verdict: toGuest(0) }] },
    { name: 'a connection that nobody answers is remembered for 240 s', steps: [own(40000), { ...answer(outsidePort(40000), TCP_SYN | TCP_ACK, 240) }] },
    { name: 'and not for 241', steps: [own(40000), unasked(fromOutside().tcp(80, outsidePort(40000)).build(), 241)] },
    { name: 'an established one for 7440 s', steps: [own(40000), answer(outsidePort(40000)), { ...own(40000, TCP_ACK), verdict: TO_NIC }, answer(outsidePort(40000), TCP_ACK, 7440)] },
    { name: 'and not for 7441', steps: [own(40000), answer(outsidePort(40000)), { ...own(40000, TCP_ACK), verdict: TO_NIC }, unasked(fromOutside().tcp(80, outsidePort(40000), { flags: TCP_ACK }).build(), 7441)] },
    { name: 'one that was reset for 240 s', steps: [own(40000), answer(outsidePort(40000)), { ...own(40000, TCP_ACK), verdict: TO_NIC }, answer(outsidePort(40000), TCP_RST), unasked(fromOutside().tcp(80, outsidePort(40000), { flags: TCP_ACK }).build(), 241)] },
    { name: 'one FIN closes nothing', steps: [own(40000), answer(outsidePort(40000)), { ...own(40000, TCP_ACK), verdict: TO_NIC }, answer(outsidePort(40000), TCP_FIN | TCP_ACK), answer(outsidePort(40000), TCP_ACK, 1000)] },
    { name: 'a reset that the guest does not believe closes nothing', steps: [own(40000), answer(outsidePort(40000)), answer(outsidePort(40000), TCP_RST), { ...own(40000, TCP_ACK, 1), verdict: TO_NIC }, answer(outsidePort(40000), TCP_ACK, 1000)] },
  ]);
});

describe('ICMP', () => {
  const quoted = (packet: Uint8Array, bytes = 28): Uint8Array => packet.subarray(0, bytes);
  const sent = (flags = TCP_SYN): Uint8Array => ipv4({ src: SHARED, dst: REMOTE }).tcp(outsidePort(40000), 80, { flags, payload }).packet();
  const known = (flags = TCP_SYN): Uint8Array => ipv4({ src: INSIDE, dst: REMOTE }).tcp(40000, 80, { flags, payload }).packet();
  const echo = (identifier: number, at = 0): Step => ({ from: 0, at, frame: fromGuest().icmpEcho('request', identifier, 1, payload).build(), verdict: TAKEN });
  const received = ipv4({ src: REMOTE, dst: SHARED }).udp(1, 5000, { payload }).packet();
  const receivedInside = ipv4({ src: REMOTE, dst: INSIDE }).udp(1, 6000, { payload }).packet();
  table([
    { name: 'an error about a packet of the guest quotes what the guest sent', steps: [own(40000), { frame: fromOutside({ src: '198.51.100.1' }).icmpError(3, 4, quoted(sent())).build(), verdict: toGuest(0), becomes: toGuestFrame({ src: '198.51.100.1' }).icmpError(3, 4, quoted(known())).build() }] },
    { name: 'a long quote has the right checksum inside', steps: [own(40000), { frame: fromOutside().icmpError(11, 0, sent()).build(), verdict: toGuest(0), becomes: toGuestFrame().icmpError(11, 0, known()).build() }] },
    { name: 'an error about a flow that is not there is nobody’s', ...unasked(fromOutside().icmpError(3, 1, quoted(sent())).build()) },
    { name: 'an error of the guest quotes what the outside sent', steps: [{ frame: fromOutside().udp(1, 5000, { payload }).build(), verdict: toGuest(0) }, { from: 0, frame: fromGuest().icmpError(3, 3, receivedInside).build(), verdict: TO_NIC, becomes: toOutside().icmpError(3, 3, received).build() }] },
    { name: 'an error of the guest about nothing that it got stays', from: 0, frame: fromGuest().icmpError(3, 3, receivedInside).build(), verdict: DISCARD, reason: 'spoofed' },
    { name: 'a redirect of the guest stays', from: 0, frame: fromGuest().icmpError(5, 0, receivedInside).build(), verdict: DISCARD, reason: 'spoofed' },
    { name: 'an echo request leaves under an identifier of the block', ...echo(77), becomes: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77), 1, payload).build() },
    { name: 'and its reply comes back under the guest’s', steps: [echo(77), { frame: fromOutside().icmpEcho('reply', outsidePort(77), 1, payload).build(), verdict: toGuest(0), becomes: toGuestFrame().icmpEcho('reply', 77, 1, payload).build() }] },
    { name: 'an error about an echo request too', steps: [echo(77), { frame: fromOutside({ src: '198.51.100.1' }).icmpError(11, 0, ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77), 1, payload).packet()).build(), verdict: toGuest(0), becomes: toGuestFrame({ src: '198.51.100.1' }).icmpError(11, 0, ipv4({ src: INSIDE, dst: REMOTE }).icmpEcho('request', 77, 1, payload).packet()).build() }] },
    { name: 'a reply to nobody is the host’s', frame: fromOutside().icmpEcho('reply', BLOCK.first).build(), verdict: PASS, reason: 'not-leased' },
    { name: 'a guest that shares the address cannot take the identifier meanwhile', steps: [echo(77), { from: 2, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77)).build(), verdict: DISCARD, reason: 'identifier-taken' }] },
    { name: 'nor is one taken that such a guest has', steps: [{ from: 2, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77)).build(), verdict: TO_NIC }, { ...echo(77), becomes: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(78), 1, payload).build() }] },
    {
      name: 'but later it can, and the reply is its own; the mapped guest goes on under another',
      steps: [
        echo(77),
        { from: 2, at: 31, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77)).build(), verdict: TO_NIC },
        { at: 31, frame: fromOutside().icmpEcho('reply', outsidePort(77)).build(), verdict: toGuest(2) },
        { at: 31, frame: fromOutside({ src: '198.51.100.1' }).icmpError(11, 0, ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(77), 1, payload).packet()).build(), verdict: toGuest(2) },
        { ...echo(77, 32), becomes: eth({ src: GUEST_MAC, dst: GATEWAY_MAC }).ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', outsidePort(78), 1, payload).build() },
        { at: 32, frame: fromOutside().icmpEcho('reply', outsidePort(77)).build(), verdict: toGuest(2) },
      ],
    },
    { name: 'an echo request from outside is the host’s', frame: fromOutside().icmpEcho('request', 1).build(), verdict: PASS, reason: 'other-protocol' },
    { name: 'an echo is remembered for 60 s', steps: [echo(77), { at: 60, frame: fromOutside().icmpEcho('reply', outsidePort(77)).build(), verdict: toGuest(0) }] },
  ]);
});

describe('fragments', () => {
  const long = new Uint8Array(1200).map((_, n) => n);
  const outsideWhole = fragment(fromOutside({ id: 5 }).udp(1, 5000, { payload: long }).build(), 600);
  const insideWhole = fragment(toGuestFrame({ id: 5 }).udp(1, 6000, { payload: long }).build(), 600);
  const sentInside = fragment(fromGuest({ id: 6 }).udp(6000, 1, { payload: long }).build(), 600);
  const sentOutside = fragment(toOutside({ id: 6 }).udp(5000, 1, { payload: long }).build(), 600);
  table([
    { name: 'later ones follow the first to the guest', steps: outsideWhole.map((frame, n) => ({ frame, verdict: toGuest(0), becomes: insideWhole[n] })) },
    { name: 'and from it', steps: [{ frame: fromOutside().udp(1, 5000).build(), verdict: toGuest(0) }, ...sentInside.map((frame, n) => ({ from: 0, frame, verdict: TO_NIC, becomes: sentOutside[n] }))] },
    { name: 'a later one without its first stays', from: 0, frame: sentInside[1], verdict: DISCARD, reason: 'orphan-fragment' },
    { name: 'one from outside is the host’s', frame: outsideWhole[1], verdict: PASS, reason: 'orphan-fragment' },
  ]);
});

describe('hairpin', () => {
  const other = (frame: Uint8Array): Step => ({ from: 1, frame, verdict: toGuest(0) });
  const long = new Uint8Array(1200).map((_, n) => n);
  const asked = fragment(eth({ src: OTHER_MAC, dst: GATEWAY_MAC }).ipv4({ src: OTHER_INSIDE, dst: SHARED, id: 7 }).udp(1000, 5000, { payload: long }).build(), 600);
  const got = fragment(toGuestFrame({ src: SHARED, id: 7 }).udp(OTHER_BLOCK.first, 6000, { payload: long }).build(), 600);
  table([
    {
      name: 'a mapped guest reaches another by the outside address, from its own',
      steps: [
        { ...other(eth({ src: OTHER_MAC, dst: GATEWAY_MAC }).ipv4({ src: OTHER_INSIDE, dst: SHARED }).tcp(1000, 8443, { payload }).build()), becomes: toGuestFrame({ src: SHARED }).tcp(OTHER_BLOCK.first, 443, { payload }).build() },
        { from: 0, frame: fromGuest({ dst: SHARED }).tcp(443, OTHER_BLOCK.first, { payload }).build(), verdict: toGuest(1), becomes: eth({ src: GATEWAY_MAC, dst: OTHER_MAC }).ipv4({ src: SHARED, dst: OTHER_INSIDE }).tcp(8443, 1000, { payload }).build() },
      ],
    },
    { name: 'itself too', from: 0, frame: fromGuest({ dst: SHARED }).tcp(1000, 8443).build(), verdict: toGuest(0), becomes: toGuestFrame({ src: SHARED }).tcp(BLOCK.first, 443).build() },
    { name: 'in fragments', steps: asked.map((frame, n) => ({ from: 1, frame, verdict: toGuest(0), becomes: got[n] })) },
    { name: 'not a guest that shares the address', from: 0, frame: fromGuest({ dst: SHARED }).tcp(1, 8080).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'not the host', from: 0, frame: fromGuest({ dst: SHARED }).tcp(1, 22).build(), verdict: DISCARD, reason: 'not-leased' },
    { name: 'not a port of a block that nobody has asked from', from: 0, frame: fromGuest({ dst: SHARED }).tcp(1, OTHER_BLOCK.first).build(), verdict: DISCARD, reason: 'no-flow' },
  ]);
});
