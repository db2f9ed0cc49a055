/**
 * Verdict tables: a row is a sentence of the design's rules, run as one test with its counters.
 *
 * The world all rows share, unless a row brings its own entries (guests are numbered):
 *
 *     192.0.2.10  shared     tcp  8080 guest 0 in use   8081 guest 1 in use   8082 guest 0 leased   8083 guest 0 quarantined
 *                            udp    53 guest 1 in use     54 guest 1 leased     55 guest 1 quarantined
 *     192.0.2.11  shared     tcp    80 guest 1 in use
 *     192.0.2.12  ours, nothing leased
 *     192.0.2.20  guest 2's, in use; but tcp 443 guest 1 in use, tcp 444 guest 1 leased
 *     192.0.2.21  guest 2's, leased
 *     192.0.2.22  guest 2's, quarantined
 *     192.0.2.23  nobody's, leased; but tcp 1024 guest 0 leased, udp 1025 guest 1 leased
 */
import { expect, it } from 'vitest';
import type { Reason } from '../../src/dataplane/frame-batch.js';
import { type Entry, type FrameIn, Plane, type PlaneOptions } from './dataplane-harness.js';

export const SHARED = '192.0.2.10';
export const SECOND = '192.0.2.11';
export const BARE = '192.0.2.12';
export const WHOLE = '192.0.2.20';
export const WHOLE_LEASED = '192.0.2.21';
export const WHOLE_QUARANTINED = '192.0.2.22';
export const BY_PORTS = '192.0.2.23';
export const REMOTE = '198.51.100.7';
export const NOT_US = '203.0.113.9';

export const WORLD: readonly Entry[] = [
  { address: SHARED, proto: 'tcp', port: 8080, guest: 0, state: 'in use' },
  { address: SHARED, proto: 'tcp', port: 8081, guest: 1, state: 'in use' },
  { address: SHARED, proto: 'tcp', port: 8082, guest: 0, state: 'leased' },
  { address: SHARED, proto: 'tcp', port: 8083, guest: 0, state: 'quarantined' },
  { address: SHARED, proto: 'udp', port: 53, guest: 1, state: 'in use' },
  { address: SHARED, proto: 'udp', port: 54, guest: 1, state: 'leased' },
  { address: SHARED, proto: 'udp', port: 55, guest: 1, state: 'quarantined' },
  { address: SECOND, proto: 'tcp', port: 80, guest: 1, state: 'in use' },
  { address: WHOLE, proto: 'any', port: 'all', guest: 2, state: 'in use' },
  { address: WHOLE, proto: 'tcp', port: 443, guest: 1, state: 'in use' },
  { address: WHOLE, proto: 'tcp', port: 444, guest: 1, state: 'leased' },
  { address: WHOLE_LEASED, proto: 'any', port: 'all', guest: 2, state: 'leased' },
  { address: WHOLE_QUARANTINED, proto: 'any', port: 'all', guest: 2, state: 'quarantined' },
  { address: BY_PORTS, proto: 'any', port: 'all', guest: 0xffff, state: 'leased', mayImply: false },
  { address: BY_PORTS, proto: 'tcp', port: 1024, guest: 0, state: 'leased' },
  { address: BY_PORTS, proto: 'udp', port: 1025, guest: 1, state: 'leased' },
];

/** A frame from the NIC, or from a guest, and what becomes of it. */
export interface Step {
  /** A guest's number; default: the row's, else the NIC. */
  from?: number | 'nic';
  frame: Uint8Array | FrameIn;
  /** Seconds since the row's beginning. */
  at?: number;
  verdict: number;
  reason?: Reason;
  /** Guests that get a copy; default: none. */
  copies?: number[];
  /** An answer is asked for; default: no. */
  rejected?: boolean;
  /** An ARP request is to be answered by proxy; default: no. */
  proxied?: boolean;
  /** It is handed to the control plane; default: no. */
  punted?: boolean;
  /** Something that the control plane does before this frame. */
  before?: (plane: Plane) => void;
}

export interface Row extends Partial<Step> {
  name: string;
  world?: PlaneOptions;
  /** More frames than one: instead of `frame`. */
  steps?: Step[];
  /** To be checked at the end. */
  after?: (plane: Plane) => void;
}

const START = 1_700_000_000;

/** One test a row. `defaults` are the world's options for the whole table. */
export function verdictTable(rows: readonly Row[], defaults: PlaneOptions = {}): void {
  it.each(rows)('$name', (row) => {
    const plane = new Plane({ entries: WORLD, addresses: [BARE], ...defaults, ...row.world });
    const steps = row.steps ?? [row as Step];
    steps.forEach((step, n) => {
      step.before?.(plane);
      const given = step.frame instanceof Uint8Array ? { bytes: step.frame } : step.frame;
      const frame = { seconds: START + (step.at ?? 0), ...given };
      const from = step.from ?? row.from ?? 'nic';
      const [decision] = from === 'nic' ? plane.ingress(frame) : plane.egress(from, frame);
      expect(plane.bytesOf(0), `bytes of frame ${n + 1} (R2)`).toEqual(given.bytes);
      expect(decision, `frame ${n + 1}`).toEqual({
        verdict: step.verdict,
        reason: step.reason ?? '',
        copies: step.copies ?? [],
        rejected: step.rejected ?? false,
        proxied: step.proxied ?? false,
        punted: step.punted ?? false,
      });
    });
    row.after?.(plane);
  });
}
