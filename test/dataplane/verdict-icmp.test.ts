/**
 * ICMP from outside: errors by the packet they quote, echo replies by the identifier a guest sent from; design §3.
 */
import { describe } from 'vitest';
import { DISCARD, PASS, TO_NIC, toGuest } from '../support/dataplane-harness.js';
import { BARE, NOT_US, REMOTE, type Row, SECOND, SHARED, type Step, verdictTable, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED } from '../support/dataplane-rows.js';
import { eth, ipv4, type Ipv4Options } from '../../src/wire/frame-builder.js';

const ROUTER = '198.51.100.1';
const ERRORS: [number, string][] = [
  [3, 'destination unreachable'],
  [4, 'source quench'],
  [5, 'redirect'],
  [11, 'time exceeded'],
  [12, 'parameter problem'],
];

/** The first bytes of what a guest sent from `port`. */
const sentTcp = (port: number, ip: Ipv4Options = {}) => ipv4({ src: SHARED, dst: REMOTE, ...ip }).tcp(port, 443).packet();
const sentUdp = (port: number, ip: Ipv4Options = {}) => ipv4({ src: SHARED, dst: REMOTE, ...ip }).udp(port, 53).packet();
const sentEcho = (identifier: number, ip: Ipv4Options = {}) => ipv4({ src: SHARED, dst: REMOTE, ...ip }).icmpEcho('request', identifier).packet();
/** RFC 792: the header and 64 bits of data. */
const quoted = (packet: Uint8Array) => packet.subarray(0, (packet[0] & 15) * 4 + 8);
const error = (inner: Uint8Array, type = 3, code = 1, ip: Ipv4Options = {}) => eth().ipv4({ src: ROUTER, dst: SHARED, ...ip }).icmpError(type, code, inner).build();

describe('errors', () => {
  const rows: Row[] = [];
  for (const [type, name] of ERRORS) {
    rows.push(
      { name: `forwards ${name} about TCP to the guest it was sent from`, frame: error(quoted(sentTcp(8080)), type), verdict: toGuest(0) },
      { name: `forwards ${name} about UDP to the guest it was sent from`, frame: error(quoted(sentUdp(53)), type), verdict: toGuest(1) },
      {
        name: `forwards ${name} about an echo request to the guest that sent it`,
        steps: [
          { from: 1, frame: eth().ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('request', 77).build(), verdict: TO_NIC },
          { frame: error(quoted(sentEcho(77)), type), verdict: toGuest(1) },
        ],
      },
      { name: `passes ${name} about a port that is not leased`, frame: error(quoted(sentTcp(22)), type), verdict: PASS, reason: 'not-leased' },
    );
  }
  for (const type of [1, 2, 6, 7, 9, 10, 13, 14, 15, 17, 18, 40, 42, 253, 255]) {
    rows.push({ name: `does not take type ${type} for an error`, frame: error(quoted(sentTcp(8080)), type), verdict: PASS, reason: 'other-protocol' });
  }
  rows.push(
    { name: 'forwards by a whole quoted packet', frame: error(sentTcp(8081)), verdict: toGuest(1) },
    { name: 'looks at the quoted source port, not the destination port', frame: error(quoted(ipv4({ src: SHARED, dst: REMOTE }).tcp(22, 8080).packet())), verdict: PASS, reason: 'not-leased' },
    { name: 'looks at the quoted source, not the quoted destination', frame: error(quoted(ipv4({ src: REMOTE, dst: SHARED }).tcp(8080, 8080).packet())), verdict: PASS, reason: 'not-leased' },
    { name: 'looks at the quoted protocol', frame: error(quoted(sentUdp(8080))), verdict: PASS, reason: 'not-leased' },
    { name: 'looks at the quoted address', frame: error(quoted(sentTcp(8080, { src: SECOND }))), verdict: PASS, reason: 'not-leased' },
    { name: 'reads past the outer options', frame: error(quoted(sentTcp(8080)), 3, 1, { options: [1, 1, 1, 1] }), verdict: toGuest(0) },
    { name: 'reads past the inner options', frame: error(quoted(sentTcp(8080, { options: new Uint8Array(40).fill(1) }))), verdict: toGuest(0) },
    { name: 'forwards although the quoted total length is longer than the quote', frame: error(quoted(sentTcp(8080, { totalLength: 1500 })), 3, 4), verdict: toGuest(0) },
    { name: 'forwards about a first fragment', frame: error(quoted(sentUdp(53, { moreFragments: true })), 11, 1), verdict: toGuest(1) },
    { name: 'forwards under a VLAN tag', frame: eth().vlan(9).ipv4({ src: ROUTER }).icmpError(3, 1, quoted(sentTcp(8080))).build(), verdict: toGuest(0) },
    { name: 'passes a quote of a later fragment: it has no ports', frame: error(quoted(ipv4({ src: SHARED, dst: REMOTE, fragmentOffset: 8 }).proto(6, new Uint8Array(8).fill(0x1f)).packet())), verdict: PASS, reason: 'orphan-fragment' },
    { name: 'passes a quote without anything as malformed', frame: error(new Uint8Array(0)), verdict: PASS, reason: 'malformed' },
    { name: 'passes a quote of 19 bytes as malformed', frame: error(sentTcp(8080).subarray(0, 19)), verdict: PASS, reason: 'malformed' },
    { name: 'passes a quote without its 64 bits of data as malformed', frame: error(sentTcp(8080).subarray(0, 27)), verdict: PASS, reason: 'malformed' },
    { name: 'passes a quote whose options do not fit as malformed', frame: error(quoted(sentTcp(8080, { ihl: 15 }))), verdict: PASS, reason: 'malformed' },
    { name: 'passes a quote with IHL 4 as malformed', frame: error(sentTcp(8080, { ihl: 4 })), verdict: PASS, reason: 'malformed' },
    { name: 'passes a quote of version 6 as malformed', frame: error(sentTcp(8080, { version: 6 })), verdict: PASS, reason: 'malformed' },
    { name: 'does not read the quote past the total length', frame: error(quoted(sentTcp(8080)), 3, 1, { totalLength: 55 }), verdict: PASS, reason: 'malformed' },
    { name: 'does not read the quote past the capture', frame: { bytes: error(quoted(sentTcp(8080))).subarray(0, 69), wire: 70 }, verdict: PASS, reason: 'malformed' },
    { name: 'passes an error to elsewhere', frame: error(quoted(sentTcp(8080)), 3, 1, { dst: NOT_US }), verdict: PASS, reason: 'not-ours' },
    { name: 'passes a quote of somebody else’s packet', frame: error(quoted(sentTcp(8080, { src: NOT_US }))), verdict: PASS, reason: 'not-leased' },
    { name: 'passes a quote from a port leased and not in use', frame: error(quoted(sentTcp(8082))), verdict: PASS, reason: 'not-in-use' },
    { name: 'passes a quote from a quarantined port', frame: error(quoted(sentTcp(8083))), verdict: PASS, reason: 'quarantined' },
    { name: 'forwards about a dedicated address by its wildcard', frame: error(quoted(sentTcp(5, { src: WHOLE })), 3, 1, { dst: WHOLE }), verdict: toGuest(2) },
    { name: 'forwards about a dedicated address by the exact entry first', frame: error(quoted(sentTcp(443, { src: WHOLE })), 3, 1, { dst: WHOLE }), verdict: toGuest(1) },
    { name: 'forwards about any protocol of a dedicated address', frame: error(quoted(ipv4({ src: WHOLE, dst: REMOTE }).proto(47, new Uint8Array(8)).packet()), 3, 1, { dst: WHOLE }), verdict: toGuest(2) },
    { name: 'passes a quote of another protocol of a shared address', frame: error(quoted(ipv4({ src: SHARED, dst: REMOTE }).proto(47, new Uint8Array(8)).packet())), verdict: PASS, reason: 'not-leased' },
    { name: 'passes a quoted echo request that no guest sent', frame: error(quoted(sentEcho(77))), verdict: PASS, reason: 'not-leased' },
    { name: 'passes a quoted echo reply: the host sent it', frame: error(quoted(ipv4({ src: SHARED, dst: REMOTE }).icmpEcho('reply', 77).packet())), verdict: PASS, reason: 'not-leased' },
    { name: 'passes an ICMP header cut off as malformed', frame: eth().ipv4().proto(1, [3, 1, 0, 0, 0, 0, 0]).build(), verdict: PASS, reason: 'malformed' },
    { name: 'does not indicate anything (R3)', steps: [{ frame: error(quoted(sentTcp(8082))), verdict: PASS, reason: 'not-in-use' }, { frame: eth().ipv4().tcp(1, 8082).build(), verdict: DISCARD, reason: 'not-in-use' }] },
  );
  verdictTable(rows);
  verdictTable([{ name: 'never answers an ICMP error, even with policy reject', frame: error(quoted(sentTcp(8082))), verdict: PASS, reason: 'not-in-use' }], { rejecting: true });
});

describe('echo', () => {
  const ask = (from: number, identifier: number, ip: Ipv4Options = {}, at = 0): Step => ({
    from,
    at,
    frame: eth().ipv4({ src: SHARED, dst: REMOTE, ...ip }).icmpEcho('request', identifier).build(),
    verdict: TO_NIC,
  });
  const reply = (identifier: number, ip: Ipv4Options = {}) => eth().ipv4({ src: REMOTE, dst: SHARED, ...ip }).icmpEcho('reply', identifier).build();
  const answered = (guest: number, identifier: number, at = 0): Step => ({ frame: reply(identifier), at, verdict: toGuest(guest) });
  const unknown = (frame: Uint8Array, at = 0): Step => ({ frame, at, verdict: PASS, reason: 'not-leased' });
  verdictTable([
    { name: 'forwards a reply to the guest that asked under its identifier', steps: [ask(1, 77), answered(1, 77)] },
    { name: 'forwards replies to two guests by their identifiers', steps: [ask(0, 1), ask(1, 2), answered(1, 2), answered(0, 1), answered(0, 1)] },
    { name: 'passes a reply that no guest asked for: it is the host’s', ...unknown(reply(77)) },
    { name: 'passes a reply under another identifier', steps: [ask(1, 77), unknown(reply(78))] },
    { name: 'passes a reply from another host', steps: [ask(1, 77), unknown(reply(77, { src: ROUTER }))] },
    { name: 'passes a reply to another address of ours', steps: [ask(1, 77), unknown(reply(77, { dst: SECOND }))] },
    { name: 'passes a reply to an address that is not ours', steps: [ask(1, 77), { frame: reply(77, { dst: NOT_US }), verdict: PASS, reason: 'not-ours' }] },
    { name: 'remembers an identifier for 30 s', steps: [ask(1, 77), answered(1, 77, 30)] },
    { name: 'forgets an identifier after 31 s', steps: [ask(1, 77), unknown(reply(77), 31)] },
    { name: 'is reminded by each request', steps: [ask(1, 77), ask(1, 77, {}, 20), answered(1, 77, 50), unknown(reply(77), 51)] },
    { name: 'refuses an identifier that another guest is using towards the same host', steps: [ask(0, 77), { ...ask(1, 77), verdict: DISCARD, reason: 'identifier-taken' }, answered(0, 77)] },
    { name: 'allows the identifier towards another host', steps: [ask(0, 77), ask(1, 77, { dst: ROUTER }), { frame: reply(77, { src: ROUTER }), verdict: toGuest(1) }, answered(0, 77)] },
    { name: 'allows the identifier from another address', steps: [ask(0, 77), ask(1, 77, { src: SECOND }), answered(0, 77), { frame: reply(77, { dst: SECOND }), verdict: toGuest(1) }] },
    { name: 'allows the identifier when the other guest’s has expired', steps: [ask(0, 77), ask(1, 77, {}, 31), { frame: reply(77), at: 31, verdict: toGuest(1) }] },
    { name: 'does not take a reply for a use of the identifier', steps: [unknown(reply(77)), ask(1, 77), answered(1, 77)] },
    { name: 'takes identifiers 0 and 65535', steps: [ask(0, 0), ask(1, 65535), answered(1, 65535), answered(0, 0)] },
    { name: 'passes an echo request: the host answers', frame: eth().ipv4().icmpEcho('request', 1).build(), verdict: PASS, reason: 'other-protocol' },
    { name: 'passes an echo request to an address without leases', frame: eth().ipv4({ dst: BARE }).icmpEcho('request', 1).build(), verdict: PASS, reason: 'other-protocol' },
    { name: 'passes an echo reply with its header cut off as malformed', frame: eth().ipv4().proto(1, [0, 0, 0, 0, 0, 77, 0]).build(), verdict: PASS, reason: 'malformed' },
    {
      name: 'lets later fragments of a reply follow the first',
      steps: [
        ask(1, 77),
        { frame: eth().ipv4({ src: REMOTE, dst: SHARED, id: 5, moreFragments: true }).icmpEcho('reply', 77, 1, new Uint8Array(8)).build(), verdict: toGuest(1) },
        { frame: eth().ipv4({ src: REMOTE, dst: SHARED, id: 5, fragmentOffset: 16 }).proto(1, new Uint8Array(8)).build(), verdict: toGuest(1) },
      ],
    },
    { name: 'forwards an echo request to a dedicated address in use', frame: eth().ipv4({ dst: WHOLE }).icmpEcho('request', 1).build(), verdict: toGuest(2) },
    { name: 'forwards an unsolicited reply to a dedicated address in use', frame: reply(9, { dst: WHOLE }), verdict: toGuest(2) },
    { name: 'discards an echo request to a dedicated address not in use', frame: eth().ipv4({ dst: WHOLE_LEASED }).icmpEcho('request', 1).build(), verdict: DISCARD, reason: 'not-in-use' },
    { name: 'discards an echo request to a quarantined address', frame: eth().ipv4({ dst: WHOLE_QUARANTINED }).icmpEcho('request', 1).build(), verdict: DISCARD, reason: 'quarantined' },
  ]);
});
