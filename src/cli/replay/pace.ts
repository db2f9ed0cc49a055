/** `--speed`: as fast as it goes, or at the capture's own pace times a factor. */
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError } from 'commander';

/** MAX_SPEED: as fast as it goes; else a factor. */
export type Speed = number;
export const MAX_SPEED: Speed = 0;

export function parseSpeed(text: string): Speed {
  if (text === 'max') return MAX_SPEED;
  if (text === 'real') return 1;
  const factor = /^(\d+(?:\.\d+)?)x$/.exec(text);
  if (factor === null || Number(factor[1]) === 0) throw new InvalidArgumentError('expected max, real, or a factor such as 10x or 0.5x');
  return Number(factor[1]);
}

/** A frame that is due within this time is sent at once. */
const TOLERANCE_MS = 0.5;
/** Node's timers take at most 2^31 ms. */
const LONGEST_SLEEP_MS = 2 ** 30;

export class Pace {
  private readonly speed: Speed;
  private readonly signal: AbortSignal;
  private startMs = 0;
  private firstFrameMs = -1;

  constructor(speed: Speed, signal: AbortSignal) {
    this.speed = speed;
    this.signal = signal;
  }

  /** Waits until a frame of that time of capture is due; returns early when aborted. Time that runs back is due at once. */
  async until(seconds: number, nanoseconds: number): Promise<void> {
    const frameMs = seconds * 1000 + nanoseconds / 1e6;
    if (this.firstFrameMs < 0) {
      this.firstFrameMs = frameMs;
      this.startMs = performance.now();
    }
    const dueMs = this.startMs + (frameMs - this.firstFrameMs) / this.speed;
    while (!this.signal.aborted && dueMs - performance.now() > TOLERANCE_MS) {
      await sleep(Math.min(dueMs - performance.now(), LONGEST_SLEEP_MS), undefined, { signal: this.signal }).catch(() => undefined);
    }
  }
}
