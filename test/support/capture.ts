/**
 * What is on the wire of a namespace while a test runs, by tcpdump: one line a frame, complete up to a marker.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Lab } from '../../src/cli/lab.js';
import { until } from './live.js';

export class Capture {
  /** tcpdump's text: seconds, link-level header, absolute sequence numbers, no names. */
  readonly lines: string[] = [];
  private readonly child: ChildProcess;
  private errors = '';

  private constructor(lab: Lab, namespace: string, filter: string, name: string, more: readonly string[]) {
    const options = [...more, '-i', name, '-l', '-nn', '-e', '-S', '-tt', '--immediate-mode', '-B', '16384'];
    this.child = lab.spawn(namespace, ['tcpdump', ...options, filter]);
    this.child.stderr?.on('data', (data: Buffer) => (this.errors += data.toString()));
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      if (/^\d/.test(line)) this.lines.push(line);
      else this.lines.push(`${this.lines.pop() ?? ''} ${line.trim()}`); // tcpdump wraps the IP header's details
    });
  }

  /** Begins; when it resolves, every frame from now on is seen. `bytes`: each line ends with all bytes of its frame, for bytesOf(). */
  static async start(lab: Lab, namespace: string, filter = '', { name = 'eth0', bytes = false } = {}): Promise<Capture> {
    const capture = new Capture(lab, namespace, filter, name, bytes ? ['-xx'] : []);
    await until(() => capture.errors.includes('listening on'), 5000, () => `tcpdump to listen (it said: ${capture.errors})`);
    return capture;
  }

  /** Waits until a line matches: everything that was on the wire before it has been seen then. */
  async seen(pattern: RegExp, timeoutMs = 5000): Promise<string> {
    await until(() => this.lines.some((line) => pattern.test(line)), timeoutMs, () => `a frame ${pattern} among\n${this.lines.slice(-20).join('\n')}`);
    return this.lines.find((line) => pattern.test(line))!;
  }

  matching(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line));
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGINT');
    await ended;
  }
}

/** The frame of a line of a capture that was started with `bytes`, in hexadecimal digits, from the destination MAC on. */
export function bytesOf(line: string): string {
  return [...line.matchAll(/0x[0-9a-f]{4}: ((?: ?[0-9a-f]{2,4}\b)+)/g)].map(([, digits]) => digits.replaceAll(' ', '')).join('');
}
