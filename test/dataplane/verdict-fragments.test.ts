/**
 * Fragments from outside: a first fragment is decided by its ports and remembered for 30 s by (source, destination,
 * protocol, id); later ones get the same verdict, or pass as orphans; design §3, rows 5 and 6.
 */
import { describe } from 'vitest';
import { DISCARD, PASS, toGuest } from '../support/dataplane-harness.js';
import { BARE, NOT_US, SECOND, SHARED, type Step, verdictTable, WHOLE } from '../support/dataplane-rows.js';
import { eth, fragment, type Ipv4Options } from '../../src/wire/frame-builder.js';

const DATA = new Uint8Array(16);
const first = (port: number, ip: Ipv4Options = {}) => eth().ipv4({ id: 7, moreFragments: true, ...ip }).udp(40000, port, { payload: DATA }).build();
const firstTcp = (port: number, ip: Ipv4Options = {}) => eth().ipv4({ id: 7, moreFragments: true, ...ip }).tcp(40000, port, { payload: [1, 2, 3, 4] }).build();
const later = (ip: Ipv4Options = {}, protocol = 17) => eth().ipv4({ id: 7, fragmentOffset: 24, ...ip }).proto(protocol, DATA).build();

const SENT: Step = { frame: first(53), verdict: toGuest(1) };
const orphan = (frame: Uint8Array, at = 0): Step => ({ frame, at, verdict: PASS, reason: 'orphan-fragment' });
const followed = (frame: Uint8Array, at = 0): Step => ({ frame, at, verdict: toGuest(1) });

describe('fragments from outside', () => {
  verdictTable([
    { name: 'forwards a first fragment by its ports', ...SENT },
    { name: 'forwards a TCP first fragment by its ports', frame: firstTcp(8080), verdict: toGuest(0) },
    { name: 'passes a later fragment of no datagram it knows', frame: later(), verdict: PASS, reason: 'orphan-fragment' },
    { name: 'passes a later fragment to elsewhere as not ours', frame: later({ dst: NOT_US }), verdict: PASS, reason: 'not-ours' },
    { name: 'passes a first fragment to elsewhere as not ours', frame: first(53, { dst: NOT_US }), verdict: PASS, reason: 'not-ours' },
    {
      name: 'forwards every fragment of a datagram cut by a router',
      steps: fragment(eth().ipv4({ id: 9 }).udp(40000, 53, { payload: new Uint8Array(5000) }).build(), 1500).map((frame) => ({ frame, verdict: toGuest(1) })),
    },
    {
      name: 'forwards every fragment although only the first has the options',
      steps: fragment(eth().ipv4({ id: 9, options: [7, 7, 4, 0, 0, 0, 0] }).udp(40000, 53, { payload: new Uint8Array(900) }).build(), 400).map((frame) => ({ frame, verdict: toGuest(1) })),
    },
    {
      name: 'reads tagged fragments of an untagged datagram’s key',
      steps: [SENT, followed(eth().vlan(3).ipv4({ id: 7, fragmentOffset: 24 }).proto(17, DATA).build())],
    },
    { name: 'forwards a later fragment that is not the last', steps: [SENT, followed(later({ moreFragments: true }))] },
    { name: 'forwards later fragments again and again', steps: [SENT, followed(later()), followed(later()), followed(later({ fragmentOffset: 65528 }))] },
    { name: 'forwards a later fragment of one byte', steps: [SENT, followed(eth().ipv4({ id: 7, fragmentOffset: 24 }).proto(17, [1]).build())] },
    { name: 'forwards a later fragment without data', steps: [SENT, followed(eth().ipv4({ id: 7, fragmentOffset: 24 }).proto(17, []).build())] },
    { name: 'out of order: what comes before the first is an orphan, what comes after it is not', steps: [orphan(later()), SENT, followed(later())] },
    { name: 'remembers for 30 s', steps: [SENT, followed(later(), 30)] },
    { name: 'forgets after 31 s', steps: [SENT, orphan(later(), 31)] },
    { name: 'is not reminded by later fragments', steps: [SENT, followed(later(), 20), followed(later(), 30), orphan(later(), 31)] },
    { name: 'is reminded by another first fragment', steps: [SENT, { ...SENT, at: 20 }, followed(later(), 50), orphan(later(), 51)] },
    { name: 'forgets after a day and after the clock’s 32 bits', steps: [SENT, orphan(later(), 86_400), orphan(later(), 2 ** 31)] },
    {
      name: 'remembers across the end of 32-bit seconds',
      steps: [
        { frame: { bytes: first(53), seconds: 0xffffffff }, verdict: toGuest(1) },
        { frame: { bytes: later(), seconds: 20 }, verdict: toGuest(1) },
      ],
    },
    { name: 'tells ids apart', steps: [SENT, orphan(later({ id: 8 }))] },
    { name: 'tells sources apart', steps: [SENT, orphan(later({ src: '198.51.100.8' }))] },
    { name: 'tells destinations apart', steps: [SENT, orphan(later({ dst: SECOND }))] },
    { name: 'tells protocols apart', steps: [SENT, orphan(later({}, 6)), orphan(later({}, 1))] },
    { name: 'discards later fragments of a datagram for a leased port', steps: [{ frame: first(54), verdict: DISCARD, reason: 'not-in-use' }, { frame: later(), verdict: DISCARD, reason: 'not-in-use' }] },
    { name: 'discards later fragments of a datagram for a quarantined port', steps: [{ frame: first(55), verdict: DISCARD, reason: 'quarantined' }, { frame: later(), verdict: DISCARD, reason: 'quarantined' }] },
    { name: 'passes later fragments of a datagram for a port not leased, with its reason', steps: [{ frame: first(99), verdict: PASS, reason: 'not-leased' }, { frame: later(), verdict: PASS, reason: 'not-leased' }] },
    { name: 'passes later fragments for an address without leases likewise', steps: [{ frame: first(53, { dst: BARE }), verdict: PASS, reason: 'not-leased' }, { frame: later({ dst: BARE }), verdict: PASS, reason: 'not-leased' }] },
    { name: 'follows the first fragment on a dedicated address', steps: [{ frame: first(9, { dst: WHOLE }), verdict: toGuest(2) }, { frame: later({ dst: WHOLE }), verdict: toGuest(2) }] },
    { name: 'does not send a later fragment without its first to a dedicated address', ...orphan(later({ dst: WHOLE })) },
    {
      name: 'keeps a datagram’s verdict although its endpoint changes meanwhile',
      steps: [SENT, { ...followed(later()), before: ({ writer }) => writer.endUse(0xc000020a, 1, 53) }, { frame: first(53, { id: 8 }), verdict: DISCARD, reason: 'not-in-use' }],
    },
    { name: 'takes a new decision for an id used again', steps: [SENT, { frame: first(54), verdict: DISCARD, reason: 'not-in-use' }, { frame: later(), verdict: DISCARD, reason: 'not-in-use' }] },
    { name: 'keeps two datagrams apart that arrive interleaved', steps: [SENT, { frame: first(54, { id: 8 }), verdict: DISCARD, reason: 'not-in-use' }, followed(later()), { frame: later({ id: 8 }), verdict: DISCARD, reason: 'not-in-use' }] },
    { name: 'passes a first fragment of TCP with 19 bytes as an orphan', frame: eth().ipv4({ moreFragments: true }).proto(6, new Uint8Array(19)).build(), verdict: PASS, reason: 'orphan-fragment' },
    { name: 'passes a first fragment of UDP with 7 bytes as an orphan', frame: eth().ipv4({ moreFragments: true }).proto(17, new Uint8Array(7)).build(), verdict: PASS, reason: 'orphan-fragment' },
    { name: 'passes an unfragmented UDP with 7 bytes as malformed', frame: eth().ipv4().proto(17, new Uint8Array(7)).build(), verdict: PASS, reason: 'malformed' },
    { name: 'passes a short first fragment to elsewhere as not ours', frame: eth().ipv4({ dst: NOT_US, moreFragments: true }).proto(6, new Uint8Array(8)).build(), verdict: PASS, reason: 'not-ours' },
    {
      name: 'remembers nothing of a short first fragment (RFC 1858)',
      steps: [orphan(eth().ipv4({ id: 7, moreFragments: true }).proto(6, [0, 1, 0x1f, 0x90, 0, 0, 0, 0]).build()), orphan(later({ fragmentOffset: 8 }, 6))],
    },
    { name: 'does not decide anew by a later fragment that overlaps the ports', steps: [SENT, followed(eth().ipv4({ id: 7, fragmentOffset: 8 }).proto(17, [156, 64, 0, 54, 0, 24, 0, 0]).build())] },
    { name: 'passes a later fragment with IHL 4 as malformed', frame: later({ ihl: 4 }), verdict: PASS, reason: 'malformed' },
    { name: 'passes later fragments of other protocols as other-protocol', frame: later({}, 47), verdict: PASS, reason: 'other-protocol' },
    {
      name: 'lets later fragments of an echo request follow the first',
      steps: [
        { frame: eth().ipv4({ id: 7, moreFragments: true, dst: WHOLE }).icmpEcho('request', 1, 1, DATA).build(), verdict: toGuest(2) },
        { frame: later({ dst: WHOLE }, 1), verdict: toGuest(2) },
      ],
    },
    { name: 'passes a first fragment of ICMP with 7 bytes as an orphan', frame: eth().ipv4({ moreFragments: true }).proto(1, new Uint8Array(7)).build(), verdict: PASS, reason: 'orphan-fragment' },
    { name: 'does not forget the datagrams of a busy minute: 4,000 of them', steps: manyDatagrams(4000) },
  ]);
});

function manyDatagrams(count: number): Step[] {
  const steps: Step[] = [];
  for (let id = 0; id < count; id++) steps.push({ frame: first(53, { id }), verdict: toGuest(1) });
  for (let id = 0; id < count; id++) steps.push({ frame: later({ id }), at: 1, verdict: toGuest(1) });
  return steps;
}

describe('the same address as source and destination', () => {
  verdictTable([{ name: 'keys a datagram from us to us as any other', steps: [{ frame: first(53, { src: SHARED }), verdict: toGuest(1) }, followed(later({ src: SHARED })), orphan(later())] }]);
});
