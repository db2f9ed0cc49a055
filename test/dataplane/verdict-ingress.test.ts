/**
 * Ingress verdicts by the state of the endpoint: design §3, rows 1 to 4, dedicated addresses (§2), stations, and policy `reject`.
 * How headers are read: verdict-reading.test.ts. Fragments, ICMP and ARP have tables of their own.
 */
import { describe, expect, it } from 'vitest';
import { DISCARD, PASS, Plane, toGuest } from '../support/dataplane-harness.js';
import { BARE, NOT_US, REMOTE, SECOND, SHARED, verdictTable, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED, WORLD } from '../support/dataplane-rows.js';
import { Extras } from '../../src/dataplane/extras.js';
import { lookupDestination } from '../../src/dataplane/lookup.js';
import { ANY_STATION, parse } from '../../src/dataplane/parse.js';
import { decideIngress } from '../../src/dataplane/verdict-ingress.js';
import { eth } from '../../src/wire/frame-builder.js';

const tcp = (port: number, dst = SHARED) => eth().ipv4({ dst }).tcp(40000, port).build();
const udp = (port: number, dst = SHARED) => eth().ipv4({ dst }).udp(40000, port).build();
/** Whatever would be set right on the way is wrong in it. */
const odd = eth().ipv4({ dst: SHARED, ttl: 1, tos: 0xb9, id: 4711, options: [1, 1, 1, 1], checksum: 0xdead });

describe('endpoints of a shared address', () => {
  verdictTable([
    { name: 'forwards TCP for an endpoint in use to its guest', frame: tcp(8080), verdict: toGuest(0) },
    { name: 'forwards TCP for another guest’s endpoint to that guest', frame: tcp(8081), verdict: toGuest(1) },
    { name: 'forwards UDP for an endpoint in use to its guest', frame: udp(53), verdict: toGuest(1) },
    { name: 'D2: discards TCP for a leased port that is not in use, and does not answer', frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'D2: discards UDP for a leased port that is not in use, and does not answer', frame: udp(54), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'D2: discards a first fragment for a leased port that is not in use, and does not answer', frame: eth().ipv4({ moreFragments: true }).udp(40000, 54, { payload: new Uint8Array(16) }).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'discards TCP for a quarantined port', frame: tcp(8083), verdict: DISCARD, reason: 'quarantined' },
    { name: 'discards UDP for a quarantined port', frame: udp(55), verdict: DISCARD, reason: 'quarantined' },
    { name: 'passes a port that is not leased', frame: tcp(22), verdict: PASS, reason: 'not-leased' },
    { name: 'passes UDP to a port leased for TCP only', frame: udp(8080), verdict: PASS, reason: 'not-leased' },
    { name: 'passes TCP to a port leased for UDP only', frame: tcp(53), verdict: PASS, reason: 'not-leased' },
    { name: 'passes the port next to a leased one', frame: tcp(8084), verdict: PASS, reason: 'not-leased' },
    { name: 'passes port 0', frame: tcp(0), verdict: PASS, reason: 'not-leased' },
    { name: 'passes UDP port 0', frame: udp(0), verdict: PASS, reason: 'not-leased' },
    { name: 'passes port 65535', frame: tcp(65535), verdict: PASS, reason: 'not-leased' },
    { name: 'does not look at the source port', frame: eth().ipv4().tcp(8080, 22).build(), verdict: PASS, reason: 'not-leased' },
    { name: 'passes a leased port of another address of ours', frame: tcp(8080, SECOND), verdict: PASS, reason: 'not-leased' },
    { name: 'forwards the same port by its address', frame: tcp(80, SECOND), verdict: toGuest(1) },
    { name: 'passes an address of ours on which nothing is leased', frame: tcp(8080, BARE), verdict: PASS, reason: 'not-leased' },
    { name: 'passes an address that is not ours', frame: tcp(8080, NOT_US), verdict: PASS, reason: 'not-ours' },
    { name: 'passes 0.0.0.0 as not ours', frame: tcp(8080, '0.0.0.0'), verdict: PASS, reason: 'not-ours' },
    { name: 'passes the limited broadcast as not ours', frame: udp(53, '255.255.255.255'), verdict: PASS, reason: 'not-ours' },
    { name: 'passes an IPv4 multicast as not ours', frame: udp(53, '224.0.0.251'), verdict: PASS, reason: 'not-ours' },
    { name: 'passes our own address as source to elsewhere', frame: eth().ipv4({ src: SHARED, dst: NOT_US }).tcp(8080, 8080).build(), verdict: PASS, reason: 'not-ours' },
    { name: 'forwards from whatever source address', frame: eth().ipv4({ src: SHARED, dst: SHARED }).tcp(1, 8080).build(), verdict: toGuest(0) },
    { name: 'forwards every TCP flag alike: a reset', frame: eth().ipv4().tcp(40000, 8080, { flags: 4 }).build(), verdict: toGuest(0) },
    { name: 'forwards whatever the checksums say', frame: eth().ipv4({ checksum: 0xdead }).tcp(40000, 8080, { checksum: 0xbeef }).build(), verdict: toGuest(0) },
    { name: 'R2, R10: forwards TCP with every byte as it came: address, port, time to live, checksums', frame: odd.tcp(40000, 8080, { seq: 7, payload: 'as it is' }).build(), verdict: toGuest(0) },
    { name: 'R2, R10: forwards UDP with every byte as it came', frame: odd.udp(40000, 53, { payload: 'as it is' }).build(), verdict: toGuest(1) },
    { name: 'discards nothing in an empty table', frame: tcp(8080), world: { entries: [] }, verdict: PASS, reason: 'not-ours' },
    {
      name: 'R4, R6, D1: delivers because of the indication, not before and not after it',
      steps: [
        { frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use' },
        { before: ({ writer }) => writer.use(0xc000020a, 0, 8082), frame: tcp(8082), verdict: toGuest(0) },
        { before: ({ writer }) => writer.endUse(0xc000020a, 0, 8082), frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use' },
        { before: ({ writer }) => writer.quarantine(0xc000020a, 0, 8082), frame: tcp(8082), verdict: DISCARD, reason: 'quarantined' },
        { before: ({ writer }) => writer.release(0xc000020a, 0, 8082), frame: tcp(8082), verdict: PASS, reason: 'not-leased' },
        { before: ({ writer }) => writer.lease(0xc000020a, 0, 8082, 2, true), frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use' },
        { before: ({ writer }) => writer.use(0xc000020a, 0, 8082), frame: tcp(8082), verdict: toGuest(2) },
      ],
    },
    {
      name: 'R3: is not indicated by a frame from outside, only by the guest',
      steps: [
        { frame: eth().ipv4({ src: SHARED }).tcp(8082, 8082).build(), verdict: DISCARD, reason: 'not-in-use' },
        { frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use' },
      ],
    },
  ]);
});

describe('a dedicated address', () => {
  verdictTable([
    { name: 'forwards any TCP port to its guest', frame: tcp(1, WHOLE), verdict: toGuest(2) },
    { name: 'forwards any UDP port to its guest', frame: udp(65535, WHOLE), verdict: toGuest(2) },
    { name: 'forwards TCP port 0 to its guest', frame: tcp(0, WHOLE), verdict: toGuest(2) },
    { name: 'forwards UDP port 0 to its guest', frame: udp(0, WHOLE), verdict: toGuest(2) },
    { name: 'tries the exact entry first: in use by another guest', frame: tcp(443, WHOLE), verdict: toGuest(1) },
    { name: 'tries the exact entry first: leased, not in use', frame: tcp(444, WHOLE), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'lets UDP of an exact TCP entry go to the whole address’s guest', frame: udp(443, WHOLE), verdict: toGuest(2) },
    { name: 'is discarded while leased and not in use', frame: tcp(80, WHOLE_LEASED), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'is discarded while quarantined', frame: udp(80, WHOLE_QUARANTINED), verdict: DISCARD, reason: 'quarantined' },
    {
      name: 'takes the wildcard again when the exact entry is released',
      before: ({ writer }) => writer.release(0xc0000214, 0, 443),
      frame: tcp(443, WHOLE),
      verdict: toGuest(2),
    },
    {
      name: 'keeps exact entries when the whole address is released',
      steps: [
        { before: ({ writer }) => writer.release(0xc0000214, 0, 0), frame: tcp(443, WHOLE), verdict: toGuest(1) },
        { frame: tcp(80, WHOLE), verdict: PASS, reason: 'not-leased' },
      ],
    },
  ]);
});

describe('a dedicated address whose exact entry is released between look-up and verdict', () => {
  it('goes by the wildcard: it was leased all the time', () => {
    const plane = new Plane({ entries: WORLD });
    const { engine, writer } = plane;
    plane.ingress(tcp(443, WHOLE));
    parse(engine.batch, ANY_STATION);
    lookupDestination(engine.batch, engine.table);
    writer.release(0xc0000214, 0, 443);
    decideIngress(engine.batch, engine.table, engine.memory, new Extras(false));
    expect(engine.batch.verdict[0]).toBe(toGuest(2));
  });
});

describe('stations', () => {
  const station = '02:00:5e:10:00:10';
  const to = (dst: string, port = 8080) => eth({ dst }).ipv4().tcp(40000, port).build();
  verdictTable(
    [
      { name: 'forwards a frame for the NIC’s MAC', frame: to(station), verdict: toGuest(0) },
      { name: 'passes a frame for another station', frame: to('02:00:5e:10:00:11'), verdict: PASS, reason: 'other-station' },
      { name: 'passes one that differs in the first byte', frame: to('06:00:5e:10:00:10'), verdict: PASS, reason: 'other-station' },
      { name: 'passes one that differs in the fourth byte', frame: to('02:00:5e:11:00:10'), verdict: PASS, reason: 'other-station' },
      { name: 'passes one that differs in the fifth byte', frame: to('02:00:5e:10:01:10'), verdict: PASS, reason: 'other-station' },
      { name: 'passes another station’s frame for a leased port too', frame: to('02:00:5e:10:00:11', 8082), verdict: PASS, reason: 'other-station' },
      { name: 'passes another station’s malformed frame as another station’s', frame: to('02:00:5e:10:00:11').subarray(0, 20), verdict: PASS, reason: 'other-station' },
      { name: 'takes a broadcast frame as ours', frame: to('ff:ff:ff:ff:ff:ff'), verdict: toGuest(0) },
      { name: 'takes a multicast frame as ours', frame: to('01:00:5e:00:00:fb'), verdict: toGuest(0) },
      { name: 'passes a runt of 13 bytes as malformed, whoever it is for', frame: to('02:00:5e:10:00:11').subarray(0, 13), verdict: PASS, reason: 'malformed' },
      {
        name: 'gives no copy of another station’s ARP reply',
        frame: eth({ dst: '02:00:5e:10:00:11' }).arp('reply', { senderIp: REMOTE, targetIp: SHARED }).build(),
        verdict: PASS,
        reason: 'other-station',
      },
    ],
    { station },
  );
  verdictTable([{ name: 'knows no other station on a capture', frame: to('02:00:5e:99:99:99'), verdict: toGuest(0) }]);
});

describe('D2: policy reject', () => {
  verdictTable(
    [
      { name: 'answers TCP for a leased port not in use', frame: tcp(8082), verdict: DISCARD, reason: 'not-in-use', rejected: true },
      { name: 'answers UDP for a leased port not in use', frame: udp(54), verdict: DISCARD, reason: 'not-in-use', rejected: true },
      { name: 'answers for a dedicated address not in use', frame: tcp(80, WHOLE_LEASED), verdict: DISCARD, reason: 'not-in-use', rejected: true },
      { name: 'does not answer for a quarantined port', frame: tcp(8083), verdict: DISCARD, reason: 'quarantined' },
      { name: 'does not answer what it forwards', frame: tcp(8080), verdict: toGuest(0) },
      { name: 'does not answer what it passes', frame: tcp(22), verdict: PASS, reason: 'not-leased' },
      {
        name: 'answers a first fragment, not the later ones of its datagram',
        steps: [
          { frame: eth().ipv4({ id: 7, moreFragments: true }).udp(40000, 54, { payload: new Uint8Array(16) }).build(), verdict: DISCARD, reason: 'not-in-use', rejected: true },
          { frame: eth().ipv4({ id: 7, fragmentOffset: 24 }).proto(17, new Uint8Array(16)).build(), verdict: DISCARD, reason: 'not-in-use' },
        ],
      },
      {
        name: 'counts no answer that was not made (rate, RST)',
        before: ({ sink }) => (sink.answers = false),
        frame: tcp(8082),
        verdict: DISCARD,
        reason: 'not-in-use',
        rejected: true,
      },
    ],
    { rejecting: true },
  );
});
