/**
 * The frame builder against bytes known from elsewhere, against raw-socket's checksum, and when misused.
 * What Wireshark makes of its frames is in frame-builder.tshark.test.ts.
 */
import { createRequire } from 'node:module';
import fc from 'fast-check';
import type * as RawSocketModule from 'raw-socket';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT_DESTINATION_IP,
  DEFAULT_DESTINATION_MAC,
  DEFAULT_SOURCE_IP,
  DEFAULT_SOURCE_MAC,
  type FrameBuilder,
  eth,
  ipv4,
} from '../../src/wire/frame-builder.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../../src/wire/ipv4.js';

const raw = createRequire(import.meta.url)('raw-socket') as typeof RawSocketModule;

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

describe('known bytes', () => {
  it('writes the default SYN', () => {
    expect(hex(eth().ipv4().tcp(40000, 8080).build())).toBe(
      '02005e100010' + '02005e100007' + '0800' +
        '4500002800010000' + '4006' + '8e8a' + 'c6336407' + 'c000020a' +
        '9c401f90' + '00000001' + '00000000' + '5002faf0' + '0cdb' + '0000',
    );
  });

  it('takes its defaults from the exported constants', () => {
    const link = { src: DEFAULT_SOURCE_MAC, dst: DEFAULT_DESTINATION_MAC };
    const network = { src: DEFAULT_SOURCE_IP, dst: DEFAULT_DESTINATION_IP };
    expect(eth().ipv4().udp(1, 2).build()).toEqual(eth(link).ipv4(network).udp(1, 2).build());
  });

  it('writes the IPv4 header of the textbook checksum example', () => {
    const options = { src: '192.168.0.1', dst: '192.168.0.199', id: 0, dontFragment: true };
    const packet = ipv4(options).udp(1, 2, { payload: new Uint8Array(0x73 - 28) }).packet();
    expect(hex(packet.subarray(0, 20))).toBe('450000730000400040' + '11' + 'b861' + 'c0a80001' + 'c0a800c7');
  });

  it('writes the echo request of the raw-socket manual', () => {
    const packet = ipv4().icmpEcho('request', 1, 0x0a09, 'abcdefghijklmnopqrstuvwabcdefghi').packet();
    expect(hex(packet.subarray(20, 28))).toBe('0800' + '4352' + '0001' + '0a09');
  });

  it('writes an ARP request to everyone, and a reply to the one who asked (RFC 826)', () => {
    const request = eth().arp('request', { senderIp: '198.51.100.7', targetIp: '192.0.2.10' }).build();
    expect(hex(request)).toBe(
      'ffffffffffff' + '02005e100007' + '0806' + '0001080006040001' + '02005e100007c6336407' + '000000000000c000020a',
    );
    const reply = eth({ src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' }).arp('reply').build();
    expect(hex(reply.subarray(20))).toBe('0002' + '020000000001c6336407' + '020000000002c000020a');
  });

  it('puts tags outermost first and any EtherType behind them', () => {
    const frame = eth().vlan(5).vlan(7, 0x88a8, 3).raw(0x86dd, [1, 2, 3]).build();
    expect(hex(frame.subarray(12))).toBe('81000005' + '88a86007' + '86dd' + '010203');
  });

  it('sends a UDP checksum of 0 as all ones (RFC 768)', () => {
    const plain = ipv4().udp(53, 40000, { payload: [0, 0] }).packet();
    const cancelling = ipv4().udp(53, 40000, { payload: plain.subarray(26, 28) }).packet();
    expect(hex(cancelling.subarray(26, 28))).toBe('ffff');
  });
});

describe('overrides', () => {
  it('writes wrong header fields when asked to', () => {
    const packet = ipv4({ version: 6, ihl: 3, totalLength: 0, checksum: 0x1234 }).udp(1, 2, { length: 7 }).packet();
    expect(hex(packet.subarray(0, 4))).toBe('63000000');
    expect(hex(packet.subarray(10, 12))).toBe('1234');
    expect(hex(packet.subarray(24, 26))).toBe('0007');
  });

  it('writes fragment fields: offset given in bytes, stored in units of 8', () => {
    const packet = ipv4({ moreFragments: true, fragmentOffset: 1480, id: 0xbeef }).proto(PROTOCOL_UDP, [9]).packet();
    expect(hex(packet.subarray(4, 8))).toBe('beef' + '20b9');
  });

  it('pads IP and TCP options with zeros to whole words and counts them', () => {
    const packet = ipv4({ options: [7, 3, 4] }).tcp(1, 2, { options: [2, 4, 5, 0xb4, 1] }).packet();
    expect(packet[0]).toBe(0x46);
    expect(hex(packet.subarray(20, 24))).toBe('07030400');
    expect(packet[24 + 12]).toBe(0x70);
    expect(hex(packet.subarray(44, 52))).toBe('020405b401000000');
    expect(packet.length).toBe(52);
  });

  it('pads the frame, not the packet', () => {
    const frame = eth().ipv4().udp(1, 2).padTo(60).build();
    expect(frame.length).toBe(60);
    expect(hex(frame.subarray(16, 18))).toBe('001c');
  });
});

describe('any packet', () => {
  const port = fc.integer({ min: 0, max: 65535 });
  const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((parts) => parts.join('.'));
  const bytes = fc.uint8Array({ maxLength: 600 });
  const options = fc.uint8Array({ maxLength: 40 });

  it('has checksums that raw-socket finds right', () => {
    fc.assert(
      fc.property(octets, octets, options, options, bytes, port, fc.boolean(), (src, dst, words, extra, data, p, tcp) => {
        const start = ipv4({ src, dst, options: words });
        const packet = (tcp ? start.tcp(p, 80, { options: extra, payload: data }) : start.udp(p, 80).payload(data)).packet();
        const header = (packet[0] & 15) * 4;
        const length = packet.length - header;
        const pseudo = Buffer.concat([
          packet.subarray(12, 20),
          Buffer.from([0, tcp ? PROTOCOL_TCP : PROTOCOL_UDP, length >> 8, length & 255]),
        ]);
        expect(raw.createChecksum(Buffer.from(packet.subarray(0, header)))).toBe(0);
        expect(raw.createChecksum(Buffer.concat([pseudo, packet.subarray(header)]))).toBe(0);
        expect(packet.length).toBe(packet[2] * 256 + packet[3]);
      }),
    );
  });

  it('is the tail of its frame, whatever stands before it', () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat(4095), { maxLength: 3 }), (payload, ids) => {
        let start: FrameBuilder = eth();
        for (const id of ids) start = start.vlan(id);
        const frame = start.ipv4().udp(1, 2, { payload }).build();
        expect(frame.subarray(14 + 4 * ids.length)).toEqual(ipv4().udp(1, 2).payload(payload).packet());
      }),
    );
  });
});

describe('misuse', () => {
  it('leaves a kept prefix as it was', () => {
    const prefix = eth().ipv4();
    prefix.vlan(9).tcp(1, 2);
    expect(prefix.udp(1, 2).build()).toEqual(eth().ipv4().udp(1, 2).build());
  });

  it('takes its own copy of a payload', () => {
    const payload = Uint8Array.of(1);
    const builder = eth().ipv4().udp(1, 2, { payload });
    payload[0] = 2;
    expect(builder.build().at(-1)).toBe(1);
    expect(builder.build()).not.toBe(builder.build());
  });

  it.each<{ name: string; build: () => unknown }>([
    { name: 'a frame without eth()', build: () => ipv4().tcp(1, 2).build() },
    { name: 'a frame without a body', build: () => eth().build() },
    { name: 'IPv4 without a layer on it', build: () => eth().ipv4().build() },
    { name: 'TCP without IPv4', build: () => eth().tcp(1, 2) },
    { name: 'ARP inside IPv4', build: () => eth().ipv4().arp('request') },
    { name: 'IPv4 inside ARP', build: () => eth().arp('request').ipv4() },
    { name: 'data without a transport layer', build: () => eth().ipv4().payload('x') },
    { name: 'a port of 65536', build: () => eth().ipv4().tcp(65536, 1).build() },
    { name: 'a negative port', build: () => eth().ipv4().udp(1, -1).build() },
    { name: 'a VLAN id of 4096', build: () => eth().vlan(4096) },
    { name: 'a fragment offset of 4', build: () => ipv4({ fragmentOffset: 4 }).proto(17, []).packet() },
    { name: 'a packet over 65535 bytes', build: () => ipv4().udp(1, 2, { payload: new Uint8Array(65535) }).packet() },
    { name: 'more than 40 bytes of options', build: () => ipv4({ options: new Uint8Array(41) }).udp(1, 2).packet() },
    { name: 'a short address', build: () => ipv4({ src: '10.1' }).udp(1, 2).packet() },
    { name: 'a short MAC', build: () => eth({ src: '02:00:5e:10:00' }).raw(1, []).build() },
  ])('refuses $name', ({ build }) => {
    expect(build).toThrow(expect.objectContaining({ code: 'ERR_FRAME_BUILDER' }));
  });
});
