/**
 * What is read and what is `malformed`: VLAN tags, IPv4 header, lengths, ports; design §3, the rows from "destination
 * address not ours" down and the paragraph below the table.
 */
import { describe, expect, it } from 'vitest';
import { DISCARD, PASS, Plane, toGuest } from '../support/dataplane-harness.js';
import { NOT_US, REMOTE, type Row, SHARED, verdictTable, WORLD } from '../support/dataplane-rows.js';
import { eth } from '../../src/wire/frame-builder.js';

const TAGS = [0x8100, 0x88a8, 0x9100];
const good = eth().ipv4().tcp(40000, 8080, { payload: 'hello' });

/** A copy with bytes replaced at `at`. */
function patch(frame: Uint8Array, at: number, ...bytes: number[]): Uint8Array {
  const copy = frame.slice();
  copy.set(bytes, at);
  return copy;
}

describe('VLAN tags', () => {
  const rows: Row[] = [];
  for (const outer of TAGS) {
    const one = eth().vlan(5, outer);
    rows.push({ name: `reads past one tag ${outer.toString(16)}`, frame: one.ipv4().tcp(1, 8080).build(), verdict: toGuest(0) });
    for (const inner of TAGS) {
      const two = one.vlan(4095, inner, 7);
      rows.push({ name: `reads past tags ${outer.toString(16)} and ${inner.toString(16)}`, frame: two.ipv4().udp(1, 53).build(), verdict: toGuest(1) });
      rows.push({ name: `does not read past a third tag ${inner.toString(16)}`, frame: two.vlan(1, inner).ipv4().tcp(1, 8080).build(), verdict: PASS, reason: 'not-ipv4' });
    }
  }
  rows.push(
    { name: 'discards for a leased port under two tags', frame: eth().vlan(1).vlan(2).ipv4().tcp(1, 8082).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'passes IPv6 under a tag', frame: eth().vlan(1).raw(0x86dd, new Uint8Array(40)).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'copies an ARP reply under a tag', frame: eth().vlan(1).arp('reply', { senderIp: REMOTE, targetIp: SHARED }).build(), verdict: PASS, copies: [0, 1] },
    { name: 'passes a tag that is cut off as malformed', frame: eth().vlan(1).ipv4().tcp(1, 8080).build().subarray(0, 17), verdict: PASS, reason: 'malformed' },
    { name: 'passes a second tag that is cut off as malformed', frame: eth().vlan(1).vlan(1).ipv4().tcp(1, 8080).build().subarray(0, 21), verdict: PASS, reason: 'malformed' },
    { name: 'passes a third tag that is cut off as not IPv4', frame: eth().vlan(1).vlan(1).vlan(1).ipv4().tcp(1, 8080).build().subarray(0, 22), verdict: PASS, reason: 'not-ipv4' },
    { name: 'counts tags into the wire length', frame: eth().vlan(1).vlan(1).ipv4({ totalLength: 41 }).tcp(1, 8080).build(), verdict: PASS, reason: 'malformed' },
  );
  verdictTable(rows);
});

describe('other ethertypes and protocols', () => {
  const rows: Row[] = [
    { name: 'passes IPv6', frame: eth().raw(0x86dd, new Uint8Array(60)).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'passes LLDP', frame: eth().raw(0x88cc, new Uint8Array(46)).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'passes an 802.3 length field', frame: eth().raw(0x0026, new Uint8Array(46)).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'passes PPPoE without looking for IPv4 in it', frame: eth().raw(0x8864, [0x11, 0, 0, 1, 0, 42, 0, 0x21, ...eth().ipv4().tcp(1, 8080).packet()]).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'passes a bare Ethernet header of another type', frame: eth().raw(0x88cc, []).build(), verdict: PASS, reason: 'not-ipv4' },
    { name: 'passes a bare Ethernet header of IPv4 as malformed', frame: good.build().subarray(0, 14), verdict: PASS, reason: 'malformed' },
    { name: 'passes an empty frame as malformed', frame: new Uint8Array(0), verdict: PASS, reason: 'malformed' },
    { name: 'passes 13 bytes as malformed', frame: good.build().subarray(0, 13), verdict: PASS, reason: 'malformed' },
  ];
  for (const protocol of [0, 2, 41, 47, 50, 89, 132, 255]) {
    rows.push(
      { name: `passes protocol ${protocol} for our address`, frame: eth().ipv4().proto(protocol, new Uint8Array(20)).build(), verdict: PASS, reason: 'other-protocol' },
      { name: `passes protocol ${protocol} for another address`, frame: eth().ipv4({ dst: NOT_US }).proto(protocol, new Uint8Array(20)).build(), verdict: PASS, reason: 'not-ours' },
      { name: `passes protocol ${protocol} without payload`, frame: eth().ipv4().proto(protocol, []).build(), verdict: PASS, reason: 'other-protocol' },
    );
  }
  verdictTable(rows);
});

describe('the IPv4 header', () => {
  const rows: Row[] = [];
  for (let version = 0; version < 16; version++) {
    if (version !== 4) rows.push({ name: `passes version ${version} as malformed`, frame: eth().ipv4({ version }).tcp(1, 8080).build(), verdict: PASS, reason: 'malformed' });
  }
  for (let ihl = 0; ihl < 5; ihl++) rows.push({ name: `passes IHL ${ihl} as malformed`, frame: eth().ipv4({ ihl }).tcp(1, 8080).build(), verdict: PASS, reason: 'malformed' });
  for (let words = 1; words <= 10; words++) {
    const options = new Uint8Array(words * 4).fill(1);
    rows.push({ name: `reads past ${words * 4} bytes of options`, frame: eth().ipv4({ options }).tcp(40000, 8080).build(), verdict: toGuest(0) });
  }
  rows.push(
    { name: 'does not interpret options: a source route', frame: eth().ipv4({ options: [131, 7, 4, 203, 0, 113, 9] }).tcp(1, 8080).build(), verdict: toGuest(0) },
    { name: 'does not interpret options: nonsense', frame: eth().ipv4({ options: [131, 255, 255, 0] }).udp(1, 53).build(), verdict: toGuest(1) },
    { name: 'passes a header longer than the packet as malformed', frame: eth().ipv4({ ihl: 15 }).udp(1, 53).build(), verdict: PASS, reason: 'malformed' },
    { name: 'passes malformed to elsewhere as malformed', frame: eth().ipv4({ dst: NOT_US, version: 6 }).tcp(1, 8080).build(), verdict: PASS, reason: 'malformed' },
    { name: 'reads the last port pair a header of 60 bytes leaves', frame: eth().ipv4({ options: new Uint8Array(40) }).udp(1, 54).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'forwards DF', frame: eth().ipv4({ dontFragment: true }).tcp(1, 8080).build(), verdict: toGuest(0) },
    { name: 'forwards the reserved flag', frame: patch(eth().ipv4().tcp(1, 8080).build(), 20, 0x80), verdict: toGuest(0) },
    { name: 'forwards whatever the time to live', frame: eth().ipv4({ ttl: 0 }).tcp(1, 8080).build(), verdict: toGuest(0) },
  );
  verdictTable(rows);
});

describe('total length', () => {
  const tcp = (totalLength: number, port = 8080) => eth().ipv4({ totalLength }).tcp(40000, port, { payload: 'hello' }).build();
  const udp = (totalLength: number) => eth().ipv4({ totalLength }).udp(40000, 53, { payload: 'hello' }).build();
  verdictTable([
    { name: 'takes 0 as the captured length', frame: tcp(0), verdict: toGuest(0) },
    { name: 'takes 0 as the captured length when that is short: TCP of 19 bytes', frame: tcp(0).subarray(0, 53), verdict: PASS, reason: 'malformed' },
    { name: 'takes 0 as the captured length of a snapped super-frame', frame: { bytes: tcp(0), wire: 65549 }, verdict: toGuest(0) },
    { name: 'takes 0 as the captured length: options that do not fit', frame: patch(tcp(0).subarray(0, 40), 14, 0x4f), verdict: PASS, reason: 'malformed' },
    { name: 'passes a total length under the header as malformed', frame: tcp(19), verdict: PASS, reason: 'malformed' },
    { name: 'passes a total length of 1 as malformed', frame: tcp(1), verdict: PASS, reason: 'malformed' },
    { name: 'passes a total length under the options as malformed', frame: eth().ipv4({ options: [1, 1, 1, 1], totalLength: 23 }).tcp(1, 8080).build(), verdict: PASS, reason: 'malformed' },
    { name: 'passes one byte past the wire as malformed', frame: tcp(46), verdict: PASS, reason: 'malformed' },
    { name: 'passes 65535 past the wire as malformed', frame: tcp(65535), verdict: PASS, reason: 'malformed' },
    { name: 'forwards when the wire holds it although the capture does not', frame: { bytes: tcp(1400), wire: 1414 }, verdict: toGuest(0) },
    { name: 'passes one byte past the wire of a snapped frame as malformed', frame: { bytes: tcp(1401), wire: 1414 }, verdict: PASS, reason: 'malformed' },
    { name: 'forwards a frame with padding', frame: eth().ipv4().tcp(1, 8080).padTo(60).build(), verdict: toGuest(0) },
    { name: 'forwards a frame with a lot of padding', frame: eth().ipv4().udp(1, 53).padTo(1514).build(), verdict: toGuest(1) },
    { name: 'does not take padding for a TCP header', frame: tcp(39), verdict: PASS, reason: 'malformed' },
    { name: 'takes a TCP header that just fits', frame: tcp(40), verdict: toGuest(0) },
    { name: 'does not take padding for a UDP header', frame: udp(27), verdict: PASS, reason: 'malformed' },
    { name: 'takes a UDP header that just fits', frame: udp(28), verdict: toGuest(1) },
    { name: 'passes an empty TCP packet as malformed', frame: tcp(20), verdict: PASS, reason: 'malformed' },
    { name: 'passes a truncated header to elsewhere as malformed', frame: eth().ipv4({ dst: NOT_US, totalLength: 39 }).tcp(1, 2).build(), verdict: PASS, reason: 'malformed' },
    { name: 'does not care about the UDP length field', frame: eth().ipv4().udp(1, 53, { length: 7 }).build(), verdict: toGuest(1) },
    { name: 'does not care about the TCP data offset', frame: eth().ipv4().tcp(1, 8080, { dataOffset: 0 }).build(), verdict: toGuest(0) },
    { name: 'takes 20 bytes of TCP although its data offset says 60', frame: eth().ipv4().tcp(1, 8080, { dataOffset: 15 }).build(), verdict: toGuest(0) },
    { name: 'takes 0 as an unfragmented UDP length', frame: udp(0), verdict: toGuest(1) },
  ]);
});

describe('cut at every byte', () => {
  const cases = [
    { what: 'TCP', frame: eth().ipv4().tcp(40000, 8080, { payload: 'hello' }).build(), needs: 54, verdict: toGuest(0) },
    { what: 'UDP', frame: eth().ipv4().udp(40000, 53, { payload: 'hello' }).build(), needs: 42, verdict: toGuest(1) },
    { what: 'TCP behind two tags and options', frame: eth().vlan(1).vlan(2).ipv4({ options: [1, 1, 1, 1, 1] }).tcp(40000, 8080, { payload: 'x' }).build(), needs: 70, verdict: toGuest(0) },
    { what: 'leased UDP behind a tag', frame: eth().vlan(1).ipv4().udp(40000, 54).build(), needs: 46, verdict: DISCARD, reason: 'not-in-use' },
    { what: 'ARP reply', frame: eth().arp('reply', { senderIp: REMOTE, targetIp: SHARED }).padTo(60).build(), needs: 42, verdict: PASS, reason: '' },
    { what: 'echo request', frame: eth().ipv4().icmpEcho('request', 7, 1, 'hello').build(), needs: 42, verdict: PASS, reason: 'other-protocol' },
  ];
  // A snapped frame (captured < wire) and a short frame (captured = wire) may differ only past the headers.
  it.each(cases)('$what, snapped: malformed to the last byte of its header, then read', ({ frame, needs, verdict, reason }) => {
    for (let size = 0; size <= frame.length; size++) {
      const plane = new Plane({ entries: WORLD });
      const [found] = plane.ingress({ bytes: frame.subarray(0, size), wire: frame.length });
      const expected = size < needs ? [PASS, 'malformed'] : [verdict, reason ?? ''];
      expect([found.verdict, found.reason], `${size} bytes`).toEqual(expected);
    }
  });
  it.each(cases.filter(({ what }) => what !== 'ARP reply'))('$what, short on the wire: malformed unless whole', ({ frame, verdict, reason }) => {
    for (let size = 0; size <= frame.length; size++) {
      const plane = new Plane({ entries: WORLD });
      const [found] = plane.ingress(frame.subarray(0, size));
      const expected = size < frame.length ? [PASS, 'malformed'] : [verdict, reason ?? ''];
      expect([found.verdict, found.reason], `${size} bytes`).toEqual(expected);
    }
  });
  it.each(cases)('$what, in a batch between others: none is read into its neighbour', ({ frame }) => {
    const plane = new Plane({ entries: WORLD });
    const frames = Array.from({ length: frame.length }, (_, size) => ({ bytes: frame.subarray(0, size), wire: frame.length }));
    const together = plane.ingress(...frames);
    const alone = frames.map((one) => new Plane({ entries: WORLD }).ingress(one)[0]);
    expect(together).toEqual(alone);
  });
});
