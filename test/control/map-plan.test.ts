/**
 * What `mode: map` means, and what is refused: one line a problem, with key, line and what to do. And which block a guest gets.
 */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import type { GuestPlan } from '../../src/control/lease-plan.js';
import { withBlock } from '../../src/control/map-blocks.js';
import { describeMaps, insideOf, mapsOf } from '../../src/control/map-plan.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import { formatIpv4 } from '../../src/wire/address.js';
import { PortSet } from '../../src/wire/port-set.js';

const HEAD = 'nic: eth0\naddresses: [192.0.2.10]\nguests:\n';
const plan = (guests: string) => resolveLeases(parseConfig(HEAD + guests, 'f.yaml'));
const legacy = (settings: string, link = '{ tap: t1 }') => `  legacy: { link: ${link}, mode: map, ${settings} }\n`;
const one = (settings: string): GuestPlan => plan(legacy(settings)).guests[0];

function problemOf(guests: string): string {
  try {
    plan(guests);
  } catch (error) {
    return (error as Error).message;
  }
  return 'none';
}

describe('a mapped guest', () => {
  it('leases its outside ports on every shared address, in use from the start', () => {
    const guest = one('inside: 10.0.7.2, map: [ { tcp: 8443, to: 443 }, { udp: 5000-5009, to: 6000 }, { tcp: "80,82" } ]');
    expect([guest.tcp.format(), guest.udp.format(), guest.onShared, guest.useAll]).toEqual(['80,82,8443', '5000-5009', true, true]);
    expect(guest.addresses.map(formatIpv4)).toEqual(['192.0.2.10']);
    expect(describeMaps(guest.mapped!)).toEqual(['tcp 8443 to 443', 'tcp 80 to 80', 'tcp 82 to 82', 'udp 5000-5009 to 6000-6009']);
    expect([insideOf(guest, 'udp', 5004), insideOf(guest, 'tcp', 82)]).toEqual(['10.0.7.2 port 6004', '10.0.7.2 port 82']);
  });

  it('has the first address of its /24 as gateway, and 1,024 ports of its own, unless it is said otherwise', () => {
    const said = (settings: string) => {
      const { mapped } = one(settings);
      return [formatIpv4(mapped!.gateway), mapped!.blockSize];
    };
    expect(said('inside: 10.0.7.2')).toEqual(['10.0.7.1', 1024]);
    expect(said('inside: 10.0.7.1')).toEqual(['10.0.7.2', 1024]);
    expect(said('inside: 10.0.7.2, gateway: 10.9.9.9, block: 0')).toEqual(['10.9.9.9', 0]);
  });

  it('may have a MAC of its own on a tap; on a link of Berth’s it has the NIC’s', () => {
    const macs = (link: string) => mapsOf(plan(legacy('inside: 10.0.7.2', link)).guests, []).guests[0].mac;
    expect(macs('{ tap: t1, mac: "52:54:00:00:00:01" }')).toEqual(Uint8Array.of(0x52, 0x54, 0, 0, 0, 1));
    expect([macs('{ tap: t1 }'), macs('{ netns: n1 }')]).toEqual([null, 'nic']);
  });

  it.each([
    ['no inside address', legacy('block: 16'), 'f.yaml:4: guests.legacy.inside: missing (got nothing, expected the guest\'s own address); add `inside: 10.0.7.2`'],
    ['no address', legacy('inside: 10.0.7'), 'f.yaml:4: guests.legacy.inside: not an IPv4 address (got "10.0.7", expected one as 192.0.2.10); name an address that one host can have'],
    ['the host\'s own address', legacy('inside: 192.0.2.10'), 'f.yaml:4: guests.legacy.inside: 192.0.2.10 is a shared address (got one of the host\'s own, expected one that only the guest\'s link has); choose a private one'],
    ['itself as gateway', legacy('inside: 10.0.7.2, gateway: 10.0.7.2'), 'f.yaml:4: guests.legacy.gateway: the guest\'s own address cannot be its gateway (got 10.0.7.2 for both); choose another'],
    ['both protocols in one entry', legacy('inside: 10.0.7.2, map: [ { tcp: 1, udp: 1 } ]'), 'f.yaml:4: guests.legacy.map[0]: an entry maps ports of one protocol (got both, expected one of tcp and udp); write an entry for each'],
    ['one outside port twice', legacy('inside: 10.0.7.2, map: [ { tcp: 80-90 }, { tcp: 85, to: 1 } ]'), 'f.yaml:4: guests.legacy.map[1].tcp: tcp 85 is mapped twice; keep one'],
    ['one inside port twice', legacy('inside: 10.0.7.2, map: [ { tcp: 80, to: 1 }, { tcp: 81, to: 1 } ]'), 'f.yaml:4: guests.legacy.map[1].to: inside port 1 is mapped to twice for tcp (an answer from it could leave by either port); map to another'],
    ['ports past the last', legacy('inside: 10.0.7.2, map: [ { udp: 1-10, to: 65530 } ]'), 'f.yaml:4: guests.legacy.map[0].to: goes past the last port (got 65530 for 1-10, expected ports to 65535); map fewer ports, or lower ones'],
    ['a lease', legacy('inside: 10.0.7.2, lease: { tcp: 80 }'), 'f.yaml:4: guests.legacy.lease: a mapped guest has none (got it with `mode: map`); say its ports in `map` and `block`, or remove `mode`'],
    ['an address of a pool', legacy('inside: 10.0.7.2, pool: {}'), 'f.yaml:4: guests.legacy.pool: a mapped guest has none (got it with `mode: map`); say its ports in `map` and `block`, or remove `mode`'],
    ['DHCP', legacy('inside: 10.0.7.2', '{ tap: t1, configure: dhcp }'), 'f.yaml:4: guests.legacy.link.configure: a mapped guest has an address of its own, which Berth does not tell it (got dhcp with `mode: map`); remove it, or remove `mode`'],
    ['a map without the mode', '  web: { link: { tap: t1 }, map: [ { tcp: 80 } ] }\n', 'f.yaml:4: guests.web.map: belongs to a mapped guest (got it without `mode: map`); add `mode: map`, or remove it'],
    ['a misspelt key', legacy('inside: 10.0.7.2, map: [ { tpc: 80 } ]'), 'f.yaml:4: guests.legacy.map[0].tpc: unknown key (got "tpc", expected one of tcp, udp, to); did you mean "tcp"?'],
    ['a block of a strange size', legacy('inside: 10.0.7.2, block: 1000'), 'f.yaml:4: guests.legacy.block: wrong value (got 1000, expected a power of two, 1 to 32768, or 0 for none)'],
    [
      'a port that another guest leases',
      `  web: { link: { tap: t2 }, lease: { tcp: 8000-8999 } }\n${legacy('inside: 10.0.7.2, map: [ { tcp: 8443, to: 443 } ]')}`,
      'f.yaml:5: guests.legacy.map: guests web and legacy both lease tcp 8443 on 192.0.2.10 (lines 4 and 5); take it from one of the two',
    ],
  ])('is refused with %s', (_, guests, problem) => {
    expect(problemOf(guests)).toBe(problem);
  });
});

describe('the block', () => {
  const ports = (text: string) => PortSet.parse(text);
  const blockOf = (block: number, pool: string, taken: string) => withBlock(one(`inside: 10.0.7.2, block: ${block}, map: [ { tcp: 24000 } ]`), ports(pool), taken === '' ? PortSet.EMPTY : ports(taken)).mapped!.block;

  it('is the highest that is free, aligned to its size, and not what is mapped', () => {
    expect(blockOf(1024, '20480-24575', '')).toEqual({ first: 22_528, last: 23_551 }); // 24000 is mapped
    expect(blockOf(256, '20480-24575', '')).toEqual({ first: 24_320, last: 24_575 });
    expect(blockOf(256, '20480-24575', '24320')).toEqual({ first: 24_064, last: 24_319 });
    expect(blockOf(0, '1024-65535', '')).toBeNull();
  });

  it('is leased with the rest, in both protocols', () => {
    const guest = withBlock(one('inside: 10.0.7.2, block: 16, map: [ { tcp: 80 } ]'), ports('1000-2000'), PortSet.EMPTY);
    expect([guest.tcp.format(), guest.udp.format()]).toEqual(['80,1984-1999', '1984-1999']);
  });

  it('is missed in one line where the pool has none', () => {
    expect(() => blockOf(1024, '20000-20500', '')).toThrow('guest legacy: no block of 1024 ports is free for what it begins itself; set a smaller `block`, or widen pool.ports');
  });
});
