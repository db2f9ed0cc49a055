/**
 * Faults on the channel: the real agent, its sockets real ones of the kernel, and the control journey of a daemon (book, store,
 * table, sessions), between them a Unix socket that loses, doubles, delays, reorders and cuts; agents and daemon end without a
 * word, and the store fails for a while. Book, store and what is answered are one all the time, and when the faults are over so are
 * guests and table: what is open in the guest and leased to it, and nothing else, is delivered.
 *
 * Kills        are played here: agent and daemon are in this process.
 * Sockets      lie in the namespace of the test, at ports of the pool, which no kernel hands out itself. Both guests see them.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { Agent } from '../../src/agent/agent.js';
import { unixSocket } from '../../src/agent/channel.js';
import type { Log } from '../../src/base/log.js';
import { LeaseState, type Ports, type ProtoName } from '../../src/control/lease-state.js';
import { isStoreFailure } from '../../src/control/store.js';
import { PortSet } from '../../src/wire/port-set.js';
import { Core, type CoreSetting, freshFolder } from '../support/control-core.js';
import { FaultyChannel } from '../support/faulty-channel.js';
import { FaultyStore } from '../support/faulty-store.js';
import { until } from '../support/live.js';

const RUNS = Number(process.env['FAULT_RUNS'] ?? 20);
const GUESTS = ['a', 'b'] as const;
type GuestName = (typeof GUESTS)[number];
/** Asked for by name, by both; the rest are ports of blocks. */
const PORTS = [61_000, 61_001, 61_440, 61_441, 61_447, 61_448, 61_456, 61_457, 61_471];
const POLICY = { block: 16, maxPorts: 48, allow: { tcp: '61000-61001', udp: '61000' } };
const SETTING: CoreSetting = { open: (path) => new FaultyStore(path), guests: { a: POLICY, b: POLICY }, pool: { ports: '61440-61503', reserve: 0, quarantine: '50ms' } };
const CONVERGED_MS = 5000;
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined } as unknown as Log;

type Step =
  | { what: 'open' | 'close'; port: number; proto: ProtoName }
  | { what: 'agent' | 'grant' | 'revoke'; guest: GuestName }
  | { what: 'store'; fails: boolean }
  | { what: 'daemon' | 'all' };

const anyGuest = fc.constantFrom(...GUESTS);
const step: fc.Arbitrary<{ step: Step; pauseMs: number }> = fc.record({
  step: fc.oneof(
    { weight: 12, arbitrary: fc.record({ what: fc.constantFrom('open' as const, 'close' as const), port: fc.constantFrom(...PORTS), proto: fc.constantFrom('tcp' as const, 'udp' as const) }) },
    { weight: 3, arbitrary: fc.record({ what: fc.constantFrom('agent' as const, 'grant' as const, 'revoke' as const), guest: anyGuest }) },
    { weight: 3, arbitrary: fc.record({ what: fc.constant('store' as const), fails: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('daemon' as const, 'all' as const) }) },
  ),
  pauseMs: fc.integer({ min: 0, max: 40 }),
});

function unlessOfStore(error: unknown): void {
  if (!isStoreFailure(error)) throw error;
}

/** Sockets of this process. */
class Open {
  private readonly held = new Map<string, { close: (done: () => void) => unknown }>();

  get ports(): Ports {
    const of = (proto: ProtoName): PortSet =>
      PortSet.fromRanges([...this.held.keys()].filter((key) => key.startsWith(proto)).map((key) => ({ first: Number(key.slice(4)), last: Number(key.slice(4)) })));
    return { tcp: of('tcp'), udp: of('udp') };
  }

  async open(proto: ProtoName, port: number): Promise<void> {
    if (this.held.has(`${proto}/${port}`)) return;
    const socket = proto === 'tcp' ? createServer().listen({ port, host: '0.0.0.0', exclusive: true }) : createSocket('udp4').bind({ port, address: '0.0.0.0', exclusive: true });
    await once(socket, 'listening');
    this.held.set(`${proto}/${port}`, socket);
  }

  async close(proto: ProtoName, port: number): Promise<void> {
    const socket = this.held.get(`${proto}/${port}`);
    if (socket === undefined) return;
    this.held.delete(`${proto}/${port}`);
    await new Promise<void>((done) => socket.close(done));
  }

  async closeAll(): Promise<void> {
    for (const key of [...this.held.keys()]) await this.close(key.slice(0, 3) as ProtoName, Number(key.slice(4)));
  }
}

class Machine {
  readonly sockets = new Open();
  core!: Core;
  private readonly folder = freshFolder();
  private readonly agents = new Map<GuestName, Agent>();
  private readonly proxies = new Map<GuestName, FaultyChannel>();

  async start(seed: number): Promise<void> {
    this.core = await Core.start(this.folder, SETTING);
    for (const [index, guest] of GUESTS.entries()) {
      this.proxies.set(guest, await FaultyChannel.listen(this.pathOf(guest), this.core.socketOf(guest), seed + index));
      this.startAgent(guest);
    }
  }

  set faulty(faulty: boolean) {
    for (const proxy of this.proxies.values()) proxy.faulty = faulty;
  }

  get counts(): FaultyChannel['counts'][] {
    return [...this.proxies.values()].map(({ counts }) => counts);
  }

  async do(step: Step): Promise<void> {
    switch (step.what) {
      case 'open':
      case 'close':
        await this.sockets[step.what](step.proto, step.port);
        break;
      case 'agent':
        await this.endAgent(step.guest);
        this.startAgent(step.guest);
        break;
      case 'store':
        this.store.fails = step.fails;
        break;
      case 'grant':
        await this.core.plane.grantBlock(step.guest).catch(unlessOfStore);
        this.core.server.granted(step.guest);
        break;
      case 'revoke': {
        const { leased } = this.core.plane.book.holding(step.guest);
        const ports = { tcp: leased.tcp.intersect(PortSet.parse('61000,61440-61447')), udp: leased.udp.intersect(PortSet.parse('61000,61440-61447')) };
        const isReleased = await this.core.plane.release(step.guest, ports).then(() => true, unlessOfStore);
        if (isReleased) this.core.server.revoked(step.guest, ports, 'taken back by the operator');
        break;
      }
      case 'daemon':
        await this.restartCore();
        break;
      case 'all':
        for (const guest of GUESTS) await this.endAgent(guest);
        await this.restartCore();
        for (const guest of GUESTS) this.startAgent(guest);
        break;
    }
  }

  /** What is different from what should be; the empty text: nothing. */
  difference(): string {
    const { book } = this.core.plane;
    const open = this.sockets.ports;
    const wrong: string[] = [];
    for (const guest of GUESTS) {
      const { leased } = book.holding(guest);
      const knows = this.agents.get(guest)!['leases'];
      const delivered = this.core.delivered(guest);
      const { tcp, udp } = book.holding(guest).used;
      if (!delivered.tcp.equals(tcp) || !delivered.udp.equals(udp)) wrong.push(`${guest} is delivered tcp ${delivered.tcp.format()} udp ${delivered.udp.format()}, in use are tcp ${tcp.format()} udp ${udp.format()}`);
      if (!this.core.server.isConnected(guest)) wrong.push(`${guest} is away`);
      for (const proto of ['tcp', 'udp'] as const) {
        if (!knows[proto].equals(leased[proto])) wrong.push(`${guest} believes to hold ${proto} ${knows[proto].format()}, and holds ${leased[proto].format()}`);
        const due = open[proto].intersect(leased[proto]);
        if (!delivered[proto].equals(due)) wrong.push(`${guest} is delivered ${proto} ${delivered[proto].format()}, and has open ${due.format()}`);
      }
    }
    return wrong.join('; ');
  }

  /** No endpoint has two owners, and nothing is answered that is not in the store, at any time. */
  checkOwners(): void {
    const { plane, store } = this.core;
    const [a, b] = GUESTS.map((guest) => plane.book.holding(guest).leased);
    expect({ tcp: a.tcp.intersect(b.tcp).format(), udp: a.udp.intersect(b.udp).format() }).toEqual({ tcp: '', udp: '' });
    expect(plane.leases.snapshot()).toEqual(new LeaseState(store.load()).snapshot());
  }

  get store(): FaultyStore {
    return this.core.store as FaultyStore;
  }

  /** The answer to a hello of long ago. An agent that connects at the same moment takes its place: then again. */
  async lateHello(guest: GuestName): Promise<string> {
    for (;;) {
      const raw = await this.core.raw(guest);
      const outcome = await raw.outcome('hello', { version: 1, epoch: 5 }).catch(() => 'ended');
      raw.close();
      if (outcome !== 'ended') return outcome;
    }
  }

  async close(): Promise<void> {
    for (const guest of GUESTS) await this.endAgent(guest);
    for (const proxy of this.proxies.values()) await proxy.close();
    await this.sockets.closeAll();
    await this.core.end();
  }

  private pathOf(guest: GuestName): string {
    return join(this.folder, `${guest}-proxy.sock`);
  }

  private startAgent(guest: GuestName): void {
    const agent = new Agent({
      open: unixSocket(this.pathOf(guest)),
      networkInterface: null,
      log: silent,
      retryMs: 100,
      restateMs: 150,
      watch: { intervalMs: 5, fullEveryMs: 20 },
      client: { requestTimeoutMs: 150, firstDelayMs: 5, mostDelayMs: 40 },
    });
    agent.start();
    this.agents.set(guest, agent);
  }

  /** It reports only, so it says nothing at its end. */
  private async endAgent(guest: GuestName): Promise<void> {
    await this.agents.get(guest)?.stop();
  }

  private async restartCore(): Promise<void> {
    await this.core.end();
    this.core = await Core.start(this.folder, SETTING);
  }
}

it.runIf(process.platform === 'linux')(`after faults, and after the ends of agents and daemon, what is open and leased is delivered, and nothing else (${RUNS} runs)`, { timeout: RUNS * 10_000 }, async () => {
  const total = { lose: 0, double: 0, delay: 0, swap: 0, cut: 0, passed: 0 };
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.array(step, { minLength: 10, maxLength: 30 }), async (seed, steps) => {
      const machine = new Machine();
      try {
        await machine.start(seed);
        machine.faulty = true;
        for (const { step, pauseMs } of steps) {
          await machine.do(step);
          await sleep(pauseMs);
          machine.checkOwners();
        }
        machine.faulty = false;
        machine.store.fails = false;
        await until(() => machine.difference() === '', CONVERGED_MS, () => `one state: ${machine.difference()}`);
        // D4: what is late changes nothing.
        const before = GUESTS.map((guest) => machine.core.delivered(guest));
        for (const guest of GUESTS) expect(await machine.lateHello(guest)).toBe('ERR_OLD_EPOCH');
        for (const [index, guest] of GUESTS.entries()) {
          const now = machine.core.delivered(guest);
          expect({ tcp: before[index].tcp.subtract(now.tcp).format(), udp: before[index].udp.subtract(now.udp).format() }).toEqual({ tcp: '', udp: '' });
        }
        for (const counts of machine.counts) for (const fault of Object.keys(total) as (keyof typeof total)[]) total[fault] += counts[fault];
      } finally {
        await machine.close();
      }
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
  process.stderr.write(`lines over ${RUNS} runs: ${JSON.stringify(total)}\n`);
  for (const [fault, count] of Object.entries(total)) expect({ fault, count: count > 0 }).toEqual({ fault, count: true });
});

it.runIf(process.platform === 'linux')('what a lost or doubled message leaves different without either side noticing is mended by the next statement of all', { timeout: 20_000 }, async () => {
  const machine = new Machine();
  onTestFinished(() => machine.close());
  await machine.start(1);
  await machine.do({ what: 'open', port: 61_440, proto: 'tcp' });
  await machine.do({ what: 'open', port: 61_441, proto: 'udp' });
  const settled = (): Promise<void> => until(() => machine.difference() === '', CONVERGED_MS, () => `one state: ${machine.difference()}`);
  await settled();
  const { plane } = machine.core;
  const holder = GUESTS.find((guest) => plane.book.holding(guest).leased.tcp.has(61_440))!;
  for (const unheard of [
    () => plane.endUse(holder, { tcp: PortSet.parse('61440'), udp: PortSet.parse('61441') }), // an end-use of before, once more
    () => plane.grantBlock(holder),
    () => plane.release(holder, { tcp: PortSet.parse('61440'), udp: PortSet.EMPTY }),
  ]) {
    await unheard();
    expect(machine.difference()).not.toBe('');
    await settled();
  }
});
