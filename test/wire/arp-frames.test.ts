/** The ARP frames that Berth sends itself: what RFC 826 and RFC 5227 say. */
import { describe, expect, it } from 'vitest';
import { parseIpv4, parseMac } from '../../src/wire/address.js';
import { arpAnnouncement, arpReply } from '../../src/wire/arp-frames.js';
import { eth } from '../../src/wire/frame-builder.js';

const NIC = '02:00:5e:10:00:10';
const ASKER = '02:00:5e:10:00:42';
const mac = parseMac(NIC) as Uint8Array;
const request = (senderMac = ASKER) => eth({ src: senderMac }).arp('request', { senderIp: '198.51.100.7', targetIp: '203.0.113.16', senderMac });
const padded = (frame: Uint8Array): Uint8Array => Uint8Array.from({ ...frame, length: Math.max(60, frame.length) });

describe('ARP frames', () => {
  it('the reply says to the asker alone that the target is at our MAC', () => {
    const expected = eth({ src: NIC, dst: ASKER }).arp('reply', { senderMac: NIC, senderIp: '203.0.113.16', targetMac: ASKER, targetIp: '198.51.100.7' }).build();
    const asked = request().build();
    const memory = new Uint8Array(asked.length + 7);
    memory.set(asked, 7);
    expect(arpReply(memory, 7, 7 + 14, mac)).toEqual(padded(expected));
    expect(memory.subarray(7)).toEqual(asked);
  });

  it('the reply to a tagged request has its tags', () => {
    const expected = eth({ src: NIC, dst: ASKER }).vlan(7).vlan(9).arp('reply', { senderMac: NIC, senderIp: '203.0.113.16', targetMac: ASKER, targetIp: '198.51.100.7' }).build();
    const asked = eth({ src: ASKER }).vlan(7).vlan(9).arp('request', { senderIp: '198.51.100.7', targetIp: '203.0.113.16', senderMac: ASKER }).build();
    expect(arpReply(asked, 0, 22, mac)).toEqual(padded(expected));
  });

  it('no reply to a group address, and none to ourselves', () => {
    for (const asker of ['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', NIC]) expect(arpReply(request(asker).build(), 0, 14, mac)).toBeNull();
  });

  it('the announcement is a broadcast request of the address for itself', () => {
    const expected = eth({ src: NIC, dst: 'ff:ff:ff:ff:ff:ff' }).arp('request', { senderMac: NIC, senderIp: '203.0.113.16', targetMac: '00:00:00:00:00:00', targetIp: '203.0.113.16' }).build();
    expect(arpAnnouncement(parseIpv4('203.0.113.16') as number, mac)).toEqual(padded(expected));
  });
});
