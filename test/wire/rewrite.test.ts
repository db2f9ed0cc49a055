/**
 * Incremental checksums (RFC 1624) against full recomputation (checksum.ts), for any addresses, ports and data; partial ones against the
 * sum of the new pseudo header.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksum, pseudoHeaderSum } from '../../src/wire/checksum.js';
import { formatIpv4 } from '../../src/wire/address.js';
import { ipv4 } from '../../src/wire/frame-builder.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../../src/wire/ipv4.js';
import { correct, DESTINATION, type End, ICMP_CHECKSUM, putAddress, putEndpoint, putQuotedEcho, putQuotedEndpoint, SOURCE } from '../../src/wire/rewrite.js';

const address = fc.oneof(fc.nat({ max: 0xffffffff }), fc.constantFrom(0, 0xffffffff, 0xffff, 0xffff0000));
const port = fc.oneof(fc.nat({ max: 0xffff }), fc.constantFrom(0, 0xffff));
const payload = fc.uint8Array({ maxLength: 64 });
const end = fc.constantFrom<End>(SOURCE, DESTINATION);
const protocol = fc.constantFrom(PROTOCOL_TCP, PROTOCOL_UDP);
const RUNS = { numRuns: 2000 };

interface Packet {
  src: number;
  dst: number;
  sport: number;
  dport: number;
  data: Uint8Array;
}
const packets = fc.record<Packet>({ src: address, dst: address, sport: port, dport: port, data: payload });

function build({ src, dst, sport, dport, data }: Packet, of: number): Uint8Array {
  const ip = ipv4({ src: formatIpv4(src), dst: formatIpv4(dst) });
  return (of === PROTOCOL_TCP ? ip.tcp(sport, dport, { payload: data }) : ip.udp(sport, dport, { payload: data })).packet();
}

function moved(packet: Packet, which: End, to: number, toPort: number): Packet {
  return which === SOURCE ? { ...packet, src: to, sport: toPort } : { ...packet, dst: to, dport: toPort };
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const fold = (sum: number): number => checksum(new Uint8Array(0), 0, 0, sum) ^ 0xffff;

describe('one end readdressed', () => {
  it('is what building the packet so would have been, byte for byte', () => {
    fc.assert(
      fc.property(packets, protocol, end, address, port, (packet, of, which, to, toPort) => {
        const bytes = build(packet, of);
        putEndpoint(viewOf(bytes), 0, 20, of, which, to | 0, toPort, false);
        expect(bytes).toEqual(build(moved(packet, which, to, toPort), of));
      }),
      RUNS,
    );
  });

  it('has the sum of its new pseudo header where the checksum is partial, the port not in it', () => {
    fc.assert(
      fc.property(packets, protocol, end, address, port, (packet, of, which, to, toPort) => {
        const bytes = build(packet, of);
        const view = viewOf(bytes);
        const at = 20 + (of === PROTOCOL_TCP ? 16 : 6);
        const pseudo = ({ src, dst }: Packet): number => fold(pseudoHeaderSum(src, dst, of, bytes.length - 20));
        view.setUint16(at, pseudo(packet));
        putEndpoint(view, 0, 20, of, which, to | 0, toPort, true);
        expect(view.getUint16(at) % 0xffff).toBe(pseudo(moved(packet, which, to, toPort)) % 0xffff);
        // What the receiver's kernel makes of it: the complement of the sum over the segment, the field included.
        view.setUint16(at, checksum(bytes, 20, bytes.length - 20));
        expect(checksum(bytes, 20, bytes.length - 20, pseudoHeaderSum(view.getUint32(12), view.getUint32(16), of, bytes.length - 20))).toBe(0);
      }),
      RUNS,
    );
  });

  it('leaves UDP without a checksum without one, and never makes one that is none', () => {
    fc.assert(
      fc.property(packets, end, address, port, (packet, which, to, toPort) => {
        const bytes = build(packet, PROTOCOL_UDP);
        const view = viewOf(bytes);
        putEndpoint(view, 0, 20, PROTOCOL_UDP, which, to | 0, toPort, false);
        expect(view.getUint16(26)).not.toBe(0);
        view.setUint16(26, 0);
        putEndpoint(view, 0, 20, PROTOCOL_UDP, which, 1, 2, false);
        expect(view.getUint16(26)).toBe(0);
      }),
      RUNS,
    );
  });
});

describe('a quote in an ICMP error', () => {
  const error = (inner: Uint8Array, to = 1): Uint8Array => ipv4({ src: '198.51.100.1', dst: formatIpv4(to) }).icmpError(3, 4, inner).packet();

  it('is readdressed with the ICMP checksum around it, however much is quoted', () => {
    fc.assert(
      fc.property(packets, protocol, end, address, port, fc.integer({ min: 28, max: 104 }), (packet, of, which, to, toPort, length) => {
        fc.pre(length !== 37); // cut in the middle of TCP's checksum, which nobody can then check
        const whole = build(packet, of);
        const bytes = error(whole.subarray(0, length));
        const view = viewOf(bytes);
        const change = putQuotedEndpoint(view, 28, 48, bytes.length, of, which, to | 0, toPort);
        correct(view, 20 + ICMP_CHECKSUM, change);
        putAddress(view, 0, DESTINATION, 2);
        expect(bytes).toEqual(error(build(moved(packet, which, to, toPort), of).subarray(0, length), 2));
      }),
      RUNS,
    );
  });

  it('so is one of an echo request', () => {
    fc.assert(
      fc.property(address, address, port, payload, end, address, port, (src, dst, identifier, data, which, to, toIdentifier) => {
        const echo = (source: number, destination: number, id: number): Uint8Array => ipv4({ src: formatIpv4(source), dst: formatIpv4(destination) }).icmpEcho('request', id, 7, data).packet();
        const bytes = error(echo(src, dst, identifier));
        const view = viewOf(bytes);
        correct(view, 20 + ICMP_CHECKSUM, putQuotedEcho(view, 28, 48, which, to | 0, toIdentifier));
        expect(bytes).toEqual(error(which === SOURCE ? echo(to, dst, toIdentifier) : echo(src, to, toIdentifier)));
      }),
      RUNS,
    );
  });
});
