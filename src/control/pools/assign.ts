/**
 * Assigning addresses of the pools to guests: to all of them when the daemon starts, to one that is added while it runs.
 *
 * Start    guests that have an address keep it, those of the configuration without one choose, in their order; guests that were added
 *          at run time follow one by one (guests.ts). What is quarantined stays so, in the plan too.
 * Result   a guest's settings with a lease of its address, which is then read like any other.
 */
import type { FloatingAddresses } from './floating.js';
import { departedOf } from './departed.js';
import type { GuestPlan } from '../lease-plan.js';
import type { LivePlan } from '../live-plan.js';
import type { AddressRecords, Store } from '../store.js';
import { type AddressWish, type Config, type GuestConfig, parseGuest, place } from '../../base/config.js';
import { BerthError, ConfigError } from '../../base/errors.js';
import { formatIpv4, parseIpv4 } from '../../wire/address.js';

interface AssignParts {
  config: Config;
  /** Guests of the configuration. */
  configs: readonly GuestConfig[];
  /** The first has every guest of the configuration until it gets an address of another's network. */
  uplinks: readonly { network: string; plan: LivePlan }[];
  floating: FloatingAddresses;
  store: Pick<Store, 'guests'> & AddressRecords;
}

/** The guest with the best address that it wishes, which is its own when it is taken; `take` gives how to undo that. Errors as AddressBook.choose. */
export function withAddress(guest: GuestConfig, floating: FloatingAddresses): { guest: GuestConfig; take: () => () => void } {
  const { pool } = guest;
  if (pool === null) return { guest, take: () => () => undefined };
  const choice = floating.choose(guest.name, pool);
  return { guest: { ...guest, lease: { address: formatIpv4(choice.address), tcp: null, udp: null } }, take: () => floating.take(guest.name, choice, pool) };
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
      if (wished.pool !== null) assign(guest.name, parseIpv4(guest.lease?.address ?? '') as number, uplinks[0].plan, planOf);
      return guest;
    } catch (error) {
      if (!(error instanceof BerthError)) throw error;
      throw new ConfigError(error.code, `${place(config, ['guests', wished.name, 'pool'])}: ${error.message}`, { cause: error });
    }
  });
  for (const { address } of waiting) {
    const record = floating.book.records.get(address);
    if (record?.state === 'quarantined') planOf(address).depart(departedOf(address, record));
  }
  return assigned;
}

/** Has the guest, which is in `plan`, lease the address whole in the plan of that address's network. */
function assign(name: string, address: number, plan: LivePlan, planOf: (address: number) => LivePlan): void {
  const guest = plan.find(name) as GuestPlan;
  const its = planOf(address);
  plan.remove(guest);
  if (its !== plan) plan.freeSlot(guest.index);
  its.add({ ...guest, index: its === plan ? guest.index : its.takeSlot(), whole: address, addresses: [address] });
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
