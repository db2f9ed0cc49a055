/**
 * The world of the tests of mapped guests:
 *
 *     192.0.2.10 shared, 192.0.2.11 shared      guest 0   10.0.7.2   tcp 8443 → 443, udp 5000-5009 → 6000, block 20480-20483
 *     gateway 10.0.7.1                          guest 1   10.0.7.3   tcp 9443 → 443, block 20484-20487
 *                                               guest 2   shares the address: tcp 8080 in use
 */
import type { PlaneOptions } from './dataplane-harness.js';
import { ip } from './dataplane-harness.js';
import type { Maps } from '../../src/steering/maps.js';
import { eth, type EthernetOptions, type FrameBuilder, type Ipv4Options } from '../../src/wire/frame-builder.js';
import { parseMac } from '../../src/wire/address.js';

export const SHARED = '192.0.2.10';
export const SECOND = '192.0.2.11';
export const REMOTE = '198.51.100.7';
export const INSIDE = '10.0.7.2';
export const OTHER_INSIDE = '10.0.7.3';
export const GATEWAY = '10.0.7.1';
export const NIC = '02:00:00:00:00:0a';
export const ROUTER = '02:00:00:00:00:01';
export const GATEWAY_MAC = '02:62:65:72:74:68';
export const GUEST_MAC = '02:00:00:00:07:02';
export const OTHER_MAC = '02:00:00:00:07:03';
export const BLOCK = { first: 20_480, last: 20_483 };
export const OTHER_BLOCK = { first: 20_484, last: 20_487 };

export const MAPS: Maps = {
  outside: [ip(SHARED), ip(SECOND)],
  guests: [
    { link: 0, inside: ip(INSIDE), gateway: ip(GATEWAY), mac: parseMac(GUEST_MAC), block: BLOCK, tcp: [{ first: 8443, last: 8443, to: 443 }], udp: [{ first: 5000, last: 5009, to: 6000 }] },
    { link: 1, inside: ip(OTHER_INSIDE), gateway: ip(GATEWAY), mac: parseMac(OTHER_MAC), block: OTHER_BLOCK, tcp: [{ first: 9443, last: 9443, to: 443 }], udp: [] },
  ],
};

type Endpoint = NonNullable<PlaneOptions['mapped']>[number];

function mapped(guest: number, proto: 'tcp' | 'udp', first: number, last: number): Endpoint[] {
  return [SHARED, SECOND].flatMap((address) => Array.from({ length: last - first + 1 }, (_, n): Endpoint => ({ address, proto, port: first + n, guest })));
}

export const MAPPED_WORLD: PlaneOptions = {
  mapped: [
    ...mapped(0, 'tcp', 8443, 8443),
    ...mapped(0, 'udp', 5000, 5009),
    ...mapped(1, 'tcp', 9443, 9443),
    ...(['tcp', 'udp'] as const).flatMap((proto) => [...mapped(0, proto, BLOCK.first, BLOCK.last), ...mapped(1, proto, OTHER_BLOCK.first, OTHER_BLOCK.last)]),
  ],
  entries: [
    { address: SHARED, proto: 'tcp', port: 8080, guest: 2, state: 'in use' },
    { address: SHARED, proto: 'tcp', port: 8081, guest: 2, state: 'leased' },
  ],
  addresses: [SECOND],
  station: NIC,
  maps: MAPS,
};

/** A frame from outside, and what a guest is to get. */
export const fromOutside = (ip: Ipv4Options = {}, ethernet: EthernetOptions = {}): FrameBuilder => eth({ src: ROUTER, dst: NIC, ...ethernet }).ipv4({ src: REMOTE, dst: SHARED, ...ip });
export const toGuestFrame = (ip: Ipv4Options = {}, ethernet: EthernetOptions = {}): FrameBuilder => eth({ src: GATEWAY_MAC, dst: GUEST_MAC, ...ethernet }).ipv4({ src: REMOTE, dst: INSIDE, ...ip });
/** A frame of guest 0, and what the outside is to get. */
export const fromGuest = (ip: Ipv4Options = {}, ethernet: EthernetOptions = {}): FrameBuilder => eth({ src: GUEST_MAC, dst: GATEWAY_MAC, ...ethernet }).ipv4({ src: INSIDE, dst: REMOTE, ...ip });
export const toOutside = (ip: Ipv4Options = {}, ethernet: EthernetOptions = {}): FrameBuilder => eth({ src: NIC, dst: ROUTER, ...ethernet }).ipv4({ src: SHARED, dst: REMOTE, ...ip });
