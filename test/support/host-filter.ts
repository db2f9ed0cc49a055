/**
 * The host filter under test: its program run by the kernel itself (BPF_PROG_TEST_RUN), frame by frame.
 */
import { HostFilter } from '../../src/io/host-filter.js';
import { LEFT_REASONS, type LeftReason } from '../../src/io/host-filter-program.js';
import { addon, check } from '../../src/native/binding.js';

/** Longer frames do not fit into the page that a trial has. */
export const LONGEST_TRIAL = 3000;
const TAKEN = 0xffffffff;

/** True where the kernel refuses bpf(2); says so. */
export function withoutFilter(name: string): boolean {
  try {
    new HostFilter(null).close();
    return false;
  } catch (error) {
    console.warn(`skipped: ${name} needs bpf(2): ${String(error)}`);
    return true;
  }
}

/** Why each frame is left to the host; null for one that is taken. Checks that it is counted, with its bytes, or not at all. */
export function leftBy(filter: HostFilter, frames: readonly Uint8Array[]): (LeftReason | null)[] {
  const program = filter.load({ shortest: 0, longest: 0xffffffff });
  return frames.map((frame) => {
    const before = filter.left();
    const isTaken = check(addon().bpfRun(program, frame), 'running the filter') === TAKEN;
    const now = filter.left();
    const counted = LEFT_REASONS.filter((reason) => now[reason].frames === before[reason].frames + 1 && now[reason].bytes === before[reason].bytes + frame.length);
    if (counted.length !== (isTaken ? 0 : 1)) throw new Error(`${isTaken ? 'taken' : 'left'}, and counted as ${counted.join() || 'nothing'}`);
    return counted[0] ?? null;
  });
}
