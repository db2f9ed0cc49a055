/** The load of a network: bits a second from byte counters, smoothed; what is new or goes back begins again. */
import { describe, expect, it } from 'vitest';
import { LoadSampler } from '../../../src/control/pools/load-sampler.js';
import { bytesByInterface } from '../../../src/io/interfaces.js';

const counters = (received: number, sent: number) => new Map([['eth0', { received, sent }]]);

describe('the load of a network', () => {
  it('is nothing until it was sampled twice; then the busier direction', () => {
    const sampler = new LoadSampler();
    expect(sampler.loadOf('eth0')).toBe(0);
    sampler.sample(1000, counters(5_000_000, 7_000_000));
    expect(sampler.loadOf('eth0')).toBe(0);
    sampler.sample(2000, counters(5_125_000, 7_250_000));
    expect(sampler.loadOf('eth0')).toBe(2_000_000);
  });

  it('approaches a new rate by 63 % in five seconds, in whatever steps', () => {
    for (const step of [100, 1000, 5000]) {
      const sampler = new LoadSampler();
      sampler.sample(0, counters(0, 0));
      sampler.sample(step, counters(0, 0));
      for (let at = step; at < step + 5000; ) {
        at += step;
        sampler.sample(at, counters(0, (at - step) * 125)); // 1 Mbit/s
      }
      expect(sampler.loadOf('eth0')).toBeCloseTo(1e6 * (1 - Math.exp(-1)), 0);
    }
  });

  it('begins again when an interface of the name is new, and keeps what it had of one that is not there for a moment', () => {
    const sampler = new LoadSampler();
    sampler.sample(0, counters(0, 0));
    sampler.sample(1000, counters(125_000, 0));
    sampler.sample(2000, new Map());
    expect(sampler.loadOf('eth0')).toBe(1e6);
    sampler.sample(3000, counters(10, 10));
    expect(sampler.loadOf('eth0')).toBe(0);
  });

  it('is read from this host\'s own counters', () => {
    expect(bytesByInterface().get('lo')).toMatchObject({ received: expect.any(Number), sent: expect.any(Number) });
  });
});
