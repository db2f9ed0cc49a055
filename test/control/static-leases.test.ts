/**
 * What a configuration means: who has which endpoints, and what is refused because two would have one.
 *
 * Length       tables of one rule each.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { ConfigError } from '../../src/base/errors.js';
import { countEntries, forEachEntry, type LeasePlan, NO_LINK } from '../../src/control/lease-plan.js';
import { checkPolicy } from '../../src/control/lease-policy.js';
import { NO_PORTS } from '../../src/control/lease-state.js';
import { resolveLeases, type ResolveOptions } from '../../src/control/static-leases.js';
import { formatIpv4, parseIpv4 } from '../../src/wire/address.js';

const ip = (text: string): number => parseIpv4(text)!;
const resolve = (text: string, options?: ResolveOptions): LeasePlan => resolveLeases(parseConfig(text, 'f.yaml'), options);
const guests = (...lines: string[]): string => `addresses: [192.0.2.10]\nguests:\n${lines.map((line) => `  ${line}\n`).join('')}`;

function failure(text: string, options?: ResolveOptions): { code: string; message: string } {
  try {
    resolve(text, options);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { code, message } = error as ConfigError;
    return { code, message };
  }
  throw new Error('the configuration was accepted');
}

function entries(plan: LeasePlan): string[] {
  const found: string[] = [];
  forEachEntry(plan, (address, protocol, port, guest, inUse) => found.push(`${formatIpv4(address)} ${protocol} ${port} ${plan.guests[guest].name} ${inUse ? 'in use' : 'leased'}`));
  return found.sort();
}

describe('a plan', () => {
  it('leases ports on every shared address, and those of use are in use', () => {
    const plan = resolve('addresses: [192.0.2.10, 192.0.2.11]\nguests: { web: { lease: { tcp: "80,443", udp: 53 }, use: { tcp: 80 } } }');
    expect(plan.shared.map(formatIpv4)).toEqual(['192.0.2.10', '192.0.2.11']);
    expect(plan.addresses).toEqual(plan.shared);
    expect(plan.guests[0]).toMatchObject({ name: 'web', index: 0, link: null, mac: null, whole: null, onShared: true, useAll: false });
    expect(entries(plan)).toEqual(
      ['192.0.2.10', '192.0.2.11'].flatMap((address) => [`${address} 17 53 web leased`, `${address} 6 443 web leased`, `${address} 6 80 web in use`]),
    );
  });

  it('keeps the port of the DHCP client from a guest that has a whole address, where Berth serves it', () => {
    const plan = resolve(guests('a: { link: { tap: t, configure: dhcp }, lease: { address: 192.0.2.20 }, use: all }'));
    const found: unknown[] = [];
    forEachEntry(plan, (...entry) => found.push(entry));
    expect(found).toEqual([[ip('192.0.2.20'), 0, 0, 0, true], [ip('192.0.2.20'), 17, 68, NO_LINK, false]]);
    expect(countEntries(plan)).toBe(2);
  });

  it('leases ports on one address, shared or not', () => {
    const plan = resolve(guests('a: { lease: { address: 192.0.2.10, tcp: 80 }, use: all }', 'b: { lease: { address: 192.0.2.20, tcp: 80 } }'));
    expect(entries(plan)).toEqual(['192.0.2.10 6 80 a in use', '192.0.2.20 6 80 b leased']);
    expect(plan.addresses.map(formatIpv4)).toEqual(['192.0.2.10', '192.0.2.20']);
    expect(plan.guests.map(({ onShared }) => onShared)).toEqual([false, false]);
  });

  it.each([
    ['', ['192.0.2.20 0 0 db leased']],
    [', use: all', ['192.0.2.20 0 0 db in use']],
    [', use: { tcp: 5432 }', ['192.0.2.20 0 0 db leased', '192.0.2.20 6 5432 db in use']],
  ])('leases an address whole%s', (use, expected) => {
    const plan = resolve(guests(`db: { lease: { address: 192.0.2.20 }${use} }`));
    expect(plan.guests[0].whole).toBe(ip('192.0.2.20'));
    expect(entries(plan)).toEqual(expected);
  });

  it('takes all that is leased with `use: all`', () => {
    const [guest] = resolve(guests('a: { lease: { tcp: "1-9", udp: 5 }, use: all }')).guests;
    expect(guest).toMatchObject({ useAll: true });
    expect([guest.useTcp.format(), guest.useUdp.format()]).toEqual(['1-9', '5']);
  });

  it('lets two guests have one port number: of two protocols, or on two addresses', () => {
    const plan = resolve(guests('a: { lease: { tcp: 53 } }', 'b: { lease: { udp: 53 } }', 'c: { lease: { address: 192.0.2.20, tcp: 53 } }', 'd: { lease: { address: 192.0.2.21 } }'));
    expect(entries(plan)).toHaveLength(4);
  });

  it("takes the NIC's addresses where none are given, and the given ones where they are", () => {
    const nicAddresses = [ip('198.51.100.1'), ip('198.51.100.1')];
    expect(resolve('nic: eth0', { nicAddresses }).shared).toEqual([ip('198.51.100.1')]);
    expect(resolve('addresses: 192.0.2.10', { nicAddresses }).shared).toEqual([ip('192.0.2.10')]);
  });

  it('can leave the shared addresses open, and still compares the guests', () => {
    const plan = resolve('guests: { a: { lease: { tcp: 80 } } }', { sharedLater: true });
    expect(plan).toMatchObject({ shared: [], guests: [{ onShared: true, addresses: [] }] });
    expect(failure('guests:\n  a: { lease: { tcp: 80 } }\n  b: { lease: { tcp: 80 } }', { sharedLater: true })).toMatchObject({ code: 'ERR_PORT_TAKEN' });
  });

  it('has the MAC address of a guest as bytes', () => {
    const [guest] = resolve(guests('a: { link: { tap: t, mac: 02:00:5E:10:00:01 } }')).guests;
    expect(guest.mac).toEqual(Uint8Array.of(2, 0, 0x5e, 0x10, 0, 1));
  });

  it('has what a guest may ask for, with the ports read', () => {
    const policy = '{ block: 512, maxPorts: 600, threshold: literal, allow: { tcp: "443,80" }, deny: { udp: 53 }, implicit: false, leaseTime: 10m }';
    const [web, db] = resolve(guests(`web: { agent: { connect: true }, policy: ${policy} }`, 'db: {}')).guests;
    expect(web.agent).toEqual({ socket: '/run/berth/web.sock', connect: true });
    expect(web.policy).toMatchObject({ block: 512, maxPorts: 600, threshold: 'literal', implicit: false, leaseTimeMs: 600_000 });
    expect([web.policy.allow, web.policy.deny].map(({ tcp, udp }) => `${tcp.format()}/${udp.format()}`)).toEqual(['80,443/', '/53']);
    expect(db.agent).toBeNull();
    expect(db.policy).toEqual({ block: 1024, maxPorts: 4096, threshold: 'strict', allow: NO_PORTS, deny: NO_PORTS, implicit: true, leaseTimeMs: 3_600_000 });
    expect(() => checkPolicy('db', db.policy)).not.toThrow();
  });

  it('has the pool, whose ports may be found out later', () => {
    expect(resolve(guests('a: {}')).pool).toEqual({ ports: null, reserve: 2048, quarantineMs: 60_000 });
    const { ports, ...rest } = resolve(`pool: { ports: "20000-29999,40000", reserve: 0, quarantine: 0 }\n${guests('a: {}')}`).pool;
    expect(ports?.format()).toBe('20000-29999,40000');
    expect(rest).toEqual({ reserve: 0, quarantineMs: 0 });
  });

  it('accepts 3,000 guests with 20 ports each in good time', () => {
    const lines = Array.from({ length: 3000 }, (_, i) => `g${i}: { lease: { tcp: "${1 + 20 * i}-${20 + 20 * i}" } }`);
    const started = performance.now();
    expect(resolve(guests(...lines)).guests).toHaveLength(3000);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

const EXPECT_PORTS = 'expected ports 1 to 65535, as 80 or "80,443,8000-8999"';

describe('a plan is refused', () => {
  const rows: [name: string, text: string, code: string, message: string][] = [
    [
      'for two guests with one endpoint',
      guests('web: { lease: { tcp: "80,443,8000-8999" } }', 'db: { lease: { tcp: "443,8990-9100" } }'),
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.db.lease.tcp: guests web and db both lease tcp 443, 8990-8999 on 192.0.2.10 (lines 3 and 4); take it from one of the two',
    ],
    [
      'for two guests with endpoints of both protocols',
      guests('web: { lease: { tcp: 80, udp: 53 } }', 'db: { lease: { tcp: 80, udp: "50-60" } }'),
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.db.lease.tcp: guests web and db both lease tcp 80 and udp 53 on 192.0.2.10 (lines 3 and 4); take it from one of the two',
    ],
    [
      'for two guests with one endpoint on several addresses',
      'addresses: [192.0.2.10, 192.0.2.11]\nguests:\n  a: { lease: { udp: 53 } }\n  b: { lease: { udp: 53 } }\n',
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.b.lease.udp: guests a and b both lease udp 53 on every shared address (lines 3 and 4); take it from one of the two',
    ],
    [
      'for one guest on every shared address and another on one of them',
      'addresses: [192.0.2.10, 192.0.2.11]\nguests:\n  a: { lease: { address: 192.0.2.11, tcp: 80 } }\n  b: { lease: { tcp: 80 } }\n',
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.b.lease.tcp: guests a and b both lease tcp 80 on 192.0.2.11 (lines 3 and 4); take it from one of the two',
    ],
    [
      'for two guests on one address of their own',
      guests('a: { lease: { address: 192.0.2.20, tcp: 80 } }', 'b: { lease: { address: 192.0.2.20, tcp: 80 } }'),
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.b.lease.tcp: guests a and b both lease tcp 80 on 192.0.2.20 (lines 3 and 4); take it from one of the two',
    ],
    [
      'for a whole address of which another has a port',
      guests('a: { lease: { address: 192.0.2.20, tcp: 80 } }', 'b: { lease: { address: 192.0.2.20 } }'),
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.b.lease.address: guests a and b both lease 192.0.2.20, one of them as a whole address (lines 3 and 4); take it from one of the two',
    ],
    [
      'for a whole address that two have',
      guests('a: { lease: { address: 192.0.2.20 } }', 'b: { lease: { address: 192.0.2.20 } }'),
      'ERR_PORT_TAKEN',
      'f.yaml:4: guests.b.lease.address: guests a and b both lease 192.0.2.20, both as a whole address (lines 3 and 4); take it from one of the two',
    ],
    [
      "for the host's own address leased whole",
      guests('a: { lease: { address: 192.0.2.10 } }'),
      'ERR_CONFIG_VALUE',
      "f.yaml:3: guests.a.lease.address: 192.0.2.10 is a shared address: the lease would take the host's own address whole; name ports (tcp, udp), or an address that is not shared",
    ],
    [
      'for use outside the lease',
      guests('a:', '  lease: { tcp: "80,443" }', '  use:', '    tcp: "80,440-450"'),
      'ERR_USE_NOT_LEASED',
      "f.yaml:6: guests.a.use.tcp: not in the guest's lease (got 440-442,444-450, expected ports of 80,443); add to `lease`, or remove here",
    ],
    [
      'for use of a protocol that is not leased',
      guests('a: { lease: { tcp: 53 }, use: { udp: 53 } }'),
      'ERR_USE_NOT_LEASED',
      "f.yaml:3: guests.a.use.udp: not in the guest's lease (got 53, expected none: the lease has no such ports); add to `lease`, or remove here",
    ],
    [
      'for use without a lease',
      guests('a: { use: { tcp: 80 } }'),
      'ERR_USE_NOT_LEASED',
      "f.yaml:3: guests.a.use.tcp: not in the guest's lease (got 80, expected none: the lease has no such ports); add to `lease`, or remove here",
    ],
    ['for use of all without a lease', guests('a: { use: all }'), 'ERR_USE_NOT_LEASED', 'f.yaml:3: guests.a.use: the guest has no lease to use (got all); add `lease`, or remove `use`'],
    ['for a lease of nothing', guests('a: { lease: {} }'), 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.a.lease: leases nothing (got neither ports nor an address, expected tcp, udp or address); add one of them'],
    ['for port 0', guests('a: { lease: { tcp: 0 } }'), 'ERR_CONFIG_VALUE', `f.yaml:3: guests.a.lease.tcp: not a port number (got 0, ${EXPECT_PORTS})`],
    [
      'once, for bad ports of a lease whose use cannot be judged then',
      guests('a: { lease: { tcp: "80;443" }, use: { tcp: 80 } }'),
      'ERR_CONFIG_VALUE',
      `f.yaml:3: guests.a.lease.tcp: not a port or a range of ports: "80;443" at character 1 (got "80;443", ${EXPECT_PORTS})`,
    ],
    ['for a MAC address that is none', guests('a: { link: { tap: t, mac: 02-00 } }'), 'ERR_CONFIG_VALUE', 'f.yaml:3: guests.a.link.mac: not a MAC address (got "02-00", expected six bytes as "02:00:5e:10:00:01"); write the NIC\'s, or leave it out'],
    ['for two guests on one tap', guests('a: { link: { tap: t0 } }', 'b: { link: { tap: t0 } }'), 'ERR_LINK_TAKEN', 'f.yaml:4: guests.b.link: tap t0 is the link of guest a too (lines 3 and 4); give each guest its own'],
    [
      'for two guests on one interface of a namespace',
      guests('a: { link: { netns: n } }', 'b: { link: { netns: n, name: eth0 } }'),
      'ERR_LINK_TAKEN',
      'f.yaml:4: guests.b.link: interface eth0 in network namespace n is the link of guest a too (lines 3 and 4); give each guest its own',
    ],
    [
      'for DHCP to a guest with an agent',
      guests('a: { link: { tap: t, configure: dhcp }, agent: {}, lease: { tcp: 80 } }'),
      'ERR_CONFIG_VALUE',
      'f.yaml:3: guests.a.link.configure: the guest has an agent, which sets its network already (got dhcp and an agent, expected one of them); remove the other',
    ],
    [
      'for DHCP to a guest that leases the port of its DHCP client',
      guests('a: { link: { tap: t, configure: dhcp }, lease: { udp: "60-70" } }'),
      'ERR_CONFIG_VALUE',
      "f.yaml:3: guests.a.lease.udp: what the guest's DHCP client sends is for Berth (got udp 60-70, expected ports without 68); leave 68 out",
    ],
    [
      'for DHCP to a guest that uses that port of its own address',
      guests('a: { link: { tap: t, configure: dhcp }, lease: { address: 192.0.2.20 }, use: { udp: 68 } }'),
      'ERR_CONFIG_VALUE',
      "f.yaml:3: guests.a.use.udp: what the guest's DHCP client sends is for Berth (got udp 68, expected ports without 68); leave 68 out",
    ],
    ['for the NIC as a tap', `nic: e0\n${guests('a: { link: { tap: e0 } }')}`, 'ERR_LINK_TAKEN', "f.yaml:4: guests.a.link.tap: e0 is the NIC itself; name a tap of the guest's own"],
    ['for ports of the pool that are none', `pool: { ports: 0-9 }\n${guests('a: {}')}`, 'ERR_CONFIG_VALUE', `f.yaml:1: pool.ports: not a port or a range of ports: "0-9" at character 1 (got "0-9", ${EXPECT_PORTS})`],
    ['for allowed ports that are none', guests('a: { policy: { allow: { tcp: 0 } } }'), 'ERR_CONFIG_VALUE', `f.yaml:3: guests.a.policy.allow.tcp: not a port number (got 0, ${EXPECT_PORTS})`],
    ['for denied ports that are none', guests('a: { policy: { deny: { udp: 9-1 } } }'), 'ERR_CONFIG_VALUE', `f.yaml:3: guests.a.policy.deny.udp: a range that ends before it starts: "9-1" at character 1 (got "9-1", ${EXPECT_PORTS})`],
    [
      'for two agents on one socket, however it is written',
      guests('a: { agent: { socket: /run/x.sock } }', 'b: { agent: { socket: /run/./y/..//x.sock, connect: true } }'),
      'ERR_SOCKET_TAKEN',
      'f.yaml:4: guests.b.agent.socket: /run/x.sock is the agent socket of guest a too (lines 3 and 4); give each guest its own',
    ],
    ['for an agent on the admin socket', guests('admin: { agent: {} }'), 'ERR_SOCKET_TAKEN', 'f.yaml:3: guests.admin.agent.socket: /run/berth/admin.sock is the admin socket too; give each guest its own'],
    ['for an address twice', 'addresses:\n  - 192.0.2.10\n  - 192.0.2.10', 'ERR_CONFIG_VALUE', 'f.yaml:3: addresses[1]: 192.0.2.10 is given twice (also as addresses[0]); keep one'],
  ];
  it.each(rows)('%s', (_name, text, code, message) => {
    expect(failure(text)).toEqual({ code, message });
  });

  it.each([
    ['224.0.0.1', 'a multicast address'],
    ['239.255.255.255', 'a multicast address'],
    ['240.0.0.1', 'a reserved address (240.0.0.0/4)'],
    ['255.255.255.255', 'the broadcast address'],
    ['127.0.0.1', 'a loopback address'],
    ['0.0.0.0', 'an address that names no host (0.0.0.0/8)'],
    ['192.0.2.010', 'not an IPv4 address'],
    ['192.0.2', 'not an IPv4 address'],
    ['2001:db8::1', 'not an IPv4 address'],
    ['example.org', 'not an IPv4 address'],
  ])('for the address %s', (address, why) => {
    const end = `${why} (got "${address}", expected one as 192.0.2.10); name an address that one host can have`;
    expect(failure(`addresses: ["${address}"]`)).toEqual({ code: 'ERR_CONFIG_VALUE', message: `f.yaml:1: addresses[0]: ${end}` });
    expect(failure(guests(`a: { lease: { address: "${address}", tcp: 80 } }`))).toEqual({ code: 'ERR_CONFIG_VALUE', message: `f.yaml:3: guests.a.lease.address: ${end}` });
  });

  it('for an address with a prefix length, which it names', () => {
    expect(failure('addresses: [192.0.2.10/24]').message).toContain('(got "192.0.2.10/24", expected one as 192.0.2.10, without a prefix length)');
  });

  it.each([
    ['nic: eth0', undefined, 'and a replay does not ask the NIC for its own'],
    ['guests: {}', undefined, 'and there is no `nic` whose addresses to take'],
    ['nic: eth0', { nicAddresses: [] }, 'and eth0 has no IPv4 address that could be shared'],
    ['nic: lo', { nicAddresses: [ip('127.0.0.1')] }, 'and lo has no IPv4 address that could be shared'],
  ])('for want of addresses: %s %j', (text, options, why) => {
    expect(failure(text, options)).toEqual({ code: 'ERR_CONFIG_VALUE', message: `f.yaml:1: addresses: missing, ${why} (got nothing, expected IPv4 addresses); write \`addresses: [192.0.2.10]\`` });
  });

  it('for more addresses or guests than the table has room for', () => {
    const addresses = Array.from({ length: 32_768 }, (_, i) => formatIpv4(ip('10.0.0.0') + i));
    expect(failure(`addresses: [${addresses.join(',')}]`).message).toBe('f.yaml:1: addresses: too many addresses (got 32768, expected at most 32767); remove some');
    expect(resolve(`addresses: [${addresses.slice(1).join(',')}]`).shared).toHaveLength(32_767);
    const many = Array.from({ length: 65_536 }, (_, i) => `${i}: {}`);
    expect(failure(`addresses: 192.0.2.10\nguests: {${many.join(',')}}`).message).toBe('f.yaml:2: guests: too many guests (got 65536, expected at most 65535); remove some');
  });

  it('for each guest that a wide lease covers', () => {
    const { message } = failure(guests('a: { lease: { tcp: 1-100 } }', 'b: { lease: { tcp: 5 } }', 'c: { lease: { tcp: 50 } }'));
    expect(message.match(/guests . and . both lease tcp \d+/g)).toEqual(['guests a and b both lease tcp 5', 'guests a and c both lease tcp 50']);
  });

  it('exactly when two guests have an endpoint in common', () => {
    const ports = fc.option(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 3 })), { nil: null });
    const address = fc.constantFrom(null, '192.0.2.10', '192.0.2.11', '192.0.2.20', '192.0.2.21');
    const lease = fc.record({ address, tcp: ports, udp: ports });
    fc.assert(
      fc.property(fc.array(lease, { minLength: 2, maxLength: 4 }), (leases) => {
        const shared = ['192.0.2.10', '192.0.2.11'];
        const valid = leases.filter(({ address: own, tcp, udp }) => tcp !== null || udp !== null || (own !== null && !shared.includes(own)));
        const owned = new Set<string>();
        let collides = false;
        for (const { address: own, tcp, udp } of valid) {
          const mine = (own === null ? shared : [own]).flatMap((at) =>
            (['tcp', 'udp'] as const).flatMap((protocol) => {
              const range = tcp === null && udp === null ? ([1, 40] as const) : protocol === 'tcp' ? tcp : udp;
              return range === null ? [] : Array.from({ length: range[1] + 1 }, (_, i) => `${at} ${protocol} ${range[0] + i}`);
            }),
          );
          collides ||= mine.some((endpoint) => owned.has(endpoint));
          for (const endpoint of mine) owned.add(endpoint);
        }
        const range = (name: string, value: [number, number] | null): string => (value === null ? '' : `${name}: ${value[0]}-${value[0] + value[1]}, `);
        const lines = valid.map(({ address: own, tcp, udp }, i) => `  g${i}: { lease: { ${range('tcp', tcp)}${range('udp', udp)}${own === null ? '' : `address: ${own}`} } }`);
        const text = `addresses: [${shared.join(', ')}]\nguests:${lines.length === 0 ? ' {}' : `\n${lines.join('\n')}`}`;
        if (collides) expect(failure(text).code).toBe('ERR_PORT_TAKEN');
        else expect(() => resolve(text)).not.toThrow();
      }),
      { numRuns: 2000 },
    );
  });

  it('with a line for each problem', () => {
    const { code, message } = failure(guests('a: { lease: { tcp: 80 }, use: { tcp: 81 } }', 'b: { lease: { tcp: 80, address: 127.0.0.1 } }', 'c: { lease: { tcp: 80 } }'));
    expect(code).toBe('ERR_USE_NOT_LEASED');
    expect(message.split('\n').map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual(['f.yaml:3: guests.a.use.tcp', 'f.yaml:4: guests.b.lease.address', 'f.yaml:5: guests.c.lease.tcp']);
  });
});
