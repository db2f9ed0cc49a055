/**
 * Live plan: the lease plan of a daemon that runs. What the configuration says is where it begins; guests are added and
 * removed later, and everybody who holds the plan sees it.
 *
 * Slots        a guest's index is its link's for as long as it is there. A slot is free again only when the engine has
 *              forgotten all of the guest before (`freeSlot`); the one that has been free longest is taken first.
 * Capacity     the engine and its counters are made for so many links at the start.
 */
import { type Departed, type GuestPlan, type LeasePlan, NO_LINK, type PoolPlan } from './lease-plan.js';
import type { Ports } from './lease-state.js';
import { withoutPorts } from './map-blocks.js';
import type { AddressPool } from './pools/address-pools.js';
import { BerthError } from '../base/errors.js';

/** Guests that may be added while the daemon runs, besides those of the configuration. */
const MORE_GUESTS = 1024;
/** The steering table's value has 16 bits for the link, of which NO_LINK is none. */
const MOST_LINKS = NO_LINK;

export class LivePlan implements LeasePlan {
  shared: readonly number[];
  coming: readonly number[] = [];
  addresses: readonly number[];
  guests: readonly GuestPlan[];
  departed: readonly Departed[] = [];
  readonly pool: PoolPlan;
  readonly pools: readonly AddressPool[];
  /** Links that the engine is made for. */
  readonly capacity: number;
  private readonly free: number[] = [];

  constructor({ shared, addresses, guests, pool, pools }: LeasePlan) {
    this.shared = shared;
    this.addresses = addresses;
    this.guests = guests;
    this.pool = pool;
    this.pools = pools;
    this.capacity = Math.min(MOST_LINKS, guests.length + MORE_GUESTS);
    for (let index = guests.length; index < this.capacity; index++) this.free.push(index);
  }

  find(name: string): GuestPlan | undefined {
    return this.guests.find((guest) => guest.name === name);
  }

  /** Takes a slot. ERR_GUESTS_FULL when there is none. */
  takeSlot(): number {
    const slot = this.free.shift();
    if (slot === undefined) throw new BerthError('ERR_GUESTS_FULL', `there are ${this.guests.length} guests, and the daemon was started for ${this.capacity} at most; remove some`);
    return slot;
  }

  freeSlot(index: number): void {
    this.free.push(index);
  }

  /** These are about to be shared; none: they are not. */
  expect(addresses: readonly number[]): void {
    this.coming = addresses;
  }

  /** Leases on the shared addresses are on these now, but for `lost`; no others are expected. */
  share(shared: readonly number[], lost: Ports): void {
    this.shared = shared;
    this.coming = [];
    this.guests = this.guests.map((guest) => (guest.onShared ? { ...withoutPorts(guest, lost), addresses: shared } : guest));
    this.setAddresses();
  }

  add(guest: GuestPlan): void {
    this.guests = [...this.guests, guest];
    this.addresses = [...new Set([...this.addresses, ...guest.addresses])];
  }

  /** Another plan for the same guest. */
  replace(guest: GuestPlan, by: GuestPlan): void {
    this.guests = this.guests.map((one) => (one === guest ? by : one));
  }

  remove(guest: GuestPlan): void {
    this.guests = this.guests.filter((one) => one !== guest);
    this.setAddresses();
  }

  /** A removed guest, whose leases stay set aside until `forget`. */
  depart(guest: Departed): void {
    this.departed = [...this.departed, guest];
    this.setAddresses();
  }

  forget(guest: Departed): void {
    this.departed = this.departed.filter((one) => one !== guest);
    this.setAddresses();
  }

  private setAddresses(): void {
    this.addresses = [...new Set([...this.shared, ...[...this.guests, ...this.departed].flatMap(({ addresses }) => addresses)])];
  }
}
