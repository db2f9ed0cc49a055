/**
 * The daemon: configuration in; both planes built, started, and stopped in reverse.
 *
 *     NIC facts ─▶ lease plan ─▶ lock ─▶ host stack ─▶ steering table ─▶ engine thread ─▶ guest links
 *
 * Refused at start, each with its own message and nothing left changed: a NIC that is not there, a port that the host
 * uses, a link in use, a guest MAC other than the NIC's. A link that is not there yet is waited for.
 */
import { place, requireForRun, type Config } from './base/config.js';
import { BerthError, ConfigError, messageOf } from './base/errors.js';
import type { Log } from './base/log.js';
import { GuestLinks } from './control/guest-links.js';
import { Guests, refuseForeignMac } from './control/guests.js';
import { HostStack, removeGuestInterface } from './control/host-stack.js';
import { LivePlan } from './control/live-plan.js';
import { NextHops } from './control/next-hops.js';
import { Network } from './control/network.js';
import { type OnTable, Publisher } from './control/publisher.js';
import { resolveLeases } from './control/static-leases.js';
import { Counters, type CounterSnapshot } from './dataplane/counters.js';
import { EngineThread } from './dataplane/thread.js';
import type { WorkerStart } from './dataplane/worker-protocol.js';
import { CapIo } from './io/cap-io.js';
import { createCapRings } from './io/cap-ring.js';
import { FastPath } from './io/fast-path.js';
import { filterRings } from './io/host-filter.js';
import { findInterface, type Interface, interfaceIndex, interfaceNames } from './io/interfaces.js';
import { KernelTable } from './io/kernel-table.js';
import { Lock } from './io/lock.js';
import { openRings, takeKernelDrops } from './io/packet-io.js';
import { RawSocketOut } from './io/raw-socket-out.js';
import { PROTO_TCP, PROTO_UDP } from './steering/table-layout.js';
import { formatIpv4, parseMac } from './wire/address.js';

const HOUSEKEEPING_MS = 1000;
/** Between two warnings that a mapped guest has no ports left. */
const EXHAUSTED_MS = 60_000;
/** How old what is written down of implicit uses may be. */
const IMPLICIT_MS = 250;
/** Idle time-outs of implicit uses (D7): at least what NATs must keep, RFC 5382 REQ-5 and RFC 4787 REQ-5. */
const TCP_IDLE_MS = 124 * 60_000;
const UDP_IDLE_MS = 5 * 60_000;

export class Daemon {
  readonly nic: Interface;
  readonly plan: LivePlan;
  private readonly config: Config;
  private readonly log: Log;
  private readonly counters: Counters;
  private readonly timers: NodeJS.Timeout[] = [];
  /** How to undo what has been started so far, in order of starting. */
  private readonly undo: (() => void | Promise<void>)[] = [];
  private stopped: Promise<void> | null = null;
  private out: RawSocketOut | null = null;
  /** When it was last said of a mapped guest that it has no ports left. */
  private readonly warnedExhausted = new Map<string, number>();
  private sendTable: OnTable = () => undefined;
  /** Ports whose guests the engine is to forget. */
  private readonly leaving = new Map<number, () => void>();
  private linkFailed: (port: number, serial: number) => void = () => undefined;
  /** Rejects when something that the daemon cannot do without has failed; call `stop` then. Never resolves. */
  readonly failure: Promise<never>;
  private onFailure: (error: Error) => void = () => undefined;

  private constructor(config: Config, log: Log) {
    this.config = config;
    this.log = log;
    this.failure = new Promise((_, reject) => {
      this.onFailure = reject;
    });
    this.failure.catch(() => undefined); // whoever waits for it is told; until then it is no unhandled error
    this.nic = readNic(config);
    this.plan = new LivePlan(resolveLeases(config, { nicAddresses: this.nic.addresses }));
    this.counters = new Counters(this.plan.capacity);
    for (const guest of this.plan.guests) refuseForeignMac(guest, this.nic, config);
  }

  /** Builds and starts everything; on failure undoes what was done and throws. */
  static async start(config: Config, log: Log): Promise<Daemon> {
    if (process.getuid?.() !== 0) throw new BerthError('ERR_NOT_ROOT', 'the daemon needs root: it opens the NIC, makes taps and mutes ports; start it with sudo');
    const daemon = new Daemon(config, log);
    try {
      await daemon.startAll();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  /** `guests` in the order of the plan's. */
  readCounters(): CounterSnapshot {
    return this.counters.read(this.plan.guests.map(({ index }) => index));
  }

  /** Undoes everything in reverse; may be called more than once. */
  stop(): Promise<void> {
    this.stopped ??= this.stopAll();
    return this.stopped;
  }

  private async startAll(): Promise<void> {
    const { config, log, nic, plan } = this;
    const lock = await Lock.take('NIC', nic.name);
    this.undo.push(() => {
      lock.release();
    });

    const host = new HostStack(nic.name, nic.mac, log);
    this.undo.push(() => host.restore());
    const network = new Network({ nic, listed: config.addresses !== null, plan, log });
    const guests = new Guests({ config, plan, nic, host, network, log });
    guests.restore();
    host.apply(plan, (guest, error) => guests.leaveOut(guest, error));
    this.removeUnwantedInterfaces(host);

    const kernelTable = config.backend === 'packet' ? this.kernelTable() : undefined;
    const publisher = new Publisher(
      plan,
      (buffer, generation, guests, maps) => {
        this.sendTable(buffer, generation, guests, maps);
      },
      kernelTable,
    );
    publisher.restoreImplicit(host.implicitUses);
    const { engine, takeDrops } = await this.startEngine(publisher, kernelTable, this.rejectOutput());
    this.sendTable = (buffer, generation, guests, maps) => {
      engine.send({ type: 'table', buffer, generation, guests, maps });
    };

    const fastPath = kernelTable === undefined || config.fastPath === 'off' ? null : this.fastPath(kernelTable);
    const dress = { nic: nic.name, mac: nic.mac, mtu: nic.mtu, offloads: config.backend === 'packet', veth: fastPath !== null };
    const links = new GuestLinks(
      dress,
      {
        attach: (port, fd, isSocket, serial) => {
          engine.send({ type: 'attach', port, fd, isSocket, serial });
        },
        detach: (port) => {
          engine.send({ type: 'detach', port });
        },
        leave: (port) => {
          engine.send({ type: 'leave', port });
          return new Promise((resolve) => this.leaving.set(port, resolve));
        },
      },
      fastPath,
      host,
      log,
    );
    this.undo.push(() => {
      links.stop();
    });
    this.linkFailed = (port, serial) => {
      links.failed(port, serial);
    };
    await links.start(plan);
    this.undo.push(() => guests.close());
    await guests.start({ publisher, links });
    await this.startAdmin(publisher, links, guests);
    network.watch(
      (shared) => guests.follow(shared),
      () => guests.control?.server.changed(network.facts),
    );
    this.undo.push(() => network.close());

    this.every(HOUSEKEEPING_MS, () => {
      this.counters.addKernelDrops(takeDrops());
      if (interfaceIndex(nic.name) !== nic.ifindex) this.onFailure(new BerthError('ERR_NIC_GONE', `NIC ${nic.name} is gone; start again when it is back`));
    });
    this.every(IMPLICIT_MS, () => {
      const uses = publisher.implicitUses();
      if (uses !== null) host.rememberImplicit(uses);
    });
    this.every(UDP_IDLE_MS, () => publisher.sweepIdle(PROTO_UDP));
    this.every(TCP_IDLE_MS, () => publisher.sweepIdle(PROTO_TCP));
    for (const address of plan.shared) {
      if (!nic.addresses.includes(address)) log.warn(`shared address ${formatIpv4(address)} is not on ${nic.name}: nothing answers ARP for it`);
    }
  }

  /** Undefined where the kernel refuses it: then the engine sees every frame, the host's own too, and passes them. */
  private kernelTable(): KernelTable | undefined {
    try {
      const table = new KernelTable(this.plan.capacity);
      this.undo.push(() => {
        table.close();
      });
      this.counters.kernel = table;
      return table;
    } catch (error) {
      this.log.warn(`${messageOf(error)}; the host's own frames go through Berth too and cost it time: allow it bpf(2), with CAP_BPF`);
      return undefined;
    }
  }

  /** Null where the kernel lacks what it needs: then the engine has every frame. */
  private fastPath(table: KernelTable): FastPath | null {
    try {
      const path = FastPath.open(table, this.nic.ifindex, parseMac(this.nic.mac) ?? new Uint8Array(6));
      this.undo.push(() => {
        path.close();
      });
      return path;
    } catch (error) {
      this.log.warn(`no fast path (${messageOf(error)}): every frame of a guest goes through the engine; it needs Linux 6.6`);
      return null;
    }
  }

  private async startEngine(
    publisher: Publisher,
    kernelTable: KernelTable | undefined,
    sendRefusal: (packet: Uint8Array) => void,
  ): Promise<{ engine: EngineThread; takeDrops: () => number }> {
    const { config, nic } = this;
    const io: WorkerStart['nic'] =
      config.backend === 'cap' ? { backend: 'cap', ring: createCapRings() } : { backend: 'packet', sockets: openRings(nic.name, nic.ifindex) };
    if (io.backend === 'packet' && kernelTable !== undefined) filterRings(kernelTable, parseMac(nic.mac), io.sockets);
    let cap: CapIo | null = null;
    const hops = new NextHops(
      nic.name,
      (packet) => {
        this.rawSocket.send(packet);
      },
      (address, mac) => {
        engine.send({ type: 'next-hop', address, mac });
      },
    );
    this.undo.push(() => {
      hops.close();
    });
    const engine = await EngineThread.start(
      {
        table: publisher.buffer,
        counters: this.counters.buffer,
        guests: publisher.guestsByAddress,
        maps: publisher.maps,
        nic: io,
        mac: parseMac(nic.mac) ?? new Uint8Array(6),
        rejecting: config.notInUse === 'reject',
        rejectRate: config.rejectRate,
        maxPorts: 1 + this.plan.capacity,
      },
      {
        adopted: (generation) => {
          publisher.adopted(generation);
        },
        failed: (port, serial) => {
          if (port === 0) this.log.warn(`NIC ${nic.name} went down; frames are lost until it is up again`);
          else this.linkFailed(port, serial);
        },
        left: (port) => {
          this.leaving.get(port)?.();
          this.leaving.delete(port);
        },
        reject: sendRefusal,
        capSend: () => cap?.flush(),
        toHost: (address, packet) => {
          hops.handle(address, packet);
        },
        exhausted: (link) => {
          this.warnExhausted(link);
        },
        died: (error) => {
          this.onFailure(error);
        },
      },
    );
    this.undo.push(() => engine.stop(false));
    if (io.backend === 'cap') {
      const opened = new CapIo(nic.name, io.ring, () => {
        engine.wake();
      });
      cap = opened;
      this.undo.push(() => {
        opened.close();
      });
      this.log.warn(`back end cap: switch receive offloads off, or long frames are lost: ethtool -K ${nic.name} gro off lro off`);
    }
    return { engine, takeDrops: () => (io.backend === 'packet' ? takeKernelDrops(io.sockets) : (cap?.takeDrops() ?? 0)) };
  }

  /** Loaded last, when guests are served already: its modules take longer than all before. */
  private async startAdmin(publisher: Publisher, links: GuestLinks, guests: Guests): Promise<void> {
    const { config, plan, nic } = this;
    const [{ AdminServer }, { AdminDesk }] = await Promise.all([import('./control/admin.js'), import('./control/admin-desk.js')]);
    const counters = (): object => {
      const { guests: tallies, ...rest } = this.readCounters();
      return { ...rest, guests: Object.fromEntries(plan.guests.map(({ name }, at) => [name, tallies[at]])) };
    };
    const parts = { plan, nic, backend: config.backend, notInUse: config.notInUse, links, publisher, counters, guests };
    const desk = new AdminDesk({
      ...parts,
      get control() {
        return guests.control;
      },
    });
    const admin = await AdminServer.start(config, desk, this.log);
    this.undo.push(() => admin.close());
  }

  /** Opened by the first use: few daemons send packets of their own. */
  private get rawSocket(): RawSocketOut {
    if (this.out === null) {
      const out = new RawSocketOut((error) => {
        this.log.warn(error.message);
      });
      this.undo.push(() => {
        out.close();
      });
      this.out = out;
    }
    return this.out;
  }

  /** A mapped guest found every port of its block in use towards one remote end. */
  private warnExhausted(link: number): void {
    const guest = this.plan.guests.find(({ index }) => index === link);
    const now = performance.now();
    if (guest === undefined || now - (this.warnedExhausted.get(guest.name) ?? -EXHAUSTED_MS) < EXHAUSTED_MS) return;
    this.warnedExhausted.set(guest.name, now);
    this.log.warn({ guest: guest.name }, `guest ${guest.name}: every port of its block of ${guest.mapped?.blockSize ?? 0} is in use towards one address and port; its new connections there are dropped (ports-exhausted) until some end: set a larger \`block\``);
  }

  /** Opens the raw socket only where the policy needs it. */
  private rejectOutput(): (packet: Uint8Array) => void {
    if (this.config.notInUse !== 'reject') return () => undefined;
    const out = this.rawSocket;
    return (packet) => {
      out.send(packet);
    };
  }

  /** Interfaces that a killed daemon left for guests that are no longer configured, unless somebody has taken one into use. */
  private removeUnwantedInterfaces(host: HostStack): void {
    const wanted = this.plan.guests.map(({ link }) => (link?.kind === 'netns' ? `${link.netns}/${link.name}` : ''));
    for (const tap of host.guestTaps) if (!wanted.includes(`${tap.netns}/${tap.name}`)) removeGuestInterface(tap, { nic: this.nic.name, mac: this.nic.mac });
  }

  private every(periodMs: number, action: () => void): void {
    this.timers.push(setInterval(action, periodMs));
  }

  private async stopAll(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    const errors: unknown[] = [];
    for (const action of this.undo.splice(0).reverse()) {
      try {
        await action();
      } catch (error) {
        errors.push(error); // the rest is undone all the same
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

function readNic(config: Config): Interface {
  const name = requireForRun(config);
  const nic = findInterface(name);
  if (nic === null) {
    const there = interfaceNames().filter((other) => other !== 'lo');
    throw new ConfigError('ERR_NIC_MISSING', `${place(config, ['nic'])}: there is no interface ${name}; this host has ${there.length === 0 ? 'none' : there.join(', ')}`);
  }
  if (!nic.ethernet) throw new ConfigError('ERR_NIC_TYPE', `${place(config, ['nic'])}: ${name} is not an Ethernet interface; name one that is`);
  return nic;
}
