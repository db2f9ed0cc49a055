/**
 * Frames of a guest for Berth's own DHCP server: handed to the control plane where it serves the link, and never forwarded.
 */
import { describe, expect, it } from 'vitest';
import { DISCARD, Plane, TO_NIC } from '../support/dataplane-harness.js';
import { REMOTE, type Row, SHARED, verdictTable, WHOLE, WORLD } from '../support/dataplane-rows.js';
import { formatIpv4 } from '../../src/wire/address.js';
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT, SERVER_ADDRESS } from '../../src/wire/dhcp.js';
import { eth, fragment } from '../../src/wire/frame-builder.js';

const NIC = '02:00:5e:10:00:10';
const BROADCAST = { src: NIC, dst: 'ff:ff:ff:ff:ff:ff' };
const discover = eth(BROADCAST).ipv4({ src: '0.0.0.0', dst: '255.255.255.255' }).udp(DHCP_CLIENT_PORT, DHCP_SERVER_PORT, { payload: new Uint8Array(300) });
const from = (src: string, dst = formatIpv4(SERVER_ADDRESS)) => eth({ src: NIC }).ipv4({ src, dst }).udp(DHCP_CLIENT_PORT, DHCP_SERVER_PORT).build();
const taken = { verdict: DISCARD, reason: 'dhcp', punted: true } as const;
const spoofed = { verdict: DISCARD, reason: 'spoofed' } as const;
const served = { dhcp: [0, 2] };

describe('DHCP from a guest', () => {
  const rows: Row[] = [
    { name: 'hands over a broadcast from 0.0.0.0', from: 0, frame: discover.build(), ...taken },
    { name: 'hands over a renewal from the guest’s address', from: 0, frame: from(SHARED), ...taken },
    { name: 'hands over what is for another server: it never leaves the host', from: 0, frame: from(SHARED, REMOTE), ...taken },
    { name: 'hands over a frame with IP options', from: 0, frame: eth(BROADCAST).ipv4({ src: '0.0.0.0', dst: '255.255.255.255', options: [1, 1, 1, 1] }).udp(68, 67).build(), ...taken },
    { name: 'refuses it on a link that is not served', from: 1, frame: discover.build(), ...spoofed },
    { name: 'refuses it under another MAC', from: 0, frame: eth({ ...BROADCAST, src: '02:00:5e:10:00:11' }).ipv4({ src: '0.0.0.0' }).udp(68, 67).build(), ...spoofed },
    { name: 'refuses a fragment of it', from: 0, frame: fragment(discover.build(), 200)[0], ...spoofed },
    { name: 'refuses it under a tag', from: 0, frame: eth(BROADCAST).vlan(5).ipv4({ src: '0.0.0.0' }).udp(68, 67).build(), verdict: DISCARD, reason: 'tagged' },
    { name: 'refuses TCP from 68 to 67', from: 0, frame: eth(BROADCAST).ipv4({ src: '0.0.0.0' }).tcp(68, 67).build(), ...spoofed },
    { name: 'refuses an answer of a server: a guest is none', from: 0, frame: eth(BROADCAST).ipv4({ src: SHARED }).udp(67, 68).build(), ...spoofed },
    { name: 'leaves other traffic of the guest as it is', from: 0, frame: eth({ src: NIC }).ipv4({ src: SHARED, dst: REMOTE }).tcp(8080, 443).build(), verdict: TO_NIC },
    {
      name: 'hands over a renewal from a dedicated address, whose client’s port is leased to nobody',
      from: 2,
      before: ({ writer }) => writer.lease(0xc0000214, 1, DHCP_CLIENT_PORT, 0xffff, false),
      frame: from(WHOLE),
      ...taken,
    },
    { name: 'counts what the control plane does not take', from: 0, before: ({ sink }) => (sink.takes = false), frame: discover.build(), ...taken, after: ({ counters }) => expect(counters.read().punts).toBe(0) },
  ];
  verdictTable(rows, { station: NIC, ...served });
});

describe('ARP for the server', () => {
  const arp = (senderIp: string, targetIp = formatIpv4(SERVER_ADDRESS)) => eth({ src: NIC }).arp('request', { senderIp, targetIp }).build();
  verdictTable(
    [
      { name: 'hands over a request from the guest’s address', from: 0, frame: arp(SHARED), ...taken },
      { name: 'hands over a probe', from: 0, frame: arp('0.0.0.0'), ...taken },
      { name: 'forwards a request for another address', from: 0, frame: arp(SHARED, REMOTE), verdict: TO_NIC },
      { name: 'refuses a probe for another address', from: 0, frame: arp('0.0.0.0', SHARED), ...spoofed },
      { name: 'forwards it on a link that is not served', from: 1, frame: arp(SHARED), verdict: TO_NIC },
    ],
    { station: NIC, ...served },
  );
});

describe('a guest that leaves', () => {
  it('leaves a link that is not served', () => {
    const plane = new Plane({ entries: WORLD, station: NIC, ...served });
    plane.engine.memory.forgetLink(0);
    expect(plane.egress(0, discover.build())).toMatchObject([spoofed]);
  });
});
