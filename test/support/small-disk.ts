/**
 * A real file system with little room, for what happens when it is full. Linux, root.
 *
 *     const disk = await smallDisk(4096);  `disk.folder` is its root
 *     disk.fill();                         not one more page fits
 *     await fillStore(store);              nor anything in what the store had taken before
 *     disk.empty();                        there is room again
 *
 * It is mounted in the mount namespace of a process of its own and reached by that process's root in /proc, so the machine's
 * mounts stay as they are, and it is gone with that process: at the end of the test, or of whoever ran it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { isStoreFailure, type Store } from '../../src/control/store.js';

const PAGE = Buffer.alloc(4096, 1);

/** Whether a disk can be had here; else prints why not. */
export function hasSmallDisks(test: string): boolean {
  const can = process.platform === 'linux' && process.getuid?.() === 0 && spawnSync('which', ['unshare']).status === 0;
  if (!can) console.warn(`skipped: ${test} needs Linux, root and unshare(1)`);
  return can;
}

export interface SmallDisk {
  readonly folder: string;
  fill: () => void;
  empty: () => void;
}

export async function smallDisk(kib: number): Promise<SmallDisk> {
  const at = mkdtempSync(join(tmpdir(), 'berth-disk-'));
  const mount = `mount -t tmpfs -o size=${kib}k berth-disk ${at} && echo mounted && exec cat`;
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', mount], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(async () => {
    holder.stdin.end();
    if (holder.exitCode === null) await once(holder, 'exit');
    rmdirSync(at);
  });
  await once(holder.stdout, 'data');
  const folder = `/proc/${holder.pid}/root${at}`;
  const filler = join(folder, 'filler');
  return {
    folder,
    fill: () => {
      const file = openSync(filler, 'w');
      try {
        for (;;) writeSync(file, PAGE);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      } finally {
        closeSync(file);
      }
    },
    empty: () => rmSync(filler),
  };
}

/** Keeps settings of guests that are nobody, `nobody-…`, until not the smallest fits. */
export async function fillStore(store: Store): Promise<void> {
  for (const text of ['x'.repeat(1000), '']) {
    for (let n = 0, isFull = false; !isFull; n++) {
      await store.commit([{ type: 'guest', guest: `nobody-${text.length}-${n}`, setting: { text } }]).catch((error: unknown) => (isFull = isStoreFailure(error)));
    }
  }
}
