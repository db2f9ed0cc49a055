/**
 * Assigning addresses of the pools to guests: to all of them when the daemon starts, to one that is added while it runs.
 *
 * Start    guests that have an address keep it, those of the configuration without one choose, in their order; guests that were added
 *          at run time follow one by one (guests.ts). What is quarantined stays so, in the plan too.
 * Result   a guest's settings with a lease of its address, of the ports there that they name, or of those that it is given; read like any other.
 */
import type { AddressLease } from './address-book.js';
import type { FloatingAddresses } from './floating.js';
import { departedOf } from './departed.js';
import type { GuestPlan } from '../lease-plan.js';
import type { LivePlan } from '../live-plan.js';
import type { AddressRecords, Store } from '../store.js';
import { type AddressWish, type Config, type GuestConfig, parseGuest, place } from '../../base/config.js';
import { BerthError, ConfigError } from '../../base/errors.js';
import { formatIpv4 } from '../../wire/address.js';
import { PortSet } from '../../wire/port-set.js';

interface AssignParts {
  config: Config;
  /** Guests of the configuration. */
  configs: readonly GuestConfig[];
  /** The first has every guest of the configuration until it gets an address of another's network. */
  uplinks: readonly { network: string; plan: LivePlan }[];
  floating: FloatingAddresses;
  store: Pick<Store, 'guests'> & AddressRecords;
}

/** The guest with the best address that it wishes, or ports of it, which are its own when they are taken; `take` gives how to undo that. Errors as AddressBook.choose. */
export function withAddress(guest: GuestConfig, floating: FloatingAddresses): { guest: GuestConfig; take: () => () => void } {
  const { pool } = guest;
  if (pool === null) return { guest, take: () => () => undefined };
  const choice = floating.choose(guest.name, pool);
  const block = choice.block === null ? null : `${choice.block.first}-${choice.block.last}`;
  const lease = { tcp: block, udp: block, ...guest.lease, address: formatIpv4(choice.address) };
  return { guest: { ...guest, lease }, take: () => floating.take(guest.name, choice, pool) };
}

/** Gives the guests of the configuration their addresses, in the plan too, and returns them so. */
export async function assignAddresses({ config, configs, uplinks, floating, store }: AssignParts): Promise<GuestConfig[]> {
  const waiting = floating.restore(store, wishesOf(configs, store.guests()), uplinks[0].plan.pool.quarantineMs);
  const planOf = (address: number): LivePlan => (uplinks.find(({ network }) => network === floating.book.poolOf(address)?.network) ?? uplinks[0]).plan;
  await floating.watchLoads();
  const assigned = configs.map((wished) => {
    try {
      const { guest, take } = withAddress(wished, floating);
      take();
      if (wished.pool !== null) assign(guest.name, floating.book.leaseOf(guest.name) as AddressLease, uplinks[0].plan, planOf);
      return guest;
    } catch (error) {
      if (!(error instanceof BerthError)) throw error;
      throw new ConfigError(error.code, `${place(config, ['guests', wished.name, 'pool'])}: ${error.message}`, { cause: error });
    }
  });
  for (const { address, record } of waiting) {
    if (floating.book.recordsOf(address).includes(record)) planOf(address).depart(departedOf(address, record));
  }
  return assigned;
}

/** Has the guest, which is in `plan`, lease the address, or what it may of it, in the plan of that address's network. */
function assign(name: string, { address, record: { block } }: AddressLease, plan: LivePlan, planOf: (address: number) => LivePlan): void {
  const guest = plan.find(name) as GuestPlan;
  const ports = block === null ? null : PortSet.fromRanges([block]);
  const whole = ports === null && guest.tcp.isEmpty && guest.udp.isEmpty ? address : null;
  const given = ports === null ? {} : { tcp: ports, udp: ports, ...(guest.useAll ? { useTcp: ports, useUdp: ports } : {}) };
  const its = planOf(address);
  plan.remove(guest);
  if (its !== plan) plan.freeSlot(guest.index);
  its.add({ ...guest, index: its === plan ? guest.index : its.takeSlot(), whole, addresses: [address], ...given });
}

/** By guest. Settings that are wrong are told when they are used. */
function wishesOf(configs: readonly GuestConfig[], stored: ReadonlyMap<string, unknown>): Map<string, AddressWish> {
  const added = [...stored].flatMap(([name, setting]) => {
    try {
      return [parseGuest(name, setting)];
    } catch {
      return [];
    }
  });
  return new Map([...added, ...configs].flatMap(({ name, pool }): [string, AddressWish][] => (pool === null ? [] : [[name, pool]])));
}
