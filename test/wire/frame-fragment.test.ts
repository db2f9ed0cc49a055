/** Splitting frames (RFC 791 §3.2), checked by putting them together again. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksum } from '../../src/wire/checksum.js';
import { eth, fragment } from '../../src/wire/frame-builder.js';
import { FRAGMENT_OFFSET_MASK, MORE_FRAGMENTS } from '../../src/wire/ipv4.js';

/** The IPv4 fields of a frame that has `tags` VLAN tags. */
function read(frame: Uint8Array, tags = 0) {
  const at = 14 + tags * 4;
  const view = new DataView(frame.buffer, frame.byteOffset + at, frame.byteLength - at);
  const header = (view.getUint8(0) & 15) * 4;
  const word = view.getUint16(6);
  return {
    total: view.getUint16(2),
    id: view.getUint16(4),
    more: (word & MORE_FRAGMENTS) !== 0,
    offset: (word & FRAGMENT_OFFSET_MASK) * 8,
    options: frame.subarray(at + 20, at + header),
    data: frame.subarray(at + header),
    headerSum: checksum(frame, at, header),
  };
}

describe('fragment', () => {
  it('splits 3,008 bytes of data for an MTU of 1500 into 1480, 1480 and 48', () => {
    const frame = eth().ipv4({ id: 77 }).udp(53, 40000, { payload: new Uint8Array(3000) }).build();
    const parts = fragment(frame, 1500).map((part) => read(part));
    expect(parts.map(({ offset, more, data, id }) => ({ offset, more, bytes: data.length, id }))).toEqual([
      { offset: 0, more: true, bytes: 1480, id: 77 },
      { offset: 1480, more: true, bytes: 1480, id: 77 },
      { offset: 2960, more: false, bytes: 48, id: 77 },
    ]);
  });

  it('gives any packet back when the pieces are put together, also after a second split', () => {
    const mtus = fc.tuple(fc.integer({ min: 68, max: 1500 }), fc.integer({ min: 68, max: 1500 }));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4000 }), mtus, fc.nat(2), (payload, [first, second], tags) => {
        let start = eth();
        for (let i = 0; i < tags; i++) start = start.vlan(i);
        const frame = start.ipv4().udp(1, 2, { payload }).padTo(60).build();
        const parts = fragment(frame, first).flatMap((part) => fragment(part, second));
        const whole = new Uint8Array(read(frame, tags).total - 20);
        parts.forEach((bytes, i) => {
          const part = read(bytes, tags);
          expect(part.headerSum).toBe(0);
          expect(part.total).toBe(20 + part.data.length);
          expect(part.total).toBeLessThanOrEqual(Math.min(first, second));
          expect(part.more).toBe(i < parts.length - 1);
          whole.set(part.data, part.offset);
        });
        expect(whole).toEqual(read(frame, tags).data.subarray(0, whole.length));
      }),
    );
  });

  it('repeats only options with the copied bit in later fragments', () => {
    const options = [7, 3, 4, 1, 0x94, 4, 0, 0];
    const frame = eth().ipv4({ options }).udp(1, 2, { payload: new Uint8Array(100) }).build();
    const [first, later] = fragment(frame, 68).map((part) => read(part).options);
    expect(Array.from(first)).toEqual(options);
    expect(Array.from(later)).toEqual([0x94, 4, 0, 0]);
  });

  it.each<{ name: string; frame: Uint8Array; mtu: number }>([
    { name: 'DF', frame: eth().ipv4({ dontFragment: true }).udp(1, 2, { payload: new Uint8Array(99) }).build(), mtu: 68 },
    { name: 'an MTU without room', frame: eth().ipv4().udp(1, 2).build(), mtu: 27 },
    { name: 'ARP', frame: eth().arp('request').build(), mtu: 68 },
    { name: 'a total length past the frame', frame: eth().ipv4({ totalLength: 999 }).udp(1, 2).build(), mtu: 68 },
    { name: 'IHL 4', frame: eth().ipv4({ ihl: 4 }).udp(1, 2).build(), mtu: 68 },
    { name: 'nothing but tags', frame: eth().vlan(1).raw(0x8100, []).build(), mtu: 68 },
    { name: 'no frame at all', frame: new Uint8Array(3), mtu: 68 },
  ])('refuses $name', ({ frame, mtu }) => {
    expect(() => fragment(frame, mtu)).toThrow(expect.objectContaining({ code: 'ERR_FRAME_BUILDER' }));
  });
});
