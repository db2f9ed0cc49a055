/**
 * ARP frames that Berth sends itself, for addresses that no interface of the host has: the reply by proxy, and the announcement.
 *
 * Result   a complete Ethernet frame in memory of its own, at least as long as Ethernet wants it (60 bytes without the FCS).
 * Source   RFC 826 (reply), RFC 5227 §3 (announcement: a request whose sender is its target, as hosts take it best).
 */
import { ARP_BYTES, ARP_ETHERNET_IPV4, ARP_LENGTHS, ARP_OPERATION, ARP_REPLY, ARP_REQUEST, ARP_SENDER_IP, ARP_SENDER_MAC, ARP_TARGET_IP, ARP_TARGET_MAC } from './arp.js';
import { ETHERNET_HEADER_BYTES, ETHERTYPE_ARP } from './ethernet.js';

const MAC_BYTES = 6;
const SHORTEST_FRAME = 60;
const BROADCAST = new Uint8Array(MAC_BYTES).fill(0xff);

/**
 * The reply to a request: its target is at `mac`. `frame` is where the request's frame begins in `bytes`, `packet` where its ARP packet does;
 * what is between them but for the MACs, VLAN tags too, is the reply's as well. All is borrowed for the call.
 * @returns null where none may be sent: the asker has a group address, or is `mac` itself.
 */
export function arpReply(bytes: Uint8Array, frame: number, packet: number, mac: Uint8Array): Uint8Array | null {
  const asker = bytes.subarray(packet + ARP_SENDER_MAC, packet + ARP_SENDER_MAC + MAC_BYTES);
  if ((asker[0] & 1) !== 0 || asker.every((byte, at) => byte === mac[at])) return null;
  const header = packet - frame;
  const reply = new Uint8Array(Math.max(SHORTEST_FRAME, header + ARP_BYTES));
  reply.set(asker);
  reply.set(mac, MAC_BYTES);
  reply.set(bytes.subarray(frame + 2 * MAC_BYTES, packet), 2 * MAC_BYTES);
  reply.set(bytes.subarray(packet, packet + ARP_OPERATION), header);
  reply[header + ARP_OPERATION + 1] = ARP_REPLY;
  reply.set(mac, header + ARP_SENDER_MAC);
  reply.set(bytes.subarray(packet + ARP_TARGET_IP, packet + ARP_BYTES), header + ARP_SENDER_IP);
  reply.set(bytes.subarray(packet + ARP_SENDER_MAC, packet + ARP_SENDER_MAC + MAC_BYTES + 4), header + ARP_TARGET_MAC);
  return reply;
}

/** Tells every neighbour that `address` is at `mac`. */
export function arpAnnouncement(address: number, mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(SHORTEST_FRAME);
  const view = new DataView(frame.buffer);
  frame.set(BROADCAST);
  frame.set(mac, MAC_BYTES);
  view.setUint16(2 * MAC_BYTES, ETHERTYPE_ARP);
  const arp = ETHERNET_HEADER_BYTES;
  view.setUint32(arp, ARP_ETHERNET_IPV4);
  view.setUint16(arp + 4, ARP_LENGTHS);
  view.setUint16(arp + ARP_OPERATION, ARP_REQUEST);
  frame.set(mac, arp + ARP_SENDER_MAC);
  view.setUint32(arp + ARP_SENDER_IP, address);
  view.setUint32(arp + ARP_TARGET_IP, address);
  return frame;
}
