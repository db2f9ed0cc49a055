/**
 * What holds on every machine and every day, for bench:guard and the goals of bench:peers: the steering loop against the same
 * loop in C, and nothing allocated for a frame. (System calls a frame: system-calls.mjs.)
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ROOT } from './dist.mjs';

/** JavaScript / C of one variant of cases/steering-loop.mjs, in a process of its own. */
export function steeringRatio(variant) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(import.meta.dirname, 'one-case.mjs'), 'steering-loop', variant], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`steering-loop ${variant}: ${stderr.trim()}`);
  return JSON.parse(stdout)[0].value;
}

/** Whether test/dataplane/allocation.test.ts passes: 0 bytes a frame, and a control that shows. */
export function allocatesNothing() {
  return spawnSync(process.execPath, [path.join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', 'test/dataplane/allocation.test.ts'], { cwd: ROOT }).status === 0;
}
