/**
 * A disk without room, a real one: what the store cannot take is refused and changes nothing, all else goes on, and with room again
 * everything works without a restart.
 *
 * Room         when the disk is full the store has taken some for small changes (store-room.ts), and none for MANY. fillStore
 *              leaves none for anything.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LeaseState, NO_PORTS } from '../../src/control/lease-state.js';
import { LmdbStore } from '../../src/control/store-lmdb.js';
import { type Core, type CoreSetting, freshFolder, POOL, SHARED, startCore } from '../support/control-core.js';
import type { Channel } from '../support/control.js';
import { ports, tcp } from '../support/lease-book.js';
import { until } from '../support/live.js';
import { fillStore, hasSmallDisks, smallDisk, type SmallDisk } from '../support/small-disk.js';

/** Every other port: as many records. */
const MANY = Array.from({ length: 1000 }, (_, i) => 20_001 + 2 * i).join(',');
const POLICY = { block: 16, maxPorts: 4096, allow: { tcp: MANY } };
const BOTH = { a: POLICY, b: POLICY };

interface Full {
  core: Core;
  disk: SmallDisk;
}

async function start(guests: CoreSetting['guests'] = BOTH, setting: Partial<CoreSetting> = {}): Promise<Full> {
  const disk = await smallDisk(4096);
  const core = await startCore(freshFolder(), guests, { open: () => new LmdbStore(join(disk.folder, 'store')), ...setting });
  return { core, disk };
}

/** Book, host and what is answered are what the store holds. */
function expectOne({ plane, store, host }: Core): void {
  const stored = new LeaseState(store.load()).snapshot();
  expect(plane.book.snapshot()).toEqual(stored);
  for (const proto of ['tcp', 'udp'] as const) {
    const held = stored[proto].reduce((all, { first, last }) => all.union(ports(`${first}-${last}`)), NO_PORTS.tcp);
    expect(host.reservedOn(SHARED)[proto].format()).toBe(held.format());
    expect(host.muted.ports.get(SHARED)?.[proto].format() ?? '').toBe(held.format());
  }
}

/** The code of the refusal: a number where the protocol's own. */
const outcome = (channel: Channel, method: string, params: object = {}): Promise<string> => channel.outcome(method, params);
const complaints = ({ log }: Core): string[] => log.filter((line) => /cannot be written/.test(line));
/** What has been asked is decided, and its commit under way. */
const underWay = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

describe.skipIf(!hasSmallDisks('full-disk'))('a full disk', () => {
  it('what needs the store is refused and changes nothing; the session goes on, and so does what needs no store', async () => {
    const { core, disk } = await start();
    const a = await core.session('a', 1, { tcp: '61440' });
    disk.fill();
    await fillStore(core.store);
    expect(await outcome(a, 'request', { block: true })).toBe('-32603');
    expectOne(core);
    expect(await outcome(a, 'request', { tcp: '20001' })).toBe('-32603');
    expect(await outcome(a, 'release', { tcp: '61440' })).toBe('-32603');
    expect(await outcome(a, 'renew')).toBe('-32603');
    expectOne(core);
    expect(core.delivered('a').tcp.format()).toBe('61440');
    expect(await outcome(a, 'use', { tcp: '61441-61442' })).toBe('ok');
    expect(await outcome(a, 'end-use', { tcp: '61440' })).toBe('ok');
    expect((await a.ask('use', { tcp: '61441', all: true })).result).toMatchObject({ leases: { tcp: '61440-61455', udp: '61440-61455' }, blocks: [{ first: 61_440, last: 61_455 }] });
    expect(core.delivered('a').tcp.format()).toBe('61441');
    // A session begins with an epoch in the store, or not at all.
    const b = await core.raw('b');
    expect(await outcome(b, 'hello', { version: 1, epoch: 1 })).toBe('-32603');
    await b.ends();
    expect(core.server.isConnected('b')).toBe(false);

    disk.empty();
    expect((await a.ask('request', { block: true })).result).toMatchObject({ leases: { tcp: '61440-61471' } });
    expect(await outcome(a, 'renew')).toBe('ok');
    const again = await core.session('b', 2, { tcp: '61472' });
    expect(await outcome(again, 'release', { tcp: '61473' })).toBe('ok');
    expectOne(core);
    expect([core.delivered('a').tcp.format(), core.delivered('b').tcp.format()]).toEqual(['61441', '61472']);
    // All that time, one line for the end and one for the return.
    expect(core.log).toEqual([expect.stringMatching(/^the store \S+ cannot be written \(ENOSPC: no space left on device, write\); .*goes on$/), 'the store can be written again']);
  });

  it('what was decided on a lease that the store did not take is decided again: another guest has it', async () => {
    const { core, disk } = await start();
    for (const guest of ['a', 'b']) await core.session(guest, 1);
    disk.fill();
    const many = core.plane.grantPorts('a', { tcp: ports(MANY), udp: ports('') });
    await underWay();
    const one = core.plane.grantPorts('b', { tcp: ports('20003'), udp: ports('') });
    const block = core.plane.grantBlock('b');
    await expect(many).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect((await one).refusal).toBeNull();
    expect((await block).block).toMatchObject({ first: 61_472 });
    expect([core.plane.book.holding('a').leased.tcp.format(), core.plane.book.holding('b').leased.tcp.format()]).toEqual(['61440-61455', '20003,61456-61487']);
    expectOne(core);
    expect(complaints(core)).toHaveLength(1);
  });

  it.each(['in one turn', 'later'])('no lease is answered that the store has not taken: asked for again %s', async (when) => {
    const { core, disk } = await start();
    const [a] = [await core.session('a', 1), await core.session('b', 1)];
    disk.fill();
    const many = core.plane.grantPorts('a', { tcp: ports(MANY), udp: ports('') });
    if (when === 'later') await underWay();
    const one = core.plane.grantPorts('a', { tcp: ports('20003'), udp: ports('') });
    const answered = a.ask('use', { all: true });
    await expect(many).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect((await one).refusal).toBeNull();
    expect(new LeaseState(core.store.load()).holding('a').leased.tcp.format()).toBe('20003,61440-61455');
    expect((await answered).result?.leases.tcp).toBe('20003,61440-61455');
    expectOne(core);
  });

  it('an indication of the same turn is not lost with a grant, nor one of what remains leased', async () => {
    const { core, disk } = await start();
    await core.session('a', 1, { tcp: '61440' });
    await core.session('b', 1, { tcp: '61456' });
    disk.fill();
    const asked = [core.plane.grantPorts('a', { tcp: ports(MANY), udp: ports('') }), core.plane.use('a', tcp('20001,61441')), core.plane.endUse('b', { tcp: ports('61456'), udp: ports('') })] as const;
    await expect(asked[0]).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect((await asked[1]).refusal?.code).toBe('ERR_NOT_LEASED');
    expect((await asked[2]).refusal).toBeNull();
    expect([core.delivered('a').tcp.format(), core.delivered('b').tcp.format()]).toEqual(['61440-61441', '']);
    expect(core.plane.book.holding('a').used.tcp.format()).toBe('61440-61441');
    expectOne(core);
  });

  it('a release and a guest that is removed: all of it stays until the store takes it', async () => {
    const { core, disk } = await start();
    await core.session('a', 1, { tcp: '61440' });
    disk.fill();
    await fillStore(core.store);
    const left: string[] = [];
    await expect(core.plane.removeGuest('a', () => void left.push('a'))).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect([left, [...core.plane.book.guests.keys()], core.delivered('a').tcp.format()]).toEqual([[], ['a', 'b'], '61440']);
    expectOne(core);
    disk.empty();
    await core.plane.removeGuest('a', () => void left.push('a'));
    expect([left, [...core.plane.book.guests.keys()], core.delivered('a').tcp.format()]).toEqual([['a'], ['b'], '']);
    expectOne(core);
  });

  it('a daemon that is started then has all that was leased, and nothing of it runs out until there is room', { timeout: 20_000 }, async () => {
    const guests = { a: { ...POLICY, leaseTime: '300ms' } };
    const { core, disk } = await start(guests);
    await core.session('a', 1);
    disk.fill();
    await fillStore(core.store);
    await core.end();
    await sleep(400);
    const again = await startCore(freshFolder(), guests, { open: () => new LmdbStore(join(disk.folder, 'store')) });
    await sleep(100);
    expectOne(again);
    expect(again.plane.leases.holding('a').leased.tcp.format()).toBe('61440-61455');
    expect(complaints(again)).toHaveLength(1);
    disk.empty();
    await again.session('a', 2, { tcp: '61440' });
    expect(again.delivered('a').tcp.format()).toBe('61440');
    expectOne(again);
  });

  it('a guest that could not renew keeps its leases; one that said nothing has a while to do so; the daemon is not busy with it', { timeout: 20_000 }, async () => {
    const { core, disk } = await start({ a: { ...POLICY, leaseTime: '1s' } }, { pool: { ...POOL, quarantine: '100ms' } });
    const a = await core.session('a', 1, { tcp: '61440' });
    disk.fill();
    await fillStore(core.store);
    let commits = 0;
    const commit = core.store.commit.bind(core.store);
    core.store.commit = (changes) => (commits++, commit(changes));
    for (let i = 0; i < 5; i++) {
      expect(await outcome(a, 'renew')).toBe('-32603');
      await sleep(400);
    }
    expect(core.delivered('a').tcp.format()).toBe('61440');
    expect(commits).toBeLessThan(10);
    expect(complaints(core)).toHaveLength(1);
    disk.empty();
    await until(() => core.store.load().tcp[0].until > Date.now(), 5000, () => 'the lease to be renewed');
    expect(core.delivered('a').tcp.format()).toBe('61440');
    expect(a.lines.filter(({ method }) => method === 'revoked')).toEqual([]);
    expect(await outcome(a, 'renew')).toBe('ok');
    // And then leases run out as ever.
    await until(() => a.lines.some(({ method }) => method === 'revoked'), 3000, () => 'the lease to run out');
    expect(core.delivered('a').tcp.format()).toBe('');
    await until(() => core.store.load().tcp.length === 0, 3000, () => 'the quarantine to end');
    expectOne(core);
  });
});
