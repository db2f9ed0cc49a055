/**
 * A lab: private network namespaces on one machine, for the demo and the live tests.
 *
 *     outside {eth0} ── veth ── {eth0} host {taps that Berth makes} ── guest, guest …
 *
 * Names are unique a run. `close` ends the processes that were started in it, then removes the namespaces, and with them
 * everything inside. Nothing of the machine's own is touched.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runTool } from '../base/command.js';
import { messageOf } from '../base/errors.js';

/** Addresses of the lab's outside network (RFC 5737). */
export const HOST_ADDRESS = '192.0.2.10';
export const OUTSIDE_ADDRESS = '192.0.2.1';
const PREFIX_LENGTH = 24;

/** How long an ended process may take before it is killed. */
const END_MS = 2000;

export class Lab {
  readonly outside: string;
  readonly host: string;
  /** A folder of the lab's own, removed with it. */
  readonly folder: string;
  private readonly prefix: string;
  private readonly namespaces: string[] = [];
  private readonly processes = new Set<ChildProcess>();

  /** Makes the outside and the host, joined by a veth; the host's side is its NIC `eth0`. */
  constructor(label = 'lab') {
    this.prefix = `berth-${label}-${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
    this.folder = mkdtempSync(join(tmpdir(), `${this.prefix}-`));
    this.outside = `${this.prefix}-outside`;
    this.host = `${this.prefix}-host`;
    try {
      for (const namespace of [this.outside, this.host]) this.addNamespace(namespace);
      runTool('ip', ['-n', this.host, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.outside]);
      this.configure(this.host, 'eth0', HOST_ADDRESS);
      this.configure(this.outside, 'eth0', OUTSIDE_ADDRESS);
    } catch (error) {
      this.removeNamespaces();
      rmSync(this.folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Makes an empty namespace for a guest and returns its name. */
  addGuest(name: string): string {
    const namespace = `${this.prefix}-${name}`;
    this.addNamespace(namespace);
    return namespace;
  }

  /** Gives an interface its address and, for guests, the way out; what the guest's agent will do. */
  configure(namespace: string, name: string, address: string, gateway?: string): void {
    runTool('ip', ['-n', namespace, 'address', 'replace', `${address}/${PREFIX_LENGTH}`, 'dev', name]);
    runTool('ip', ['-n', namespace, 'link', 'set', 'dev', name, 'up']);
    if (gateway !== undefined) runTool('ip', ['-n', namespace, 'route', 'replace', 'default', 'via', gateway]);
  }

  /** Starts a program in a namespace. */
  spawn(namespace: string, command: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore'): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', namespace, ...command], { stdio: [stdin, 'pipe', 'pipe'], cwd: this.folder });
    this.processes.add(child);
    child.once('exit', () => this.processes.delete(child));
    return child;
  }

  /** Runs a program in a namespace to its end and returns its standard output; throws when it fails or takes too long. */
  run(namespace: string, command: readonly string[], timeoutMs = 30_000): string {
    return execFileSync('ip', ['netns', 'exec', namespace, ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      cwd: this.folder,
      maxBuffer: 64 << 20,
    });
  }

  /** The range from which the namespace's kernel chooses ports itself. */
  portRange(namespace: string): { first: number; last: number } {
    const [first, last] = this.run(namespace, ['cat', '/proc/sys/net/ipv4/ip_local_port_range']).trim().split(/\s+/).map(Number);
    return { first, last };
  }

  /** Ends every process and removes every namespace and the folder. */
  async close(): Promise<void> {
    await Promise.all([...this.processes].map(endProcess));
    this.removeNamespaces();
    rmSync(this.folder, { recursive: true, force: true });
  }

  removeNamespace(namespace: string): void {
    runTool('ip', ['netns', 'delete', namespace]);
    this.namespaces.splice(this.namespaces.indexOf(namespace), 1);
  }

  private addNamespace(namespace: string): void {
    this.namespaces.push(namespace); // first: an `ip` that is interrupted may have made it
    runTool('ip', ['netns', 'add', namespace]);
    // No IPv6 chatter: it is not under test and would blur the counters.
    this.run(namespace, ['sh', '-c', 'for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null; ip link set lo up']);
  }

  private removeNamespaces(): void {
    for (const namespace of this.namespaces.splice(0)) {
      // Again if a signal to the whole group, a second Ctrl-C, has ended `ip` before it was done.
      for (let tries = 0; existsSync(`/run/netns/${namespace}`) && tries < 5; tries++) {
        try {
          runTool('ip', ['netns', 'delete', namespace]);
        } catch (error) {
          if (tries === 4) process.stderr.write(`lab: ${messageOf(error)}\n`);
        }
      }
    }
  }
}

/** Asks a process to end, and kills it when it does not. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await ended;
  clearTimeout(killer);
}
