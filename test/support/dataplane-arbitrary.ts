/**
 * Random frames for property tests: well-made ones out of small pools of addresses and ports, so that they meet each other
 * and the steering table; then damaged: bytes changed, cut, snapped.
 */
import fc from 'fast-check';
import type { FrameIn } from './dataplane-harness.js';
import { BARE, NOT_US, REMOTE, SECOND, SHARED, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED } from './dataplane-rows.js';
import { eth, type FrameBuilder, ipv4, type Ipv4Options } from '../../src/wire/frame-builder.js';

export const NIC_MAC = '02:00:5e:10:00:10';
const mac = fc.oneof({ weight: 12, arbitrary: fc.constant(NIC_MAC) }, { weight: 1, arbitrary: fc.constantFrom('02:00:5e:10:00:11', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01') });
const ours = fc.oneof({ weight: 4, arbitrary: fc.constant(SHARED) }, { weight: 2, arbitrary: fc.constantFrom(SECOND, BARE, WHOLE, WHOLE_LEASED, WHOLE_QUARANTINED) });
const theirs = fc.constantFrom(REMOTE, REMOTE, REMOTE, REMOTE, NOT_US, SHARED, WHOLE);
const port = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(8080, 8081, 8082, 8083, 53, 54, 55, 80, 443, 444) }, { weight: 1, arbitrary: fc.constantFrom(0, 22, 65535) });
const few = fc.constantFrom(0, 0, 0, 1, 2);
const ipOptions = fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 40 }) });
const fragmenting = fc.oneof(
  { weight: 5, arbitrary: fc.constant({}) },
  { weight: 2, arbitrary: fc.constant({ moreFragments: true }) },
  { weight: 2, arbitrary: fc.record({ moreFragments: fc.boolean(), fragmentOffset: fc.constantFrom(8, 24, 65528) }) },
);
/** Header fields that lie, one time in `times` + 1. */
const wrong = (times: number): fc.Arbitrary<Ipv4Options> => fc.oneof(
  { weight: times, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.oneof(
      fc.record({ version: fc.integer({ min: 0, max: 15 }) }),
      fc.record({ ihl: fc.integer({ min: 0, max: 15 }) }),
      fc.record({ totalLength: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 80 }), fc.integer({ min: 0, max: 65535 })) }),
    ),
  },
);

/** `outward`: from a guest, else from the NIC. */
export function frames(outward: boolean): fc.Arbitrary<FrameIn> {
  const ends = fc.tuple(ours, theirs).map(([own, other]) => (outward ? { src: own, dst: other } : { src: other, dst: own }));
  const header: fc.Arbitrary<Ipv4Options> = fc
    .tuple(ends, few, ipOptions, fragmenting, wrong(20))
    .map(([addresses, id, options, fragment, errors]) => ({ ...addresses, id, ...(options === undefined ? {} : { options }), ...fragment, ...errors }));
  const ports = fc.tuple(port, port);
  const data = fc.uint8Array({ maxLength: 24 });
  // The packet an error quotes went the other way, mostly.
  const quote = fc.tuple(ends, fc.boolean(), ports, few, fc.integer({ min: 0, max: 5 }), ipOptions, wrong(3), fc.constantFrom(0, 0, 0, 8), fc.nat(40)).map(
    ([addresses, swap, [a, b], identifier, what, options, errors, fragmentOffset, cut]) => {
      const way = swap ? addresses : { src: addresses.dst, dst: addresses.src };
      const base = ipv4({ ...way, ...errors, fragmentOffset, ...(options === undefined ? {} : { options }) });
      const packet = (what < 2 ? base.tcp(a, b) : what < 4 ? base.udp(a, b) : what < 5 ? base.icmpEcho('request', identifier) : base.proto(47, new Uint8Array(8))).packet();
      return packet.subarray(0, cut > 28 ? packet.length : Math.max(0, packet.length - cut));
    },
  );
  const tags = fc.oneof({ weight: 6, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.constantFrom(0x8100, 0x88a8, 0x9100), { maxLength: 3 }) });
  const link = fc.tuple(mac, mac, tags).map(([src, dst, types]) => types.reduce<FrameBuilder>((frame, type) => frame.vlan(1, type), eth({ src, dst })));

  const ip = fc.tuple(link, header).map(([frame, options]) => frame.ipv4(options));
  const built = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(ip, ports, data).map(([frame, [a, b], payload]) => frame.tcp(a, b, { payload })) },
    { weight: 5, arbitrary: fc.tuple(ip, ports, data).map(([frame, [a, b], payload]) => frame.udp(a, b, { payload })) },
    { weight: 4, arbitrary: fc.tuple(ip, fc.constantFrom('request' as const, 'request' as const, 'reply' as const), few).map(([frame, kind, identifier]) => frame.icmpEcho(kind, identifier)) },
    // The same identifier from every guest.
    { weight: 1, arbitrary: fc.constant(eth({ src: NIC_MAC, dst: NIC_MAC }).ipv4(outward ? { src: SHARED, dst: REMOTE } : { src: REMOTE, dst: SHARED }).icmpEcho(outward ? 'request' : 'reply', 0)) },
    { weight: 4, arbitrary: fc.tuple(ip, fc.constantFrom(3, 3, 4, 5, 11, 12, 13), quote).map(([frame, type, inner]) => frame.icmpError(type, 1, inner)) },
    { weight: 1, arbitrary: fc.tuple(ip, fc.constantFrom(1, 6, 17, 47), data).map(([frame, protocol, body]) => frame.proto(protocol, body)) },
    {
      weight: 2,
      arbitrary: fc.tuple(link, fc.constantFrom('request' as const, 'reply' as const), ends, fc.boolean(), fc.boolean()).map(([frame, kind, { src, dst }, same, lies]) =>
        frame.arp(kind, { senderIp: src, targetIp: same ? src : dst, ...(lies ? { senderMac: '02:00:5e:10:00:12' } : {}) }),
      ),
    },
    { weight: 1, arbitrary: fc.tuple(link, fc.constantFrom(0x86dd, 0x0026, 0x8100), data).map(([frame, type, body]) => frame.raw(type, body)) },
  );

  const damage = fc.record({
    padTo: fc.constantFrom(0, 0, 0, 60, 64),
    flips: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.tuple(fc.nat(70), fc.nat(255)), { minLength: 1, maxLength: 3 }) }),
    cut: fc.oneof({ weight: 8, arbitrary: fc.constant(Infinity) }, { weight: 1, arbitrary: fc.nat(90) }),
    isSnap: fc.boolean(),
  });
  return fc.tuple(built, damage).map(([frame, { padTo, flips, cut, isSnap }]) => {
    const bytes = frame.padTo(padTo).build();
    for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value;
    const kept = bytes.subarray(0, Math.min(cut, bytes.length));
    return { bytes: kept, wire: isSnap ? bytes.length : kept.length };
  });
}

/** Pure noise. */
export const noise: fc.Arbitrary<FrameIn> = fc.tuple(fc.uint8Array({ maxLength: 120 }), fc.nat(20)).map(([bytes, more]) => ({ bytes, wire: bytes.length + more }));
