/** The token bucket: burst, long-run rate, and clocks that stop or step. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/base/rate-limit.js';

/** How many of `tries` attempts at one instant are granted. */
function granted(bucket: TokenBucket, nowMs: number, tries: number): number {
  let count = 0;
  for (let i = 0; i < tries; i++) if (bucket.take(nowMs)) count++;
  return count;
}

describe('TokenBucket', () => {
  it('grants the burst at once and no more', () => {
    expect(granted(new TokenBucket(10, 5, 1000), 1000, 20)).toBe(5);
  });

  it('refills at its rate, also when asked more often than a token takes', () => {
    const bucket = new TokenBucket(10, 1, 0);
    expect(granted(bucket, 0, 1)).toBe(1);
    let count = 0;
    for (let now = 1; now <= 1000; now++) count += granted(bucket, now, 3);
    expect(count).toBeGreaterThanOrEqual(9);
    expect(count).toBeLessThanOrEqual(10);
  });

  it('never holds more than the burst, however long it rests', () => {
    expect(granted(new TokenBucket(1000, 3, 0), 1e12, 100)).toBe(3);
  });

  it('neither refills nor locks up when the clock steps back', () => {
    const bucket = new TokenBucket(1000, 2, 1e9);
    expect(granted(bucket, 1e9, 5)).toBe(2);
    expect(granted(bucket, 0, 5)).toBe(0);
    expect(granted(bucket, 2, 5)).toBe(2);
  });

  it.each([
    { name: 'a burst under one token', rate: 1000, burst: 0.5, expected: 0 },
    { name: 'rate 0 after its burst', rate: 0, burst: 4, expected: 4 },
  ])('grants $expected in all with $name', ({ rate, burst, expected }) => {
    const bucket = new TokenBucket(rate, burst, 0);
    expect(granted(bucket, 0, 10) + granted(bucket, 1e9, 10)).toBe(expected);
  });

  it.each([
    [-1, 1, 0],
    [1, -1, 0],
    [Number.NaN, 1, 0],
    [1, Number.POSITIVE_INFINITY, 0],
    [1, 1, Number.NaN],
  ])('refuses rate %d, burst %d, clock %d', (rate, burst, now) => {
    expect(() => new TokenBucket(rate, burst, now)).toThrow(expect.objectContaining({ code: 'ERR_RATE_LIMIT' }));
  });

  it('over any sequence of times grants at most burst + elapsed × rate', () => {
    const steps = fc.array(fc.nat(500), { maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 1, max: 50 }), steps, (rate, burst, gaps) => {
        const bucket = new TokenBucket(rate, burst, 0);
        let now = 0;
        let count = 0;
        for (const gap of gaps) {
          now += gap;
          count += granted(bucket, now, 2);
        }
        expect(count).toBeLessThanOrEqual(burst + (now * rate) / 1000 + 1e-6);
      }),
    );
  });
});
