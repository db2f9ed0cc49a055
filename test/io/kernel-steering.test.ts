/**
 * The kernel's part of steering (host filter, fast path) against the engine: what is left to the host, the engine would pass, for the same
 * reason and with nothing else done; what is steered, the engine would forward to the same port and do no more; and what is plainly
 * the host's own, or plainly in use, is. The captures: test/dataplane/corpora.test.ts. Live: test/journey/fast-path.test.ts.
 */
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { frames, NIC_MAC, noise } from '../support/dataplane-arbitrary.js';
import { type Decision, ip, PASS, Plane, protoOf, TO_NIC, toGuest } from '../support/dataplane-harness.js';
import { BARE, NOT_US, REMOTE, SHARED, WHOLE, WORLD } from '../support/dataplane-rows.js';
import { BLOCK, INSIDE, MAPPED_WORLD } from '../support/mapped-world.js';
import { type Found, KernelSteering, LONGEST_TRIAL, MTU, SOME_INTERFACE, withoutKernelSteering } from '../support/kernel-steering.js';
import { STATE_IN_USE, STATE_LEASED } from '../../src/steering/table-layout.js';
import { eth, type FrameBuilder } from '../../src/wire/frame-builder.js';
import { formatIpv4 } from '../../src/wire/address.js';

const ROUTER = '02:00:5e:10:00:01';
const to = (dst: string): FrameBuilder => eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst });
const from = (src: string): FrameBuilder => eth({ src: NIC_MAC, dst: ROUTER }).ipv4({ src, dst: REMOTE });

/** The engine's decision for a frame that the kernel has decided. */
function sameAs(found: Found): Decision {
  if (found === 'to the NIC') return { verdict: TO_NIC, reason: '', copies: [], rejected: false, proxied: false, punted: false };
  const [, link] = /^to (\d+)$/.exec(found) ?? [];
  return link === undefined ? { verdict: PASS, reason: found as Decision['reason'], copies: [], rejected: false, proxied: false, punted: false } : { verdict: toGuest(Number(link)), reason: '', copies: [], rejected: false, proxied: false, punted: false };
}

describe.skipIf(withoutKernelSteering('io/kernel-steering'))('steering in the kernel', () => {
  const opened: KernelSteering[] = [];
  const fresh = (mac: string | null = NIC_MAC): KernelSteering => {
    const kernel = new KernelSteering(mac);
    opened.push(kernel);
    return kernel;
  };
  afterEach(() => {
    for (const kernel of opened.splice(0)) kernel.close();
  });

  it.each<{ name: string; frame: FrameBuilder; found: Found }>([
    { name: 'TCP to an endpoint that nobody leases', frame: to(SHARED).tcp(40000, 22), found: 'not-leased' },
    { name: 'UDP to an endpoint that is leased under TCP alone', frame: to(SHARED).udp(40000, 8080), found: 'not-leased' },
    { name: 'an address with no leases', frame: to(BARE).tcp(40000, 8080), found: 'not-leased' },
    { name: 'another address', frame: to(NOT_US).udp(40000, 8080), found: 'not-ours' },
    { name: 'IPv6', frame: eth({ dst: NIC_MAC }).raw(0x86dd, new Uint8Array(40)), found: 'not-ipv4' },
    { name: 'a protocol without ports', frame: to(SHARED).proto(47, new Uint8Array(20)), found: 'other-protocol' },
    { name: 'another station', frame: eth({ dst: '02:00:5e:10:00:99' }).ipv4({ src: REMOTE, dst: SHARED }).tcp(1, 8080), found: 'other-station' },
    { name: 'TCP to an endpoint in use', frame: to(SHARED).tcp(40000, 8080), found: 'to 0' },
    { name: 'UDP to an endpoint in use', frame: to(SHARED).udp(40000, 53), found: 'to 1' },
    { name: 'any port of a dedicated address in use', frame: to(WHOLE).udp(40000, 9), found: 'to 2' },
    { name: 'a port of it that is another guest\'s', frame: to(WHOLE).tcp(40000, 443), found: 'to 1' },
    { name: 'a port of it that another guest leases', frame: to(WHOLE).tcp(40000, 444), found: 'engine' },
    { name: 'an endpoint in use, with octets behind the packet', frame: to(SHARED).tcp(40000, 8080).padTo(90), found: 'to 0' },
    { name: 'a leased endpoint', frame: to(SHARED).tcp(40000, 8082), found: 'engine' },
    { name: 'an endpoint in quarantine', frame: to(SHARED).udp(40000, 55), found: 'engine' },
    { name: 'a tagged frame', frame: eth({ dst: NIC_MAC }).vlan(7).ipv4({ src: REMOTE, dst: SHARED }).tcp(1, 8080), found: 'engine' },
    { name: 'a fragment', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, moreFragments: true }).udp(1, 53), found: 'engine' },
    { name: 'IP options', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, options: new Uint8Array(4) }).udp(1, 53), found: 'engine' },
    { name: 'a total length past the frame', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, totalLength: 900 }).udp(1, 53), found: 'engine' },
    { name: 'a total length that ends inside the IP header', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, totalLength: 19 }).proto(47, new Uint8Array(20)), found: 'engine' },
    { name: 'an echo request', frame: to(SHARED).icmpEcho('request', 1), found: 'engine' },
    { name: 'ARP', frame: eth({ dst: NIC_MAC }).arp('request', { senderIp: REMOTE, targetIp: SHARED }), found: 'engine' },
  ])('from the NIC, $name: $found', ({ frame, found }) => {
    const kernel = fresh();
    const plane = new Plane({ entries: WORLD, addresses: [BARE], station: NIC_MAC, follower: kernel.table });
    expect(kernel.fromNic(frame.build())).toBe(found);
    const [decision] = plane.ingress(frame.build());
    if (found !== 'engine') expect(decision).toEqual(sameAs(found));
  });

  it.each<{ name: string; link: number; frame: FrameBuilder; found: Found }>([
    { name: 'from an endpoint that it uses', link: 0, frame: from(SHARED).tcp(8080, 40000), found: 'to the NIC' },
    { name: 'from an address that it uses', link: 2, frame: from(WHOLE).udp(9, 40000), found: 'to the NIC' },
    { name: 'from an endpoint that it leases', link: 0, frame: from(SHARED).tcp(8082, 40000), found: 'engine' },
    { name: 'from another\'s endpoint', link: 1, frame: from(SHARED).tcp(8080, 40000), found: 'engine' },
    { name: 'from another\'s endpoint at its own address', link: 2, frame: from(WHOLE).tcp(443, 40000), found: 'engine' },
    { name: 'from nobody\'s endpoint', link: 0, frame: from(SHARED).tcp(22, 40000), found: 'engine' },
    { name: 'from another address', link: 0, frame: from(NOT_US).tcp(8080, 40000), found: 'engine' },
    { name: 'under another MAC', link: 0, frame: eth({ src: ROUTER, dst: ROUTER }).ipv4({ src: SHARED, dst: REMOTE }).tcp(8080, 40000), found: 'engine' },
    { name: 'with a tag', link: 0, frame: eth({ src: NIC_MAC, dst: ROUTER }).vlan(7).ipv4({ src: SHARED, dst: REMOTE }).tcp(8080, 40000), found: 'engine' },
    { name: 'in fragments', link: 1, frame: eth({ src: NIC_MAC, dst: ROUTER }).ipv4({ src: SHARED, dst: REMOTE, moreFragments: true }).udp(53, 40000), found: 'engine' },
    { name: 'a packet of the MTU\'s length', link: 0, frame: from(SHARED).tcp(8080, 40000, { payload: new Uint8Array(MTU - 40) }), found: 'to the NIC' },
    { name: 'a longer one', link: 0, frame: from(SHARED).tcp(8080, 40000, { payload: new Uint8Array(MTU - 39) }), found: 'engine' },
    { name: 'an ARP announcement', link: 0, frame: eth({ src: NIC_MAC, dst: ROUTER }).arp('request', { senderIp: SHARED, targetIp: SHARED }), found: 'engine' },
  ])('D6: from guest $link, $name: $found', ({ link, frame, found }) => {
    const kernel = fresh();
    const plane = new Plane({ entries: WORLD, addresses: [BARE], station: NIC_MAC, follower: kernel.table });
    expect(kernel.fromLink(link, frame.build())).toBe(found);
    const [decision] = plane.egress(link, frame.build());
    if (found !== 'engine') expect(decision).toEqual(sameAs(found));
  });

  it('leaves to the engine whatever comes for a mapped guest, and from it', () => {
    const kernel = fresh();
    const { writer } = new Plane({ ...MAPPED_WORLD, station: NIC_MAC, follower: kernel.table });
    for (const frame of [to(SHARED).tcp(1, 8443), to(SHARED).udp(1, 5009), to(SHARED).tcp(80, BLOCK.first), to(SHARED).icmpEcho('reply', BLOCK.first)]) expect(kernel.fromNic(frame.build())).toBe('engine');
    writer.use(ip(SHARED), 0, 8443);
    expect(kernel.fromNic(to(SHARED).tcp(1, 8443).build())).toBe('engine');
    for (const frame of [from(INSIDE).tcp(443, 1), from(INSIDE).udp(40000, 53), from(SHARED).tcp(8443, 1), from(SHARED).tcp(8080, 1)]) expect(kernel.fromLink(0, frame.build())).toBe('engine');
    expect(kernel.fromLink(2, from(SHARED).tcp(8080, 1).build())).toBe('to the NIC');
  });

  it('R4, R6: follows leases, uses and releases, on addresses past its rows too', () => {
    const kernel = fresh();
    const { writer } = new Plane({ station: NIC_MAC, follower: kernel.table });
    const addresses = Array.from({ length: 200 }, (_, n) => formatIpv4(ip('198.18.0.0') + n));
    for (const address of addresses) writer.addAddress(ip(address));
    for (const proto of ['tcp', 'udp'] as const) {
      const found = (...endpoints: [string, number][]): Found[] => endpoints.map(([address, port]) => kernel.fromNic(to(address)[proto](1, port).build()));
      const [first, second] = addresses;
      const near: [string, number][] = [[first, 65535], [first, 65534], [second, 65535]];
      expect(found(...near)).toEqual(['not-leased', 'not-leased', 'not-leased']);
      writer.lease(ip(first), protoOf(proto), 65535, 1, true);
      expect(found(...near)).toEqual(['engine', 'not-leased', 'not-leased']);
      writer.use(ip(first), protoOf(proto), 65535);
      expect(found(...near)).toEqual(['to 1', 'not-leased', 'not-leased']);
      writer.endUse(ip(first), protoOf(proto), 65535);
      expect(found(...near)).toEqual(['engine', 'not-leased', 'not-leased']);
      writer.use(ip(first), protoOf(proto), 65535);
      writer.quarantine(ip(first), protoOf(proto), 65535);
      writer.use(ip(first), protoOf(proto), 65535);
      expect(found(...near)).toEqual(['engine', 'not-leased', 'not-leased']);
      writer.release(ip(first), protoOf(proto), 65535);
      expect(found(...near)).toEqual(['not-leased', 'not-leased', 'not-leased']);
      for (const address of addresses.slice(2)) writer.lease(ip(address), protoOf(proto), 80, 0, true);
      writer.use(ip(addresses[199]), protoOf(proto), 80);
      expect(found([addresses[2], 81], [addresses[199], 80], [addresses[199], 81])).toEqual(['not-leased', 'engine', 'engine']);
    }
  });

  it('knows an address that has left no more, and gives its row to one that comes later', () => {
    const kernel = fresh();
    const plane = new Plane({ station: NIC_MAC, follower: kernel.table });
    const { writer } = plane;
    const found = (...endpoints: [string, number][]): Found[] => endpoints.map(([address, port]) => kernel.fromNic(to(address).tcp(1, port).build()));
    writer.leaseWhole(ip('198.18.0.1'), 0, true);
    expect(found(['198.18.0.1', 81])).toEqual(['engine']);
    writer.removeAddress(ip('198.18.0.1'));
    expect(found(['198.18.0.1', 81])).toEqual(['not-ours']);
    expect(plane.ingress(to('198.18.0.1').tcp(1, 81).build())[0]).toMatchObject({ verdict: PASS, reason: 'not-ours' });

    // Far more than there are rows, each with its own endpoints.
    for (let n = 0; n < 1000; n++) {
      const [address, before] = [formatIpv4(ip('198.18.1.0') + n), formatIpv4(ip('198.18.1.0') + n - 1)];
      const port = 1 + (n % 7);
      writer.lease(ip(address), 0, port, 1, true);
      writer.use(ip(address), 0, port);
      if (n % 100 === 99) expect(found([address, port], [address, port + 1], [before, port])).toEqual(['to 1', 'not-leased', 'not-ours']);
      writer.removeAddress(ip(address));
    }
    // Back, and no longer dedicated.
    writer.lease(ip('198.18.0.1'), 0, 80, 0, true);
    expect(found(['198.18.0.1', 80], ['198.18.0.1', 81])).toEqual(['engine', 'not-leased']);
  });

  it('D7: a use that only a frame has indicated is steered when the control plane knows of it, watched, and ends when there are no more', () => {
    const kernel = fresh();
    const plane = new Plane({ entries: WORLD, station: NIC_MAC, follower: kernel.table });
    const frame = from(SHARED).udp(54, 40000).build();
    const answer = to(SHARED).udp(40000, 54).build();
    expect(kernel.fromLink(1, frame)).toBe('engine');
    expect(plane.egress(1, frame)).toEqual([sameAs('to the NIC')]);
    const both = (): Found[] => [kernel.fromLink(1, frame), kernel.fromNic(answer)];
    const sweep = (): void => {
      plane.writer.sweepIdle(protoOf('udp'));
      plane.writer.takeImplied();
    };
    expect(both()).toEqual(['engine', 'engine']);
    expect(plane.writer.takeImplied()).toBe(true);
    expect(both()).toEqual(['to the NIC', 'to 1']);
    sweep(); // the frame that the engine has seen
    for (const again of [() => kernel.fromLink(1, frame), () => kernel.fromNic(answer)]) {
      again();
      sweep();
      expect(plane.state(SHARED, 'udp', 54)).toBe(STATE_IN_USE);
    }
    kernel.fromNic(to(SHARED).udp(40000, 53).build()); // another endpoint's
    sweep();
    expect([plane.state(SHARED, 'udp', 54), ...both()]).toEqual([STATE_LEASED, 'engine', 'engine']);
    // By word of the guest: no longer watched.
    plane.egress(1, frame);
    plane.writer.takeImplied();
    plane.writer.use(ip(SHARED), protoOf('udp'), 54);
    sweep();
    expect(both()).toEqual(['to the NIC', 'to 1']);
    plane.writer.endUse(ip(SHARED), protoOf('udp'), 54);
    expect(both()).toEqual(['engine', 'engine']);
  });

  it('a link that is not attached is the engine\'s', () => {
    const kernel = fresh();
    new Plane({ entries: WORLD, station: NIC_MAC, follower: kernel.table });
    kernel.table.detachLink(0);
    expect([8080, 8081].map((port) => kernel.fromNic(to(SHARED).tcp(40000, port).build()))).toEqual(['engine', 'to 1']);
    expect(kernel.fromLink(0, from(SHARED).tcp(8080, 40000).build())).toBe('engine');
    kernel.table.attachLink(0, SOME_INTERFACE);
    expect(kernel.fromNic(to(SHARED).tcp(40000, 8080).build())).toBe('to 0');
  });

  it('begins the numbers of a link anew for its next guest, and keeps the totals', () => {
    const kernel = fresh();
    new Plane({ entries: WORLD, station: NIC_MAC, follower: kernel.table });
    const frame = to(SHARED).tcp(40000, 8080).build();
    kernel.fromNic(frame);
    kernel.table.retireLink(0);
    expect(kernel.table.steeredFor(0).ingress).toEqual({ frames: 0, bytes: 0 });
    kernel.fromNic(frame);
    expect(kernel.table.steeredFor(0).ingress).toEqual({ frames: 1, bytes: frame.length });
    expect(kernel.table.steeredInAll()).toEqual({ ingress: { frames: 2, bytes: 2 * frame.length }, egress: { frames: 0, bytes: 0 } });
  });

  it('a ring takes only frames of its lengths', () => {
    const kernel = fresh();
    const frame = eth({ dst: NIC_MAC }).arp('request', { senderIp: REMOTE, targetIp: SHARED }).padTo(100).build();
    const lengths = [[0, 99], [0, 100], [100, 200], [101, 0xffffffff]];
    expect(lengths.map(([shortest, longest]) => kernel.takes({ shortest, longest }, frame))).toEqual([false, true, true, false]);
  });

  describe('on random and damaged frames', () => {
    const tally = new Map<string, number>();
    const change = fc.record({
      address: fc.constantFrom(SHARED, BARE, WHOLE),
      proto: fc.constantFrom('tcp' as const, 'udp' as const),
      port: fc.constantFrom(22, 53, 80, 8080, 8082),
      guest: fc.nat(2),
      what: fc.constantFrom('lease' as const, 'use' as const, 'endUse' as const, 'quarantine' as const, 'release' as const, 'leave' as const, 'look' as const),
    });
    const given = (outward: boolean): fc.Arbitrary<Uint8Array[]> =>
      fc.array(fc.oneof({ weight: 9, arbitrary: frames(outward) }, { weight: 1, arbitrary: noise }), { maxLength: 20 }).map((all) => all.map(({ bytes }) => bytes).filter((bytes) => bytes.length > 0 && bytes.length < LONGEST_TRIAL));
    const rounds = fc.array(fc.record({ changes: fc.array(change, { maxLength: 4 }), inward: given(false), link: fc.nat(2), outward: given(true) }), { maxLength: 4 });

    it.each([NIC_MAC, null])('decides nothing that the engine would decide otherwise (station %s)', { timeout: 120_000 }, (station) => {
      fc.assert(
        fc.property(rounds, fc.boolean(), (all, rejecting) => {
          const kernel = fresh(station);
          const plane = new Plane({ entries: WORLD, addresses: [BARE], rejecting, follower: kernel.table, ...(station === null ? {} : { station }) });
          const compare = (founds: Found[], decisions: Decision[]): void => {
            founds.forEach((found, n) => {
              tally.set(found, (tally.get(found) ?? 0) + 1);
              if (found !== 'engine') expect(decisions[n]).toEqual(sameAs(found));
            });
          };
          for (const { changes, inward, link, outward } of all) {
            for (const { address, proto, port, guest, what } of changes) {
              if (what === 'lease') plane.writer.lease(ip(address), protoOf(proto), port, guest, true);
              else if (what === 'look') plane.writer.takeImplied();
              else if (what === 'leave') plane.writer.removeAddress(ip(address));
              else plane.writer[what](ip(address), protoOf(proto), port);
            }
            compare(inward.map((bytes) => kernel.fromNic(bytes)), plane.ingress(...inward));
            if (station !== null) compare(outward.map((bytes) => kernel.fromLink(link, bytes)), plane.egress(link, ...outward));
          }
          opened.pop()?.close();
        }),
        { numRuns: 400 },
      );
    });

    afterAll(() => {
      console.info(`steering in the kernel: ${[...tally].map(([found, times]) => `${found} ${times}`).join(', ')}`);
      for (const found of ['engine', 'not-leased', 'not-ours', 'not-ipv4', 'other-protocol', 'other-station', 'to 2', 'to the NIC']) expect(tally.get(found) ?? 0, found).toBeGreaterThan(10);
    });
  });
});
