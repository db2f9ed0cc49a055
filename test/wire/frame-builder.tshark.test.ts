/** Wireshark reads the builder's frames as they were meant, and finds their checksums good. Needs tshark. */
import { describe, expect, it } from 'vitest';
import { eth, fragment, ipv4 } from '../../src/wire/frame-builder.js';
import { TCP_ACK, TCP_FIN, TCP_SYN } from '../../src/wire/tcp.js';
import { dissect, hasTshark } from './tshark.js';

const GOOD = '1';
const BAD = '0';
const options = [0x94, 4, 0, 0];
const syn = ipv4({ src: '192.0.2.10', dst: '198.51.100.7' }).tcp(8080, 40000).packet();

/** One row is one frame and what tshark must say of it. */
const rows: { name: string; frame: Uint8Array; expected: Record<string, string> }[] = [
  {
    name: 'a SYN by default',
    frame: eth().ipv4().tcp(40000, 8080).build(),
    expected: {
      'ip.src': '198.51.100.7',
      'ip.dst': '192.0.2.10',
      'ip.checksum.status': GOOD,
      'tcp.srcport': '40000',
      'tcp.dstport': '8080',
      'tcp.flags': '0x0002',
      'tcp.checksum.status': GOOD,
    },
  },
  {
    name: 'two tags',
    frame: eth().vlan(5).vlan(7, 0x88a8).ipv4({ ttl: 3 }).tcp(1, 2).build(),
    expected: { 'vlan.id': '5', 'ieee8021ad.id': '7', 'ip.ttl': '3', 'tcp.checksum.status': GOOD },
  },
  {
    name: 'IP options, TCP options, odd data and big numbers',
    frame: eth()
      .ipv4({ options })
      .tcp(1, 2, {
        seq: 0xfffffff0,
        ack: 0x80000001,
        flags: TCP_ACK | TCP_FIN,
        options: [2, 4, 5, 180],
        payload: 'odd',
      })
      .build(),
    expected: {
      'ip.hdr_len': '24',
      'ip.checksum.status': GOOD,
      'tcp.seq_raw': '4294967280',
      'tcp.ack_raw': '2147483649',
      'tcp.flags': '0x0011',
      'tcp.options.mss_val': '1460',
      'tcp.len': '3',
      'tcp.checksum.status': GOOD,
    },
  },
  {
    name: 'UDP with odd data in a padded frame',
    frame: eth().ipv4().udp(40001, 40002, { payload: [1, 2, 3] }).padTo(60).build(),
    expected: { 'udp.length': '11', 'ip.checksum.status': GOOD, 'udp.checksum.status': GOOD, 'frame.len': '60' },
  },
  {
    name: 'an echo request',
    frame: eth().ipv4().icmpEcho('request', 0x1234, 7, 'ping').build(),
    expected: { 'icmp.type': '8', 'icmp.ident': '4660', 'icmp.seq': '7', 'icmp.checksum.status': GOOD },
  },
  {
    name: 'an echo reply',
    frame: eth().ipv4().icmpEcho('reply', 1).build(),
    expected: { 'icmp.type': '0', 'icmp.checksum.status': GOOD },
  },
  {
    name: 'fragmentation needed about a SYN',
    frame: eth().ipv4().icmpError(3, 4, syn, 1400).build(),
    expected: {
      'icmp.type': '3',
      'icmp.code': '4',
      'icmp.mtu': '1400',
      'icmp.checksum.status': GOOD,
      'ip.src': '198.51.100.7,192.0.2.10',
      'ip.checksum.status': `${GOOD},${GOOD}`,
      'tcp.srcport': '8080',
    },
  },
  {
    name: 'an ARP request',
    frame: eth().arp('request', { senderIp: '192.0.2.1', targetIp: '192.0.2.2' }).build(),
    expected: {
      'arp.opcode': '1',
      'arp.src.proto_ipv4': '192.0.2.1',
      'arp.dst.proto_ipv4': '192.0.2.2',
      'eth.dst': 'ff:ff:ff:ff:ff:ff',
    },
  },
  {
    name: 'another protocol',
    frame: eth().ipv4({ dontFragment: true }).proto(253, [1, 2, 3]).build(),
    expected: { 'ip.proto': '253', 'ip.flags.df': '1', 'ip.len': '23', 'ip.checksum.status': GOOD },
  },
  {
    name: 'wrong checksums, on request (this check can fail)',
    frame: eth().ipv4({ checksum: 1 }).tcp(1, 2, { checksum: 1, flags: TCP_SYN }).build(),
    expected: { 'ip.checksum.status': BAD, 'tcp.checksum.status': BAD },
  },
];

describe.skipIf(!hasTshark())('tshark reads', () => {
  const fields = [...new Set(rows.flatMap(({ expected }) => Object.keys(expected)))];
  const read = dissect(
    rows.map(({ frame }) => frame),
    fields,
  );

  it.each(rows.map((row, i) => ({ ...row, i })))('$name', ({ expected, i }) => {
    expect(read[i]).toMatchObject(expected);
  });

  it('the fragments of a datagram as that datagram', () => {
    const payload = Uint8Array.from({ length: 3001 }, (_, i) => i & 255);
    const parts = fragment(eth().ipv4({ id: 9, options }).udp(40001, 40002, { payload }).build(), 1400);
    const seen = dissect(parts, ['ip.checksum.status', 'ip.reassembled.length', 'udp.length', 'udp.checksum.status']);
    expect(parts.length).toBe(3);
    expect(seen.map((row) => row['ip.checksum.status'])).toEqual([GOOD, GOOD, GOOD]);
    expect(seen[2]).toMatchObject({ 'ip.reassembled.length': '3009', 'udp.length': '3009', 'udp.checksum.status': GOOD });
  });
});
