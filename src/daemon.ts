/**
 * The daemon: configuration in; both planes built, started, and stopped in reverse.
 *
 *     NIC facts ─▶ lease plan ─▶ uplinks taken ─▶ guests of earlier daemons, addresses of pools ─▶ uplinks started ─▶ guest links ─▶ control
 *
 * Refused at start, each with its own message and nothing left changed: a NIC that is not there, a port that the host
 * uses, a link in use, a guest MAC other than the NIC's. A link that is not there yet is waited for.
 */
import { networkInterfaces } from 'node:os';
import { type KeyPath, place, requireForRun, type Config } from './base/config.js';
import { BerthError, ConfigError } from './base/errors.js';
import type { Log } from './base/log.js';
import type { DhcpCounters } from './control/dhcp-server.js';
import { otherFacts } from './control/facts.js';
import { refuseForeignMac } from './control/guest-refusals.js';
import { Guests } from './control/guests.js';
import { describePorts } from './control/lease-plan.js';
import { LivePlan } from './control/live-plan.js';
import { Network } from './control/network.js';
import type { Owned } from './control/pools/address-pools.js';
import { FloatingAddresses } from './control/pools/floating.js';
import { resolveLeases } from './control/static-leases.js';
import { addSnapshots, type CounterSnapshot } from './dataplane/counters.js';
import { addTraffic, CpuLatency, GLANCE_MS } from './io/cpu-latency.js';
import { findInterface, type Interface, interfaceNames } from './io/interfaces.js';
import { Uplink } from './uplink.js';
import { formatIpv4, parseIpv4 } from './wire/address.js';

/** How late the use of an address may be noticed. */
const USES_MS = 250;

export class Daemon {
  readonly nic: Interface;
  readonly plan: LivePlan;
  private readonly config: Config;
  private readonly log: Log;
  /** By the names of their networks, the first with the shared addresses. */
  private readonly nics: ReadonlyMap<string, Interface>;
  private uplinks: readonly Uplink[] = [];
  private latency: CpuLatency | null = null;
  /** How to undo what has been started so far, in order of starting. */
  private readonly undo: (() => void | Promise<void>)[] = [];
  private stopped: Promise<void> | null = null;
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
    this.nics = readNics(config);
    [this.nic] = [...this.nics.values()];
    this.plan = new LivePlan(resolveLeases(config, { nicAddresses: this.nic.addresses, hostAddresses: hostAddresses() }));
    for (const guest of this.plan.guests) if (config.guests[guest.index].pool === null) refuseForeignMac(guest, this.nic, config);
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

  get guestNames(): string[] {
    return this.uplinks.flatMap(({ plan }) => plan.guests.map(({ name }) => name));
  }

  /** `guests` in the order of guestNames. */
  readCounters(): CounterSnapshot & { dhcp?: DhcpCounters } {
    return this.uplinks.map((uplink) => uplink.readCounters()).reduce(addSnapshots);
  }

  /** Undoes everything in reverse; may be called more than once. */
  stop(): Promise<void> {
    this.stopped ??= this.stopAll();
    return this.stopped;
  }

  private async startAll(): Promise<void> {
    const { config, log, nic, plan } = this;
    const uplinks: Uplink[] = [];
    for (const [network, one] of this.nics) {
      // The first network has the plan of the configuration; a guest that gets an address of another one moves to its plan.
      const served = one === nic ? plan : new LivePlan({ shared: [], coming: [], addresses: [], guests: [], departed: [], pool: plan.pool, pools: plan.pools });
      uplinks.push(await Uplink.take({ config, log, network, nic: one, plan: served, undo: this.undo, fail: (error) => this.onFailure(error) }));
    }
    this.uplinks = uplinks;
    const network = new Network({ nic, listed: config.addresses !== null, plan, log });
    const floating = new FloatingAddresses(plan.pools, this.nics, log);
    const guests = new Guests({ config, uplinks, network, floating, log });
    this.undo.push(() => {
      floating.close();
    });
    await guests.restore();
    for (const uplink of uplinks) {
      const told = config.networks.find(({ name }) => name === uplink.network)?.gateway ?? null;
      const facts = uplink.nic === nic ? () => network.facts : otherFacts(uplink.nic, told);
      await uplink.start(facts, (guest, error) => guests.leaveOut(guest, error));
    }
    for (const { links, plan: served } of uplinks) await links.start(served);
    this.undo.push(() => guests.close());
    await guests.start();
    if (plan.pools.length > 0) this.watchUses(floating);
    await this.startAdmin(guests, floating);
    network.watch(
      (shared) => guests.follow(shared),
      () => guests.control?.server.changed(network.facts),
    );
    this.undo.push(() => network.close());
    for (const uplink of uplinks) uplink.watch();
    this.watchLatency();
    for (const address of plan.shared) {
      if (!nic.addresses.includes(address)) log.warn(`shared address ${formatIpv4(address)} is not on ${nic.name}: nothing answers ARP for it`);
    }
  }

  private watchLatency(): void {
    const { config, uplinks, log } = this;
    if (config.cpuLatency === 'off') return;
    const latency = (this.latency = new CpuLatency(config.cpuLatency, () => uplinks.map((uplink) => uplink.traffic()).reduce(addTraffic), log));
    const timer = setInterval(() => latency.glance(), GLANCE_MS);
    this.undo.push(() => {
      clearInterval(timer);
      latency.close();
    });
  }

  private uplinkOf(network: string): Uplink {
    return this.uplinks.find((one) => one.network === network) ?? this.uplinks[0];
  }

  private watchUses(floating: FloatingAddresses): void {
    floating.watchUses({
      isInUse: (address, network) => this.uplinkOf(network).publisher.isInUse(address, null),
      announce: (address, network) => {
        this.uplinkOf(network).announce(address);
      },
    });
    floating.look();
    const timer = setInterval(() => floating.look(), USES_MS);
    this.undo.push(() => {
      clearInterval(timer);
    });
  }

  /** Loaded last, when guests are served already: its modules take longer than all before. */
  private async startAdmin(guests: Guests, floating: FloatingAddresses): Promise<void> {
    const { config, plan, nic } = this;
    const [{ AdminServer }, { AdminDesk }, { PoolDesk }] = await Promise.all([import('./control/admin.js'), import('./control/admin-desk.js'), import('./control/pools/pool-desk.js')]);
    const counters = (): object => {
      const { guests: tallies, ...rest } = this.readCounters();
      return { ...rest, guests: Object.fromEntries(this.guestNames.map((name, at) => [name, tallies[at]])) };
    };
    const [{ links, publisher }, ...others] = this.uplinks;
    const parts = { plan, nic, backend: config.backend, notInUse: config.notInUse, links, publisher, others, counters, guests, latency: () => this.latency?.report ?? null };
    const desk = new AdminDesk({
      ...parts,
      get control() {
        return guests.control;
      },
    });
    const pools = new PoolDesk({
      pools: plan.pools,
      floating,
      isInUse: (address, network, block) => this.uplinkOf(network).publisher.isInUse(address, block),
      limitsOf: (name) => {
        const guest = this.uplinks.map(({ plan: served }) => served.find(name)).find((one) => one !== undefined);
        return guest === undefined ? '' : describePorts(guest.tcp, guest.udp);
      },
      rejecting: config.notInUse === 'reject',
    });
    const admin = await AdminServer.start(config, desk, pools, this.log);
    this.undo.push(() => admin.close());
  }

  private async stopAll(): Promise<void> {
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

function hostAddresses(): Owned[] {
  return Object.entries(networkInterfaces()).flatMap(([name, entries = []]) =>
    entries.flatMap(({ family, address }): Owned[] => (family === 'IPv4' ? [{ address: parseIpv4(address) as number, owner: `the host's own (on ${name})` }] : [])),
  );
}

function readNics(config: Config): Map<string, Interface> {
  const name = requireForRun(config);
  const networks = config.networks.length === 0 ? [{ name, nic: name }] : config.networks;
  return new Map(networks.map((network) => [network.name, readNic(config, network.nic, config.networks.length === 0 ? ['nic'] : ['networks', network.name, 'nic'])]));
}

function readNic(config: Config, name: string, path: KeyPath): Interface {
  const nic = findInterface(name);
  if (nic === null) {
    const there = interfaceNames().filter((other) => other !== 'lo');
    throw new ConfigError('ERR_NIC_MISSING', `${place(config, path)}: there is no interface ${name}; this host has ${there.length === 0 ? 'none' : there.join(', ')}`);
  }
  if (!nic.ethernet) throw new ConfigError('ERR_NIC_TYPE', `${place(config, path)}: ${name} is not an Ethernet interface; name one that is`);
  return nic;
}
