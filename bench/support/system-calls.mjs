/**
 * System calls a frame of a daemon in namespaces, counted by strace, not timed.
 *
 * Bursts       of UDP frames that lie ready when the engine looks: it is stopped (SIGSTOP) while they are sent. So what is
 *              counted does not depend on how fast anything is; only how often an idle engine looks does, and that is
 *              counted apart (WAITS).
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FIRST_PORT, runLoad, startServer } from './load.mjs';
import { Site } from '../peers/site.mjs';

const OUTSIDE = '192.0.2.1';
const HOST = '192.0.2.10';
const LOCALHOST = '127.0.0.1';
/** Fewer than any ring, slots or queue on the way hold: none may be lost. */
const BURST = 256;
const BURSTS = 8;
const PATIENCE_MS = 10_000;
const WAITS = ['epoll_wait', 'epoll_pwait', 'poll', 'ppoll', 'futex', 'restart_syscall'];

/** `contender`: engine or berth. { ingress, egress }, each { calls, waits, names }: calls and waits a frame, and the calls by name in all. */
export async function systemCalls(contender) {
  const site = new Site(contender);
  try {
    await site.start();
    const { lab, guest } = site;
    const [pid] = site.pids;
    await startServer(lab, lab.outside);
    lab.run(guest, ['sh', '-c', `echo ${FIRST_PORT + 100} ${FIRST_PORT + 999} > /proc/sys/net/ipv4/ip_local_port_range`]); // its leases
    const into = { lab, pid, from: lab.outside, address: HOST, to: guest };
    const out = { lab, pid, from: guest, address: OUTSIDE, to: lab.outside };
    for (const way of [into, out]) await burst(way, 1, 1); // neighbours are known from here on
    return { ingress: await traced(into), egress: await traced(out) };
  } finally {
    await site.close();
  }
}

async function traced(way) {
  const { lab, pid } = way;
  const file = path.join(lab.folder, 'strace');
  const tracer = lab.spawn(lab.host, ['strace', '-f', '-c', '-o', file, '-p', String(pid)]);
  let said = '';
  tracer.stderr.on('data', (data) => (said += data));
  await until(() => tracer.exitCode !== null || everyTask(pid, /^TracerPid:\s+[1-9]/m), 'strace to attach');
  if (tracer.exitCode !== null) throw new Error(`strace: ${said.trim()}`);
  for (let n = 0; n < BURSTS; n++) await burst(way, n + 2, BURST);
  const ended = new Promise((resolve) => tracer.once('exit', resolve));
  tracer.kill('SIGINT');
  await ended;
  const frames = BURSTS * BURST;
  const names = parseSummary(fs.readFileSync(file, 'utf8'));
  fs.rmSync(file);
  const total = (wanted) => Object.entries(names).reduce((sum, [name, count]) => sum + (wanted(name) ? count : 0), 0) / frames;
  return { calls: total((name) => !WAITS.includes(name)), waits: total((name) => WAITS.includes(name)), names };
}

/** Sends `count` frames while the daemon is stopped, and waits until all have arrived. */
async function burst({ lab, pid, from, address, to }, run, count) {
  process.kill(pid, 'SIGSTOP');
  try {
    await until(() => everyTask(pid, /^State:\s+[Tt]/m), 'the daemon to stop');
    runLoad(lab, from, 'burst', { address }, run, count);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  await until(() => runLoad(lab, to, 'count', { address: LOCALHOST }, run).received === count, `${count} frames to arrive`);
}

const everyTask = (pid, pattern) => fs.readdirSync(`/proc/${pid}/task`).every((task) => pattern.test(fs.readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8')));

async function until(holds, what) {
  for (const deadline = performance.now() + PATIENCE_MS; !holds(); await sleep(10)) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS / 1000} s for ${what}`);
  }
}

/** strace -c: "% time, seconds, usecs/call, calls, [errors,] syscall" a line. */
function parseSummary(text) {
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/)).filter((fields) => /^\d/.test(fields[0]) && fields.length >= 5 && fields.at(-1) !== 'total');
  return Object.fromEntries(lines.map((fields) => [fields.at(-1), Number(fields[3])]));
}
