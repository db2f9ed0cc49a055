/**
 * Guests added and removed, and the addresses that they share changed, where a step waits or fails: nothing is half done. The
 * host and the links are played; a full disk is a real one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import type { Log } from '../../src/base/log.js';
import type { GuestLinks } from '../../src/control/guest-links.js';
import { Guests } from '../../src/control/guests.js';
import { LivePlan } from '../../src/control/live-plan.js';
import type { Network } from '../../src/control/network.js';
import type { ControlPlane } from '../../src/control/plane.js';
import { FloatingAddresses } from '../../src/control/pools/floating.js';
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

const SECOND = SHARED + 1;
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
  const played = { add: async ({ name }: { name: string }) => void links.add(name), remove: async ({ name }: { name: string }) => void links.delete(name) };
  const uplink = { network: 'eth0', nic: NIC, plan, host: host.stack, publisher, links: played as unknown as GuestLinks };
  const guests = new Guests({ config, uplinks: [uplink], network: { facts: {} } as Network, floating: new FloatingAddresses([], new Map(), log), log });
  await guests.start();
  onTestFinished(() => guests.close());
  const store = guests['store']!;
  onTestFinished(watchOrder({ publisher, host, plan, store }));
  const state = (address: number, port: number): number => new SteeringTable(publisher.buffer).value(address, 0, port) & STATE_MASK;
  return { guests, plane: guests.control!.plane, plan, host, store, links, state };
}

/** Holds the next change of the mute until what is returned is called. */
function holdMute(host: PlayedHost): () => void {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  host.beforeMute = () => {
    host.beforeMute = () => undefined;
    return held;
  };
  return release;
}

describe('another address is shared', () => {
  it('a grant that is decided meanwhile is muted on all addresses before it is published on any', async () => {
    const { guests, plane, host, state } = await start();
    await plane.begin('a', 1, tcp('61440'));
    const release = holdMute(host);
    const followed = guests.follow([SHARED, SECOND]);
    await sleep(5);
    const granted = plane.grantBlock('b');
    await sleep(5);
    expect([state(SECOND, 61_440), state(SECOND, 61_456), state(SHARED, 61_456)]).toEqual([0, 0, 0]);
    release();
    await followed;
    expect((await granted).block).toMatchObject({ first: 61_456 });
    expect([state(SECOND, 61_440), state(SECOND, 61_456)]).toEqual([state(SHARED, 61_440), state(SHARED, 61_456)]);
    expect(host.isSilent(SECOND, 'tcp', 61_456)).toBe(true);
    expect(host.reservedOn(SECOND).tcp.format()).toBe('61440-61471');
  });

  it('nor is it granted what a process of the host has there, from the moment on that the change is known', async () => {
    const { guests, plane, host } = await start();
    host.processes.add('192.0.2.11 tcp/61457');
    const release = holdMute(host);
    const begun = plane.begin('a', 1, tcp('61440'));
    await sleep(5);
    // The change waits for what is being made true, and the next grant is decided behind it.
    const followed = guests.follow([SHARED, SECOND]);
    await sleep(5);
    const granted = plane.grantBlock('b');
    release();
    await Promise.all([begun, followed]);
    expect((await granted).block).toMatchObject({ first: 61_472 });
    expect(plane.leases.holding('b').leased.tcp.format()).toBe('61472-61487');
    expect(host.reservedOn(SECOND).tcp.format()).toBe('61440-61455,61472-61487');
  });

  it('where the host cannot be silenced there nothing has changed, and it can be tried again', async () => {
    const { guests, plane, plan, host, state } = await start();
    await plane.begin('a', 1, tcp('61440'));
    host.beforeMute = () => {
      throw new Error('nft is gone');
    };
    await expect(guests.follow([SECOND])).rejects.toThrow('nft is gone');
    expect([plan.shared, host.reservedOn(SECOND).tcp.format(), state(SECOND, 61_440)]).toEqual([[SHARED], '', 0]);
    host.beforeMute = () => undefined;
    const served = state(SHARED, 61_440);
    await guests.follow([SECOND]);
    expect([plan.shared, host.reservedOn(SHARED).tcp.format(), state(SHARED, 61_440), state(SECOND, 61_440)]).toEqual([[SECOND], '', 0, served]);
    expect([host.isSilent(SHARED, 'tcp', 61_440), host.isSilent(SECOND, 'tcp', 61_440)]).toEqual([false, true]);
  });
});

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

  it('an address is not followed that costs a lease, until there is room', async () => {
    const disk = await smallDisk(4096);
    const { guests, plane, plan, host, store, state } = await start(disk.folder);
    await plane.begin('a', 1, tcp('61440'));
    host.processes.add('192.0.2.11 tcp/61442');
    disk.fill();
    await fillStore(store);
    await expect(guests.follow([SECOND])).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect([plan.shared, host.reservedOn(SECOND).tcp.format(), state(SECOND, 61_440)]).toEqual([[SHARED], '', 0]);
    expect(plane.leases.holding('a').leased.tcp.format()).toBe('61440-61455');
    disk.empty();
    await guests.follow([SECOND]);
    expect(plane.leases.holding('a').leased.tcp.format()).toBe('61440-61441,61443-61455');
    expect([state(SECOND, 61_440) === 0, state(SHARED, 61_440)]).toEqual([false, 0]);
  });
});
