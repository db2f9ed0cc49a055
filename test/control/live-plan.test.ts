/** The slots of a live plan: no link is another guest's before the engine has forgotten the one before. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { LivePlan } from '../../src/control/live-plan.js';
import { withBlock } from '../../src/control/map-blocks.js';
import { describeMaps } from '../../src/control/map-plan.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import { PortSet } from '../../src/wire/port-set.js';

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

  it('takes from a mapped guest what the host has at a new address: ports, and all of its block but the longest run', () => {
    const resolved = resolveLeases(parseConfig('addresses: [192.0.2.10]\nguests: { a: { mode: map, inside: 10.0.7.2, map: [ { tcp: 80-82, to: 1080 } ], block: 16 } }', 'f.yaml'));
    const live = new LivePlan({ ...resolved, guests: [withBlock(resolved.guests[0], PortSet.parse('2000-2015'), PortSet.EMPTY)] });
    live.share([1], { tcp: PortSet.parse('81,2003'), udp: PortSet.parse('2012') });
    const [{ tcp, mapped }] = live.guests;
    expect([tcp.format(), describeMaps(mapped!), mapped!.block]).toEqual(['80,82,2000-2002,2004-2015', ['tcp 80 to 1080', 'tcp 82 to 1082'], { first: 2004, last: 2011 }]);
  });
});
