/**
 * The control plane where something on the way fails or waits: it is the failure of those it concerns, and nothing is published that
 * is not committed and muted.
 *
 * The store is the real one with failures put before it; those of a disk are in full-disk.test.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LeaseState, type Ports } from '../../src/control/lease-state.js';
import { STATE_MASK, STATE_QUARANTINED } from '../../src/steering/table-layout.js';
import { type Core, type CoreSetting, freshFolder, POOL, SHARED, startCore } from '../support/control-core.js';
import { FaultyStore } from '../support/faulty-store.js';
import { ports, tcp } from '../support/lease-book.js';
import { until } from '../support/live.js';
import { watchOrder } from '../support/publish-order.js';

const onlyTcp = (text: string): Ports => ({ tcp: ports(text), udp: ports('') });
const POLICY = { block: 16, maxPorts: 64, allow: { tcp: '8000-8009' } };
/** What has been asked is decided, and its commit or its mute under way. */
const underWay = (): Promise<void> => sleep(5);
const code = (asked: Promise<unknown>): Promise<string> => asked.then(() => 'ok', (error: { code?: string; message: string }) => error.code ?? error.message);

async function start(setting: Partial<CoreSetting> = {}): Promise<{ core: Core; store: FaultyStore }> {
  const core = await startCore(freshFolder(), { a: POLICY, b: POLICY }, { open: (path) => new FaultyStore(path), ...setting });
  onTestFinished(watchOrder(core));
  return { core, store: core.store as FaultyStore };
}

describe('a failure is that of those it concerns', () => {
  it('what follows one operation fails: only that one, and the others of its batch are made true', async () => {
    const { core } = await start();
    await core.plane.grantBlock('b');
    core.publisher.endImplicit = (guest) => {
      if (guest === 'a') throw new Error('thrown by the test');
    };
    const asked = [core.plane.grantBlock('a'), core.plane.begin('a', 1, {}), core.plane.begin('b', 1, tcp('61440')), core.plane.grantPorts('b', onlyTcp('8000'))];
    expect(await Promise.all(asked.map(code))).toEqual(['ok', 'thrown by the test', 'ok', 'ok']);
    expect(core.delivered('b').tcp.format()).toBe('61440');
    await core.plane.use('b', tcp('8000'));
    expect(core.delivered('b').tcp.format()).toBe('8000,61440');
  });

  it('the host cannot be silenced: the grant fails and is not published, all else is; it is when the host is silent', async () => {
    const { core } = await start();
    await core.plane.begin('b', 1, tcp('61440'));
    core.host.beforeMute = () => {
      throw new Error('nft is gone');
    };
    const asked = [core.plane.grantPorts('a', onlyTcp('8000')), core.plane.use('b', tcp('61441')), core.plane.release('b', onlyTcp('61440'))];
    expect(await Promise.all(asked.map(code))).toEqual(['nft is gone', 'ok', 'ok']);
    expect(core.delivered('b').tcp.format()).toBe('61441');
    // The store has it: the guest learns of it, and may use it.
    expect(core.plane.leases.holding('a').leased.tcp.format()).toBe('8000');
    expect(await code(core.plane.use('a', tcp('8000')))).toBe('ok');
    expect(core.delivered('a').tcp.format()).toBe('');
    core.host.beforeMute = () => undefined;
    await until(() => !core.delivered('a').tcp.isEmpty, 3000, () => 'the mute to be tried again');
    expect(core.delivered('a').tcp.format()).toBe('8000');
  });

  it('a commit: of those that had something in it', async () => {
    const { core, store } = await start();
    await core.plane.begin('b', 1, tcp('61440'));
    store.fails = true;
    const asked = [core.plane.hello('a', 1), core.plane.use('b', tcp('61441')), core.plane.renew('b'), core.plane.hello('b', 1)];
    expect(await Promise.all(asked.map(code))).toEqual(['ERR_STORE_WRITE', 'ok', 'ERR_STORE_WRITE', 'ok']);
    expect([core.delivered('b').tcp.format(), core.plane.epochOf('a'), core.plane.epochOf('b')]).toEqual(['61440-61441', 0, 1]);
  });
});

describe('while a commit is under way that then fails', () => {
  async function failing(act: (core: Core) => Promise<unknown>[]): Promise<{ core: Core; outcomes: string[] }> {
    const { core, store } = await start();
    await core.plane.begin('a', 1, tcp('61440'));
    const release = store.hold();
    store.fails = true;
    const first = core.plane.grantPorts('a', onlyTcp('8000-8003'));
    await underWay();
    store.fails = false;
    const asked = act(core);
    await underWay();
    release();
    expect(await code(first)).toBe('ERR_STORE_WRITE');
    const outcomes = await Promise.all(asked.map(code));
    expect(core.plane.book.snapshot()).toEqual(new LeaseState(store.load()).snapshot());
    expect(core.plane.leases.snapshot()).toEqual(core.plane.book.snapshot());
    return { core, outcomes };
  }

  it('what is asked on top of it is refused', async () => {
    const { core, outcomes } = await failing(({ plane }) => [
      plane.use('a', tcp('8000')).then(({ refusal }) => Promise.reject(new Error(refusal?.code))),
      plane.release('a', onlyTcp('8001')).then(({ refusal }) => Promise.reject(new Error(refusal?.code))),
    ]);
    expect(outcomes).toEqual(['ERR_NOT_LEASED', 'ERR_NOT_LEASED']);
    expect([core.delivered('a').tcp.format(), core.host.reservedOn(SHARED).tcp.format()]).toEqual(['61440', '61440-61455']);
  });

  it('what is asked beside it is done, once: a session begins, a block is granted, a guest falls silent', async () => {
    const { core, outcomes } = await failing(({ plane }) => [plane.hello('b', 7), plane.begin('b', 7, tcp('8000,61456')), plane.grantBlock('b'), plane.silence('a')]);
    expect(outcomes).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect([core.plane.leases.holding('b').leased.tcp.format(), core.delivered('b').tcp.format(), core.delivered('a').tcp.format()]).toEqual(['61456-61487', '61456', '']);
  });

  it('a guest with settings of its own is added on what is true then, and is not known if it cannot be', async () => {
    const late = (core: Core, text: string): Parameters<Core['plane']['addGuest']> => {
      const guest = { ...core.plan.guests[1], name: 'late', index: core.plan.takeSlot(), onShared: true, addresses: [SHARED], tcp: ports(text), agent: null };
      return [guest, { lease: { tcp: text } }, async () => core.plan.add(guest)];
    };
    const free = await failing((core) => [core.plane.addGuest(...late(core, '8000'))]);
    expect(free.outcomes).toEqual(['ok']);
    expect([free.core.plane.leases.holding('late').leased.tcp.format(), [...free.core.store.guests()]]).toEqual(['8000', [['late', { lease: { tcp: '8000' } }]]]);
    const taken = await failing((core) => [core.plane.addGuest(...late(core, '61440'))]);
    expect(taken.outcomes).toEqual(['ERR_PORT_TAKEN']);
    expect([[...taken.core.plane.book.guests.keys()], taken.core.store.guests().size, taken.core.plan.guests.length]).toEqual([['a', 'b'], 0, 2]);
  });

  it('what another guest was to get of a quarantine that had run out is free again, and so are its sockets and its silence', async () => {
    const { core, store } = await start({ pool: { ...POOL, quarantine: '30ms' } });
    await core.plane.grantPorts('a', onlyTcp('8000'));
    await core.plane.release('a', onlyTcp('8000'));
    expect(core.table().value(SHARED, 0, 8000) & STATE_MASK).toBe(STATE_QUARANTINED);
    const release = store.hold();
    await sleep(40);
    // That the quarantine has ended is being committed; what is decided on it is going to fail.
    store.fails = true;
    const lost = core.plane.grantPorts('b', onlyTcp('8000'));
    release();
    expect(await code(lost)).toBe('ERR_STORE_WRITE');
    await underWay();
    expect([core.host.reservedOn(SHARED).tcp.format(), core.host.isSilent(SHARED, 'tcp', 8000), core.table().value(SHARED, 0, 8000)]).toEqual(['', false, 0]);
    store.fails = false;
    expect((await core.plane.grantPorts('b', onlyTcp('8000'))).refusal).toBeNull();
    expect(core.plane.leases.holding('b').leased.tcp.format()).toBe('8000');
  });

});
