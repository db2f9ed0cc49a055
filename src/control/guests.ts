/**
 * Guests: added and removed while the daemon runs, one operation at a time.
 *
 *     add      settings ─▶ checks as of a configuration ─▶ link ─▶ store ─▶ leases, host, table ─▶ agent's channel
 *     remove   agent's channel ─▶ store ─▶ leases quarantined (D3) ─▶ link, and the engine forgets the guest
 *
 * Refused      with one reason and nothing changed. What was done before a step that fails is undone.
 * Kept         a guest that was added is in the store and there again after a restart; one that no longer fits then is left
 *              out, with a warning, and stays in the store. A guest of the configuration that is removed returns at the
 *              next start.
 * Store        made when it is first needed, and so are lease book and control plane: a guest with an agent, one that is
 *              added or removed. A daemon with static leases alone runs without.
 *              Its folder is named by the NIC, and its MAC where the addresses are the NIC's own: they may change.
 * Departed     leases on an address of a guest's own are not in the lease book: they are quarantined here, in the table and
 *              on the host, as long as the daemon runs.
 */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { Control } from './control.js';
import type { GuestLinks } from './guest-links.js';
import { GuestMaps } from './guest-maps.js';
import { claimAll } from './host-claims.js';
import type { HostStack } from './host-stack.js';
import { type Departed, type GuestPlan, leasedOnShared } from './lease-plan.js';
import { NO_PORTS, type Ports, PROTOS } from './lease-state.js';
import type { LivePlan } from './live-plan.js';
import type { MapEntry } from './map-changes.js';
import type { Network } from './network.js';
import type { Publisher } from './publisher.js';
import { resolveLeases } from './static-leases.js';
import { LmdbStore } from './store-lmdb.js';
import { type Config, type GuestConfig, parseGuest, place, requireForRun, withGuests } from '../base/config.js';
import { BerthError, ConfigError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Interface } from '../io/interfaces.js';
import { formatIpv4, formatMac } from '../wire/address.js';

export interface GuestsParts {
  config: Config;
  plan: LivePlan;
  nic: Interface;
  host: HostStack;
  network: Network;
  log: Log;
}

/** What there is once the engine runs. */
export interface Planes {
  publisher: Publisher;
  links: GuestLinks;
}

export class Guests {
  /** null: nothing has needed it yet. */
  control: Control | null = null;
  private readonly parts: GuestsParts;
  private readonly maps: GuestMaps;
  private planes: Planes | null = null;
  private store: LmdbStore | null = null;
  /** As the plan's guests, in any order. */
  private configs: GuestConfig[];
  /** Of the plan's departed guests: the ends of their quarantines. */
  private readonly timers = new Map<Departed, NodeJS.Timeout>();
  private tail: Promise<unknown> = Promise.resolve();

  constructor(parts: GuestsParts) {
    this.parts = parts;
    this.configs = [...parts.config.guests];
    this.maps = new GuestMaps({
      ...parts,
      configs: () => this.configs,
      replace: (config) => {
        this.configs = this.configs.map((one) => (one.name === config.name ? config : one));
      },
      store: () => (this.store !== null || existsSync(this.folder) ? this.openStore() : null),
      control: () => this.control,
      startControl: () => this.startControl(),
    });
  }

  /** Adds the guests that an earlier daemon was given to the plan, which nobody has used yet. */
  restore(): void {
    const { plan, nic, config } = this.parts;
    const before = join(config.store.path, `${nic.name}-${formatIpv4(plan.shared[0] ?? 0)}`);
    if (!existsSync(this.folder) && existsSync(before)) renameSync(before, this.folder); // the name of earlier versions
    for (const guest of plan.guests) if (guest.mapped !== null) plan.replace(guest, this.maps.withBlock(guest));
    if (!existsSync(this.folder)) return;
    this.maps.restore();
    for (const [name, setting] of this.openStore().guests()) {
      try {
        const { guest, config } = this.resolve(name, setting);
        plan.add({ ...this.maps.withBlock(guest), index: plan.takeSlot() });
        this.configs.push(config);
      } catch (error) {
        this.leaveOut(name, error);
      }
    }
  }

  /** A guest that was restored cannot be had: the daemon goes on without it, unless the failure is not about it. */
  leaveOut(name: string, error: unknown): void {
    const { plan, log } = this.parts;
    const guest = plan.find(name);
    if (!(error instanceof BerthError) || guest?.atRunTime === false) throw error;
    if (guest !== undefined) {
      plan.remove(guest);
      plan.freeSlot(guest.index);
      this.configs = this.configs.filter((one) => one.name !== name);
    }
    log.warn({ guest: name }, `guest ${name}, which was added while the daemon ran, is left out: ${messageOf(error)}; \`berth guest rm ${name}\` forgets it`);
  }

  /** The engine runs: guests can be added, and those with an agent be spoken to. */
  async start(planes: Planes): Promise<void> {
    this.planes = planes;
    if (this.store !== null || this.parts.plan.guests.some(({ agent }) => agent !== null)) await this.startControl();
    else await this.parts.host.setGranted(NO_PORTS);
  }

  /** Adds a guest with settings as of a configuration, and keeps it in the store. */
  add(name: string, setting: object): Promise<GuestPlan> {
    return this.inTurn(async (planes) => {
      const { plan, log } = this.parts;
      const { guest: asked, config } = this.resolve(name, setting);
      const resolved = this.maps.withBlock(asked);
      this.refuseQuarantined(resolved);
      planes.publisher.refuseUnfit(resolved);
      const { plane, server } = await this.startControl();
      const store = this.openStore();
      const guest = { ...resolved, index: plan.takeSlot() };
      try {
        await planes.links.add(guest);
        await server.add(guest);
        await plane.addGuest(guest, async () => {
          this.takeOver(guest, planes);
          plan.add(guest);
          await this.parts.host.followPlan();
          planes.publisher.addGuest(guest);
        });
        store.putGuest(name, setting);
      } catch (error) {
        if (plan.find(name) !== undefined) await this.end(guest, planes);
        else await this.letGo(guest, planes);
        throw error;
      }
      this.configs.push(config);
      log.info({ guest: name }, `guest ${name} added`);
      return guest;
    });
  }

  /** Removes a guest; null for one that only the store knows. ERR_UNKNOWN_GUEST where there is none. */
  remove(name: string): Promise<GuestPlan | null> {
    return this.inTurn(async (planes) => {
      const guest = this.parts.plan.find(name);
      const isStored = this.store?.guests().has(name) === true;
      if (guest === undefined && !isStored) throw new BerthError('ERR_UNKNOWN_GUEST', `there is no guest ${name}; \`berth guest ls\` shows the guests there are`);
      await this.startControl();
      if (isStored) this.openStore().removeGuest(name);
      if (guest === undefined) return null;
      await this.end(guest, planes);
      this.configs = this.configs.filter((one) => one.name !== name);
      this.parts.log.info({ guest: name }, `guest ${name} removed`);
      return guest;
    });
  }

  /** Maps one more entry for a mapped guest; the others do not notice. */
  map(name: string, entry: MapEntry): Promise<void> {
    return this.inTurn((planes) => this.maps.add(name, entry, planes.publisher));
  }

  /** Maps these outside ports no more; true if some are of the configuration, and so return with the next start. */
  unmap(name: string, ports: Ports): Promise<boolean> {
    return this.inTurn((planes) => this.maps.remove(name, ports, planes.publisher));
  }

  /** The host's shared addresses are these now: all leases on them follow. */
  follow(shared: readonly number[]): Promise<void> {
    return this.inTurn(async ({ publisher }) => {
      const { plan, host, log } = this.parts;
      const added = shared.filter((address) => !plan.shared.includes(address));
      const gone = plan.shared.filter((address) => !shared.includes(address));
      const move = async (lost: Ports): Promise<void> => {
        for (const proto of PROTOS) if (!lost[proto].isEmpty) log.warn(`${proto} ${lost[proto].format()} is used by the host itself at its new address; no guest has it any more`);
        plan.share(shared, lost);
        await host.followPlan();
        publisher.followAddresses(gone, added);
        for (const address of gone) host.leaveAddress(address);
      };
      if (this.control !== null) await this.control.plane.followAddresses(added, move);
      else await move(claimAll(host, added, leasedOnShared(plan)));
    });
  }

  async close(): Promise<void> {
    await this.tail;
    for (const timer of this.timers.values()) clearTimeout(timer);
    await this.control?.close();
    await this.store?.close();
  }

  private get folder(): string {
    const { config, nic } = this.parts;
    return join(config.store.path, `${nic.name}-${config.addresses?.[0] ?? nic.mac.replaceAll(':', '')}`);
  }

  private openStore(): LmdbStore {
    return (this.store ??= new LmdbStore(this.folder));
  }

  private async startControl(): Promise<Control> {
    const { planes, parts } = this;
    if (this.control !== null || planes === null) return this.control as Control;
    return (this.control = await Control.start({ ...parts, facts: () => parts.network.facts, publisher: planes.publisher, store: this.openStore() }));
  }

  private inTurn<T>(action: (planes: Planes) => Promise<T>): Promise<T> {
    const turn = this.tail.then(() => action(this.planes as Planes));
    this.tail = turn.catch(() => undefined);
    return turn;
  }

  /** Checks the guest against all that there are. Its slot is not taken yet. */
  private resolve(name: string, setting: unknown): { guest: GuestPlan; config: GuestConfig } {
    const { config, plan, nic } = this.parts;
    const guest = parseGuest(name, setting);
    if (plan.find(name) !== undefined) throw new BerthError('ERR_GUEST_EXISTS', `there is a guest ${name} already; remove it first, or choose another name`);
    const together = withGuests(config, [...this.configs, guest], plan.shared.map(formatIpv4));
    requireForRun(together);
    const resolved = { ...resolveLeases(together).guests[this.configs.length], atRunTime: true };
    refuseForeignMac(resolved, nic, together);
    return { guest: resolved, config: guest };
  }

  private async end(guest: GuestPlan, planes: Planes): Promise<void> {
    const control = await this.startControl();
    control.server.remove(guest.name);
    await control.plane.removeGuest(guest.name, () => {
      this.parts.plan.remove(guest);
      if (!guest.onShared && guest.addresses.length > 0) this.depart(guest, planes.publisher);
      planes.publisher.removeGuest(guest);
    });
    await this.letGo(guest, planes);
  }

  /** Gives back the link and the slot of a guest that is in nobody's plan. */
  private async letGo(guest: GuestPlan, { links }: Planes): Promise<void> {
    this.control?.server.remove(guest.name);
    await links.remove(guest);
    this.parts.plan.freeSlot(guest.index);
  }

  private depart(guest: GuestPlan, publisher: Publisher): void {
    const since = Date.now();
    publisher.endLeases(guest, 'quarantine');
    this.keep({ ...guest, since, until: since + this.parts.plan.pool.quarantineMs }, publisher);
  }

  private keep(departed: Departed, publisher: Publisher): void {
    this.parts.plan.depart(departed);
    this.timers.set(departed, setTimeout(() => this.forget(departed, publisher), Math.max(0, departed.until - Date.now())));
  }

  private forget(departed: Departed, publisher: Publisher): void {
    const { host, log } = this.parts;
    this.drop(departed);
    publisher.endLeases(departed, 'release');
    host.unreserveGuest(departed);
    host.followPlan().catch((error: unknown) => log.error(messageOf(error)));
  }

  private drop(departed: Departed): void {
    clearTimeout(this.timers.get(departed));
    this.timers.delete(departed);
    this.parts.plan.forget(departed);
  }

  private refuseQuarantined(guest: GuestPlan): void {
    const found = this.parts.plan.departed.find((one) => one.name !== guest.name && overlap(one, guest));
    if (found === undefined) return;
    const until = new Date(found.until).toISOString();
    throw new BerthError('ERR_PORT_TAKEN', `guest ${guest.name}: what it leases on ${formatIpv4(found.addresses[0])} is quarantined after guest ${found.name} until ${until}; ask again then`);
  }

  /** D3: the same guest may have at once what is quarantined after it; the rest of that stays so. */
  private takeOver(guest: GuestPlan, { publisher }: Planes): void {
    for (const before of this.parts.plan.departed.filter((one) => one.name === guest.name && overlap(one, guest))) {
      if (guest.whole !== null) {
        this.forget(before, publisher);
        continue;
      }
      const [tcp, udp] = [guest.tcp.union(guest.useTcp), guest.udp.union(guest.useUdp)];
      this.drop(before);
      this.keep({ ...before, tcp: before.tcp.subtract(tcp), udp: before.udp.subtract(udp), useTcp: before.useTcp.subtract(tcp), useUdp: before.useUdp.subtract(udp) }, publisher);
    }
  }
}

/** Throws for a guest whose stated MAC is not the NIC's, unless it is mapped: then nobody outside sees it. */
export function refuseForeignMac(guest: GuestPlan, nic: Interface, config: Config): void {
  if (guest.mac === null || guest.mapped !== null || formatMac(guest.mac) === nic.mac) return;
  throw new ConfigError(
    'ERR_GUEST_MAC',
    `${place(config, ['guests', guest.name, 'link', 'mac'])}: guest ${guest.name} has MAC ${formatMac(guest.mac)}, NIC ${nic.name} has ${nic.mac}; a guest that shares the address must have the NIC's MAC`,
  );
}

function overlap(a: GuestPlan, b: GuestPlan): boolean {
  if (!a.addresses.some((address) => b.addresses.includes(address))) return false;
  return a.whole !== null || b.whole !== null || a.tcp.overlaps(b.tcp) || a.udp.overlaps(b.udp);
}
