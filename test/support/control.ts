/**
 * A world whose guests lease at run time: a store, a channel for each guest, agents, and raw clients of the guest protocol.
 *
 *     const world = freshControl('name', { a: { policy: { block: 16 } }, b: {} });
 *     const daemon = await world.startDaemon();
 *     const agent = await world.startAgent('a');        `berth agent` in the guest, in session
 *     const raw = await world.channel('b');             the test itself speaks for the guest
 *
 * Files        store and sockets in the lab's folder, removed with it; an agent's state file by its namespace's cookie.
 */
import { rmSync } from 'node:fs';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { Sockets } from './guest.js';
import { type GuestSetting, HOST_ADDRESS, RunningDaemon, type Setting, until, World } from './live.js';
import type { Peer } from './peer.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SOCKETS = fileURLToPath(new URL('sockets.py', import.meta.url));
/** The first attempt at a connection: far more than a round trip in a lab. On a busy machine the next ones take longer. */
const ATTEMPT_MS = 30;
/** Silence is that of an attempt so long: on a busy machine an answer takes its time. */
const SILENCE_MS = 500;

/** The first port of the first block of the pool below. */
export const FIRST_PORT = 20_480;
const POOL = { ports: '20480-29999', reserve: 1024, quarantine: '5s' };

export interface Answer {
  id: number | string | null;
  method?: string;
  params?: Record<string, unknown>;
  result?: Holding & Record<string, unknown>;
  error?: { code: number; message: string; data?: { code: string; epoch?: number } };
}

export interface Holding {
  leases: { tcp: string; udp: string };
  blocks: { first: number; last: number }[];
  tcp: string;
  udp: string;
}

/** The test's end of a guest's channel. */
export class Channel {
  readonly socket: Socket;
  /** Every line that came, in order. */
  readonly lines: Answer[] = [];
  closed = false;
  private nextId = 1;

  constructor(socket: Socket, reads: boolean) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.once('close', () => (this.closed = true));
    if (!reads) return;
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      if (line !== '') this.lines.push(JSON.parse(line) as Answer);
    });
  }

  write(text: string): void {
    this.socket.write(text);
  }

  /** Sends a request and waits for its answer. */
  async ask(method: string, params: object = {}): Promise<Answer> {
    const id = this.nextId++;
    this.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    const found = (): Answer | undefined => this.lines.find((line) => line.id === id);
    await until(() => found() !== undefined || this.closed, 5000, () => `the answer to ${method}`);
    if (found() === undefined) throw new Error(`the session ended before the answer to ${method}`);
    return found()!;
  }

  /** The code of the refusal, or `ok`. */
  async outcome(method: string, params: object = {}): Promise<string> {
    const { error } = await this.ask(method, params);
    return error === undefined ? 'ok' : (error.data?.code ?? String(error.code));
  }

  async ends(timeoutMs = 3000): Promise<void> {
    await until(() => this.closed, timeoutMs, () => 'the session to be ended');
  }

  close(): void {
    this.socket.destroy();
  }
}

export class ControlWorld extends World {
  readonly setting: Setting & { guests: Record<string, GuestSetting> };
  private readonly channels: Channel[] = [];

  constructor(label: string, guests: Record<string, Partial<GuestSetting>>, setting: Partial<Setting> = {}) {
    super(label);
    this.setting = {
      store: { path: `${this.lab.folder}/store` },
      admin: { socket: `${this.lab.folder}/admin.sock` },
      pool: POOL,
      ...setting,
      guests: Object.fromEntries(
        Object.entries(guests).map(([name, one]) => [name, { link: { netns: this.addGuest(name) }, agent: { socket: this.socketOf(name) }, ...one }]),
      ),
    };
    this.lab.run(this.lab.host, ['ip', 'route', 'add', 'default', 'via', '192.0.2.1']);
  }

  socketOf(name: string): string {
    return `${this.lab.folder}/${name}.sock`;
  }

  startDaemon(): Promise<RunningDaemon> {
    return this.start(this.setting);
  }

  /** `berth agent` in the guest; resolves when the host has welcomed it. */
  async startAgent(name: string, socket = this.socketOf(name)): Promise<RunningDaemon> {
    const agent = new RunningDaemon(this.lab.spawn(this.guest(name), [process.execPath, PROGRAM, 'agent', '--socket', socket, '--interface', 'eth0']));
    await agent.says(/^welcomed /);
    return agent;
  }

  /** A process in a namespace that opens and closes sockets by name. */
  sockets(namespace: string): Sockets {
    return new Sockets(this.lab.spawn(namespace, ['python3', SOCKETS], 'pipe'));
  }

  /** Connects to the guest's channel; without `reads` nothing that comes is taken from the socket. */
  async channel(name: string, reads = true): Promise<Channel> {
    const socket = connect(this.socketOf(name));
    await once(socket, 'connect');
    const channel = new Channel(socket, reads);
    this.channels.push(channel);
    return channel;
  }

  /** A channel that has said hello, and the welcome. */
  async session(name: string, epoch: number, used: { tcp?: string; udp?: string } = {}): Promise<{ channel: Channel; welcome: Holding & Record<string, unknown> }> {
    const channel = await this.channel(name);
    const { result, error } = await channel.ask('hello', { version: 1, epoch, used });
    if (result === undefined) throw new Error(`hello of ${name}: ${error?.message}`);
    return { channel, welcome: result };
  }

  override async close(): Promise<void> {
    for (const channel of this.channels) channel.close();
    const cookies = [...this.guests.values()].map((namespace) =>
      this.lab.run(namespace, ['python3', '-c', 'import socket; print(int.from_bytes(socket.socket().getsockopt(1, 71, 8), "little"))']).trim(),
    );
    await super.close();
    for (const cookie of cookies) rmSync(`/run/berth/agent-${cookie}-eth0.json`, { force: true });
  }
}

/** A world for one test, removed when it ends. */
export function freshControl(label: string, guests: Record<string, Partial<GuestSetting>>, setting: Partial<Setting> = {}): ControlWorld {
  const world = new ControlWorld(label, guests, setting);
  onTestFinished(() => world.close());
  return world;
}

/** Milliseconds until connecting has the outcome; each attempt is a connection of its own. */
export async function timeUntil(outside: Peer, port: number, wanted: 'connected' | 'timeout' | 'ECONNREFUSED', withinMs: number): Promise<number> {
  const start = performance.now();
  for (;;) {
    const asked = performance.now();
    const { outcome } = await outside.connect(HOST_ADDRESS, port, { timeoutMs: wanted === 'timeout' ? SILENCE_MS : ATTEMPT_MS + (asked - start) / 4 });
    // A time-out began to be one when the attempt began.
    if (outcome === wanted) return (wanted === 'timeout' ? asked : performance.now()) - start;
    if (performance.now() - start > withinMs) throw new Error(`port ${port}: still ${outcome} and not ${wanted} after ${withinMs} ms`);
    await sleep(5);
  }
}

/** Prints what was measured, for people. */
export function measured(what: string, ms: number): void {
  process.stderr.write(`measured: ${what}: ${ms.toFixed(1)} ms\n`);
}
