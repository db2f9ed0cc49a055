/**
 * Load sampler: what each network's NIC carries, in bits a second, from the byte counters of its interface.
 *
 * Smoothed     an exponential average over TIME_CONSTANT_MS, whatever the time between two samples: a burst of a second must not turn a choice
 *              that lasts for months, and a load that has ended must not be remembered for minutes.
 * Direction    the busier one: a full-duplex NIC carries its speed in each.
 * Counters     that go back are those of an interface that is new under the name: it begins again.
 */
import type { ByteCounters } from '../../io/interfaces.js';

const TIME_CONSTANT_MS = 5000;

interface Sampled extends ByteCounters {
  /** bits a second; null after the first sample */
  receivedRate: number | null;
  sentRate: number | null;
}

export class LoadSampler {
  private readonly networks = new Map<string, Sampled>();
  private at = 0;

  /** `now` in ms, of a clock that is not set. `counters` by interface; one that is missing keeps what it had. */
  sample(now: number, counters: ReadonlyMap<string, ByteCounters>): void {
    const elapsed = now - this.at;
    this.at = now;
    for (const [name, { received, sent }] of counters) {
      const before = this.networks.get(name);
      const isNew = before === undefined || elapsed <= 0 || received < before.received || sent < before.sent;
      this.networks.set(name, {
        received,
        sent,
        receivedRate: isNew ? null : smooth(before.receivedRate, received - before.received, elapsed),
        sentRate: isNew ? null : smooth(before.sentRate, sent - before.sent, elapsed),
      });
    }
  }

  /** Bits a second; 0 for an interface of which less than two samples are known. */
  loadOf(name: string): number {
    const { receivedRate, sentRate } = this.networks.get(name) ?? { receivedRate: 0, sentRate: 0 };
    return Math.max(receivedRate ?? 0, sentRate ?? 0);
  }
}

function smooth(before: number | null, bytes: number, elapsedMs: number): number {
  const rate = (bytes * 8000) / elapsedMs;
  return before === null ? rate : before + (rate - before) * (1 - Math.exp(-elapsedMs / TIME_CONSTANT_MS));
}
