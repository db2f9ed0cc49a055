/**
 * Leases that churn under traffic: what is delivered, is delivered to the guest that has the endpoint, and nothing is lost where nothing
 * changes. A few seconds and guests of what bench/control measures with 64, without its goals in time.
 */
import { describe, expect, it } from 'vitest';
import { liveTests } from '../support/live.js';
import { run, type Reported } from '../../bench/control/churn.mjs';

describe.skipIf(!liveTests('churn', 'python3'))('leases churn while traffic runs', () => {
  it('no frame comes to a wrong guest or after its release, and none is lost on endpoints that do not change', { timeout: 60_000 }, async () => {
    const reported: Record<string, number> = {};
    await run({ seconds: 4, guests: 6, rate: 300 }, ({ what, value }: Reported) => (reported[what] = value));
    expect(reported['frames delivered to a wrong guest']).toBe(0);
    expect(reported['frames delivered after the release was answered']).toBe(0);
    expect(reported['ports granted to another guest within their quarantine']).toBe(0);
    expect(reported['frames lost on endpoints that did not change']).toBe(0);
    expect(reported['frames delivered while leases churned']).toBeGreaterThan(100);
    expect(reported['6 guests: changes of leases a second']).toBeGreaterThan(10);
  });
});
