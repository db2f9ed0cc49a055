/**
 * When processors are kept awake, with the kernel's own device. Live, with frames: test/journey/cpu-latency.test.ts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLog } from '../../src/base/log.js';
import { addTraffic, CpuLatency, isLatencyBound, type Traffic } from '../../src/io/cpu-latency.js';

const DEVICE = '/dev/cpu_dma_latency';
const WRAP = 2 ** 32;

describe('traffic that waits for processors to wake', () => {
  it.each<[what: string, frames: number, bytes: number, milliseconds: number, is: boolean]>([
    ['requests and answers', 200, 200 * 130, 20, true],
    ['as few frames as count', 20, 20 * 2048, 20, true],
    ['one fewer', 19, 19 * 60, 20, false],
    ['longer on the average', 20, 20 * 2048 + 1, 20, false],
    ['bulk in super-frames, each with an acknowledgement', 2000, 1000 * 65_000 + 1000 * 66, 20, false],
    ['nothing', 0, 0, 20, false],
  ])('%s', (_, frames, bytes, milliseconds, is) => {
    expect(isLatencyBound({ frames, bytes }, milliseconds)).toBe(is);
  });

  it('sums run over, and go on', () => {
    expect(addTraffic({ frames: WRAP - 1, bytes: WRAP - 10 }, { frames: 3, bytes: 10 })).toEqual({ frames: 2, bytes: 0 });
  });
});

const isPossible = existsSync(DEVICE) && process.getuid?.() === 0;
if (!isPossible) console.warn(`skipped: io/cpu-latency needs ${DEVICE} and root`);

describe.skipIf(!isPossible)('the limit', () => {
  const openFiles = (): string[] =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return []; // the folder's own
      }
    });
  const isHeld = (): boolean => openFiles().includes(DEVICE);

  /** Traffic that goes on at a rate: frames and bytes a millisecond, from these numbers on. */
  class Sender {
    private sent: Traffic;
    private since = performance.now();
    private rate: Traffic = { frames: 0, bytes: 0 };

    constructor(sent: Traffic = { frames: 0, bytes: 0 }) {
      this.sent = sent;
    }

    at(frames: number, bytes: number): void {
      this.sent = this.now();
      this.since = performance.now();
      this.rate = { frames, bytes };
    }

    now(): Traffic {
      const ms = performance.now() - this.since;
      return addTraffic(this.sent, { frames: Math.round(this.rate.frames * ms), bytes: Math.round(this.rate.bytes * ms) });
    }
  }

  function watch(sender: Sender): CpuLatency {
    const latency = new CpuLatency('auto', () => sender.now(), createLog({ level: 'silent' }));
    const timer = setInterval(() => latency.glance(), 20);
    onTestFinished(() => {
      clearInterval(timer);
      latency.close();
    });
    return latency;
  }

  it('holds while small frames come at a rate, and no longer', async () => {
    const sender = new Sender();
    const latency = watch(sender);
    await sleep(100);
    expect(isHeld()).toBe(false);
    sender.at(100, 100 * 70);
    await expect.poll(isHeld).toBe(true);
    expect(latency.report.isHeld).toBe(true);
    await sleep(300);
    expect(isHeld()).toBe(true);
    sender.at(0, 0);
    await expect.poll(isHeld).toBe(false);
    const { heldMs } = latency.report;
    expect(heldMs).toBeGreaterThan(300);
    await sleep(50);
    expect(latency.report).toEqual({ isHeld: false, heldMs });
  });

  it.each([
    ['long ones', 100, 100 * 30_000],
    ['few', 0.5, 0.5 * 70],
  ])('does not hold for %s', async (_, frames, bytes) => {
    const sender = new Sender();
    const latency = watch(sender);
    sender.at(frames, bytes);
    await sleep(400);
    expect(latency.report).toEqual({ isHeld: false, heldMs: 0 });
  });

  it('holds over the end of 32 bits, and not for numbers that a guest takes along', async () => {
    const sender = new Sender({ frames: WRAP - 1000, bytes: WRAP - 100_000 });
    const latency = watch(sender);
    sender.at(100, 100 * 70);
    await sleep(300);
    expect(latency.report.isHeld).toBe(true);
    sender.at(0, 0);
    await expect.poll(isHeld).toBe(false);
    const { heldMs } = latency.report;
    const gone = new Sender({ frames: 5_000_000, bytes: 400_000_000 });
    const other = watch(gone);
    gone.at(0, 0);
    Object.assign(gone, { sent: { frames: 10, bytes: 700 } });
    await sleep(150);
    expect([latency.report.heldMs, other.report.heldMs]).toEqual([heldMs, 0]);
  });

  it('is gone when it is closed', async () => {
    const sender = new Sender();
    const latency = watch(sender);
    sender.at(100, 7000);
    await expect.poll(isHeld).toBe(true);
    latency.close();
    expect(isHeld()).toBe(false);
  });

  it('without a device that can be written: said once, and no more tries', () => {
    const script = `
      import { CpuLatency } from './dist/io/cpu-latency.js';
      import { createLog } from './dist/base/log.js';
      const start = performance.now();
      const latency = new CpuLatency('auto', () => ({ frames: Math.round(100 * (performance.now() - start)), bytes: 7000 }), createLog({}));
      const timer = setInterval(() => latency.glance(), 20);
      setTimeout(() => { clearInterval(timer); console.error(JSON.stringify(latency.report)); latency.close(); }, 500);`;
    const { stdout, stderr, status } = spawnSync('unshare', ['-m', 'sh', '-c', `mount --bind /proc/version ${DEVICE} && exec "$0" --input-type=module -e "$1"`, process.execPath, script], { encoding: 'utf8' });
    expect([status, stderr.trim()]).toEqual([0, '{"isHeld":false,"heldMs":0}']);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(stdout).toMatch(/cpu_dma_latency cannot be written .*; allow it, or set cpuLatency: off/);
  });
});
