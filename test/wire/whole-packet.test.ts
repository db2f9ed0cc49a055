/** A whole packet out of a live frame, its checksum completed: compared with the packet that the builder makes. */
import { describe, expect, it } from 'vitest';
import { wholePacket } from '../../src/wire/whole-packet.js';
import { type FrameBuilder, ipv4 } from '../../src/wire/frame-builder.js';

const HEADER = 10;
const NEEDS_CHECKSUM = 1;
const addresses = { src: '192.0.2.10', dst: '198.51.100.7' };

/** The packet behind a virtio-net header that says its checksum is partial. */
function whole(packet: Uint8Array, header = [NEEDS_CHECKSUM]): Uint8Array | null {
  const bytes = new Uint8Array(HEADER + packet.length);
  bytes.set(header);
  bytes.set(packet, HEADER);
  return wholePacket(bytes, 0, HEADER, packet.length);
}

describe('a whole packet', () => {
  const kinds: [string, FrameBuilder][] = [
    ['TCP', ipv4(addresses).tcp(1, 80, { payload: 'hello' })],
    ['UDP', ipv4(addresses).udp(1, 53, { payload: 'hello' })],
    ['UDP under options', ipv4({ ...addresses, options: [1, 1, 1, 1] }).udp(1, 53, { payload: 'hello' })],
  ];
  it.each(kinds)('of %s has its checksum', (_name, builder) => {
    const expected = builder.packet();
    const partial = expected.slice();
    partial[(partial[0] & 15) * 4 + (partial[9] === 6 ? 16 : 6)] ^= 0x5a;
    expect(whole(partial)).toEqual(expected);
  });

  it.each(kinds)('of %s is all that is there where its total length is 0', (_name, builder) => {
    const packet = builder.packet();
    packet.fill(0, 2, 4);
    expect(whole(packet)).toEqual(packet);
  });

  it('is none where it is to be cut, or longer than what is there', () => {
    const packet = ipv4(addresses).tcp(1, 80, { payload: 'hello' }).packet();
    expect(whole(packet, [NEEDS_CHECKSUM, 1])).toBeNull();
    expect(whole(packet.subarray(0, -1))).toBeNull();
  });
});
