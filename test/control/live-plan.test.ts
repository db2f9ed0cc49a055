/** The slots of a live plan: no link is another guest's before the engine has forgotten the one before. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { LivePlan } from '../../src/control/live-plan.js';
import { resolveLeases } from '../../src/control/static-leases.js';

const plan = (): LivePlan => new LivePlan(resolveLeases(parseConfig('addresses: [192.0.2.10]\nguests: { a: { lease: { tcp: 80 } }, b: { lease: { address: 192.0.2.11 } } }', 'f.yaml')));

describe('live plan', () => {
  it('has room for 1,024 guests more than the configuration, and says so when it is full', () => {
    const live = plan();
    const slots = Array.from({ length: 1024 }, () => live.takeSlot());
    expect([slots[0], slots.at(-1), live.capacity]).toEqual([2, 1025, 1026]);
    expect(() => live.takeSlot()).toThrow(expect.objectContaining({ code: 'ERR_GUESTS_FULL', message: expect.stringContaining('1026 at most') }));
  });

  it('gives a slot again only when it was freed, and the one that was freed first', () => {
    const live = plan();
    for (let n = 0; n < 1024; n++) live.takeSlot();
    for (const slot of [7, 3]) live.freeSlot(slot);
    expect([live.takeSlot(), live.takeSlot()]).toEqual([7, 3]);
  });

  it('keeps the addresses of guests that are there or in quarantine', () => {
    const live = plan();
    const { addresses } = live;
    const [, b] = live.guests;
    live.remove(b);
    const gone = { ...b, since: 0, until: 1 };
    live.depart(gone);
    expect(live.addresses).toEqual(addresses);
    live.forget(gone);
    expect(live.addresses).toEqual(live.shared);
  });
});
