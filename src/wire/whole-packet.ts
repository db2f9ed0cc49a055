/**
 * A packet as it would be on the wire: out of a live frame, whose checksum may still be partial (virtio 1.2 §5.1.6).
 *
 * Memory       the frame is borrowed for the call; the packet is a copy, the caller's.
 */
import { checksum, pseudoHeaderSum } from './checksum.js';
import { PROTOCOL_TCP } from './ipv4.js';

/** Fields of `struct virtio_net_hdr`, by their offset from its start, host byte order. */
const FLAGS = 0;
const GSO_TYPE = 1;
const NEEDS_CHECKSUM = 1;
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;

/**
 * The IPv4 packet at `l3` of `bytes`, `available` bytes of which are there, with its checksum complete. All of them are its where its total
 * length is 0, as to the parse stage.
 * @param header where its virtio-net header begins.
 * @returns null for one that is to be cut into several yet (segmentation offload), or that is not all there.
 */
export function wholePacket(bytes: Uint8Array, header: number, l3: number, available: number): Uint8Array | null {
  const total = ((bytes[l3 + 2] << 8) | bytes[l3 + 3]) || available;
  if (bytes[header + GSO_TYPE] !== 0 || total > available) return null;
  const packet = bytes.slice(l3, l3 + total);
  if ((bytes[header + FLAGS] & NEEDS_CHECKSUM) === 0) return packet;
  const view = new DataView(packet.buffer);
  const start = (packet[0] & 15) * 4;
  const protocol = packet[9];
  const at = start + (protocol === PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
  view.setUint16(at, 0);
  const sum = checksum(packet, start, total - start, pseudoHeaderSum(view.getUint32(12), view.getUint32(16), protocol, total - start));
  view.setUint16(at, sum === 0 && protocol !== PROTOCOL_TCP ? 0xffff : sum);
  return packet;
}
