/**
 * Maps and blocks of mapped guests in a daemon that runs: chosen at the start, changed later, kept in the store.
 *
 *     change     entries ─▶ checks as of a configuration ─▶ lease book and host ─▶ plan, table and engine ─▶ store
 *
 * Kept         of a guest that was added while the daemon ran, with its settings; of one of the configuration, what is mapped besides
 *              what the configuration says.
 * Turns        the caller's: one operation at a time (guests.ts).
 */
import type { Control } from './control.js';
import type { HostStack } from './host-stack.js';
import { hostPorts } from './host-sockets.js';
import type { GuestPlan, MappedPlan } from './lease-plan.js';
import { NO_PORTS, type Ports, PROTOS } from './lease-state.js';
import type { LivePlan } from './live-plan.js';
import { withBlock, withPorts } from './map-blocks.js';
import { entriesOf, type MapEntry, mapsWithout, outsidePorts, settingsOf } from './map-changes.js';
import { describeMaps } from './map-plan.js';
import { poolPorts } from './pool.js';
import type { Publisher } from './publisher.js';
import { resolveLeases } from './static-leases.js';
import type { LmdbStore } from './store-lmdb.js';
import { type Config, type GuestConfig, type MapConfig, parseGuest, withGuests } from '../base/config.js';
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

export interface GuestMapsParts {
  config: Config;
  plan: LivePlan;
  host: HostStack;
  log: Log;
  /** Settings of all guests there are. */
  configs: () => readonly GuestConfig[];
  /** Other settings for the guest of that name. */
  replace: (config: GuestConfig) => void;
  /** null: there is none, and nothing in it. */
  store: () => LmdbStore | null;
  /** null: nothing has needed it yet. */
  control: () => Control | null;
  startControl: () => Promise<Control>;
}

type MappedGuest = GuestPlan & { mapped: MappedPlan };

export class GuestMaps {
  private readonly parts: GuestMapsParts;

  constructor(parts: GuestMapsParts) {
    this.parts = parts;
  }

  /** A mapped guest with the block for its own flows, which neither another guest nor the host has; any other as it is. */
  withBlock(guest: GuestPlan): GuestPlan {
    if (guest.mapped === null || guest.mapped.blockSize === 0) return guest;
    const { plan, control, store } = this.parts;
    const others = [...plan.guests.filter(({ name }) => name !== guest.name), ...plan.departed];
    const book = control()?.plane.book.snapshot() ?? store()?.load();
    const held = PROTOS.flatMap((proto) => (book?.[proto] ?? []).filter((run) => run.guest !== guest.name));
    const taken = others.reduce((all, { tcp, udp }) => all.union(tcp).union(udp), PortSet.fromRanges(held).union(hostPorts()));
    return withBlock(guest, poolPorts(plan.pool), taken);
  }

  /** Maps that were added to guests of the configuration; those that no longer fit are left out, with a warning. */
  restore(): void {
    const { plan, log, configs, store, replace } = this.parts;
    for (const [name, stored] of store()?.maps() ?? []) {
      try {
        const guest = this.find(name);
        const inside = configs().find((one) => one.name === name)?.map?.inside;
        const more = parseGuest(name, { mode: 'map', inside, map: stored }).map?.entries ?? [];
        const { next, config } = this.remapped(guest, [...entriesOf(guest.mapped), ...more]);
        plan.replace(guest, next);
        replace(config);
      } catch (error) {
        if (!(error instanceof BerthError)) throw error;
        log.warn({ guest: name }, `what was mapped to guest ${name} while the daemon ran is left out: ${error.message}`);
      }
    }
  }

  async add(name: string, entry: MapEntry, publisher: Publisher): Promise<void> {
    const guest = this.find(name);
    await this.change(guest, [...entriesOf(guest.mapped), entry], publisher);
  }

  /** True if some of the ports are of the configuration. ERR_NOT_LEASED, with nothing changed, where one is not mapped. */
  async remove(name: string, ports: Ports, publisher: Publisher): Promise<boolean> {
    const guest = this.find(name);
    for (const proto of PROTOS) {
      const missing = ports[proto].subtract(outsidePorts(guest.mapped)[proto]);
      if (!missing.isEmpty) throw new BerthError('ERR_NOT_LEASED', `${proto} ${missing.format()} is not mapped to guest ${name}; \`berth map ls ${name}\` shows what is`);
    }
    await this.change(guest, entriesOf(mapsWithout(guest.mapped, ports)), publisher);
    const configured = this.configured(name);
    return PROTOS.some((proto) => configured[proto].overlaps(ports[proto]));
  }

  private find(name: string): MappedGuest {
    const guest = this.parts.plan.find(name);
    if (guest === undefined) throw new BerthError('ERR_UNKNOWN_GUEST', `there is no guest ${name}; \`berth guest ls\` shows the guests there are`);
    if (!isMapped(guest)) throw new BerthError('ERR_NOT_MAPPED', `guest ${name} shares the host's address, and nothing is mapped to it; remove it and add it with --map inside=ADDRESS`);
    return guest;
  }

  private async change(guest: MappedGuest, entries: readonly MapEntry[], publisher: Publisher): Promise<void> {
    const { plan, host, log, replace, startControl, store } = this.parts;
    const { name } = guest;
    const { next, config } = this.remapped(guest, entries);
    const { plane } = await startControl();
    await plane.changeGuest(next, async () => {
      plan.replace(guest, next);
      await host.followPlan();
      publisher.addGuest(next);
    });
    replace(config);
    const records = store();
    if (next.atRunTime) records?.putGuest(name, { ...(records.guests().get(name) as object), map: settingsOf(entriesOf(next.mapped)) });
    else records?.putMaps(name, settingsOf(entriesOf(mapsWithout(next.mapped, this.configured(name)))));
    log.info({ guest: name }, `guest ${name} is mapped: ${describeMaps(next.mapped).join(', ') || 'nothing'}`);
  }

  /** The guest with these entries, checked as those of a configuration are, and against every block. */
  private remapped(guest: MappedGuest, entries: readonly MapEntry[]): { next: MappedGuest; config: GuestConfig } {
    const { plan, configs } = this.parts;
    const at = configs().findIndex((one) => one.name === guest.name);
    const before = configs()[at];
    const changed = { ...before, map: { ...(before.map as MapConfig), entries } };
    const resolved = this.resolve(configs().with(at, changed), at) as MappedPlan;
    const mapped = { ...resolved, block: guest.mapped.block };
    for (const other of plan.guests.filter(isMapped)) this.refuseBlock(guest.name, outsidePorts(mapped), other);
    return { next: { ...withPorts({ ...guest, mapped }), mapped }, config: changed };
  }

  private refuseBlock(name: string, outside: Ports, other: MappedGuest): void {
    const { block } = other.mapped;
    const ports = PortSet.fromRanges(block === null ? [] : [block]);
    for (const proto of PROTOS) {
      const taken = outside[proto].intersect(ports);
      if (!taken.isEmpty) throw new BerthError('ERR_PORT_TAKEN', `guest ${name}: ${proto} ${taken.format()} is leased to guest ${other.name} for what it begins itself; map another port`);
    }
  }

  /** Outside ports that the configuration maps to the guest. */
  private configured(name: string): Ports {
    const { guests } = this.parts.config;
    const at = guests.findIndex((one) => one.name === name);
    const mapped = at < 0 ? null : this.resolve(guests, at);
    return mapped === null ? NO_PORTS : outsidePorts(mapped);
  }

  private resolve(guests: readonly GuestConfig[], at: number): MappedPlan | null {
    const { config, plan } = this.parts;
    return resolveLeases(withGuests(config, guests, plan.shared.map(formatIpv4))).guests[at].mapped;
  }
}

function isMapped(guest: GuestPlan): guest is MappedGuest {
  return guest.mapped !== null;
}
