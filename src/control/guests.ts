/**
 * Guests: added and removed while the daemon runs, one operation at a time.
 *
 *     add      settings ─▶ checks as of a configuration ─▶ link, agent's channel ─▶ store ─▶ leases, host, table
 *     remove   store ─▶ leases quarantined (D3) ─▶ agent's channel ─▶ link, and the engine forgets the guest
 *
 * Refused      with one reason and nothing changed. What was done before a step that fails is undone.
 * Kept         a guest that was added is in the store, with its leases or not at all, and there again after a restart; one that no
 *              longer fits then is left out, with a warning, and stays in the store. A guest of the configuration that is removed
 *              returns at the next start.
 * Store        made when it is first needed, and so are lease book and control plane: a guest with an agent, one that is
 *              added or removed. A daemon with static leases alone runs without.
 *              Its folder is named by the NIC, and its MAC where the addresses are the NIC's own: they may change.
 * Departed     leases on an address of a guest's own are not in the lease book: departures.ts.
 */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { Control } from './control.js';
import { Departures, refuseQuarantined } from './departures.js';
import { GuestMaps } from './guest-maps.js';
import { refuseForeignMac, refuseHeld } from './guest-refusals.js';
import type { GuestUplink } from './guest-uplink.js';
import { claimAll } from './host-claims.js';
import { type GuestPlan, leasedOnShared } from './lease-plan.js';
import { NO_PORTS, type Ports, PROTOS } from './lease-state.js';
import { LeaseBook } from './leases.js';
import type { MapEntry } from './map-changes.js';
import type { Network } from './network.js';
import { assignAddresses, withAddress } from './pools/assign.js';
import type { FloatingAddresses } from './pools/floating.js';
import { resolveLeases } from './static-leases.js';
import { LmdbStore } from './store-lmdb.js';
import type { AddressRecords, Store } from './store.js';
import { type Config, type GuestConfig, parseGuest, requireForRun, withGuests } from '../base/config.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatIpv4, parseIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

export interface GuestsParts {
  config: Config;
  /** The first has the shared addresses, and every guest that has no address of a pool. */
  uplinks: readonly GuestUplink[];
  network: Network;
  floating: FloatingAddresses;
  log: Log;
}

export class Guests {
  /** null: nothing has needed it yet. */
  control: Control | null = null;
  private readonly parts: GuestsParts;
  private readonly first: GuestUplink;
  private readonly maps: GuestMaps;
  private isRunning = false;
  private store: (Store & AddressRecords) | null = null;
  /** As the plan's guests, in any order. */
  private configs: GuestConfig[];
  private readonly departures: Departures;
  private tail: Promise<unknown> = Promise.resolve();

  constructor(parts: GuestsParts) {
    this.parts = parts;
    [this.first] = parts.uplinks;
    this.departures = new Departures(parts.floating, parts.log);
    this.configs = [...parts.config.guests];
    this.maps = new GuestMaps({
      config: parts.config,
      at: this.first,
      log: parts.log,
      configs: () => this.configs,
      replace: (config) => {
        this.configs = this.configs.map((one) => (one.name === config.name ? config : one));
      },
      store: () => (this.store !== null || existsSync(this.folder) ? this.openStore() : null),
      control: () => this.control,
      startControl: () => this.startControl(),
    });
  }

  /** Adds the guests that an earlier daemon was given to the plan, which nobody has used yet, and gives all that want one their address. */
  async restore(): Promise<void> {
    const { config } = this.parts;
    const { plan, nic } = this.first;
    const before = join(config.store.path, `${nic.name}-${formatIpv4(plan.shared[0] ?? 0)}`);
    if (!existsSync(this.folder) && existsSync(before)) renameSync(before, this.folder); // the name of earlier versions
    this.maps.restore();
    if (!existsSync(this.folder) && plan.pools.length === 0) return;
    const store = this.openStore();
    const stored = store.guests();
    if (plan.pools.length > 0) this.configs = await assignAddresses({ ...this.parts, configs: this.configs, store });
    for (const one of this.configs) if (one.pool !== null) refuseForeignMac(this.find(one.name)?.guest as GuestPlan, this.uplinkOf(one).nic, config);
    const book = new LeaseBook({ pool: PortSet.EMPTY, reserve: 0, reservedByHost: NO_PORTS, quarantineMs: plan.pool.quarantineMs, restored: store.load() });
    for (const [name, setting] of stored) {
      try {
        const { guest, config, take, at } = this.resolve(name, setting);
        refuseHeld(guest, book);
        take();
        at.plan.add({ ...guest, index: at.plan.takeSlot() });
        this.configs.push(config);
      } catch (error) {
        this.leaveOut(name, error);
      }
    }
  }

  /** A guest that was restored cannot be had: the daemon goes on without it, unless the failure is not about it. */
  leaveOut(name: string, error: unknown): void {
    const { log } = this.parts;
    const found = this.find(name);
    if (!(error instanceof BerthError) || found?.guest.atRunTime === false) throw error;
    if (found !== undefined) {
      found.at.plan.remove(found.guest);
      found.at.plan.freeSlot(found.guest.index);
      this.configs = this.configs.filter((one) => one.name !== name);
    }
    log.warn({ guest: name }, `guest ${name}, which was added while the daemon ran, is left out: ${messageOf(error)}; \`berth guest rm ${name}\` forgets it`);
  }

  /** The engine runs: guests can be added, and those with an agent be spoken to. */
  async start(): Promise<void> {
    this.isRunning = true;
    const { uplinks } = this.parts;
    for (const at of uplinks) {
      this.departures.takeUp(at);
      if (at !== this.first) await at.host.setGranted(NO_PORTS);
    }
    if (this.store !== null || this.first.plan.guests.some(({ agent }) => agent !== null)) await this.startControl();
    else await this.first.host.setGranted(NO_PORTS);
  }

  /** Adds a guest with settings as of a configuration, and keeps it in the store. */
  add(name: string, setting: object): Promise<GuestPlan> {
    return this.inTurn(async () => {
      const { guest: resolved, config, take, at } = this.resolve(name, setting);
      refuseQuarantined(resolved, at);
      at.publisher.refuseUnfit(resolved);
      const { plane, server } = await this.startControl();
      const guest = { ...resolved, index: at.plan.takeSlot() };
      const giveBack = take();
      try {
        await at.links.add(guest);
        await server.add(guest);
        await plane.addGuest(guest, setting, async () => {
          this.departures.takeOver(guest, at);
          at.plan.add(guest);
          await at.host.followPlan();
          at.publisher.addGuest(guest);
        });
      } catch (error) {
        if (this.find(name) !== undefined) {
          await this.end(guest, at);
        } else {
          await this.letGo(guest, at);
          giveBack();
        }
        throw error;
      }
      this.configs.push(config);
      this.parts.log.info({ guest: name }, `guest ${name} added`);
      return guest;
    });
  }

  /** Removes a guest; null for one that only the store knows. ERR_UNKNOWN_GUEST where there is none. */
  remove(name: string): Promise<GuestPlan | null> {
    return this.inTurn(async () => {
      const found = this.find(name);
      const isStored = this.store?.guests().has(name) === true;
      if (found === undefined && !isStored) throw new BerthError('ERR_UNKNOWN_GUEST', `there is no guest ${name}; \`berth guest ls\` shows the guests there are`);
      await this.startControl();
      if (found === undefined) {
        await this.openStore().commit([{ type: 'guest', guest: name, setting: null }]);
        return null;
      }
      await this.end(found.guest, found.at);
      this.configs = this.configs.filter((one) => one.name !== name);
      this.parts.log.info({ guest: name }, `guest ${name} removed`);
      return found.guest;
    });
  }

  /** Maps one more entry for a mapped guest; the others do not notice. */
  map(name: string, entry: MapEntry): Promise<void> {
    return this.inTurn(() => this.maps.add(name, entry));
  }

  /** Maps these outside ports no more; true if some are of the configuration, and so return with the next start. */
  unmap(name: string, ports: Ports): Promise<boolean> {
    return this.inTurn(() => this.maps.remove(name, ports));
  }

  /** The host's shared addresses are these now: all leases on them follow. Where that fails nothing has changed. */
  follow(shared: readonly number[]): Promise<void> {
    return this.inTurn(async () => {
      const { log } = this.parts;
      const { plan, host, publisher } = this.first;
      const added = shared.filter((address) => !plan.shared.includes(address));
      const gone = plan.shared.filter((address) => !shared.includes(address));
      const move = (lost: Ports): void => {
        for (const proto of PROTOS) if (!lost[proto].isEmpty) log.warn(`${proto} ${lost[proto].format()} is used by the host itself at its new address; no guest has it any more`);
        plan.share(shared, lost);
        publisher.followAddresses(gone, added);
      };
      plan.expect(added);
      try {
        if (this.control !== null) await this.control.plane.followAddresses(added, move);
        else {
          const lost = claimAll(host, added, leasedOnShared(plan));
          await host.followPlan();
          move(lost);
        }
      } catch (error) {
        if (plan.coming === added) for (const address of added) host.leaveAddress(address);
        plan.expect([]);
        throw error;
      }
      for (const address of gone) host.leaveAddress(address);
      await host.followPlan(); // hears again where nothing is shared any more
    });
  }

  async close(): Promise<void> {
    await this.tail;
    this.departures.close();
    await this.control?.close();
    await this.store?.close();
  }

  private get folder(): string {
    const { config } = this.parts;
    const { nic } = this.first;
    return join(config.store.path, `${nic.name}-${config.addresses?.[0] ?? nic.mac.replaceAll(':', '')}`);
  }

  private openStore(): Store & AddressRecords {
    return (this.store ??= new LmdbStore(this.folder));
  }

  private async startControl(): Promise<Control> {
    if (this.control !== null || !this.isRunning) return this.control as Control;
    const { network, log } = this.parts;
    const { plan, host, publisher } = this.first;
    return (this.control = await Control.start({ plan, host, publisher, log, facts: () => network.facts, store: this.openStore() }));
  }

  /** The guest with its uplink. */
  private find(name: string): { guest: GuestPlan; at: GuestUplink } | undefined {
    for (const at of this.parts.uplinks) {
      const guest = at.plan.find(name);
      if (guest !== undefined) return { guest, at };
    }
    return undefined;
  }

  /** That of the network of the guest's address. */
  private uplinkOf({ pool, lease }: GuestConfig): GuestUplink {
    const network = pool === null ? undefined : this.parts.floating.book.poolOf(parseIpv4(lease?.address ?? '') ?? 0)?.network;
    return this.parts.uplinks.find((one) => one.network === network) ?? this.first;
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.tail.then(action);
    this.tail = turn.catch(() => undefined);
    return turn;
  }

  /** Checks the guest against all that there are. Its slot is not taken yet; `take` has it take the address that was chosen, and gives how to undo that. */
  private resolve(name: string, setting: unknown): { guest: GuestPlan; config: GuestConfig; take: () => () => void; at: GuestUplink } {
    const { config, floating } = this.parts;
    const wished = parseGuest(name, setting);
    if (this.find(name) !== undefined) throw new BerthError('ERR_GUEST_EXISTS', `there is a guest ${name} already; remove it first, or choose another name`);
    const { guest, take } = withAddress(wished, floating);
    const together = withGuests(config, [...this.configs, guest], this.first.plan.shared.map(formatIpv4));
    requireForRun(together);
    const resolved = this.maps.withBlock({ ...resolveLeases(together).guests[this.configs.length], atRunTime: true });
    const at = this.uplinkOf(guest);
    refuseForeignMac(resolved, at.nic, together);
    return { guest: resolved, config: guest, take, at };
  }

  private async end(guest: GuestPlan, at: GuestUplink): Promise<void> {
    const { plane } = await this.startControl();
    await plane.removeGuest(guest.name, () => {
      at.plan.remove(guest);
      if (!guest.onShared && guest.addresses.length > 0) this.departures.depart(guest, at);
      at.publisher.removeGuest(guest);
    });
    if (at !== this.first) await at.host.followPlan();
    await this.letGo(guest, at);
  }

  /** Gives back the link and the slot of a guest that is in nobody's plan. */
  private async letGo(guest: GuestPlan, { links, plan }: GuestUplink): Promise<void> {
    this.control?.server.remove(guest.name);
    await links.remove(guest);
    plan.freeSlot(guest.index);
  }
}
