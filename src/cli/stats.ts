/** Counters for people: names in place of indices, rates from two readings. */
import { count, plural } from './text-table.js';
import type { DhcpCounters } from '../control/dhcp-server.js';
import type { CounterSnapshot, GuestTally } from '../dataplane/counters.js';
import type { Tally } from '../io/kernel-table.js';

export type NamedCounters = Omit<CounterSnapshot, 'guests'> & { dhcp?: DhcpCounters; guests: Record<string, GuestTally> };

export function namedCounters(counters: CounterSnapshot, guests: readonly string[]): NamedCounters {
  return { ...counters, guests: Object.fromEntries(guests.map((name, index) => [name, counters.guests[index]])) };
}

export interface Rates {
  text: string;
  inFramesPerSecond: number;
  outFramesPerSecond: number;
  discardsPerSecond: number;
}

/** `seconds` between the two readings. */
export function ratesBetween(before: CounterSnapshot, now: CounterSnapshot, seconds: number): Rates {
  const per = (one: (counters: CounterSnapshot) => number): number => Math.round((one(now) - one(before)) / seconds);
  const inFramesPerSecond = per((c) => c.ingress.forwarded.frames);
  const outFramesPerSecond = per((c) => c.egress.forwarded.frames);
  const discardsPerSecond = per((c) => total(c.ingress.discarded) + total(c.egress.discarded));
  const megabits = (one: (counters: CounterSnapshot) => number): string => ((per(one) * 8) / 1e6).toFixed(1);
  return {
    text:
      `in ${inFramesPerSecond} frames/s ${megabits((c) => c.ingress.forwarded.bytes)} Mbit/s, ` +
      `out ${outFramesPerSecond} frames/s ${megabits((c) => c.egress.forwarded.bytes)} Mbit/s, ` +
      `discarded ${discardsPerSecond}/s, kernel drops ${per((c) => c.kernelDrops)}/s`,
    inFramesPerSecond,
    outFramesPerSecond,
    discardsPerSecond,
  };
}

/** What a daemon did in its life, in one line. */
export function inWords({ ingress, egress, kernelDrops }: CounterSnapshot): string {
  const discards = [...Object.entries(ingress.discarded), ...Object.entries(egress.discarded)].map(([reason, tally]) => `, ${reason} ${count(tally.frames)}`);
  const dropped = kernelDrops > 0 ? `; ${plural(kernelDrops, 'frame')} lost in the kernel` : '';
  return `steered ${plural(ingress.forwarded.frames, 'frame')} to guests and ${count(egress.forwarded.frames)} from them; discarded ${count(total(ingress.discarded) + total(egress.discarded))}${discards.join('')}${dropped}`;
}

function total(reasons: Partial<Record<string, Tally>>): number {
  return Object.values(reasons).reduce((sum, tally) => sum + (tally?.frames ?? 0), 0);
}
