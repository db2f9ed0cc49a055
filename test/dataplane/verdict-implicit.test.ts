/**
 * D7: a guest's own frame from a leased endpoint is the indication. One compare-and-swap; the control plane's word wins.
 */
import { describe, expect, it, vi } from 'vitest';
import { DISCARD, ip, PASS, Plane, type PlaneOptions, TO_NIC, toGuest } from '../support/dataplane-harness.js';
import { REMOTE, type Row, SHARED, verdictTable, WHOLE_LEASED, WORLD } from '../support/dataplane-rows.js';
import { ACTIVE, IMPLICIT, MAY_IMPLY, STATE_IN_USE, STATE_LEASED } from '../../src/steering/table-layout.js';
import { eth } from '../../src/wire/frame-builder.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../src/wire/tcp.js';

const NIC = '02:00:5e:10:00:10';
const sent = (port: number, src = SHARED, mac = NIC) => eth({ src: mac }).ipv4({ src, dst: REMOTE }).tcp(port, 443).build();
const answer = (port: number, dst = SHARED) => eth().ipv4({ src: REMOTE, dst }).tcp(443, port).build();
const segment = (flags: number, bytes: number) => eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE }).tcp(8082, 443, { flags, payload: new Uint8Array(bytes) }).build();
const value = (link: number, bits: number) => ((link << 16) | bits) >>> 0;
const explicit: PlaneOptions = { entries: WORLD.map((entry) => ({ ...entry, mayImply: false })) };

describe('D7: the implicit indication', () => {
  verdictTable(
    [
      {
        name: 'turns a leased endpoint into one in use, marked implicit',
        from: 0,
        frame: sent(8082),
        verdict: TO_NIC,
        after: (plane) => {
          expect(plane.value(SHARED, 'tcp', 8082)).toBe(value(0, STATE_IN_USE | MAY_IMPLY | IMPLICIT | ACTIVE));
        },
      },
      {
        name: 'so that the answer is forwarded, and was not before',
        steps: [
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { frame: answer(8082), verdict: toGuest(0) },
        ],
      },
      {
        name: 'is not made by another guest’s spoofed frame',
        steps: [
          { from: 1, frame: sent(8082), verdict: DISCARD, reason: 'spoofed' },
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
        after: (plane) => {
          expect(plane.value(SHARED, 'tcp', 8082)).toBe(value(0, STATE_LEASED | MAY_IMPLY));
        },
      },
      {
        name: 'is not made by a frame with another source MAC',
        steps: [
          { from: 0, frame: sent(8082, SHARED, '02:00:5e:10:00:11'), verdict: DISCARD, reason: 'spoofed' },
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
      },
      {
        name: 'is not made by a tagged frame',
        steps: [
          { from: 0, frame: eth({ src: NIC }).vlan(1).ipv4({ src: SHARED, dst: REMOTE }).tcp(8082, 1).build(), verdict: DISCARD, reason: 'tagged' },
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
      },
      {
        name: 'is not made where the policy forbids it; the frame goes out all the same',
        world: explicit,
        steps: [
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
        after: (plane) => {
          expect(plane.value(SHARED, 'tcp', 8082)).toBe(value(0, STATE_LEASED));
        },
      },
      ...([
        ['a reset', TCP_RST | TCP_ACK, 0],
        ['the answer to a connection', TCP_SYN | TCP_ACK, 0],
        ['an end', TCP_FIN | TCP_ACK, 0],
        ['an end with data', TCP_FIN | TCP_ACK, 9],
        ['a bare acknowledgement', TCP_ACK, 0],
      ] as const).map(([what, flags, bytes]): Row => ({
        name: `is not made by ${what}, which answers or ends what was; the frame goes out all the same`,
        steps: [
          { from: 0, frame: segment(flags, bytes), verdict: TO_NIC },
          { frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
      })),
      {
        name: 'is made by data of a connection that was there before',
        steps: [
          { from: 0, frame: segment(TCP_ACK, 1), verdict: TO_NIC },
          { frame: answer(8082), verdict: toGuest(0) },
        ],
      },
      {
        name: 'is kept up by a bare acknowledgement, and not by a reset',
        steps: [
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(0), from: 0, frame: segment(TCP_ACK, 0), verdict: TO_NIC },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(0), from: 0, frame: segment(TCP_RST, 0), verdict: TO_NIC },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(1), frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
      },
      {
        name: 'does not revive a quarantined endpoint',
        steps: [
          { from: 0, frame: sent(8083), verdict: DISCARD, reason: 'spoofed' },
          { frame: answer(8083), verdict: DISCARD, reason: 'quarantined' },
        ],
      },
      {
        name: 'does not make an explicit use implicit',
        from: 0,
        frame: sent(8080),
        verdict: TO_NIC,
        after: (plane) => {
          expect(plane.value(SHARED, 'tcp', 8080)).toBe(value(0, STATE_IN_USE | MAY_IMPLY));
        },
      },
      {
        name: 'is made by a first fragment',
        steps: [
          { from: 1, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE, moreFragments: true }).udp(54, 53, { payload: new Uint8Array(8) }).build(), verdict: TO_NIC },
          { frame: eth().ipv4().udp(53, 54).build(), verdict: toGuest(1) },
        ],
      },
      {
        name: 'indicates a dedicated address as a whole',
        steps: [
          { frame: answer(9, WHOLE_LEASED), verdict: DISCARD, reason: 'not-in-use' },
          { from: 2, frame: sent(9, WHOLE_LEASED), verdict: TO_NIC },
          { frame: answer(10, WHOLE_LEASED), verdict: toGuest(2) },
        ],
      },
      {
        name: 'ends by the agent’s report and can be made anew',
        steps: [
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { before: ({ writer }) => writer.endUse(ip(SHARED), 0, 8082), frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { frame: answer(8082), verdict: toGuest(0) },
        ],
      },
      {
        name: 'is confirmed by an explicit use, which no time-out ends',
        steps: [
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { before: ({ writer }) => {
            writer.use(ip(SHARED), 0, 8082);
            writer.sweepIdle(0);
            writer.sweepIdle(0);
          }, frame: answer(8082), verdict: toGuest(0) },
        ],
      },
      {
        name: 'ends after a whole time-out without a frame',
        steps: [
          { from: 0, frame: sent(8082), verdict: TO_NIC },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(0), frame: answer(8082), verdict: toGuest(0) },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(0), from: 0, frame: sent(8082), verdict: TO_NIC },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(0), frame: eth().ipv4().udp(1, 99).build(), verdict: PASS, reason: 'not-leased' },
          { before: ({ writer }) => expect(writer.sweepIdle(1)).toBe(0), frame: eth().ipv4().udp(1, 99).build(), verdict: PASS, reason: 'not-leased' },
          { before: ({ writer }) => expect(writer.sweepIdle(0)).toBe(1), frame: answer(8082), verdict: DISCARD, reason: 'not-in-use' },
        ],
      },
    ],
    { station: NIC },
  );
});

describe('D7: the swap', () => {
  /** Does `meanwhile` between the engine's look at the entry and its swap. */
  function race(meanwhile: (plane: Plane) => void): Plane {
    const plane = new Plane({ entries: WORLD, station: NIC });
    const swap = Atomics.compareExchange;
    const spy = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((array: Uint32Array, at: number, from: number, to: number) => {
      spy.mockRestore();
      meanwhile(plane);
      return swap(array, at, from, to);
    }) as typeof Atomics.compareExchange);
    const [decision] = plane.egress(0, sent(8082));
    expect(decision.verdict).toBe(TO_NIC);
    return plane;
  }

  const losing: [string, (plane: Plane) => void, number][] = [
    ['a quarantine', ({ writer }) => writer.quarantine(ip(SHARED), 0, 8082), value(0, 3 | MAY_IMPLY)],
    ['a release', ({ writer }) => writer.release(ip(SHARED), 0, 8082), 0],
    ['an explicit use', ({ writer }) => writer.use(ip(SHARED), 0, 8082), value(0, STATE_IN_USE | MAY_IMPLY)],
    ['a lease to another guest', ({ writer }) => {
      writer.release(ip(SHARED), 0, 8082);
      writer.lease(ip(SHARED), 0, 8082, 1, true);
    }, value(1, STATE_LEASED | MAY_IMPLY)],
    ['a change of policy', ({ writer }) => {
      writer.lease(ip(SHARED), 0, 8082, 0, false);
    }, value(0, STATE_LEASED)],
  ];
  it.each(losing)('loses against %s made at the same moment', (_name, meanwhile, expected) => {
    expect(race(meanwhile).value(SHARED, 'tcp', 8082)).toBe(expected);
  });
  it('wins when nothing happens meanwhile', () => {
    expect(race(() => undefined).value(SHARED, 'tcp', 8082)).toBe(value(0, STATE_IN_USE | MAY_IMPLY | IMPLICIT | ACTIVE));
  });
});
