/**
 * The control journey of a daemon in this process: plan, store, lease book, steering table, and the guests' real sockets. Only
 * the host's own stack is played: `hostPorts` are those that its processes hold.
 *
 *     const core = await startCore(folder, { a: { block: 16 }, b: {} });     closed when the test ends
 *     const raw = await core.raw('a');                                      speaks JSON-RPC on a's socket
 */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import type { Log } from '../../src/base/log.js';
import type { HostStack } from '../../src/control/host-stack.js';
import type { LeasePlan } from '../../src/control/lease-plan.js';
import { NO_PORTS, type ProtoName } from '../../src/control/lease-state.js';
import { ControlPlane } from '../../src/control/plane.js';
import { Publisher } from '../../src/control/publisher.js';
import { GuestServer } from '../../src/control/server.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import { LmdbStore } from '../../src/control/store-lmdb.js';
import { LINK_SHIFT, PROTO_TCP, PROTO_UDP, STATE_IN_USE, STATE_MASK } from '../../src/steering/table-layout.js';
import { SteeringTable } from '../../src/steering/table.js';
import { PortSet } from '../../src/wire/port-set.js';
import { Channel } from './control.js';
import type { GuestSetting } from './live.js';

const SHARED = 0xc000020a;
/** Blocks are cut from these; none of them is among those that a kernel hands out itself. */
export const POOL = { ports: '61440-63487', reserve: 0, quarantine: '60s' };

export interface CoreSetting {
  guests: Record<string, GuestSetting['policy']>;
  pool?: object;
  /** Guests whose channel a VMM listens on, at `socketOf`. */
  vmm?: readonly string[];
}

export function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-core-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export class Core {
  readonly plane: ControlPlane;
  readonly server: GuestServer;
  /** `tcp/8080`: held by processes of the host. */
  readonly hostPorts: Set<string>;
  readonly log: string[];
  private readonly folder: string;
  private readonly plan: LeasePlan;
  private readonly store: LmdbStore;
  private readonly publisher: Publisher;
  private isOver = false;

  private constructor(folder: string, plan: LeasePlan, store: LmdbStore, publisher: Publisher, plane: ControlPlane, hostPorts: Set<string>) {
    this.folder = folder;
    this.plan = plan;
    this.store = store;
    this.publisher = publisher;
    this.plane = plane;
    this.hostPorts = hostPorts;
    this.log = [];
    const say = (_: object, message: string): number => this.log.push(message);
    const facts = { addresses: [{ address: '192.0.2.10', prefix: 24 }], gateway: '192.0.2.1', mtu: 1500, mac: '02:00:5e:10:00:01', dns: [] };
    this.server = new GuestServer(plane, () => facts, { info: say, warn: say, error: say } as unknown as Log);
    plane.onEnded = (guest, ports, reason) => {
      this.server.revoked(guest, ports, reason);
    };
  }

  static async start(folder: string, { guests, pool = POOL, vmm = [] }: CoreSetting): Promise<Core> {
    const named = Object.entries(guests).map(([name, policy]) => [name, { link: { tap: `tap-${name}` }, agent: { socket: join(folder, `${name}.sock`), connect: vmm.includes(name) }, policy }]);
    const config = parseConfig(JSON.stringify({ nic: 'eth0', addresses: ['192.0.2.10'], pool, guests: Object.fromEntries(named) }), 'berth.yaml');
    const plan = resolveLeases(config, { nicAddresses: [SHARED] });
    const publisher = new Publisher(plan);
    const hostPorts = new Set<string>();
    const reserve = (proto: ProtoName, first: number, last: number): { port: number; owner: string } | null => {
      for (let port = first; port <= last; port++) if (hostPorts.has(`${proto}/${port}`)) return { port, owner: 'nginx, pid 7' };
      return null;
    };
    const host = { reserve, reserved: () => PortSet.EMPTY, unreserve: () => undefined, setGranted: () => undefined } as unknown as HostStack;
    const store = new LmdbStore(join(folder, 'store'));
    const bookOptions = { pool: plan.pool.ports!, reserve: plan.pool.reserve, quarantineMs: plan.pool.quarantineMs, reservedByHost: NO_PORTS };
    const log = { info: () => undefined, warn: () => undefined, error: (_: object, message: string) => process.stderr.write(`${message}\n`) } as unknown as Log;
    const plane = await ControlPlane.start({ plan, bookOptions, store, publisher, host, log });
    const core = new Core(folder, plan, store, publisher, plane, hostPorts);
    await core.server.start(plan);
    return core;
  }

  socketOf(guest: string): string {
    return join(this.folder, `${guest}.sock`);
  }

  /** The test's own end of the guest's channel. */
  async raw(guest: string): Promise<Channel> {
    const socket = connect(this.socketOf(guest));
    await once(socket, 'connect');
    onTestFinished(() => {
      socket.destroy();
    });
    return new Channel(socket, true);
  }

  /** A raw channel that has said hello. */
  async session(guest: string, epoch: number, used: { tcp?: string; udp?: string } = {}): Promise<Channel> {
    const channel = await this.raw(guest);
    const { error } = await channel.ask('hello', { version: 1, epoch, used });
    if (error !== undefined) throw new Error(error.message);
    return channel;
  }

  /** The ports for which the steering table says: deliver to this guest. */
  delivered(guest: string): { tcp: PortSet; udp: PortSet } {
    const table = new SteeringTable(this.publisher.buffer);
    const link = this.plan.guests.findIndex(({ name }) => name === guest);
    const of = (proto: typeof PROTO_TCP | typeof PROTO_UDP): PortSet => {
      const found: { first: number; last: number }[] = [];
      for (let port = 1; port <= 65_535; port++) {
        const value = table.value(SHARED, proto, port);
        if ((value & STATE_MASK) === STATE_IN_USE && value >>> LINK_SHIFT === link) found.push({ first: port, last: port });
      }
      return PortSet.fromRanges(found);
    };
    return { tcp: of(PROTO_TCP), udp: of(PROTO_UDP) };
  }

  /** Sockets that the server has open towards the guest (of the kernel's list). */
  connections(guest: string): number {
    const end = ` ${this.socketOf(guest)}`;
    return readFileSync('/proc/net/unix', 'utf8').split('\n').filter((line) => line.endsWith(end) && / 0001 03 /.test(line)).length;
  }

  /** As a kill would end it: nobody is told, and what is not committed is lost. */
  async end(): Promise<void> {
    if (this.isOver) return;
    this.isOver = true;
    this.server.close();
    await this.plane.close();
    await this.store.close();
  }
}

/** A core for one test, ended with it. */
export async function startCore(folder: string, guests: CoreSetting['guests'], setting: Partial<CoreSetting> = {}): Promise<Core> {
  const core = await Core.start(folder, { ...setting, guests });
  onTestFinished(() => core.end());
  return core;
}
