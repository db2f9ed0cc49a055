/** The publisher and addresses that come and go: DHCP renewals, guests with addresses of their own. What a guest has on one: the live tests. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import type { GuestPlan } from '../../src/control/lease-plan.js';
import { NO_PORTS } from '../../src/control/lease-state.js';
import { LivePlan } from '../../src/control/live-plan.js';
import { Publisher } from '../../src/control/publisher.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import { ADDRESS_INDEX_MASK, LINK_SHIFT, STATE_IN_USE, STATE_MASK, STATE_QUARANTINED } from '../../src/steering/table-layout.js';
import type { TableFollower } from '../../src/steering/table-follower.js';
import { SteeringTable } from '../../src/steering/table.js';
import { ip } from '../support/dataplane-harness.js';

/** Many times the rows that the host filter has. */
const MANY = 400;
const FEW = 16;

class World {
  readonly plan: LivePlan;
  readonly publisher: Publisher;
  /** By address that is ours, as a filter before the table is told. */
  readonly indices = new Map<number, number>();
  highest = 0;

  constructor(guests: string) {
    this.plan = new LivePlan(resolveLeases(parseConfig(`addresses: [192.0.2.10]\nguests: { ${guests} }`, 'berth.yaml')));
    const follower: TableFollower = {
      address: (address, index) => {
        this.indices.set(address, index);
        this.highest = Math.max(this.highest, index);
      },
      addressLeft: (address) => this.indices.delete(address),
      taken: () => undefined,
      steered: () => undefined,
      takeActive: () => false,
      freed: () => undefined,
    };
    // An engine that adopts at once, but not in the middle of a change.
    this.publisher = new Publisher(this.plan, (_buffer, generation) => queueMicrotask(() => this.publisher.adopted(generation)), follower);
  }

  get table(): SteeringTable {
    return new SteeringTable(this.publisher.buffer);
  }

  sharing(address: number): readonly number[] | undefined {
    return this.publisher.guestsByAddress[this.table.address(address) & ADDRESS_INDEX_MASK];
  }

  /** The host has this address now, and not the one before. */
  async renew(address: number): Promise<void> {
    const gone = this.plan.shared;
    this.plan.share([address], NO_PORTS);
    this.publisher.followAddresses(gone, [address]);
    await Promise.resolve();
  }

  /** A guest that leases all of an address. */
  add(name: string, address: number, template: GuestPlan): GuestPlan {
    const guest = { ...template, name, index: this.plan.takeSlot(), whole: address, addresses: [address] };
    this.plan.add(guest);
    this.publisher.addGuest(guest);
    return guest;
  }

  quarantine(guest: GuestPlan): () => Promise<void> {
    const departed = { ...guest, since: 0, until: 1 };
    this.plan.remove(guest);
    this.publisher.endLeases(guest, 'quarantine');
    this.plan.depart(departed);
    this.publisher.removeGuest(guest);
    this.plan.freeSlot(guest.index);
    return async () => {
      this.plan.forget(departed);
      this.publisher.endLeases(departed, 'release');
      await Promise.resolve();
    };
  }
}

describe('addresses that come and go', () => {
  it('the host\'s own, at every renewal another: guests follow, the one before is not ours, and few indices are needed', async () => {
    const world = new World('web: { lease: { tcp: 80, udp: 53 }, use: all }, db: { lease: { tcp: 5432 } }');
    let before = ip('192.0.2.10');
    for (let n = 0; n < MANY; n++) {
      const address = ip('10.0.0.0') + n;
      await world.renew(address);
      const { table } = world;
      expect([[0, 80], [0, 5432], [0, 81]].map(([proto, port]) => table.value(address, proto as 0, port) & STATE_MASK)).toEqual([STATE_IN_USE, 1, 0]);
      expect([table.address(before), table.value(before, 0, 80), world.sharing(address)]).toEqual([0, 0, [0, 1]]);
      before = address;
    }
    expect([...world.indices.keys()]).toEqual([before]);
    expect(world.highest).toBeLessThan(FEW);
    expect(world.publisher.endpoints).toBe(3);
  });

  it('a guest\'s own: ours as long as it is in quarantine after it, and as long as another guest has something there', async () => {
    const world = new World('web: { lease: { tcp: 80 } }, own: { lease: { address: 192.0.2.20 } }, too: { lease: { address: 192.0.2.21, tcp: 80 } }');
    const [, own, too] = world.plan.guests;
    for (let n = 0; n < MANY; n++) {
      const address = ip('10.0.0.0') + n;
      const guest = world.add(`guest-${n}`, address, own);
      expect(world.table.value(address, 1, 9) >>> LINK_SHIFT).toBe(guest.index);
      const forget = world.quarantine(guest);
      expect(world.table.value(address, 1, 9) & STATE_MASK).toBe(STATE_QUARANTINED);
      await forget();
      expect(world.table.address(address)).toBe(0);
    }
    expect(world.highest).toBeLessThan(FEW);

    const other = world.add('other', ip('192.0.2.21'), own);
    await world.quarantine(other)();
    expect(world.table.value(ip('192.0.2.21'), 0, 80) >>> LINK_SHIFT).toBe(too.index);
    expect([...world.indices.keys()].sort()).toEqual(['192.0.2.10', '192.0.2.20', '192.0.2.21'].map(ip));
  });

  it('one that is shared no more, but where a guest leases something of its own, stays ours', async () => {
    const world = new World('web: { lease: { tcp: 80 } }, own: { lease: { address: 192.0.2.10, tcp: 443 }, use: all }');
    await world.renew(ip('192.0.2.11'));
    expect([80, 443].map((port) => world.table.value(ip('192.0.2.10'), 0, port) & STATE_MASK)).toEqual([0, STATE_IN_USE]);
    expect([world.sharing(ip('192.0.2.10')), world.sharing(ip('192.0.2.11'))]).toEqual([[1], [0]]);
    await world.renew(ip('192.0.2.12'));
    expect([...world.indices.keys()].sort()).toEqual([ip('192.0.2.10'), ip('192.0.2.12')]);
  });
});
