/** Records of the store: whether what was read is a run, and whether the runs of a protocol can be true together. */
import type { Run } from './lease-ranges.js';

/** The run of a record. Throws an Error with what is wrong. */
export function checkRun(first: unknown, value: unknown): Run {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Partial<Record<keyof Run, unknown>>;
  const { last, guest, state, since, until, block } = record;
  const isSound =
    isPort(first) && isPort(last) && first <= last && typeof guest === 'string' && isTime(since) && isTime(until) && isTime(block) && (state === 'leased' || state === 'quarantined');
  if (!isSound) throw new Error(`record of port ${String(first)} is no lease: ${JSON.stringify(value)}`);
  return { first, last, guest, state, since, until, block };
}

/** Throws an Error when two of the runs, ascending, have a port in common. */
export function checkRuns(runs: readonly Run[]): void {
  for (let i = 1; i < runs.length; i++) {
    if (runs[i].first <= runs[i - 1].last) throw new Error(`port ${runs[i].first} is held twice, by ${runs[i - 1].guest} and ${runs[i].guest}`);
  }
}

function isPort(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65535;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
