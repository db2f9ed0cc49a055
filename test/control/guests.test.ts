/**
 * Guests added and removed where a step fails: nothing is half done. The host and the links are played; a full disk is a real one.
 */
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import type { Log } from '../../src/base/log.js';
import type { GuestLinks } from '../../src/control/guest-links.js';
import { Guests } from '../../src/control/guests.js';
import { LivePlan } from '../../src/control/live-plan.js';
import type { Network } from '../../src/control/network.js';
import type { ControlPlane } from '../../src/control/plane.js';
import { Publisher } from '../../src/control/publisher.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import type { Store } from '../../src/control/store.js';
import type { Interface } from '../../src/io/interfaces.js';
import { STATE_MASK } from '../../src/steering/table-layout.js';
import { SteeringTable } from '../../src/steering/table.js';
import { freshFolder, POOL, SHARED } from '../support/control-core.js';
import { tcp } from '../support/lease-book.js';
import { PlayedHost } from '../support/played-host.js';
import { watchOrder } from '../support/publish-order.js';
import { fillStore, hasSmallDisks, smallDisk } from '../support/small-disk.js';

const NIC = { name: 'eth0', mac: '02:00:5e:10:00:01', mtu: 1500, addresses: [SHARED] } as Interface;
const POLICY = { block: 16, maxPorts: 64 };

interface World {
  guests: Guests;
  plane: ControlPlane;
  plan: LivePlan;
  host: PlayedHost;
  store: Store;
  /** Of guests. */
  links: Set<string>;
  state: (address: number, port: number) => number;
}

/** Two guests with agents, `a` and `b`. */
async function start(path = freshFolder()): Promise<World> {
  const folder = freshFolder();
  const guest = (name: string): object => ({ link: { tap: `tap-${name}` }, agent: { socket: `${folder}/${name}.sock` }, policy: POLICY });
  const config = parseConfig(JSON.stringify({ nic: 'eth0', store: { path }, pool: POOL, guests: { a: guest('a'), b: guest('b') } }), 'berth.yaml');
  const plan = new LivePlan(resolveLeases(config, { nicAddresses: NIC.addresses }));
  const host = new PlayedHost(plan);
  const say = (): void => undefined;
  const log = { info: say, warn: say, error: say } as unknown as Log;
  const links = new Set<string>();
  const publisher = new Publisher(plan);
  const guests = new Guests({ config, plan, nic: NIC, host: host.stack, network: { facts: {} } as Network, log });
  const played = { add: async ({ name }: { name: string }) => void links.add(name), remove: async ({ name }: { name: string }) => void links.delete(name) };
  await guests.start({ publisher, links: played as unknown as GuestLinks });
  onTestFinished(() => guests.close());
  const store = guests['store']!;
  onTestFinished(watchOrder({ publisher, host, plan, store }));
  const state = (address: number, port: number): number => new SteeringTable(publisher.buffer).value(address, 0, port) & STATE_MASK;
  return { guests, plane: guests.control!.plane, plan, host, store, links, state };
}

describe.skipIf(!hasSmallDisks('guests'))('on a full disk', () => {
  const leasing = (port: number): object => ({ link: { tap: `tap-${port}` }, lease: { tcp: String(port) }, use: 'all' });

  it('a guest is not added, and nothing of it is left; one that is to be removed stays as it was, with its agent\'s channel', async () => {
    const disk = await smallDisk(4096);
    const { guests, plane, plan, host, store, links, state } = await start(disk.folder);
    await plane.begin('a', 1, tcp('61440'));
    await guests.add('kept', leasing(8001));
    disk.fill();
    await fillStore(store);
    await expect(guests.add('late', leasing(8000))).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    for (const name of ['kept', 'a']) await expect(guests.remove(name)).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect([plan.guests.map(({ name }) => name), [...plane.book.guests.keys()], [...links]]).toEqual([['a', 'b', 'kept'], ['a', 'b', 'kept'], ['kept']]);
    expect([store.guests().has('late'), store.guests().has('kept')]).toEqual([false, true]);
    expect(host.reservedOn(SHARED).tcp.format()).toBe('8001,61440-61455');
    expect([state(SHARED, 8000), state(SHARED, 8001) === 0]).toEqual([0, false]);
    expect(guests.control!.server['agents'].map(({ guest, isOver }) => `${guest} ${isOver}`)).toEqual(['a false', 'b false']);

    disk.empty();
    await guests.add('late', leasing(8000));
    await guests.remove('kept');
    await guests.remove('a');
    expect([plan.guests.map(({ name }) => name), [...links], [...store.guests().keys()].filter((name) => !name.startsWith('nobody'))]).toEqual([['b', 'late'], ['late'], ['late']]);
  });
});
