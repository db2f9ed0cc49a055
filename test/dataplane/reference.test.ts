/**
 * The engine against a second, slow implementation of the rules (test/support/dataplane-reference.ts), on random and
 * damaged frames, batch after batch, both directions; and that what lies around a frame in memory makes no difference.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frames, NIC_MAC, noise } from '../support/dataplane-arbitrary.js';
import { type Decision, DISCARD, FIRST_SECOND, type FrameIn, PASS, Plane } from '../support/dataplane-harness.js';
import { type Outcome, readFrame, Reference } from '../support/dataplane-reference.js';
import { BARE, WORLD } from '../support/dataplane-rows.js';
import { ACTIVE, IMPLICIT, STATE_MASK } from '../../src/steering/table-layout.js';

type Batch = { from: 'nic' | number; frames: FrameIn[]; wait: number };

const batches: fc.Arbitrary<Batch[]> = fc.array(
  fc.oneof(
    fc.record({ from: fc.constant('nic' as const), frames: fc.array(fc.oneof({ weight: 9, arbitrary: frames(false) }, { weight: 1, arbitrary: noise }), { maxLength: 20 }), wait: fc.constantFrom(0, 0, 1, 29, 30, 31) }),
    fc.record({ from: fc.nat(2), frames: fc.array(fc.oneof({ weight: 9, arbitrary: frames(true) }, { weight: 1, arbitrary: noise }), { maxLength: 20 }), wait: fc.constantFrom(0, 0, 1, 29, 30, 31) }),
  ),
  { minLength: 1, maxLength: 8 },
);

function decisionOf({ verdict, guest, reason, copies, rejected, proxied }: Outcome): Decision {
  const code = verdict === 'pass' ? PASS : verdict === 'discard' ? DISCARD : guest === undefined ? 0 : 1 + guest;
  return { verdict: code, reason, copies, rejected, proxied, punted: false };
}

function referenceOf(station: string | undefined, rejecting: boolean): Reference {
  const reference = new Reference(station);
  reference.rejecting = rejecting;
  reference.ours.add(BARE);
  for (const { address, proto, port, guest, state } of WORLD) reference.hold(address, proto, port, { guest, state, mayImply: true });
  return reference;
}

const STATES = { leased: 1, 'in use': 2, quarantined: 3 };

describe('the engine and the reference', () => {
  const seen = new Map<string, number>();
  const check = (station: string | undefined, rejecting: boolean, runs: number): void => {
    fc.assert(
      fc.property(batches, (all) => {
        const plane = new Plane({ entries: WORLD, addresses: [BARE], rejecting, ...(station === undefined ? {} : { station }) });
        const reference = referenceOf(station, rejecting);
        let now = FIRST_SECOND;
        for (const { from, frames: given, wait } of all) {
          now += wait;
          const timed = given.map((frame) => ({ ...frame, seconds: now }));
          const found = from === 'nic' ? plane.ingress(...timed) : plane.egress(from, ...timed);
          const expected = given.map(({ bytes, wire = bytes.length }) => {
            const outcome =
              from === 'nic'
                ? reference.ingress(readFrame([...bytes], wire, station), now)
                : reference.egress(readFrame([...bytes], wire), from, now);
            const sort = `${from === 'nic' ? 'in' : 'out'} ${outcome.verdict} ${outcome.reason}`;
            seen.set(sort, (seen.get(sort) ?? 0) + 1);
            return decisionOf(outcome);
          });
          expect(found).toEqual(expected);
        }
        for (const { address, proto, port } of WORLD) {
          const key = port === 'all' ? `${address} whole` : `${address} ${proto} ${port}`;
          const held = reference.held.get(key);
          const value = plane.value(address, proto, port === 'all' ? 9 : port);
          expect([value & STATE_MASK, (value & IMPLICIT) !== 0, (value & ACTIVE) !== 0], key).toEqual([
            held === undefined ? 0 : STATES[held.state],
            held?.implicit ?? false,
            held?.active ?? false,
          ]);
        }
      }),
      { numRuns: runs },
    );
  };

  it('agree on a live NIC', { timeout: 120_000 }, () => {
    check(NIC_MAC, false, 3000);
  });
  it('agree with policy reject', { timeout: 120_000 }, () => {
    check(NIC_MAC, true, 1000);
  });
  it('agree on captures', { timeout: 120_000 }, () => {
    check(undefined, false, 1000);
  });

  it('have met every reason both ways', () => {
    const sorts = [...seen.keys()];
    for (const reason of ['not-in-use', 'quarantined', 'not-leased', 'orphan-fragment', 'not-ours', 'not-ipv4', 'other-protocol', 'malformed', 'other-station', '']) {
      expect(sorts.some((sort) => sort.startsWith('in') && sort.endsWith(` ${reason}`)), `in ${reason}`).toBe(true);
    }
    for (const reason of ['malformed', 'not-ipv4', 'tagged', 'spoofed', 'orphan-fragment', 'other-protocol', 'identifier-taken', 'announcement', '']) {
      expect(sorts.some((sort) => sort.startsWith('out') && sort.endsWith(` ${reason}`)), `out ${reason}`).toBe(true);
    }
    console.info([...seen].sort().map(([sort, count]) => `${sort}: ${count}`).join(', '));
  });
});

describe('memory around a frame', () => {
  it('makes no difference: each frame alone in memory of its size gets what it gets among others', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(frames(false), noise), { maxLength: 30 }), (given) => {
        const options = { entries: WORLD, addresses: [BARE], station: NIC_MAC };
        const together = new Plane(options).ingress(...given);
        const plane = new Plane(options);
        expect(given.map((frame) => plane.ingress(frame)[0])).toEqual(together);
      }),
      { numRuns: 300 },
    );
  });
});
