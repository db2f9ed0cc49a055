/**
 * A lock on a NIC or a tap, so that two daemons never serve one: a Unix socket that listens in /run/berth, where only root
 * can make one, named by the network namespace that the interface belongs to.
 *
 * Atomic       the socket listens already when link(2) gives it the lock's name: a name that refuses is a dead one.
 * Killed       the file stays, and nobody answers. Whoever takes a lock in the namespace removes such files first, and
 *              the unlinked sockets (`.lock.PID`) of processes that are no more.
 * Released     the file goes, and the folder with the last file.
 */
import { chmodSync, existsSync, linkSync, mkdirSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { BerthError, fileReason } from '../base/errors.js';

/** Locks and state files; the daemon's own sockets are there too. */
export const RUN_FOLDER = '/run/berth';

export class Lock {
  private readonly server: Server;
  private readonly file: string;

  private constructor(server: Server, file: string) {
    this.server = server;
    this.file = file;
  }

  /** ERR_LINK_TAKEN when another Berth holds it. */
  static async take(what: 'NIC' | 'tap', name: string): Promise<Lock> {
    await removeDeadLocks();
    const file = `${RUN_FOLDER}/${netnsId()}-${what}-${encodeURIComponent(name)}.lock`;
    const made = `${file}.${process.pid}`;
    const server = createServer((socket) => socket.destroy());
    try {
      mkdirSync(RUN_FOLDER, { recursive: true, mode: 0o755 });
      rmSync(made, { force: true });
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(made, resolve);
      });
      chmodSync(made, 0o600);
      linkSync(made, file);
    } catch (cause) {
      server.close();
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw new BerthError('ERR_LOCK', `${what} ${name} cannot be locked in ${RUN_FOLDER} (${fileReason(cause)}); run as root, with room there`, { cause });
      }
      throw new BerthError('ERR_LINK_TAKEN', `${what} ${name} is in use by another Berth; stop that one or choose another ${what}`, { cause });
    } finally {
      rmSync(made, { force: true });
    }
    server.unref();
    return new Lock(server, file);
  }

  release(): void {
    rmSync(this.file, { force: true });
    this.server.close();
    leaveRunFolder();
  }
}

/** Removes this namespace's locks of processes that are no more. */
export async function removeDeadLocks(): Promise<void> {
  for (const name of runFiles().filter((one) => one.endsWith('.lock'))) {
    const file = `${RUN_FOLDER}/${name}`;
    const before = inodeOf(file);
    // Another process may have done the same meanwhile, and made its own.
    if ((await isDead(file)) && inodeOf(file) === before) rmSync(file, { force: true });
  }
  for (const name of runFiles()) {
    const maker = /\.lock\.(\d+)$/.exec(name)?.[1];
    if (maker !== undefined && !existsSync(`/proc/${maker}`)) rmSync(`${RUN_FOLDER}/${name}`, { force: true });
  }
}

/** Names of the files in RUN_FOLDER that are about this network namespace. */
export function runFiles(): string[] {
  try {
    return readdirSync(RUN_FOLDER).filter((name) => name.startsWith(`${netnsId()}-`));
  } catch {
    return []; // no Berth has run since the host started
  }
}

/** Removes RUN_FOLDER unless something is in it. */
export function leaveRunFolder(): void {
  try {
    rmdirSync(RUN_FOLDER);
  } catch {
    // other daemons keep their files there
  }
}

export function netnsId(): string {
  return String(statSync('/proc/self/ns/net').ino);
}

function isDead(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(file);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

function inodeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.ino;
}
