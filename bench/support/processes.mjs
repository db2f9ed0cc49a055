/**
 * What processes have used, from /proc: CPU to the nanosecond (schedstat: user and system, all threads), memory, switches.
 */
import fs from 'node:fs';
import path from 'node:path';

const read = (file) => {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // the process or thread has ended meanwhile
  }
};

const tasks = (pid) => (fs.existsSync(`/proc/${pid}/task`) ? fs.readdirSync(`/proc/${pid}/task`) : []).map((task) => `/proc/${pid}/task/${task}`);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const field = (text, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);

/** The processes and all that they have started. */
export function withChildren(pids) {
  return pids.flatMap((pid) => [pid, ...withChildren(tasks(pid).flatMap((task) => read(path.join(task, 'children')).split(' ').filter(Boolean).map(Number)))]);
}

export const cpuSeconds = (pids) => sum(withChildren(pids).flatMap(tasks).map((task) => Number(read(path.join(task, 'schedstat')).split(' ')[0] ?? 0) / 1e9));

/** Resident memory, MiB. */
export const residentMiB = (pids) => sum(withChildren(pids).map((pid) => field(read(`/proc/${pid}/status`), 'VmRSS') / 1024));

/** How often their threads have gone to sleep by themselves: what a timer would make them do. */
export const sleeps = (pids) => sum(withChildren(pids).flatMap(tasks).map((task) => field(read(path.join(task, 'status')), 'voluntary_ctxt_switches')));
