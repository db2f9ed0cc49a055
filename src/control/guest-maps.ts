/**
 * Maps and blocks of mapped guests in a daemon that runs: chosen at the start, changed later, kept in the store.
 *
 *     change     entries ─▶ checks as of a configuration ─▶ lease book, host, store ─▶ plan, table and engine
 *
 * Kept         of a guest that was added while the daemon ran, with its settings; of one of the configuration, what is mapped besides
 *              what the configuration says.
 * Failed       a change that cannot be made true, once it is in the store, is taken back.
 * Turns        the caller's: one operation at a time (guests.ts).
 */
import type { Control } from './control.js';
import type { GuestUplink } from './guest-uplink.js';
import { hostPorts } from './host-sockets.js';
import type { GuestPlan, MappedPlan } from './lease-plan.js';
import { NO_PORTS, type Ports, PROTOS } from './lease-state.js';
import { withBlock, withPorts } from './map-blocks.js';
import { entriesOf, type MapEntry, mapsWithout, outsidePorts, settingsOf } from './map-changes.js';
import { describeMaps } from './map-plan.js';
import { poolPorts } from './pool.js';
import { resolveLeases } from './static-leases.js';
import type { SettingRecord, Store } from './store.js';
import { type Config, type GuestConfig, type MapConfig, parseGuest, withGuests } from '../base/config.js';
import { BerthError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatIpv4 } from '../wire/address.js';
import { PortSet } from '../wire/port-set.js';

export interface GuestMapsParts {
  config: Config;
  /** The first uplink, which has the shared addresses. */
  at: GuestUplink;
  log: Log;
  /** Settings of all guests there are. */
  configs: () => readonly GuestConfig[];
  /** Other settings for the guest of that name. */
  replace: (config: GuestConfig) => void;
  /** null: there is none, and nothing in it. */
  store: () => Store | null;
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
    const { at, control, store } = this.parts;
    const others = [...at.plan.guests.filter(({ name }) => name !== guest.name), ...at.plan.departed];
    const book = control()?.plane.book.snapshot() ?? store()?.load();
    const held = PROTOS.flatMap((proto) => (book?.[proto] ?? []).filter((run) => run.guest !== guest.name));
    const taken = others.reduce((all, { tcp, udp }) => all.union(tcp).union(udp), PortSet.fromRanges(held).union(hostPorts()));
    return withBlock(guest, poolPorts(at.plan.pool), taken);
  }

  /**
   * Takes up what was mapped to guests of the configuration before; what no longer fits is left out, with a warning. Then each of them
   * gets its block. ERR_POOL_EMPTY where there is none for one.
   */
  restore(): void {
    const { at, log, configs, replace, store } = this.parts;
    for (const [name, stored] of store()?.maps() ?? []) {
      try {
        const guest = this.find(name);
        const inside = configs().find((one) => one.name === name)?.map?.inside;
        const more = parseGuest(name, { mode: 'map', inside, map: stored }).map?.entries ?? [];
        const { next, config } = this.remapped(guest, [...entriesOf(guest.mapped), ...more]);
        at.plan.replace(guest, next);
        replace(config);
      } catch (error) {
        if (!(error instanceof BerthError)) throw error;
        log.warn({ guest: name }, `what was mapped to guest ${name} while the daemon ran is left out: ${error.message}`);
      }
    }
    for (const guest of at.plan.guests.filter(isMapped)) at.plan.replace(guest, this.withBlock(guest));
  }

  async add(name: string, entry: MapEntry): Promise<void> {
    const guest = this.find(name);
    await this.change(guest, [...entriesOf(guest.mapped), entry]);
  }

  /** True if some of the ports are of the configuration. ERR_NOT_LEASED, with nothing changed, where one is not mapped. */
  async remove(name: string, ports: Ports): Promise<boolean> {
    const guest = this.find(name);
    for (const proto of PROTOS) {
      const missing = ports[proto].subtract(outsidePorts(guest.mapped)[proto]);
      if (!missing.isEmpty) throw new BerthError('ERR_NOT_LEASED', `${proto} ${missing.format()} is not mapped to guest ${name}; \`berth map ls ${name}\` shows what is`);
    }
    await this.change(guest, entriesOf(mapsWithout(guest.mapped, ports)));
    const configured = this.configured(guest);
    return PROTOS.some((proto) => configured[proto].overlaps(ports[proto]));
  }

  private find(name: string): MappedGuest {
    const guest = this.parts.at.plan.find(name);
    if (guest === undefined) throw new BerthError('ERR_UNKNOWN_GUEST', `there is no mapped guest ${name}; \`berth map ls\` shows those there are`);
    if (!isMapped(guest)) throw new BerthError('ERR_NOT_MAPPED', `guest ${name} shares the host's address, and nothing is mapped to it; remove it and add it with --map inside=ADDRESS`);
    return guest;
  }

  private async change(guest: MappedGuest, entries: readonly MapEntry[]): Promise<void> {
    const { at, log, replace, startControl } = this.parts;
    const { name } = guest;
    const { next, config } = this.remapped(guest, entries);
    const { plane } = await startControl();
    const join = (from: MappedGuest, to: MappedGuest) => async () => {
      at.plan.replace(from, to);
      await at.host.followPlan();
      at.publisher.addGuest(to);
    };
    try {
      await plane.changeGuest(next, this.recordOf(next), join(guest, next));
    } catch (error) {
      if (at.plan.find(name) === next) await plane.changeGuest(guest, this.recordOf(guest), join(next, guest)).catch(() => undefined); // the failure before is the one to tell
      throw error;
    }
    replace(config);
    log.info({ guest: name }, `guest ${name} is mapped: ${describeMaps(next.mapped).join(', ') || 'nothing'}`);
  }

  private recordOf(guest: MappedGuest): SettingRecord {
    const { name, mapped, atRunTime } = guest;
    if (!atRunTime) return { type: 'maps', guest: name, maps: settingsOf(entriesOf(mapsWithout(mapped, this.configured(guest)))) };
    return { type: 'guest', guest: name, setting: { ...(this.parts.store()?.guests().get(name) as object), map: settingsOf(entriesOf(mapped)) } };
  }

  /** The guest with these entries, checked as those of a configuration are, and against every block. */
  private remapped(guest: MappedGuest, entries: readonly MapEntry[]): { next: MappedGuest; config: GuestConfig } {
    const { at, configs } = this.parts;
    const index = configs().findIndex((one) => one.name === guest.name);
    const before = configs()[index];
    const changed = { ...before, map: { ...(before.map as MapConfig), entries } };
    const resolved = this.resolve(configs().with(index, changed), index) as MappedPlan;
    const mapped = { ...resolved, block: guest.mapped.block };
    for (const other of at.plan.guests.filter(isMapped)) refuseBlock(guest.name, outsidePorts(mapped), other);
    return { next: { ...withPorts({ ...guest, mapped }), mapped }, config: changed };
  }

  /** Outside ports that the configuration maps to the guest; none to one that was added while the daemon ran. */
  private configured({ name, atRunTime }: MappedGuest): Ports {
    const { guests } = this.parts.config;
    const index = guests.findIndex((one) => one.name === name);
    const mapped = atRunTime || index < 0 ? null : this.resolve(guests, index);
    return mapped === null ? NO_PORTS : outsidePorts(mapped);
  }

  private resolve(guests: readonly GuestConfig[], index: number): MappedPlan | null {
    const { config, at } = this.parts;
    return resolveLeases(withGuests(config, guests, at.plan.shared.map(formatIpv4))).guests[index].mapped;
  }
}

/** ERR_PORT_TAKEN where one of the outside ports is of the block of `other`. */
function refuseBlock(name: string, outside: Ports, other: MappedGuest): void {
  const { block } = other.mapped;
  const ports = PortSet.fromRanges(block === null ? [] : [block]);
  for (const proto of PROTOS) {
    const taken = outside[proto].intersect(ports);
    if (!taken.isEmpty) throw new BerthError('ERR_PORT_TAKEN', `guest ${name}: ${proto} ${taken.format()} is leased to guest ${other.name} for what it begins itself; map another port`);
  }
}

function isMapped(guest: GuestPlan): guest is MappedGuest {
  return guest.mapped !== null;
}
