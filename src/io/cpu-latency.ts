/**
 * CPU latency: keeps the host's processors out of deep sleep while guests exchange small frames at a rate.
 *
 * Why          an exchange takes the kernel 13 µs on processors that are awake; on ones that sleep between its frames 55, in a nested
 *              virtual machine 300, nearly all of it waking them (bench/README.md).
 * How          the kernel's PM QoS: a limit is written to /dev/cpu_dma_latency and holds while the file is open, so nothing is left of a
 *              daemon that is killed (Documentation/power/pm_qos_interface.rst). It is for all processors. A thread that spins on each
 *              instead gave half as much, and takes its control group's share of the processors from everybody else's.
 * When         at a look that finds guests' frames small and many: latency is what such traffic waits for; bulk is not.
 * Bounded      looks are GLANCE_MS apart, in step with the daemon's other timers, so that an idle daemon is not woken for them; from one that
 *              finds frames at all LOOK_MS apart; the limit is let go, and the closer looks end, LINGER_MS after the last that found such traffic.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { Tally } from './kernel-table.js';
import { fileReason } from '../base/errors.js';
import type { Log } from '../base/log.js';

const LOOK_MS = 20;
const LINGER_MS = 100;
/** Frames in a millisecond, at least; bytes of one, on the average, at most. */
const MANY = 1;
const SMALL = 2048;
/** Frames between two glances that are worth a closer look. */
const SOME = 10;

const DEVICE = '/dev/cpu_dma_latency';
const DRIVER = '/sys/devices/system/cpu/cpuidle/current_driver';
/** µs. A processor of a virtual machine can only spin (drivers/cpuidle/cpuidle-haltpoll.c): its shallow sleep is an exit to the host. */
const SPIN = 0;
/** µs. C1 of usual processors is let. */
const SHALLOW = 2;

/** Frames and their bytes so far, modulo 2^32. */
export type Traffic = Tally;

export interface LatencyReport {
  isHeld: boolean;
  heldMs: number;
}

export function addTraffic(a: Traffic, b: Traffic): Traffic {
  return { frames: (a.frames + b.frames) >>> 0, bytes: (a.bytes + b.bytes) >>> 0 };
}

/** Whether so much in so many milliseconds waits for processors to wake. */
export function isLatencyBound({ frames, bytes }: Traffic, milliseconds: number): boolean {
  return frames >= MANY * milliseconds && bytes <= SMALL * frames;
}

export const GLANCE_MS = 250;

export class CpuLatency {
  /** µs */
  private readonly limit: number;
  private readonly traffic: () => Traffic;
  private readonly log: Log;
  private seen: Traffic;
  private lookedAt = performance.now();
  /** Closer looks end LINGER_MS after this. */
  private busyAt = 0;
  private timer: NodeJS.Timeout | null = null;
  private held: number | null = null;
  private heldSince = 0;
  private heldBefore = 0;
  private isRefused = false;

  /** `limit`: µs. `traffic`: all guests'. */
  constructor(limit: number | 'auto', traffic: () => Traffic, log: Log) {
    this.limit = limit === 'auto' ? usualLimit() : limit;
    this.traffic = traffic;
    this.log = log;
    this.seen = traffic();
  }

  /** To be called a few times a second. */
  glance(): void {
    if (this.timer !== null || this.isRefused || this.count().frames < SOME) return;
    this.busyAt = this.lookedAt;
    this.timer = setTimeout(() => this.look(), LOOK_MS);
  }

  /** Whether processors are kept awake now, and for how many milliseconds they were in all. */
  get report(): LatencyReport {
    const isHeld = this.held !== null;
    return { isHeld, heldMs: Math.round(this.heldBefore + (isHeld ? performance.now() - this.heldSince : 0)) };
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.letGo();
  }

  private look(): void {
    const before = this.lookedAt;
    const since = this.count();
    if (isLatencyBound(since, this.lookedAt - before)) {
      this.busyAt = this.lookedAt;
      if (this.held === null) this.hold();
    }
    const goesOn = this.lookedAt - this.busyAt < LINGER_MS && !this.isRefused;
    if (!goesOn) this.letGo();
    this.timer = goesOn ? setTimeout(() => this.look(), LOOK_MS) : null;
  }

  /** Traffic since the last time. A link that has gone may take its numbers along. */
  private count(): Traffic {
    const { frames, bytes } = this.traffic();
    const since = { frames: Math.max(0, (frames - this.seen.frames) | 0), bytes: Math.max(0, (bytes - this.seen.bytes) | 0) };
    this.seen = { frames, bytes };
    this.lookedAt = performance.now();
    return since;
  }

  private hold(): void {
    let file: number | null = null;
    try {
      file = openSync(DEVICE, 'w');
      writeSync(file, Int32Array.of(this.limit));
      this.held = file;
      this.heldSince = performance.now();
    } catch (error) {
      if (file !== null) closeSync(file);
      this.isRefused = true;
      this.log.warn(`processors may sleep while guests wait for them: ${DEVICE} cannot be written (${fileReason(error)}); allow it, or set cpuLatency: off`);
    }
  }

  private letGo(): void {
    if (this.held === null) return;
    closeSync(this.held);
    this.heldBefore += performance.now() - this.heldSince;
    this.held = null;
  }
}

function usualLimit(): number {
  try {
    return readFileSync(DRIVER, 'latin1').trim() === 'haltpoll' ? SPIN : SHALLOW;
  } catch {
    return SHALLOW;
  }
}
