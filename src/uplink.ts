/**
 * Uplink: one NIC with all that serves it: what is changed on the host for it, its steering table, its engine's thread, its guests' links.
 *
 *     lock ─▶ host stack ─▶ steering table ─▶ engine thread ─▶ guest links        undone in reverse
 *
 * Several      in one daemon share the process, the store and the admin interface, and nothing on the way of a frame: a guest is bound to the
 *              network of its address, and its link has that NIC's MAC. The first one has the shared addresses, the others only
 *              dedicated ones.
 * Length       the order of starting is the design here, and every step of it is in this file.
 * Undoing      everything that is started adds how to undo it to the daemon's list.
 */
import type { Config } from './base/config.js';
import { BerthError, messageOf } from './base/errors.js';
import type { Log } from './base/log.js';
import { type DhcpCounters, DhcpServer } from './control/dhcp-server.js';
import { ExhaustedBlocks } from './control/exhausted.js';
import { GuestLinks } from './control/guest-links.js';
import { ANSWERS, HostSenders } from './control/host-senders.js';
import { HostStack, removeGuestInterface } from './control/host-stack.js';
import type { LivePlan } from './control/live-plan.js';
import { NextHops } from './control/next-hops.js';
import { connectionList, namedConnections } from './control/own-connections.js';
import type { NetworkFacts } from './control/session.js';
import { type OnTable, Publisher } from './control/publisher.js';
import { Counters, type CounterSnapshot } from './dataplane/counters.js';
import { EngineThread } from './dataplane/thread.js';
import type { WorkerStart } from './dataplane/worker-protocol.js';
import { CapIo } from './io/cap-io.js';
import { createCapRings } from './io/cap-ring.js';
import type { Traffic } from './io/cpu-latency.js';
import { FastPath } from './io/fast-path.js';
import { filterRings } from './io/host-filter.js';
import { type Interface, interfaceIndex } from './io/interfaces.js';
import { KernelTable } from './io/kernel-table.js';
import { Lock } from './io/lock.js';
import { FrameSender, openRings, takeKernelDrops } from './io/packet-io.js';
import { PROTO_TCP, PROTO_UDP } from './steering/table-layout.js';
import { parseMac } from './wire/address.js';
import { arpAnnouncement } from './wire/arp-frames.js';

const HOUSEKEEPING_MS = 1000;
/** How old what is written down of implicit uses may be. */
const IMPLICIT_MS = 250;
/** Idle time-outs of implicit uses (D7): at least what NATs must keep, RFC 5382 REQ-5 and RFC 4787 REQ-5. */
const TCP_IDLE_MS = 124 * 60_000;
const UDP_IDLE_MS = 5 * 60_000;

export interface UplinkParts {
  config: Config;
  log: Log;
  /** The network's name. */
  network: string;
  nic: Interface;
  plan: LivePlan;
  /** How to undo what has been started, in order of starting. */
  undo: (() => void | Promise<void>)[];
  /** Something that the daemon cannot do without has failed. */
  fail: (error: Error) => void;
}

export class Uplink {
  readonly network: string;
  readonly nic: Interface;
  readonly plan: LivePlan;
  readonly host: HostStack;
  private readonly parts: UplinkParts;
  private readonly mac: Uint8Array;
  private readonly counters: Counters;
  private started: { publisher: Publisher; links: GuestLinks; takeDrops: () => number } | null = null;
  private dhcp: DhcpServer | null = null;
  private sendTable: OnTable = () => undefined;
  /** Frames that Berth makes itself. */
  private sendOnNic: (frame: Uint8Array) => void = () => undefined;
  /** Ports whose guests the engine is to forget. */
  private readonly leaving = new Map<number, () => void>();
  private linkFailed: (port: number, serial: number) => void = () => undefined;

  private constructor(parts: UplinkParts) {
    this.parts = parts;
    this.network = parts.network;
    this.nic = parts.nic;
    this.plan = parts.plan;
    this.mac = parseMac(parts.nic.mac) ?? new Uint8Array(6);
    this.counters = new Counters(parts.plan.capacity);
    this.host = new HostStack(parts.nic.name, parts.nic.mac, parts.log);
  }

  /** Has the NIC for itself; nothing is changed yet. */
  static async take(parts: UplinkParts): Promise<Uplink> {
    const lock = await Lock.take('NIC', parts.nic.name);
    parts.undo.push(() => {
      lock.release();
    });
    const uplink = new Uplink(parts);
    parts.undo.push(() => uplink.host.restore());
    return uplink;
  }

  get publisher(): Publisher {
    return this.running.publisher;
  }

  get links(): GuestLinks {
    return this.running.links;
  }

  /** Builds and starts all of it; links are attached by `links.start`. `facts`: what guests are told by DHCP; `refused`: as HostStack.apply. */
  async start(facts: () => NetworkFacts, refused: (guest: string, error: unknown) => void): Promise<void> {
    const { config, log } = this.parts;
    const { nic, plan, host } = this;
    host.apply(plan, refused);
    this.removeUnwantedInterfaces();
    const kernelTable = config.backend === 'packet' ? this.kernelTable() : undefined;
    const publisher = new Publisher(
      plan,
      (buffer, generation, guests, maps) => {
        this.sendTable(buffer, generation, guests, maps);
      },
      kernelTable,
    );
    publisher.restoreImplicit(host.implicitUses);
    this.openSender();
    const { engine, takeDrops } = await this.startEngine(publisher, kernelTable);
    this.dhcp = new DhcpServer({
      plan,
      facts,
      send: (port, frame) => {
        engine.send({ type: 'send', port, frame });
      },
      log,
    });
    this.sendTable = (buffer, generation, guests, maps) => {
      engine.send({ type: 'table', buffer, generation, guests, maps });
    };

    const fastPath = kernelTable === undefined || config.fastPath === 'off' ? null : this.fastPath(kernelTable);
    const dress = { nic: nic.name, mac: nic.mac, mtu: nic.mtu, offloads: config.backend === 'packet', veth: fastPath !== null };
    const links = new GuestLinks(dress, this.linkHost(engine), fastPath, host, log);
    this.parts.undo.push(() => {
      links.stop();
    });
    this.linkFailed = (port, serial) => {
      links.failed(port, serial);
    };
    this.started = { publisher, links, takeDrops };
  }

  /** Begins what is done from time to time. */
  watch(): void {
    const { nic, publisher, host } = this;
    const { takeDrops } = this.running;
    this.every(HOUSEKEEPING_MS, () => {
      this.counters.addKernelDrops(takeDrops());
      if (interfaceIndex(nic.name) !== nic.ifindex) this.parts.fail(new BerthError('ERR_NIC_GONE', `NIC ${nic.name} is gone; start again when it is back`));
    });
    this.every(IMPLICIT_MS, () => {
      const uses = publisher.implicitUses();
      if (uses !== null) host.rememberImplicit(uses);
    });
    this.every(UDP_IDLE_MS, () => publisher.sweepIdle(PROTO_UDP));
    this.every(TCP_IDLE_MS, () => publisher.sweepIdle(PROTO_TCP));
  }

  /** `guests` in the order of the plan's. */
  readCounters(): CounterSnapshot & { dhcp?: DhcpCounters } {
    const counters = this.counters.read(this.plan.guests.map(({ index }) => index));
    return this.dhcp === null ? counters : { ...counters, dhcp: this.dhcp.counters };
  }

  /** Guests' frames and bytes so far, both ways, modulo 2^32. */
  traffic(): Traffic {
    return this.counters.traffic();
  }

  /** Tells the neighbours that the address is at this NIC. */
  announce(address: number): void {
    this.sendOnNic(arpAnnouncement(address, this.mac));
  }

  private get running(): NonNullable<typeof this.started> {
    if (this.started === null) throw new Error(`the uplink of ${this.nic.name} has not been started`);
    return this.started;
  }

  private linkHost(engine: EngineThread): ConstructorParameters<typeof GuestLinks>[1] {
    return {
      attach: (port, fd, isSocket, serial, dhcp) => {
        engine.send({ type: 'attach', port, fd, isSocket, serial, dhcp });
      },
      detach: (port) => {
        engine.send({ type: 'detach', port });
      },
      leave: (port) => {
        engine.send({ type: 'leave', port });
        return new Promise((resolve) => this.leaving.set(port, resolve));
      },
    };
  }

  /** Undefined where the kernel refuses it: then the engine sees every frame, the host's own too, and passes them. */
  private kernelTable(): KernelTable | undefined {
    try {
      const table = new KernelTable(this.plan.capacity);
      this.parts.undo.push(() => {
        table.close();
      });
      this.counters.kernel = table;
      return table;
    } catch (error) {
      this.parts.log.warn(`${messageOf(error)}; the host's own frames go through Berth too and cost it time: allow it bpf(2), with CAP_BPF`);
      return undefined;
    }
  }

  /** Null where the kernel lacks what it needs: then the engine has every frame. */
  private fastPath(table: KernelTable): FastPath | null {
    try {
      const path = FastPath.open(table, { ...this.nic, mac: this.mac });
      this.parts.undo.push(() => {
        path.close();
      });
      return path;
    } catch (error) {
      this.parts.log.warn(`no fast path (${messageOf(error)}): every frame of a guest goes through the engine; it needs Linux 6.6`);
      return null;
    }
  }

  private async startEngine(
    publisher: Publisher,
    kernelTable: KernelTable | undefined,
  ): Promise<{ engine: EngineThread; takeDrops: () => number }> {
    const { nic } = this;
    const { config, log } = this.parts;
    const io: WorkerStart['nic'] =
      config.backend === 'cap' ? { backend: 'cap', ring: createCapRings() } : { backend: 'packet', sockets: openRings(nic.name, nic.ifindex), mtu: nic.mtu };
    if (io.backend === 'packet' && kernelTable !== undefined) filterRings(kernelTable, this.mac, io.sockets);
    let cap: CapIo | null = null;
    const exhausted = new ExhaustedBlocks(this.plan, log);
    const senders = new HostSenders(nic.name, log);
    this.parts.undo.push(() => {
      senders.close();
    });
    if (config.notInUse === 'reject') senders.open(ANSWERS);
    for (const { link } of publisher.maps.guests) senders.open(link);
    const hops = new NextHops(
      nic.name,
      (link, packet) => {
        senders.send(link, packet);
      },
      (address, mac) => {
        engine.send({ type: 'next-hop', address, mac });
      },
    );
    this.parts.undo.push(() => {
      hops.close();
    });
    const engine = await EngineThread.start(
      {
        table: publisher.buffer,
        counters: this.counters.buffer,
        guests: publisher.guestsByAddress,
        maps: publisher.maps,
        connections: connectionList(this.host.ownConnections, this.plan.guests),
        nic: io,
        mac: this.mac,
        rejecting: config.notInUse === 'reject',
        rejectRate: config.rejectRate,
        maxPorts: 1 + this.plan.capacity,
      },
      {
        adopted: (generation) => {
          publisher.adopted(generation);
        },
        failed: (port, serial) => {
          if (port === 0) log.warn(`NIC ${nic.name} went down; frames are lost until it is up again`);
          else this.linkFailed(port, serial);
        },
        left: (port) => {
          senders.close(port - 1);
          this.leaving.get(port)?.();
          this.leaving.delete(port);
        },
        reject: (packet) => {
          senders.send(ANSWERS, packet);
        },
        send: (frame) => {
          this.sendOnNic(frame);
        },
        punt: (port, frame) => {
          this.dhcp?.receive(port, frame);
        },
        toHost: (link, address, packet) => {
          hops.handle(link, address, packet);
        },
        connections: (connections) => {
          this.host.rememberConnections(namedConnections(connections, this.plan.guests));
        },
        exhausted: (link) => {
          exhausted.warn(link);
        },
        capSend: () => cap?.flush(),
        died: (error) => {
          this.parts.fail(error);
        },
      },
    );
    this.parts.undo.push(() => engine.stop(false));
    if (io.backend === 'cap') {
      const opened = new CapIo(nic.name, io.ring, () => {
        engine.wake();
      });
      cap = opened;
      this.parts.undo.push(() => {
        opened.close();
      });
      log.warn(`back end cap: switch receive offloads off, or long frames are lost: ethtool -K ${nic.name} gro off lro off`);
    }
    return { engine, takeDrops: () => (io.backend === 'packet' ? takeKernelDrops(io.sockets) : (cap?.takeDrops() ?? 0)) };
  }

  private openSender(): void {
    const { nic } = this;
    const { log } = this.parts;
    const sender = new FrameSender(nic.name, nic.ifindex);
    this.parts.undo.push(() => {
      sender.close();
    });
    this.sendOnNic = (frame) => {
      try {
        sender.send(frame, 0, frame.length);
      } catch (error) {
        log.warn(messageOf(error)); // the NIC is down: nobody could hear it
      }
    };
  }

  /** Interfaces that a killed daemon left for guests that are no longer configured, unless somebody has taken one into use. */
  private removeUnwantedInterfaces(): void {
    const wanted = this.plan.guests.map(({ link }) => (link?.kind === 'netns' ? `${link.netns}/${link.name}` : ''));
    for (const tap of this.host.guestTaps) if (!wanted.includes(`${tap.netns}/${tap.name}`)) removeGuestInterface(tap, { nic: this.nic.name, mac: this.nic.mac });
  }

  private every(periodMs: number, action: () => void): void {
    const timer = setInterval(action, periodMs);
    this.parts.undo.push(() => {
      clearInterval(timer);
    });
  }
}
