/**
 * The Internet checksum against RFC 1071's own example, against raw-socket's C implementation, and its edges.
 */
import { createRequire } from 'node:module';
import fc from 'fast-check';
import type * as RawSocketModule from 'raw-socket';
import { describe, expect, it } from 'vitest';
import { checksum, pseudoHeaderSum } from '../../src/wire/checksum.js';

const raw = createRequire(import.meta.url)('raw-socket') as typeof RawSocketModule;

describe('checksum', () => {
  it.each([
    { name: 'the example of RFC 1071 §3', bytes: [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], sum: 0x220d },
    { name: 'nothing', bytes: [], sum: 0xffff },
    { name: 'an odd byte, padded on the right', bytes: [0xab], sum: 0xffff - 0xab00 },
    { name: 'words whose sum is all ones', bytes: [0xff, 0xff], sum: 0 },
    { name: 'a carry that makes a second carry', bytes: [0xff, 0xff, 0xff, 0xff, 0x00, 0x01], sum: 0xfffe },
  ])('sums $name', ({ bytes, sum }) => {
    expect(checksum(Uint8Array.from(bytes), 0, bytes.length)).toBe(sum);
  });

  it('agrees with raw-socket over any bytes, and reads only the span it was given', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), fc.nat(7), fc.nat(7), (data, before, after) => {
        const bytes = new Uint8Array(before + data.length + after).fill(0xa5);
        bytes.set(data, before);
        expect(checksum(bytes, before, data.length)).toBe(raw.createChecksum(Buffer.from(data)));
      }),
    );
  });

  it('does not overflow on the longest packet of all ones', () => {
    const bytes = new Uint8Array(65535).fill(0xff);
    expect(checksum(bytes, 0, bytes.length, 2 ** 32)).toBe(0xffff - 0xff00 - 1);
    expect(checksum(bytes, 0, bytes.length)).toBe(raw.createChecksum(Buffer.from(bytes)));
  });

  it('gives 0 over a span that holds its own checksum, and not after one changed bit', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 200 }), fc.nat(), (data, pick) => {
        const bytes = Uint8Array.from(data.length % 2 === 0 ? data : [...data, 0]);
        bytes.set([0, 0]);
        new DataView(bytes.buffer).setUint16(0, checksum(bytes, 0, bytes.length));
        expect(checksum(bytes, 0, bytes.length)).toBe(0);
        bytes[pick % bytes.length] ^= 1 << (pick % 8);
        expect(checksum(bytes, 0, bytes.length)).not.toBe(0);
      }),
    );
  });
});

describe('pseudoHeaderSum', () => {
  it('as `initial` equals summing the twelve bytes in front of the segment (RFC 9293 §3.1)', () => {
    const address = fc.integer({ min: 0, max: 0xffffffff });
    const segment = fc.uint8Array({ minLength: 1, maxLength: 100 });
    fc.assert(
      fc.property(address, address, fc.nat(255), segment, (source, destination, protocol, data) => {
        const whole = new Uint8Array(12 + data.length);
        const view = new DataView(whole.buffer);
        view.setUint32(0, source);
        view.setUint32(4, destination);
        view.setUint8(9, protocol);
        view.setUint16(10, data.length);
        whole.set(data, 12);
        const initial = pseudoHeaderSum(source, destination, protocol, data.length);
        expect(checksum(data, 0, data.length, initial)).toBe(raw.createChecksum(Buffer.from(whole)));
      }),
    );
  });
});
