/**
 * The answers of the reject policy, one row a rule of RFC 9293 §3.10.7.1, RFC 1122 §3.2.2 or RFC 1812 §4.3.2; then
 * properties over any packet and any garbage; then Wireshark's opinion of what is sent.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksum, pseudoHeaderSum } from '../../src/wire/checksum.js';
import { type FrameBuilder, type Ipv4Options, eth, ipv4 } from '../../src/wire/frame-builder.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../../src/wire/ipv4.js';
import { type Offender, mayReject, portUnreachable, rejection, tcpReset } from '../../src/wire/reject.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../src/wire/tcp.js';
import { LINK_IPV4, dissect, hasTshark } from './tshark.js';

/** The offender of an untagged frame, its total length taken from the header. */
function offender(frame: FrameBuilder | Uint8Array, changes: Partial<Offender> = {}): Offender {
  const bytes = frame instanceof Uint8Array ? frame : frame.build();
  const totalLength = bytes[16] * 256 + bytes[17];
  return { bytes, frameOffset: 0, packetOffset: 14, captured: bytes.length - 14, totalLength, ...changes };
}

/** The TCP fields of a 40-byte reset. */
function readReset(packet: Uint8Array | null) {
  expect(packet).not.toBeNull();
  const view = new DataView(packet!.buffer);
  const ports = [view.getUint16(20), view.getUint16(22)];
  return { seq: view.getUint32(24), ack: view.getUint32(28), flags: view.getUint8(33), ports };
}

describe('tcpReset', () => {
  const sent = (options: object, ip: Ipv4Options = {}): FrameBuilder => eth().ipv4(ip).tcp(40000, 8080, options);
  it.each<{ name: string; frame: FrameBuilder; next: number; changes?: Partial<Offender> }>([
    { name: 'a SYN', frame: sent({ seq: 1000 }), next: 1001 },
    { name: 'a SYN with data (RFC 7413)', frame: sent({ seq: 1000, options: [34, 2], payload: 'hello' }), next: 1006 },
    { name: 'a SYN just before the sequence wraps', frame: sent({ seq: 0xffffffff, payload: 'x' }), next: 1 },
    { name: 'a FIN without ACK', frame: sent({ seq: 5, flags: TCP_FIN, payload: 'ab' }), next: 8 },
    { name: 'SYN and FIN together', frame: sent({ seq: 5, flags: TCP_SYN | TCP_FIN }), next: 7 },
    { name: 'no flags at all', frame: sent({ seq: 5, flags: 0 }), next: 5 },
    { name: 'a SYN behind IP options', frame: sent({ seq: 9 }, { options: [1, 1, 1, 0] }), next: 10 },
    { name: 'a SYN in a padded frame', frame: sent({ seq: 9 }).padTo(60), next: 10 },
    { name: 'total length 0, as captured', frame: sent({ seq: 9, payload: 'abc' }, { totalLength: 0 }), next: 13 },
    { name: 'a cut-off capture', frame: sent({ seq: 9, payload: 'abc' }), next: 13, changes: { captured: 40 } },
    { name: 'a first fragment', frame: sent({ seq: 9, payload: 'abcdefgh' }, { moreFragments: true }), next: 18 },
  ])('without ACK acknowledges $name', ({ frame, next, changes }) => {
    const expected = { seq: 0, ack: next, flags: TCP_RST | TCP_ACK, ports: [8080, 40000] };
    expect(readReset(tcpReset(offender(frame, changes)))).toEqual(expected);
  });

  it.each([
    { name: 'data', frame: sent({ seq: 5, ack: 0x80000009, flags: TCP_ACK, payload: 'data' }), ack: 0x80000009 },
    { name: 'a FIN', frame: sent({ seq: 5, ack: 77, flags: TCP_ACK | TCP_FIN }), ack: 77 },
    { name: 'a stray SYN', frame: sent({ seq: 5, ack: 77, flags: TCP_ACK | TCP_SYN }), ack: 77 },
  ])('with ACK takes its number for $name', ({ frame, ack }) => {
    expect(readReset(tcpReset(offender(frame)))).toEqual({ seq: ack, ack: 0, flags: TCP_RST, ports: [8080, 40000] });
  });

  it('answers from the address that was asked, with an atomic IP header', () => {
    const packet = tcpReset(offender(eth().ipv4({ tos: 0xb8, ttl: 3 }).tcp(1, 2)));
    const expected = ipv4({ src: '192.0.2.10', dst: '198.51.100.7', id: 0, dontFragment: true })
      .tcp(2, 1, { seq: 0, ack: 2, flags: TCP_RST | TCP_ACK, window: 0 })
      .packet();
    expect(packet).toEqual(expected);
  });

  it.each<{ name: string; frame: FrameBuilder; changes?: Partial<Offender> }>([
    { name: 'UDP', frame: eth().ipv4().udp(1, 2) },
    { name: 'a data offset under 5', frame: sent({ dataOffset: 4 }) },
    { name: 'a data offset past the packet', frame: sent({ dataOffset: 6 }) },
    { name: 'a header cut off by the capture', frame: sent({}), changes: { captured: 39 } },
    { name: 'a header cut off by the total length', frame: sent({}, { totalLength: 39 }) },
  ])('is silent to $name', ({ frame, changes }) => {
    expect(tcpReset(offender(frame, changes))).toBeNull();
  });
});

describe('portUnreachable', () => {
  it('quotes a short packet whole and without its padding', () => {
    const frame = eth().ipv4({ options: [7, 3, 4] }).udp(53, 9, { payload: 'query' }).padTo(60).build();
    const packet = portUnreachable(offender(frame))!;
    const inner = frame.subarray(14, 14 + 24 + 8 + 5);
    const expected = ipv4({ src: '192.0.2.10', dst: '198.51.100.7', id: 0, dontFragment: true }).icmpError(3, 3, inner);
    expect(packet).toEqual(expected.packet());
  });

  it.each([
    { name: 'the longest that is quoted whole', data: 520, bytes: 576 },
    { name: 'one byte more', data: 521, bytes: 576 },
    { name: 'the longest datagram', data: 65507, bytes: 576 },
  ])('stays within 576 bytes for $name', ({ data, bytes }) => {
    const frame = eth().ipv4().udp(1, 2, { payload: new Uint8Array(data).fill(7) }).build();
    const packet = portUnreachable(offender(frame))!;
    expect(packet.length).toBe(bytes);
    expect(packet.subarray(28)).toEqual(frame.subarray(14, 14 + bytes - 28));
  });

  it('answers TCP too, and no protocol without ports', () => {
    expect(portUnreachable(offender(eth().ipv4().tcp(1, 2)))?.length).toBe(28 + 40);
    expect(portUnreachable(offender(eth().ipv4().icmpEcho('request', 1)))).toBeNull();
    expect(portUnreachable(offender(eth().ipv4().proto(47, new Uint8Array(9))))).toBeNull();
  });
});

describe('mayReject', () => {
  const syn = (ip: Ipv4Options, mac = {}): Offender => offender(eth(mac).ipv4(ip).tcp(1, 2));
  const toGroup = syn({}, { dst: '01:00:5e:00:00:01' });
  const cut = syn({}).bytes.subarray(0, 40);
  it.each<{ name: string; may: boolean; packet: Offender }>([
    { name: 'a SYN', may: true, packet: syn({}) },
    { name: 'a datagram', may: true, packet: offender(eth().ipv4().udp(1, 2)) },
    { name: 'an echo request', may: true, packet: offender(eth().ipv4().icmpEcho('request', 1)) },
    { name: 'a first fragment', may: true, packet: syn({ moreFragments: true }) },
    { name: 'a reset', may: false, packet: offender(eth().ipv4().tcp(1, 2, { flags: TCP_RST })) },
    { name: 'a reset with ACK', may: false, packet: offender(eth().ipv4().tcp(1, 2, { flags: TCP_RST | TCP_ACK })) },
    { name: 'a later fragment', may: false, packet: syn({ fragmentOffset: 8 }) },
    { name: 'the last fragment of the longest datagram', may: false, packet: syn({ fragmentOffset: 65528 }) },
    ...[3, 4, 5, 11, 12].map((type) => ({
      name: `ICMP error ${type}`,
      may: false,
      packet: offender(eth().ipv4().icmpError(type, 0, ipv4().udp(1, 2).packet())),
    })),
    ...['0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255'].flatMap(
      (address) => [
        { name: `source ${address}`, may: false, packet: syn({ src: address }) },
        { name: `destination ${address}`, may: false, packet: syn({ dst: address }) },
      ],
    ),
    ...['1.0.0.1', '126.255.255.255', '128.0.0.0', '223.255.255.255'].map((address) => ({
      name: `source ${address}`,
      may: true,
      packet: syn({ src: address }),
    })),
    { name: 'a source equal to the destination', may: false, packet: syn({ src: '192.0.2.10' }) },
    { name: 'a broadcast frame', may: false, packet: syn({}, { dst: 'ff:ff:ff:ff:ff:ff' }) },
    { name: 'a multicast frame', may: false, packet: toGroup },
    { name: 'the same without its link header', may: true, packet: { ...toGroup, frameOffset: -1 } },
    { name: 'version 6', may: false, packet: syn({ version: 6 }) },
    { name: 'IHL 4', may: false, packet: syn({ ihl: 4 }) },
    { name: 'IHL past the packet', may: false, packet: syn({ ihl: 15 }) },
    { name: 'a total length under the header', may: false, packet: syn({ totalLength: 19 }) },
    { name: 'a UDP header cut off', may: false, packet: offender(eth().ipv4().udp(1, 2), { captured: 27 }) },
    { name: 'an ICMP header cut off', may: false, packet: offender(eth().ipv4().proto(1, [8, 0, 0])) },
    { name: 'a captured length past the bytes', may: false, packet: { ...syn({}), bytes: cut, captured: 40 } },
  ])('$may for $name', ({ may, packet }) => {
    expect(mayReject(packet)).toBe(may);
    if (!may) expect([tcpReset(packet), portUnreachable(packet), rejection(packet)]).toEqual([null, null, null]);
  });
});

describe('any packet', () => {
  it('gets a reset that ends exactly what was sent, by an independent count', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    const options = fc.uint8Array({ maxLength: 40 });
    const data = fc.uint8Array({ maxLength: 100 });
    fc.assert(
      fc.property(word, word, fc.nat(255), options, options, data, (seq, ack, flags, ipOptions, tcpOptions, payload) => {
        const tcp = { seq, ack, flags, options: tcpOptions, payload };
        const packet = rejection(offender(eth().ipv4({ options: ipOptions }).tcp(1, 2, tcp)));
        if ((flags & TCP_RST) !== 0) {
          expect(packet).toBeNull();
          return;
        }
        const length = payload.length + [TCP_SYN, TCP_FIN].filter((bit) => (flags & bit) !== 0).length;
        const next = Number((BigInt(seq) + BigInt(length)) & 0xffffffffn);
        const hasAck = (flags & TCP_ACK) !== 0;
        expect(readReset(packet)).toMatchObject(hasAck ? { seq: ack, flags: TCP_RST } : { seq: 0, ack: next });
        expect(checksum(packet!, 0, 20)).toBe(0);
        const pseudo = pseudoHeaderSum(0xc000020a, 0xc6336407, PROTOCOL_TCP, 20);
        expect(checksum(packet!, 20, 20, pseudo)).toBe(0);
      }),
    );
  });

  it('is never answered twice: no answer is itself answered with a reset or an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700 }), fc.boolean(), (payload, udp) => {
        const start = eth().ipv4();
        const answer = rejection(offender(udp ? start.udp(1, 2, { payload }) : start.tcp(1, 2, { payload })))!;
        const { length } = answer;
        const back = { bytes: answer, frameOffset: -1, packetOffset: 0, captured: length, totalLength: length };
        expect(rejection(back)).toBeNull();
      }),
    );
  });

  it('of random bytes and lengths makes no exception and no answer over 576 bytes', () => {
    const garbage = fc.uint8Array({ maxLength: 120 });
    const start = fc.constantFrom(0x45, 0x46, 0x4f, 0x44, 0x65);
    const protocol = fc.constantFrom(PROTOCOL_TCP, PROTOCOL_UDP, 1, 99);
    fc.assert(
      fc.property(garbage, start, protocol, fc.nat(130), fc.nat(130), (bytes, first, ninth, captured, totalLength) => {
        bytes[0] = first;
        bytes[9] = ninth;
        const packet = rejection({ bytes, frameOffset: -1, packetOffset: 0, captured, totalLength });
        expect(packet?.length ?? 0).toBeLessThanOrEqual(576);
        if (packet !== null) expect(checksum(packet, 0, 20)).toBe(0);
      }),
      { numRuns: 2000 },
    );
  });
});

describe.skipIf(!hasTshark())('tshark reads', () => {
  it('a reset and an unreachable with good checksums, the latter about the packet refused', () => {
    const reset = rejection(offender(eth().vlan(3).ipv4().tcp(40000, 8080), { packetOffset: 18, totalLength: 40 }))!;
    const unreachable = rejection(offender(eth().ipv4().udp(40000, 8080, { payload: 'x' })))!;
    const fields = ['tcp.flags', 'tcp.checksum.status', 'icmp.type', 'icmp.code', 'icmp.checksum.status'];
    fields.push('ip.checksum.status', 'ip.src', 'udp.dstport');
    const [first, second] = dissect([reset, unreachable], fields, LINK_IPV4);
    expect(first).toMatchObject({ 'tcp.flags': '0x0014', 'tcp.checksum.status': '1', 'ip.checksum.status': '1' });
    expect(second).toMatchObject({ 'icmp.type': '3', 'icmp.code': '3', 'icmp.checksum.status': '1' });
    expect(second).toMatchObject({ 'ip.src': '192.0.2.10,198.51.100.7', 'ip.checksum.status': '1,1' });
    expect(second['udp.dstport']).toBe('8080');
  });
});
