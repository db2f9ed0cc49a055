/**
 * A network namespace that plays a guest, without a host: `lo` up, an interface if wanted, sockets by sockets.py, and a
 * port watch or an agent of src in a process inside.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const SOCKETS = fileURLToPath(new URL('sockets.py', import.meta.url));

/** True where these tests may run; else prints why not. */
export function guestTests(name: string): boolean {
  const missing = ['ip', 'python3'].filter((tool) => spawnSync('which', [tool]).status !== 0);
  const why = process.platform !== 'linux' ? 'not Linux' : process.getuid?.() !== 0 ? 'not root' : missing.length > 0 ? `no ${missing.join(', ')}` : '';
  if (why !== '') process.stderr.write(`${name} skipped: ${why}\n`);
  return why === '';
}

export class Guest {
  readonly namespace = `berth-agent-${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
  readonly folder = mkdtempSync(join(tmpdir(), 'berth-agent-'));
  private readonly children: ChildProcess[] = [];

  constructor() {
    execFileSync('ip', ['netns', 'add', this.namespace]);
    this.run('ip', 'link', 'set', 'lo', 'up');
  }

  run(...command: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.namespace, ...command], { encoding: 'utf8' }).trim();
  }

  spawn(...command: string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.namespace, ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stderr.on('data', (data: Buffer) => process.stderr.write(data));
    this.children.push(child);
    return child;
  }

  sockets(): Sockets {
    return new Sockets(this.spawn('python3', SOCKETS));
  }

  async close(): Promise<void> {
    for (const child of this.children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    // What an agent that was killed left (SO_NETNS_COOKIE).
    const cookie = this.run('python3', '-c', 'import socket; print(int.from_bytes(socket.socket().getsockopt(1, 71, 8), "little"))');
    rmSync(`/run/berth/agent-${cookie}-eth0.json`, { force: true });
    execFileSync('ip', ['netns', 'delete', this.namespace]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A guest for one test, removed when it ends. */
export function freshGuest(): Guest {
  const guest = new Guest();
  onTestFinished(() => guest.close());
  return guest;
}

/** A process that holds sockets by name. */
export class Sockets {
  readonly child: ChildProcess;
  private readonly lines: Interface;

  constructor(child: ChildProcess) {
    this.child = child;
    this.lines = createInterface({ input: child.stdout! });
  }

  /** Resolves with the socket's local port. */
  async do(op: 'listen' | 'bind' | 'unbound-listen' | 'reuseport' | 'connect' | 'accept' | 'close', name: string, given: object = {}): Promise<number> {
    const answered = once(this.lines, 'line') as Promise<[string]>;
    this.child.stdin?.write(`${JSON.stringify({ op, name, ...given })}\n`);
    const { port, error } = JSON.parse((await answered)[0]) as { port: number; error?: string };
    if (error !== undefined) throw new Error(`${op} ${name}: ${error}`);
    return port;
  }

  /** As the out-of-memory killer would. */
  async kill(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}
