/**
 * Counters in shared memory: written by the engine's thread alone, read by anyone at any time without stopping it.
 *
 *     ┌──────────────────────────────────────────────────────┬──────────────┬─────────────────────┐
 *     │ 2 directions × 3 verdicts × 32 reasons × (frames,    │ 8 specials   │ links × 8           │
 *     │ bytes)                                               │              │                     │
 *     └──────────────────────────────────────────────────────┴──────────────┴─────────────────────┘
 *
 * Unit         frames and bytes on the wire; a super-frame (segmentation offload) counts as one frame.
 * Type         64-bit floats: exact to 2^53, aligned, so a reader never sees half of one.
 */
import {
  DHCP,
  DISCARD,
  type FrameBatch,
  LINK_DOWN,
  LINK_FULL,
  PASS,
  REASONS,
  type Reason,
  TAKEN,
  TO_NIC,
  TOO_LONG,
} from './frame-batch.js';
import { LOST, LOST_DOWN, LOST_FULL } from '../io/frame-io.js';
import type { Tally } from '../io/kernel-table.js';

export const INGRESS = 0;
export const EGRESS = 1;
export type Direction = typeof INGRESS | typeof EGRESS;

const MAX_REASONS = 32;
const DISCARDED_CLASS = 1;
const PASSED_CLASS = 2;
const CLASS_WORDS = MAX_REASONS * 2;
const DIRECTION_WORDS = 3 * CLASS_WORDS;
const SPECIALS = 2 * DIRECTION_WORDS;
const KERNEL_DROPS = SPECIALS;
const ANSWERS = SPECIALS + 1;
const UNMADE = SPECIALS + 2;
const ARP_REPLIES = SPECIALS + 3;
const PUNTS = SPECIALS + 4;
const LINKS = SPECIALS + 8;
const LINK_WORDS = 8;
const IN_FRAMES = 0;
const IN_BYTES = 1;
const OUT_FRAMES = 2;
const COPIES = 4;
const IN_LOST = 5;
const OUT_REFUSED = 6;
const IN_FULL = 7;

export interface GuestTally {
  ingress: Tally;
  egress: Tally;
  /** Copies of ARP replies. */
  copies: number;
  /** Ingress frames that its link did not take. Those that the kernel had steered to it are in `ingress` too. */
  lost: number;
  /** Egress frames that were not its to send, or could not be sent. */
  refused: number;
}

/** What `read` gives; reasons that never happened are left out. */
export interface CounterSnapshot {
  ingress: { forwarded: Tally; discarded: Partial<Record<Reason, Tally>>; passed: Partial<Record<Reason | 'no-reason', Tally>> };
  egress: { forwarded: Tally; discarded: Partial<Record<Reason, Tally>> };
  /** Frames that the kernel dropped because the ring was full (back end `cap`: that either of its rings did not take). */
  kernelDrops: number;
  /** Resets and port-unreachables sent (policy `reject`). */
  answers: number;
  /** ARP requests for dedicated addresses answered by proxy. */
  arpReplies: number;
  /** Copies of ARP replies and answers that were not made: more in one batch than the list of them holds. */
  unmade: number;
  /** Frames of guests that were handed to the control plane. The rest of those for it (`dhcp`) were too many at once. */
  punts: number;
  guests: GuestTally[];
}

/** The sums of two, the guests of the first before those of the second. */
export function addSnapshots(a: CounterSnapshot, b: CounterSnapshot): CounterSnapshot {
  return { ...(addCounts(a, { ...b, guests: [] }) as CounterSnapshot), guests: [...a.guests, ...b.guests] };
}

type Counts = { [name: string]: number | Counts } | object;

function addCounts(a: Counts, b: Counts): Counts {
  const sum: Record<string, unknown> = { ...a };
  for (const [name, value] of Object.entries(b) as [string, number | Counts][]) {
    const before = sum[name] as number | Counts | undefined;
    if (before === undefined) sum[name] = value;
    else sum[name] = typeof value === 'number' ? (before as number) + value : addCounts(before as Counts, value);
  }
  return sum;
}

/** Counted by programs in the kernel: counts as forwarded, and as passed. */
export interface KernelCounters {
  steeredInAll(): { ingress: Tally; egress: Tally };
  steeredFor(link: number): { ingress: Tally; egress: Tally };
  /** By link: frames that its interface was given, by the kernel or by the engine, and dropped: the engine knows of its own (link-full). */
  dropped(): (link: number) => number;
  left(): Partial<Record<Reason, Tally>>;
  /** What it has steered in all, modulo 2^32: without looking at 64 bits of each link. */
  traffic(): Tally;
}

export class Counters {
  readonly buffer: SharedArrayBuffer;
  /** What the kernel has steered, or left to the host, before the engine saw it; null: nothing. */
  kernel: KernelCounters | null = null;
  private readonly values: Float64Array;

  /** New counters for `links` links, or a view of existing ones. */
  constructor(from: number | SharedArrayBuffer) {
    this.buffer = typeof from === 'number' ? new SharedArrayBuffer((LINKS + from * LINK_WORDS) * 8) : from;
    this.values = new Float64Array(this.buffer);
  }

  private get links(): number {
    return (this.values.length - LINKS) / LINK_WORDS;
  }

  /** Counts a batch after it was forwarded; `link` is the source of an egress batch, ignored for ingress. */
  count(batch: FrameBatch, direction: Direction, link: number): void {
    const { values } = this;
    const { verdict, reason } = batch;
    const { wireLength, count } = batch.slots;
    const base = direction * DIRECTION_WORDS;
    const sender = LINKS + link * LINK_WORDS;

    for (let i = 0; i < count; i++) {
      const bytes = wireLength[i];
      let decided = verdict[i];
      let why = reason[i];
      if (decided >= TO_NIC) {
        values[base] += 1;
        values[base + 1] += bytes;
        const at = direction === INGRESS ? LINKS + (decided - 1) * LINK_WORDS : sender + OUT_FRAMES;
        values[at + IN_FRAMES] += 1;
        values[at + IN_BYTES] += bytes;
        continue;
      }
      if (decided === TAKEN) {
        values[base] += 1;
        values[base + 1] += bytes;
        values[sender + OUT_FRAMES] += 1;
        values[sender + OUT_FRAMES + 1] += bytes;
        continue;
      }
      if (decided <= LOST) {
        why = lostReason(decided);
        if (direction === INGRESS) {
          const to = LINKS + (lostPort(decided) - 1) * LINK_WORDS;
          values[to + IN_LOST] += 1;
          if (why === LINK_FULL) values[to + IN_FULL] += 1;
        }
        decided = DISCARD;
      }
      if (direction === EGRESS && why !== DHCP) values[sender + OUT_REFUSED] += 1;
      const at = base + (decided === PASS ? PASSED_CLASS : DISCARDED_CLASS) * CLASS_WORDS + why * 2;
      values[at] += 1;
      values[at + 1] += bytes;
    }
  }

  countCopy(port: number): void {
    this.values[LINKS + (port - 1) * LINK_WORDS + COPIES] += 1;
  }

  countAnswer(): void {
    this.values[ANSWERS] += 1;
  }

  countArpReply(): void {
    this.values[ARP_REPLIES] += 1;
  }

  countPunt(): void {
    this.values[PUNTS] += 1;
  }

  countUnmade(extras: number): void {
    this.values[UNMADE] += extras;
  }

  /** The one counter that the daemon's main thread writes. */
  addKernelDrops(frames: number): void {
    this.values[KERNEL_DROPS] += frames;
  }

  /** Begins a link's numbers anew; the totals stay. */
  reset(link: number): void {
    this.values.fill(0, LINKS + link * LINK_WORDS, LINKS + (link + 1) * LINK_WORDS);
  }

  /** `guests` holds the tallies of these links, in this order; of every link when none are named. */
  read(links: Iterable<number> = Array(this.links).keys()): CounterSnapshot {
    const guests: GuestTally[] = [];
    const droppedFor = this.kernel?.dropped();
    for (const link of links) {
      const at = LINKS + link * LINK_WORDS;
      const steered = this.kernel?.steeredFor(link);
      guests.push({
        ingress: sum(this.tally(at + IN_FRAMES), steered?.ingress),
        egress: sum(this.tally(at + OUT_FRAMES), steered?.egress),
        copies: this.values[at + COPIES],
        lost: this.values[at + IN_LOST] + Math.max(0, (droppedFor?.(link) ?? 0) - this.values[at + IN_FULL]),
        refused: this.values[at + OUT_REFUSED],
      });
    }
    const steered = this.kernel?.steeredInAll();
    return {
      ingress: {
        forwarded: sum(this.tally(0), steered?.ingress),
        discarded: this.reasons(INGRESS, DISCARDED_CLASS),
        passed: this.passed(),
      },
      egress: { forwarded: sum(this.tally(DIRECTION_WORDS), steered?.egress), discarded: this.reasons(EGRESS, DISCARDED_CLASS) },
      kernelDrops: this.values[KERNEL_DROPS],
      answers: this.values[ANSWERS],
      arpReplies: this.values[ARP_REPLIES],
      unmade: this.values[UNMADE],
      punts: this.values[PUNTS],
      guests,
    };
  }

  /** What was forwarded both ways, modulo 2^32. */
  traffic(): Tally {
    const steered = this.kernel?.traffic() ?? { frames: 0, bytes: 0 };
    const [ingress, egress] = [this.tally(0), this.tally(DIRECTION_WORDS)];
    return { frames: (ingress.frames + egress.frames + steered.frames) >>> 0, bytes: (ingress.bytes + egress.bytes + steered.bytes) >>> 0 };
  }

  private passed(): Partial<Record<Reason, Tally>> {
    const found = this.reasons(INGRESS, PASSED_CLASS);
    for (const [reason, left] of Object.entries(this.kernel?.left() ?? {}) as [Reason, Tally][]) {
      if (left.frames > 0) found[reason] = sum(left, found[reason]);
    }
    return found;
  }

  private tally(at: number): Tally {
    return { frames: this.values[at], bytes: this.values[at + 1] };
  }

  private reasons(direction: Direction, verdictClass: number): Partial<Record<Reason, Tally>> {
    const base = direction * DIRECTION_WORDS + verdictClass * CLASS_WORDS;
    const found: Record<string, Tally> = {};
    REASONS.forEach((name, code) => {
      const tally = this.tally(base + code * 2);
      if (tally.frames > 0) found[name === '' ? 'no-reason' : name] = tally;
    });
    return found;
  }
}

function sum(a: Tally, b: Tally | undefined): Tally {
  return b === undefined ? a : { frames: a.frames + b.frames, bytes: a.bytes + b.bytes };
}

/** The port that a frame was lost on its way to; `code` as in FrameSink.forward. */
function lostPort(code: number): number {
  return (LOST - code) >> 2;
}

function lostReason(code: number): number {
  const why = (LOST - code) & 3;
  return why === LOST_DOWN ? LINK_DOWN : why === LOST_FULL ? LINK_FULL : TOO_LONG;
}
