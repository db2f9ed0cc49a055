/**
 * A token bucket: `burst` tokens at once, `perSecond` in the long run. Pure: the caller brings the clock.
 *
 * A clock that steps back refills nothing and is followed from its new value, so a correction costs at most one burst.
 */
import { BerthError } from './errors.js';

export class TokenBucket {
  private readonly perMillisecond: number;
  private readonly burst: number;
  private tokens: number;
  private lastMs: number;

  /**
   * Starts full.
   * @param perSecond tokens refilled a second, fractions allowed; 0 never refills.
   * @param burst the most tokens held; below 1 nothing is ever granted.
   * @param nowMs any clock in milliseconds, preferably monotonic; the same one as for `take`.
   * @throws BerthError ERR_RATE_LIMIT for a negative or non-finite number.
   */
  constructor(perSecond: number, burst: number, nowMs: number) {
    if (!(perSecond >= 0 && burst >= 0 && Number.isFinite(perSecond + burst + nowMs))) {
      const got = `rate ${perSecond}/s, burst ${burst}, clock ${nowMs}`;
      throw new BerthError('ERR_RATE_LIMIT', `${got}: expected finite numbers, rate and burst 0 or more`);
    }
    this.perMillisecond = perSecond / 1000;
    this.burst = burst;
    this.tokens = burst;
    this.lastMs = nowMs;
  }

  /** Takes one token; false when there is none, and then nothing changes but the clock. */
  take(nowMs: number): boolean {
    const elapsed = nowMs - this.lastMs;
    this.lastMs = nowMs;
    if (elapsed > 0) this.tokens = Math.min(this.burst, this.tokens + elapsed * this.perMillisecond);
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }
}
