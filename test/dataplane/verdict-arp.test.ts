/**
 * ARP, both directions: replies are copied to the guests of the address; the host answers requests, Berth by proxy those for a dedicated
 * address in use; a guest may ask and answer for what is leased to it and may not move a shared address; design §3.
 */
import { describe } from 'vitest';
import { DISCARD, ip, PASS, TO_NIC } from '../support/dataplane-harness.js';
import { BARE, BY_PORTS, NOT_US, REMOTE, SECOND, SHARED, verdictTable, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED } from '../support/dataplane-rows.js';
import { type ArpOptions, eth } from '../../src/wire/frame-builder.js';

const NIC = '02:00:5e:10:00:10';
const GUEST = '02:00:5e:10:00:99';

describe('ARP from outside', () => {
  const reply = (targetIp: string, dst = NIC) => eth({ dst }).arp('reply', { senderIp: REMOTE, targetIp }).build();
  const request = (targetIp: string) => eth().arp('request', { senderIp: REMOTE, targetIp }).build();
  const patched = (at: number, ...bytes: number[]) => {
    const frame = reply(SHARED);
    frame.set(bytes, at);
    return frame;
  };
  const patchedRequest = (at: number, ...bytes: number[]) => {
    const frame = request(WHOLE);
    frame.set(bytes, at);
    return frame;
  };
  verdictTable(
    [
      { name: 'passes a reply and copies it to each guest of the address', frame: reply(SHARED), verdict: PASS, copies: [0, 1] },
      { name: 'copies a reply to the one guest of a second address and no other', frame: reply(SECOND), verdict: PASS, copies: [1] },
      { name: 'copies a reply to both guests of a dedicated address with an exact entry', frame: reply(WHOLE), verdict: PASS, copies: [2, 1] },
      { name: 'copies nothing for an address of ours without guests', frame: reply(BARE), verdict: PASS },
      { name: 'passes a reply to elsewhere', frame: reply(NOT_US), verdict: PASS, reason: 'not-ours' },
      { name: 'copies a broadcast reply', frame: reply(SHARED, 'ff:ff:ff:ff:ff:ff'), verdict: PASS, copies: [0, 1] },
      { name: 'copies each reply of many', steps: [1, 2, 3].map(() => ({ frame: reply(SHARED), verdict: PASS, copies: [0, 1] })) },
      { name: 'passes a request for a shared address: the host answers', frame: request(SHARED), verdict: PASS },
      { name: 'passes a request for elsewhere', frame: request(NOT_US), verdict: PASS, reason: 'not-ours' },
      { name: 'passes an announcement of elsewhere', frame: eth().arp('request', { senderIp: NOT_US, targetIp: NOT_US }).build(), verdict: PASS, reason: 'not-ours' },
      { name: 'answers a request for a dedicated address in use by proxy; its guest need not', frame: request(WHOLE), verdict: PASS, proxied: true },
      { name: 'answers it when it is asked of our MAC alone, and tagged', frame: eth({ dst: NIC }).vlan(7).arp('request', { senderIp: REMOTE, targetIp: WHOLE }).build(), verdict: PASS, proxied: true },
      { name: 'answers a probe: the address is in use (RFC 5227)', frame: eth().arp('request', { senderIp: '0.0.0.0', targetIp: WHOLE }).build(), verdict: PASS, proxied: true },
      { name: 'answers nothing asked of another station', frame: eth({ dst: GUEST }).arp('request', { senderIp: REMOTE, targetIp: WHOLE }).build(), verdict: PASS, reason: 'other-station' },
      { name: 'answers no request for a dedicated address not in use', frame: request(WHOLE_LEASED), verdict: PASS },
      { name: 'answers no request for a quarantined address', frame: request(WHOLE_QUARANTINED), verdict: PASS },
      { name: 'begins to answer with the use and stops with the release', steps: [
        { frame: request(WHOLE_LEASED), verdict: PASS },
        { before: ({ writer }) => writer.useWhole(ip(WHOLE_LEASED)), frame: request(WHOLE_LEASED), verdict: PASS, proxied: true },
        { before: ({ writer }) => writer.quarantine(ip(WHOLE_LEASED), 0, 0), frame: request(WHOLE_LEASED), verdict: PASS },
      ] },
      { name: 'answers for an address of which a port is in use, whoever has the rest of it', steps: [
        { frame: request(BY_PORTS), verdict: PASS },
        { before: ({ writer }) => writer.use(ip(BY_PORTS), 0, 1024), frame: request(BY_PORTS), verdict: PASS, proxied: true },
        { before: ({ writer }) => writer.quarantine(ip(BY_PORTS), 0, 1024) && writer.settleUsed(), frame: request(BY_PORTS), verdict: PASS },
      ] },
      { name: 'and from the guest’s first frame on (D7)', steps: [
        { from: 1, frame: eth({ src: NIC }).ipv4({ src: BY_PORTS, dst: REMOTE }).udp(1025, 53).build(), verdict: TO_NIC },
        { frame: request(BY_PORTS), verdict: PASS, proxied: true },
        { before: ({ writer }) => (writer.sweepIdle(1), writer.sweepIdle(1)), frame: request(BY_PORTS), verdict: PASS },
      ] },
      { name: 'passes ARP for another hardware as not IPv4', frame: patched(14, 0, 6), verdict: PASS, reason: 'not-ipv4' },
      { name: 'passes ARP for another protocol as not IPv4', frame: patched(16, 0x86, 0xdd), verdict: PASS, reason: 'not-ipv4' },
      { name: 'passes ARP with other address lengths as not IPv4', frame: patched(18, 6, 16), verdict: PASS, reason: 'not-ipv4' },
      { name: 'answers no other operation (RARP request)', frame: patchedRequest(20, 0, 3), verdict: PASS },
      { name: 'copies no other operation (RARP reply)', frame: patched(20, 0, 4), verdict: PASS },
      { name: 'copies no operation 0x0102', frame: patched(20, 1, 2), verdict: PASS },
      { name: 'passes 27 bytes of ARP as malformed', frame: reply(SHARED).subarray(0, 41), verdict: PASS, reason: 'malformed' },
    ],
    { station: NIC },
  );
  verdictTable([
    { name: 'goes on when a guest’s link does not take its copy', before: ({ sink }) => (sink.copyStatus = -17), frame: reply(SHARED), verdict: PASS, copies: [0, 1] },
  ]);
});

describe('ARP from a guest', () => {
  const request = (arp: ArpOptions, src = NIC) => eth({ src }).arp('request', { targetIp: REMOTE, ...arp }).build();
  const reply = (arp: ArpOptions, src = NIC) => eth({ src, dst: GUEST }).arp('reply', { targetIp: REMOTE, ...arp }).build();
  verdictTable(
    [
      { name: 'forwards a request from a shared address of the guest', from: 0, frame: request({ senderIp: SHARED }), verdict: TO_NIC },
      { name: 'forwards it for every guest of the address', from: 1, frame: request({ senderIp: SHARED }), verdict: TO_NIC },
      { name: 'refuses a guest that leases nothing on the address', from: 2, frame: request({ senderIp: SHARED }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses an address of ours without leases', from: 0, frame: request({ senderIp: BARE }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses an address that is not ours', from: 0, frame: request({ senderIp: NOT_US }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses a probe from 0.0.0.0', from: 0, frame: request({ senderIp: '0.0.0.0', targetIp: SHARED }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses an announcement of a shared address', from: 0, frame: request({ senderIp: SHARED, targetIp: SHARED }), verdict: DISCARD, reason: 'announcement' },
      { name: 'refuses an announcement by reply', from: 0, frame: reply({ senderIp: SHARED, targetIp: SHARED }), verdict: DISCARD, reason: 'announcement' },
      { name: 'refuses an announcement of an address that is not the guest’s as spoofed', from: 2, frame: request({ senderIp: SHARED, targetIp: SHARED }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'forwards an announcement of the guest’s dedicated address', from: 2, frame: request({ senderIp: WHOLE, targetIp: WHOLE }), verdict: TO_NIC },
      { name: 'refuses an announcement of a dedicated address by the guest of an exact entry', from: 1, frame: request({ senderIp: WHOLE, targetIp: WHOLE }), verdict: DISCARD, reason: 'announcement' },
      { name: 'refuses an announcement of a quarantined address', from: 2, frame: request({ senderIp: WHOLE_QUARANTINED, targetIp: WHOLE_QUARANTINED }), verdict: DISCARD, reason: 'announcement' },
      { name: 'forwards a reply to a neighbour', from: 0, frame: reply({ senderIp: SHARED }), verdict: TO_NIC },
      { name: 'refuses another source MAC on the frame', from: 0, frame: request({ senderIp: SHARED, senderMac: NIC }, GUEST), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses another sender MAC inside: it would poison the neighbours’ caches', from: 0, frame: request({ senderIp: SHARED, senderMac: GUEST }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses a sender MAC that differs in its last byte', from: 0, frame: reply({ senderIp: SHARED, senderMac: '02:00:5e:10:00:11' }), verdict: DISCARD, reason: 'spoofed' },
      { name: 'refuses tagged ARP', from: 0, frame: eth({ src: NIC }).vlan(1).arp('request', { senderIp: SHARED }).build(), verdict: DISCARD, reason: 'tagged' },
      { name: 'refuses ARP that is cut off', from: 0, frame: request({ senderIp: SHARED }).subarray(0, 41), verdict: DISCARD, reason: 'malformed' },
    ],
    { station: NIC },
  );
});
