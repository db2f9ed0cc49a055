/** The engine's list of own connections, by guest and back, when the guests have other links. */
import { expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { connectionList, namedConnections } from '../../src/control/own-connections.js';
import { resolveLeases } from '../../src/control/static-leases.js';

it('follows the guest, not its link; what is of nobody is left out', () => {
  const { guests } = resolveLeases(parseConfig('addresses: [192.0.2.10]\nguests: { a: { lease: { tcp: 1 } }, b: { lease: { tcp: 2 } } }', 'f.yaml'));
  const named = namedConnections(Int32Array.of(1, 40_000, -1_073_741_302, 61_000, 5, 80, 7, 1, 2, 3, 4, 5), guests);
  expect(named).toEqual([['b', 40_000, -1_073_741_302, 61_000, 5, 80]]);
  expect([...connectionList([...named, ['gone', 1, 2, 3, 4, 5]], [{ ...guests[1], index: 9 }])]).toEqual([9, 40_000, -1_073_741_302, 61_000, 5, 80]);
});
