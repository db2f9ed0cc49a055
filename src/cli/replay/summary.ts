/** The table at the end of a replay: frames and bytes for each guest and each reason. */
import type { CounterSnapshot } from '../../dataplane/counters.js';
import type { Tally } from '../../io/kernel-table.js';
import { count, plainTable } from '../text-table.js';

export interface ReplayResult {
  counters: CounterSnapshot;
  guests: readonly string[];
  seconds: number;
}

export function summarize({ counters, guests, seconds }: ReplayResult): string {
  const rows: string[][] = [];
  let frames = 0;
  const add = (verdict: string, what: string, tally: Tally): void => {
    rows.push([verdict, what, count(tally.frames), count(tally.bytes)]);
    frames += tally.frames;
  };
  guests.forEach((name, index) => {
    add('forward', name, counters.guests[index].ingress);
  });
  for (const [reason, tally] of Object.entries(counters.ingress.discarded)) add('discard', reason, tally);
  for (const [reason, tally] of Object.entries(counters.ingress.passed)) add('pass', reason === 'no-reason' ? '(ARP)' : reason, tally);
  const rate = seconds > 0 ? Math.round(frames / seconds) : 0;
  const table = plainTable(['verdict', 'guest or reason', 'frames', 'bytes'], rows, [2, 3]);
  return `${table}\n${count(frames)} frames in ${seconds.toFixed(3)} s, ${count(rate)} frames/s\n`;
}
