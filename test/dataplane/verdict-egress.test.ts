/**
 * Egress verdicts: a guest sends what is leased to it, and nothing else; design §3 (last paragraph), D6.
 * ARP: verdict-arp.test.ts. The implicit indication: verdict-implicit.test.ts.
 */
import { describe } from 'vitest';
import { DISCARD, TO_NIC } from '../support/dataplane-harness.js';
import { BARE, NOT_US, REMOTE, type Row, SECOND, SHARED, type Step, verdictTable, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED } from '../support/dataplane-rows.js';
import { eth, ipv4, type Ipv4Options } from '../../src/wire/frame-builder.js';

const NIC = '02:00:5e:10:00:10';
const from = (ip: Ipv4Options = {}, src = NIC) => eth({ src }).ipv4({ src: SHARED, dst: REMOTE, ...ip });
const tcp = (port: number, ip: Ipv4Options = {}, src = NIC) => from(ip, src).tcp(port, 443).build();
const udp = (port: number, ip: Ipv4Options = {}, src = NIC) => from(ip, src).udp(port, 53).build();
const spoofed = { verdict: DISCARD, reason: 'spoofed' } as const;
const malformed = { verdict: DISCARD, reason: 'malformed' } as const;

describe('D6: TCP and UDP from a guest', () => {
  verdictTable(
    [
      { name: 'forwards TCP from an endpoint in use', from: 0, frame: tcp(8080), verdict: TO_NIC },
      { name: 'forwards UDP from an endpoint in use', from: 1, frame: udp(53), verdict: TO_NIC },
      { name: 'R2, R10: forwards with every byte as it came: address, port, time to live, checksums', from: 0, frame: from({ ttl: 1, tos: 0xb9, id: 4711, options: [1, 1, 1, 1], checksum: 0xdead }).tcp(8080, 443, { seq: 7, payload: 'as it is' }).build(), verdict: TO_NIC },
      { name: 'forwards from an endpoint leased and not yet in use', from: 0, frame: tcp(8082), verdict: TO_NIC },
      { name: 'forwards to any destination, another guest’s endpoint of the same address too', from: 0, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: SHARED }).tcp(8080, 8081).build(), verdict: TO_NIC },
      { name: 'forwards options', from: 0, frame: tcp(8080, { options: [1, 1, 1, 1, 1] }), verdict: TO_NIC },
      { name: 'forwards a total length of 0 (before segmentation)', from: 0, frame: tcp(8080, { totalLength: 0 }), verdict: TO_NIC },
      { name: 'forwards whatever the destination MAC', from: 0, frame: eth({ src: NIC, dst: '02:99:99:99:99:99' }).ipv4({ src: SHARED, dst: REMOTE }).tcp(8080, 1).build(), verdict: TO_NIC },
      { name: 'refuses another guest’s endpoint', from: 0, frame: tcp(8081), ...spoofed },
      { name: 'refuses another guest’s UDP endpoint', from: 0, frame: udp(53), ...spoofed },
      { name: 'refuses another guest’s endpoint that is leased and not in use', from: 1, frame: tcp(8082), ...spoofed },
      { name: 'refuses another guest’s UDP endpoint that is leased and not in use', from: 0, frame: udp(54), ...spoofed },
      { name: 'refuses a port that nobody leases', from: 0, frame: tcp(22), ...spoofed },
      { name: 'refuses the protocol that is not leased', from: 0, frame: udp(8080), ...spoofed },
      { name: 'refuses a quarantined endpoint of its own', from: 0, frame: tcp(8083), ...spoofed },
      { name: 'refuses a leased port from another shared address', from: 0, frame: tcp(8080, { src: SECOND }), ...spoofed },
      { name: 'refuses an address of ours without leases', from: 0, frame: tcp(8080, { src: BARE }), ...spoofed },
      { name: 'refuses an address that is not ours', from: 0, frame: tcp(8080, { src: NOT_US }), ...spoofed },
      { name: 'refuses 0.0.0.0 (DHCP)', from: 0, frame: udp(68, { src: '0.0.0.0', dst: '255.255.255.255' }), ...spoofed },
      { name: 'looks at the source, not the destination', from: 0, frame: eth({ src: NIC }).ipv4({ src: REMOTE, dst: SHARED }).tcp(1, 8080).build(), ...spoofed },
      { name: 'refuses another source MAC', from: 0, frame: tcp(8080, {}, '02:00:5e:10:00:11'), ...spoofed },
      { name: 'refuses a source MAC that differs in its first byte', from: 0, frame: tcp(8080, {}, '06:00:5e:10:00:10'), ...spoofed },
      { name: 'refuses a source MAC that differs in its fifth byte', from: 0, frame: tcp(8080, {}, '02:00:5e:10:01:10'), ...spoofed },
      { name: 'refuses an endpoint that was released', from: 0, before: ({ writer }) => writer.release(0xc000020a, 0, 8080), frame: tcp(8080), ...spoofed },
      { name: 'refuses TCP with 19 bytes', from: 0, frame: tcp(8080, { totalLength: 39 }), ...malformed },
      { name: 'refuses UDP with 7 bytes', from: 1, frame: udp(53, { totalLength: 27 }), ...malformed },
      { name: 'refuses version 6', from: 0, frame: tcp(8080, { version: 6 }), ...malformed },
      { name: 'refuses IHL 4', from: 0, frame: tcp(8080, { ihl: 4 }), ...malformed },
      { name: 'refuses a total length past the frame', from: 0, frame: tcp(8080, { totalLength: 41 }), ...malformed },
      { name: 'refuses an empty frame', from: 0, frame: new Uint8Array(0), ...malformed },
      { name: 'refuses 13 bytes', from: 0, frame: tcp(8080).subarray(0, 13), ...malformed },
    ],
    { station: NIC },
  );
  verdictTable(
    Array.from({ length: 54 }, (_, size) => ({ name: `refuses a TCP frame cut to ${size} bytes`, from: 0, frame: tcp(8080).subarray(0, size), ...malformed })),
    { station: NIC },
  );
});

describe('D6: a dedicated address', () => {
  verdictTable(
    [
      { name: 'is its guest’s, any port', from: 2, frame: tcp(5, { src: WHOLE }), verdict: TO_NIC },
      { name: 'is its guest’s, leased and not in use too', from: 2, frame: udp(5, { src: WHOLE_LEASED }), verdict: TO_NIC },
      { name: 'is not another guest’s while leased and not in use', from: 0, frame: tcp(5, { src: WHOLE_LEASED }), ...spoofed },
      { name: 'is not another guest’s', from: 0, frame: tcp(5, { src: WHOLE }), ...spoofed },
      { name: 'is nobody’s while quarantined', from: 2, frame: tcp(5, { src: WHOLE_QUARANTINED }), ...spoofed },
      { name: 'leaves the exact entry to its own guest', from: 1, frame: tcp(443, { src: WHOLE }), verdict: TO_NIC },
      { name: 'does not give the exact entry to the guest of the whole', from: 2, frame: tcp(443, { src: WHOLE }), ...spoofed },
      { name: 'may be pinged from and answered for by its guest', from: 2, frame: from({ src: WHOLE }).icmpEcho('reply', 1).build(), verdict: TO_NIC },
      { name: 'may send any ICMP', from: 2, frame: from({ src: WHOLE }).proto(1, [13, 0, 0, 0, 0, 0, 0, 0]).build(), verdict: TO_NIC },
    ],
    { station: NIC },
  );
});

describe('what is neither TCP, UDP nor ARP', () => {
  const tagged = { verdict: DISCARD, reason: 'tagged' } as const;
  const rows: Row[] = [
    { name: 'refuses IPv6', from: 0, frame: eth({ src: NIC }).raw(0x86dd, new Uint8Array(40)).build(), verdict: DISCARD, reason: 'not-ipv4' },
    { name: 'refuses LLDP and spanning tree', from: 0, frame: eth({ src: NIC, dst: '01:80:c2:00:00:00' }).raw(0x0026, new Uint8Array(38)).build(), verdict: DISCARD, reason: 'not-ipv4' },
    { name: 'refuses a PAUSE frame', from: 0, frame: eth({ src: NIC, dst: '01:80:c2:00:00:01' }).raw(0x8808, [0, 1, 255, 255]).build(), verdict: DISCARD, reason: 'not-ipv4' },
    { name: 'refuses another source MAC before anything else', from: 0, frame: eth({ src: '02:00:5e:10:00:11' }).raw(0x86dd, new Uint8Array(40)).build(), ...spoofed },
    { name: 'refuses IGMP', from: 0, frame: from().proto(2, new Uint8Array(8)).build(), verdict: DISCARD, reason: 'other-protocol' },
    { name: 'refuses GRE', from: 0, frame: from().proto(47, new Uint8Array(8)).build(), verdict: DISCARD, reason: 'other-protocol' },
    { name: 'refuses a later fragment of another protocol', from: 0, frame: from({ fragmentOffset: 8 }).proto(47, new Uint8Array(8)).build(), verdict: DISCARD, reason: 'other-protocol' },
    { name: 'refuses three tags as not IPv4', from: 0, frame: eth({ src: NIC }).vlan(1).vlan(2).vlan(3).ipv4({ src: SHARED }).tcp(8080, 1).build(), verdict: DISCARD, reason: 'not-ipv4' },
    { name: 'refuses a malformed tagged frame as malformed', from: 0, frame: eth({ src: NIC }).vlan(1).ipv4({ src: SHARED, version: 6 }).tcp(8080, 1).build(), ...malformed },
  ];
  for (const type of [0x8100, 0x88a8, 0x9100]) {
    const one = eth({ src: NIC }).vlan(7, type);
    rows.push(
      { name: `refuses TCP under a tag ${type.toString(16)}`, from: 0, frame: one.ipv4({ src: SHARED }).tcp(8080, 1).build(), ...tagged },
      { name: `refuses TCP under two tags ${type.toString(16)}`, from: 0, frame: one.vlan(8, type).ipv4({ src: SHARED }).tcp(8080, 1).build(), ...tagged },
      { name: `refuses ICMP under a tag ${type.toString(16)}`, from: 0, frame: one.ipv4({ src: SHARED }).icmpEcho('request', 1).build(), ...tagged },
    );
  }
  verdictTable(rows, { station: NIC });
});

describe('ICMP from a guest', () => {
  const ask = (identifier: number, ip: Ipv4Options = {}) => from(ip).icmpEcho('request', identifier).build();
  const about = (inner: Uint8Array, type = 3, ip: Ipv4Options = {}) => from({ dst: REMOTE, ...ip }).icmpError(type, 3, inner).build();
  /** A packet from outside, as a guest quotes it. */
  const received = (port: number, ip: Ipv4Options = {}) => ipv4({ src: REMOTE, dst: SHARED, ...ip }).tcp(40000, port).packet().subarray(0, 28);
  verdictTable(
    [
      { name: 'forwards an echo request from an address the guest shares', from: 0, frame: ask(1), verdict: TO_NIC },
      { name: 'refuses an echo request from an address it does not share', from: 0, frame: ask(1, { src: SECOND }), ...spoofed },
      { name: 'refuses an echo request from an address that is not ours', from: 0, frame: ask(1, { src: NOT_US }), ...spoofed },
      { name: 'refuses a guest without leases on the address', from: 2, frame: ask(1), ...spoofed },
      { name: 'refuses an identifier in use by another guest', steps: [{ from: 0, frame: ask(1), verdict: TO_NIC }, { from: 1, frame: ask(1), verdict: DISCARD, reason: 'identifier-taken' }, { from: 0, frame: ask(1), verdict: TO_NIC }] },
      { name: 'does not let a refused request take an identifier', steps: [{ from: 2, frame: ask(1), ...spoofed }, { from: 0, frame: ask(1), verdict: TO_NIC }] },
      { name: 'refuses an echo reply from a shared address: the host answers', from: 0, frame: from().icmpEcho('reply', 1).build(), ...spoofed },
      { name: 'refuses a timestamp request from a shared address', from: 0, frame: from().proto(1, [13, 0, 0, 0, 0, 0, 0, 0]).build(), ...spoofed },
      { name: 'refuses an ICMP header cut off', from: 0, frame: from().proto(1, [8, 0, 0, 0, 0, 1, 0]).build(), ...malformed },
      { name: 'forwards port unreachable about a packet to its endpoint', from: 0, frame: about(received(8080)), verdict: TO_NIC },
      { name: 'forwards time exceeded about a packet to its endpoint', from: 0, frame: about(received(8080), 11), verdict: TO_NIC },
      { name: 'forwards about an endpoint leased and not in use', from: 0, frame: about(received(8082)), verdict: TO_NIC },
      { name: 'reads past the options of the quote', from: 0, frame: about(ipv4({ src: REMOTE, dst: SHARED, options: [1, 1, 1, 1] }).tcp(1, 8080).packet()), verdict: TO_NIC },
      { name: 'refuses about another guest’s endpoint: it could cut its connections', from: 0, frame: about(received(8081)), ...spoofed },
      { name: 'refuses about the host’s port', from: 0, frame: about(received(22)), ...spoofed },
      { name: 'refuses about its quarantined endpoint', from: 0, frame: about(received(8083)), ...spoofed },
      { name: 'refuses from another address than the packet in error went to', from: 1, frame: about(received(8081), 3, { src: SECOND }), ...spoofed },
      { name: 'refuses about a packet from its endpoint instead of to it', from: 0, frame: about(ipv4({ src: SHARED, dst: REMOTE }).tcp(8080, 1).packet()), ...spoofed },
      { name: 'refuses an echo request quoted: the host received it', from: 0, frame: about(ipv4({ src: REMOTE, dst: SHARED }).icmpEcho('request', 1).packet()), ...spoofed },
      { name: 'refuses a quote of a later fragment', from: 0, frame: about(ipv4({ src: REMOTE, dst: SHARED, fragmentOffset: 8 }).proto(6, [0, 1, 31, 144, 0, 0, 0, 0]).packet()), ...spoofed },
      { name: 'refuses a quote of 27 bytes', from: 0, frame: about(received(8080).subarray(0, 27)), ...spoofed },
      { name: 'refuses an empty quote', from: 0, frame: about(new Uint8Array(0)), ...spoofed },
      { name: 'refuses a quote with IHL 4', from: 0, frame: about(ipv4({ src: REMOTE, dst: SHARED, ihl: 4 }).tcp(1, 8080).packet()), ...spoofed },
      { name: 'refuses a quote of version 6', from: 0, frame: about(ipv4({ src: REMOTE, dst: SHARED, version: 6 }).tcp(1, 8080).packet()), ...spoofed },
      { name: 'does not take an error for an indication (D7)', from: 0, frame: about(received(8082)), verdict: TO_NIC, after: (plane) => {
        if (plane.state(SHARED, 'tcp', 8082) !== 1) throw new Error('the endpoint was indicated');
      } },
    ],
    { station: NIC },
  );
});

describe('fragments from a guest', () => {
  const DATA = new Uint8Array(16);
  const first = (port: number, ip: Ipv4Options = {}) => from({ id: 7, moreFragments: true, ...ip }).udp(port, 53, { payload: DATA }).build();
  const later = (ip: Ipv4Options = {}, protocol = 17) => from({ id: 7, fragmentOffset: 24, ...ip }).proto(protocol, DATA).build();
  const sent: Step = { from: 1, frame: first(53), verdict: TO_NIC };
  const orphan = (frame: Uint8Array, by = 1, at = 0): Step => ({ from: by, at, frame, verdict: DISCARD, reason: 'orphan-fragment' });
  const follows = (frame: Uint8Array, at = 0): Step => ({ from: 1, at, frame, verdict: TO_NIC });
  verdictTable(
    [
      { name: 'forwards a datagram’s fragments', steps: [sent, follows(later()), follows(later({ fragmentOffset: 40, moreFragments: true }))] },
      { name: 'refuses a later fragment without its first', ...orphan(later()) },
      { name: 'refuses a later fragment of another guest’s datagram', steps: [sent, orphan(later(), 0)] },
      { name: 'remembers 30 s', steps: [sent, follows(later(), 30), orphan(later(), 1, 31)] },
      { name: 'tells ids, destinations and protocols apart', steps: [sent, orphan(later({ id: 8 })), orphan(later({ dst: NOT_US })), orphan(later({}, 6))] },
      { name: 'refuses the fragments of a spoofed first', steps: [{ from: 0, frame: first(53), ...spoofed }, orphan(later(), 0)] },
      { name: 'refuses a short first fragment', from: 1, frame: from({ moreFragments: true }).proto(17, new Uint8Array(7)).build(), ...malformed },
      { name: 'refuses another source MAC on a later fragment', steps: [sent, { from: 1, frame: eth({ src: '02:00:5e:10:00:11' }).ipv4({ src: SHARED, dst: REMOTE, id: 7, fragmentOffset: 24 }).proto(17, DATA).build(), ...spoofed }] },
      { name: 'does not mix what was sent with what was received', steps: [{ ...sent, frame: first(53, { dst: SHARED }) }, { frame: later({ dst: SHARED }), verdict: -2, reason: 'orphan-fragment' }] },
      {
        name: 'forwards the fragments of a long echo request',
        steps: [
          { from: 0, frame: from({ id: 9, moreFragments: true }).icmpEcho('request', 4, 1, DATA).build(), verdict: TO_NIC },
          { from: 0, frame: later({ id: 9 }, 1), verdict: TO_NIC },
        ],
      },
      {
        name: 'refuses the fragments of an echo request that was refused',
        steps: [
          { from: 2, frame: from({ id: 9, moreFragments: true }).icmpEcho('request', 4, 1, DATA).build(), ...spoofed },
          orphan(later({ id: 9 }, 1), 2),
        ],
      },
    ],
    { station: NIC },
  );
});
