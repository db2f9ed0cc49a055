/**
 * The test's side of peer.mjs: one process, in a namespace or in a VM, a method an operation, each bounded in time.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../../src/cli/lab.js';

const PROGRAM = fileURLToPath(new URL('peer.mjs', import.meta.url));
const DEFAULT_MS = 20_000;

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

export interface Target {
  port: number;
  name: string;
}

export interface ConnectOutcome {
  outcome: string;
  ms: number;
  localPort: number;
}

export class Peer {
  private readonly input: Writable;
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;

  /** `input` is where it is told, `output` what it says. */
  constructor(input: Writable, output: Readable) {
    this.input = input;
    input.on('error', () => undefined);
    const lines = createInterface({ input: output });
    lines.on('error', () => undefined); // its end is noticed by what it does not answer
    lines.on('line', (line) => {
      const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
  }

  /** A web server that names itself. */
  http(port: number, name: string, address?: string): Promise<void> {
    return this.call('http', { port, name, address });
  }

  /** Addresses of the clients that a server of `http` has seen. */
  httpLog(port: number): Promise<string[]> {
    return this.call('httpLog', { port });
  }

  get(host: string, port: number, localPort?: number): Promise<string> {
    return this.call('get', { host, port, localPort });
  }

  /** Returns what went wrong. */
  exchanges(given: { host: string; targets: Target[]; count: number; atOnce: number; remote: string }): Promise<string[]> {
    return this.call('exchanges', given, 60_000);
  }

  poll(host: string, { port, name }: Target): Promise<void> {
    return this.call('poll', { host, port, name });
  }

  pollEnd(port: number): Promise<{ count: number; failures: string[] }> {
    return this.call('pollEnd', { port });
  }

  sink(port: number): Promise<void> {
    return this.call('sink', { port });
  }

  source(port: number, bytes: number, pauseMs = 0): Promise<void> {
    return this.call('source', { port, bytes, pauseMs });
  }

  sourceHash(port: number): Promise<string> {
    return this.call('sourceHash', { port });
  }

  upload(host: string, port: number, bytes: number, localPort?: number): Promise<{ sent: string; received: string }> {
    return this.call('upload', { host, port, bytes, localPort }, 60_000);
  }

  download(host: string, port: number, localPort?: number): Promise<{ bytes: number; received: string }> {
    return this.call('download', { host, port, localPort }, 60_000);
  }

  /** As `download`, with the longest time in which nothing came. */
  timedDownload(host: string, port: number): Promise<{ bytes: number; received: string; longestPauseMs: number }> {
    return this.call('timedDownload', { host, port }, 60_000);
  }

  connect(host: string, port: number, options: { localPort?: number; timeoutMs?: number } = {}): Promise<ConnectOutcome> {
    return this.call('connect', { host, port, ...options });
  }

  udpEcho(port: number): Promise<void> {
    return this.call('udpEcho', { port });
  }

  datagramLog(port: number): Promise<string[]> {
    return this.call('datagramLog', { port });
  }

  udp(host: string, port: number, sizes: number[], options: { localPort?: number; timeoutMs?: number } = {}): Promise<string[]> {
    return this.call('udp', { host, port, sizes, ...options });
  }

  /** `perSecond`: 10,000 are what a link of 100 Mbit/s could offer with datagrams of 1,000 bytes, and what a forwarder surely carries. */
  flood(host: string, port: number, bytes: number, count: number, perSecond = 10_000): Promise<void> {
    return this.call('flood', { host, port, bytes, count, perSecond }, 60_000);
  }

  bind(protocol: 'tcp' | 'udp', address: string, port: number): Promise<string> {
    return this.call('bind', { protocol, address, port });
  }

  hold(protocol: 'tcp' | 'udp', address: string, port: number): Promise<void> {
    return this.call('hold', { protocol, address, port });
  }

  automaticPorts(host: string, port: number, count: number): Promise<{ tcp: number[]; udp: number[] }> {
    return this.call('automaticPorts', { host, port, count });
  }

  frames(frames: readonly Uint8Array[], options: { name?: string; repeat?: number; pauseMs?: number; headers?: boolean } = {}): Promise<void> {
    const texts = frames.map((frame) => Buffer.from(frame).toString('base64'));
    return this.call('frames', { name: 'eth0', ...options, frames: texts });
  }

  /** What it was asked and has not answered fails. */
  protected end(why: string): void {
    for (const one of this.waiting.values()) one.reject(new Error(why));
  }

  private call<Result>(operation: string, given: object, timeoutMs = DEFAULT_MS): Promise<Result> {
    const id = this.nextId++;
    const answered = new Promise<Result>((resolve, reject) => {
      const timer = setTimeout(() => settle(() => reject(new Error(`${operation}: no end after ${timeoutMs} ms`))), timeoutMs);
      const settle = (end: () => void): void => {
        clearTimeout(timer);
        this.waiting.delete(id);
        end();
      };
      this.waiting.set(id, {
        resolve: (value) => settle(() => resolve(value as Result)),
        reject: (error) => settle(() => reject(error)),
      });
    });
    this.input.write(`${JSON.stringify({ id, operation, given })}\n`);
    return answered;
  }
}

/** A peer in a namespace of the lab. */
export class ProcessPeer extends Peer {
  readonly child: ChildProcess;

  constructor(lab: Lab, namespace: string) {
    const child = lab.spawn(namespace, [process.execPath, PROGRAM], 'pipe');
    super(child.stdin!, child.stdout!);
    this.child = child;
    let errors = '';
    child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
    child.once('exit', () => this.end(`the peer in ${namespace} ended: ${errors.trim()}`));
  }
}
