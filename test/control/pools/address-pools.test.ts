/** What `pools`, `networks` and a guest's `pool` mean, and what is refused: with the owner's name and the line. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/base/config.js';
import { messageOf } from '../../../src/base/errors.js';
import type { GuestPlan, LeasePlan } from '../../../src/control/lease-plan.js';
import { resolveLeases, type ResolveOptions } from '../../../src/control/static-leases.js';
import { formatIpv4, parseIpv4 } from '../../../src/wire/address.js';

const resolve = (text: string, options?: ResolveOptions): LeasePlan => resolveLeases(parseConfig(`addresses: [192.0.2.10]\n${text}`, 'f.yaml'), options);
const why = (text: string, options?: ResolveOptions): string => {
  try {
    resolve(text, options);
  } catch (error) {
    return messageOf(error);
  }
  return 'accepted';
};

describe('pools', () => {
  it('are read as they are written in the configuration', () => {
    const { pools, guests, addresses } = resolve(`
networks: { uplink1: { nic: eth0 }, uplink2: { nic: eth1 } }
pools:
  public: { network: uplink1, addresses: "203.0.113.16-203.0.113.31", speed: 10Gbit, maxGuests: 64, class: web }
  more: { network: uplink2, addresses: [198.51.100.7, "198.51.100.9-198.51.100.10"], policy: { least-load: 2, lowest-occupancy: 1 } }
guests:
  db: { link: { netns: db, name: eth0 }, pool: { name: any, policy: least-load }, use: all }
`);
    expect(pools).toMatchObject([
      { name: 'public', network: 'uplink1', size: 16, speed: 1e10, maxGuests: 64, class: 'web', policy: null },
      { name: 'more', network: 'uplink2', size: 3, speed: null, maxGuests: null, class: null, policy: { 'least-load': 2, 'lowest-occupancy': 1 } },
    ]);
    expect(pools[1].ranges.map(({ first, last }) => [first, last].map(formatIpv4))).toEqual([['198.51.100.7', '198.51.100.7'], ['198.51.100.9', '198.51.100.10']]);
    // Nobody has an address of theirs yet.
    expect(addresses.map(formatIpv4)).toEqual(['192.0.2.10']);
    expect(guests[0]).toMatchObject({ name: 'db', whole: null, addresses: [], useAll: true, onShared: false });
  });

  it('of which a guest has all ports, those that it names, or a block', () => {
    const { guests } = resolve('pools: { a: { addresses: 203.0.113.1 } }\nguests: { whole: { pool: {} }, named: { pool: {}, lease: { tcp: "80,443" }, use: { tcp: 80 } }, block: { pool: { ports: 1024 }, use: all } }');
    const ports = ({ tcp, udp, useTcp }: GuestPlan): string[] => [tcp, udp, useTcp].map((set) => set.format());
    // Where they are is not known yet.
    expect(guests.map((guest) => [guest.name, guest.ofPool, guest.onShared, guest.addresses, ports(guest)])).toEqual([
      ['whole', true, false, [], ['', '', '']],
      ['named', true, false, [], ['80,443', '', '80']],
      ['block', true, false, [], ['', '', '']],
    ]);
  });

  it('are on networks whose gateway the host need not know', () => {
    expect(parseConfig('networks: { u: { nic: eth0 }, v: { nic: eth1, gateway: 198.51.100.1/24 } }', 'f').networks).toEqual([
      { name: 'u', nic: 'eth0', gateway: null },
      { name: 'v', nic: 'eth1', gateway: { address: '198.51.100.1', prefix: 24 } },
    ]);
  });

  it('are on the NIC itself where no networks are named', () => {
    expect(resolve('nic: eth0\npools: { p: { addresses: 203.0.113.16 } }').pools[0].network).toBe('eth0');
    expect(parseConfig('networks: { a: { nic: eth7 } }', 'f').nic).toBe('eth7');
  });

  it.each([
    ['an address of another pool', 'pools:\n  a: { addresses: "203.0.113.1-203.0.113.9" }\n  b: { addresses: "203.0.113.8-203.0.113.20" }', 'f.yaml:4: pools.b.addresses: 203.0.113.8-203.0.113.9 is in pool a too (lines 3 and 4); take it out of one'],
    ['an address twice', 'pools:\n  a: { addresses: "203.0.113.1-203.0.113.9,203.0.113.9" }', 'f.yaml:3: pools.a.addresses: 203.0.113.9 is given twice; take it out of one'],
    ['a shared address', 'pools:\n  a: { addresses: "192.0.2.1-192.0.2.20" }', 'f.yaml:3: pools.a.addresses: 192.0.2.10 is a shared address, the host\'s own; take it out of the pool'],
    ['an address that a guest leases', 'pools:\n  a: { addresses: "203.0.113.1-203.0.113.9" }\nguests:\n  web: { lease: { address: 203.0.113.4 } }', 'f.yaml:3: pools.a.addresses: 203.0.113.4 is leased to guest web by name (line 5); take it out of the pool'],
    ['a range that ends before it begins', 'pools:\n  a: { addresses: "203.0.113.9-203.0.113.1" }', 'f.yaml:3: pools.a.addresses: 203.0.113.9-203.0.113.1 ends before it begins; write 203.0.113.1-203.0.113.9'],
    ['what is no address', 'pools:\n  a: { addresses: "203.0.113.0/24" }', 'f.yaml:3: pools.a.addresses: not a range of addresses (got "203.0.113.0/24", expected addresses as 203.0.113.16 or "203.0.113.16-203.0.113.31,203.0.113.40")'],
    ['addresses that no host has', 'pools:\n  a: { addresses: 224.0.0.1 }', 'f.yaml:3: pools.a.addresses: a multicast address (got 224.0.0.1); name addresses that one host can have'],
    ['more than a million', 'pools:\n  a: { addresses: "10.0.0.0-10.255.255.255" }', 'f.yaml:2: pools: too many addresses (got 16777216, expected at most 1048576); remove some'],
    ['a network that is not there', 'networks: { u: { nic: eth0 } }\npools:\n  a: { network: v, addresses: 203.0.113.1 }', 'f.yaml:4: pools.a.network: there is no network v (expected one of u); add it under `networks`'],
    ['no network where there are two', 'networks: { u: { nic: eth0 }, v: { nic: eth1 } }\npools:\n  a: { addresses: 203.0.113.1 }', 'f.yaml:4: pools.a: on which network is it? (got no `network`, expected one of u, v)'],
    ['a NIC on two networks', 'networks:\n  u: { nic: eth0 }\n  v: { nic: eth0 }', 'f.yaml:4: networks.v.nic: eth0 is on network u too (lines 3 and 4); name another'],
    ['a gateway without its network\'s length', 'networks: { u: { nic: eth0 }, v: { nic: eth1, gateway: 198.51.100.1 } }', 'f.yaml:2: networks.v.gateway: wrong value (got "198.51.100.1", expected a router with the prefix length of its network, as 198.51.100.1/24)'],
    ['a gateway that is no address', 'networks: { u: { nic: eth0 }, v: { nic: eth1, gateway: 198.51.100.256/24 } }', 'f.yaml:2: networks.v.gateway: wrong value (got "198.51.100.256/24", expected a router with the prefix length of its network, as 198.51.100.1/24)'],
    ['a gateway of the first network', 'networks:\n  u: { nic: eth0, gateway: 198.51.100.1/24 }', 'f.yaml:3: networks.u.gateway: that of the first network is the host\'s own, which guests are told (got one); leave it out'],
    ['another NIC beside networks', 'nic: eth9\nnetworks: { u: { nic: eth0 } }', 'f.yaml:2: nic: not that of the first network (got eth9, expected eth0, whose addresses are shared); leave it out beside `networks`'],
    ['a guest of a pool that is not there', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: { name: b } }', 'f.yaml:4: guests.db.pool: there is no pool b (expected one of any, a)'],
    ['a guest of pools where there are none', 'guests:\n  db: { pool: {} }', 'f.yaml:3: guests.db.pool: there are no pools; add one under `pools`'],
    ['a pool and the address of a lease', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: {}, lease: { address: 203.0.113.1 } }', 'f.yaml:4: guests.db.lease.address: the address of a guest of a pool is the pool\'s to give; remove `address`, or `pool`'],
    ['an agent of a guest of a pool', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: {}, agent: {} }', 'f.yaml:4: guests.db.agent: a guest of a pool has no `agent`; remove one of the two'],
    ['a pool and ports in use', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: {}, use: { tcp: 80 } }', 'f.yaml:4: guests.db.use: a guest of a pool without `lease` uses its whole address (got ports, expected all); write `use: all`, or leave it out'],
    ['ports of a pool and ports in use', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: { ports: 1024 }, use: { tcp: 80 } }', 'f.yaml:4: guests.db.use: a guest of a pool without `lease` learns its ports from the pool (got ports, expected all); write `use: all`, or leave it out'],
    ['ports of a pool and ports by name', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: { ports: 1024 }, lease: { tcp: 80 } }', 'f.yaml:4: guests.db.lease: the ports of this guest are the pool\'s to give (got `lease` and `pool.ports`, expected one of them); remove the other'],
    ['a number of ports that is no block', 'guests:\n  db: { pool: { ports: 1000 } }', 'f.yaml:3: guests.db.pool.ports: wrong value (got 1000, expected a power of two, 1 to 32768)'],
    ['ports in use that a dedicated address is not leased with', 'pools: { a: { addresses: 203.0.113.1 } }\nguests:\n  db: { pool: {}, lease: { tcp: "80,443" }, use: { tcp: 8080 } }', 'f.yaml:4: guests.db.use.tcp: not in the guest\'s lease (got 8080, expected ports of 80,443); add to `lease`, or remove here'],
    ['a policy that is not there', 'guests:\n  db: { pool: { policy: best } }', /guests\.db\.pool\.policy: wrong value \(got "best", expected one of first-fit, least-load, .*, or weights as/],
    ['a weight of nothing', 'guests:\n  db: { pool: { policy: { least-load: 0 } } }', /guests\.db\.pool\.policy.*: wrong value \(got 0, expected a weight above 0/],
    ['a speed without a unit', 'pools: { a: { addresses: 203.0.113.1, speed: "10" } }', /pools\.a\.speed: wrong value \(got "10", expected a rate in bits a second with its unit, as 10Gbit/],
  ])('refuse %s', (_name, text, message) => {
    expect(why(text)).toEqual(typeof message === 'string' ? message : expect.stringMatching(message));
  });

  it('refuse an address that the host has on another interface', () => {
    const hostAddresses = [{ address: parseIpv4('203.0.113.4') as number, owner: 'the host\'s own (eth1)' }];
    expect(why('pools:\n  a: { addresses: "203.0.113.1-203.0.113.9" }', { hostAddresses })).toBe('f.yaml:3: pools.a.addresses: 203.0.113.4 is the host\'s own (eth1); take it out of the pool');
  });
});
