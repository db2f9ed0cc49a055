/**
 * The host filter against the engine: what it leaves to the host, the engine would pass, for the same reason and with
 * nothing else done; and what is plainly the host's own it does leave. The captures: test/dataplane/corpora.test.ts.
 */
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { frames, NIC_MAC, noise } from '../support/dataplane-arbitrary.js';
import { ip, PASS, Plane, protoOf } from '../support/dataplane-harness.js';
import { BARE, NOT_US, REMOTE, SHARED, WHOLE, WORLD } from '../support/dataplane-rows.js';
import { leftBy, LONGEST_TRIAL, withoutFilter } from '../support/host-filter.js';
import { HostFilter } from '../../src/io/host-filter.js';
import type { LeftReason } from '../../src/io/host-filter-program.js';
import { addon } from '../../src/native/binding.js';
import { eth, type FrameBuilder } from '../../src/wire/frame-builder.js';
import { formatIpv4, parseMac } from '../../src/wire/address.js';

const to = (dst: string): FrameBuilder => eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst });

describe.skipIf(withoutFilter('io/host-filter'))('host filter', () => {
  const filters: HostFilter[] = [];
  const fresh = (mac: string | null = NIC_MAC): HostFilter => {
    const filter = new HostFilter(mac === null ? null : parseMac(mac));
    filters.push(filter);
    return filter;
  };
  afterEach(() => {
    for (const filter of filters.splice(0)) filter.close();
  });

  it.each<{ name: string; frame: FrameBuilder; left: LeftReason | null }>([
    { name: 'TCP to an endpoint that nobody leases', frame: to(SHARED).tcp(40000, 22), left: 'not-leased' },
    { name: 'UDP to an endpoint that is leased under TCP alone', frame: to(SHARED).udp(40000, 8080), left: 'not-leased' },
    { name: 'an address with no leases', frame: to(BARE).tcp(40000, 8080), left: 'not-leased' },
    { name: 'another address', frame: to(NOT_US).udp(40000, 8080), left: 'not-ours' },
    { name: 'IPv6', frame: eth({ dst: NIC_MAC }).raw(0x86dd, new Uint8Array(40)), left: 'not-ipv4' },
    { name: 'a protocol without ports', frame: to(SHARED).proto(47, new Uint8Array(20)), left: 'other-protocol' },
    { name: 'another station', frame: eth({ dst: '02:00:5e:10:00:99' }).ipv4({ src: REMOTE, dst: SHARED }).tcp(1, 8080), left: 'other-station' },
    { name: 'an endpoint in use', frame: to(SHARED).tcp(40000, 8080), left: null },
    { name: 'a leased endpoint', frame: to(SHARED).tcp(40000, 8082), left: null },
    { name: 'an endpoint in quarantine', frame: to(SHARED).udp(40000, 55), left: null },
    { name: 'any port of a dedicated address', frame: to(WHOLE).tcp(40000, 9), left: null },
    { name: 'a tagged frame', frame: eth({ dst: NIC_MAC }).vlan(7).ipv4({ src: REMOTE, dst: SHARED }).tcp(1, 22), left: null },
    { name: 'a fragment', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, moreFragments: true }).udp(1, 22), left: null },
    { name: 'IP options', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, options: new Uint8Array(4) }).udp(1, 22), left: null },
    { name: 'a total length past the frame', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, totalLength: 900 }).udp(1, 22), left: null },
    { name: 'a total length that ends inside the IP header', frame: eth({ dst: NIC_MAC }).ipv4({ src: REMOTE, dst: SHARED, totalLength: 19 }).proto(47, new Uint8Array(20)), left: null },
    { name: 'an echo request', frame: to(SHARED).icmpEcho('request', 1), left: null },
    { name: 'ARP', frame: eth({ dst: NIC_MAC }).arp('request', { senderIp: REMOTE, targetIp: SHARED }), left: null },
  ])('$name: $left', ({ frame, left }) => {
    const filter = fresh();
    const plane = new Plane({ entries: WORLD, addresses: [BARE], station: NIC_MAC, follower: filter });
    expect(leftBy(filter, [frame.build()])).toEqual([left]);
    const [decision] = plane.ingress(frame.build());
    if (left !== null) expect(decision).toEqual({ verdict: PASS, reason: left, copies: [], rejected: false });
  });

  it('follows leases and releases, on addresses past its rows too', () => {
    const filter = fresh();
    const { writer } = new Plane({ station: NIC_MAC, follower: filter });
    const addresses = Array.from({ length: 200 }, (_, n) => formatIpv4(ip('198.18.0.0') + n));
    for (const proto of ['tcp', 'udp'] as const) {
      const frame = (address: string, port: number): Uint8Array => to(address)[proto](1, port).build();
      for (const address of addresses) writer.addAddress(ip(address));
      const lefts = (): (string | null)[] => leftBy(filter, [frame(addresses[0], 65535), frame(addresses[0], 65534), frame(addresses[1], 65535)]);
      expect(lefts()).toEqual(['not-leased', 'not-leased', 'not-leased']);
      writer.lease(ip(addresses[0]), protoOf(proto), 65535, 0, true);
      expect(lefts()).toEqual([null, 'not-leased', 'not-leased']);
      writer.quarantine(ip(addresses[0]), protoOf(proto), 65535);
      expect(lefts()).toEqual([null, 'not-leased', 'not-leased']);
      writer.release(ip(addresses[0]), protoOf(proto), 65535);
      expect(lefts()).toEqual(['not-leased', 'not-leased', 'not-leased']);
      writer.lease(ip(addresses[199]), protoOf(proto), 80, 0, true);
      expect(leftBy(filter, [frame(addresses[199], 80), frame(addresses[199], 81)])).toEqual([null, null]);
    }
  });

  it('knows an address that has left no more, and gives its row to one that comes later', () => {
    const filter = fresh();
    const plane = new Plane({ station: NIC_MAC, follower: filter });
    const { writer } = plane;
    const frame = (address: string, port: number): Uint8Array => to(address).tcp(1, port).build();
    writer.leaseWhole(ip('198.18.0.1'), 0, true);
    expect(leftBy(filter, [frame('198.18.0.1', 81)])).toEqual([null]);
    writer.removeAddress(ip('198.18.0.1'));
    expect(leftBy(filter, [frame('198.18.0.1', 81)])).toEqual(['not-ours']);
    expect(plane.ingress(frame('198.18.0.1', 81))[0]).toMatchObject({ verdict: PASS, reason: 'not-ours' });

    // Far more than there are rows, each with its own endpoints.
    for (let n = 0; n < 1000; n++) {
      const [address, before] = [formatIpv4(ip('198.18.1.0') + n), formatIpv4(ip('198.18.1.0') + n - 1)];
      const port = 1 + (n % 7);
      writer.lease(ip(address), 0, port, 0, true);
      if (n % 100 === 99) expect(leftBy(filter, [frame(address, port), frame(address, port + 1), frame(before, port)])).toEqual([null, 'not-leased', 'not-ours']);
      writer.removeAddress(ip(address));
    }
    // Back, and no longer dedicated.
    writer.lease(ip('198.18.0.1'), 0, 80, 0, true);
    expect(leftBy(filter, [frame('198.18.0.1', 80), frame('198.18.0.1', 81)])).toEqual([null, 'not-leased']);
  });

  it('takes only frames of the ring\'s lengths', () => {
    const filter = fresh();
    const frame = eth({ dst: NIC_MAC }).arp('request', { senderIp: REMOTE, targetIp: SHARED }).padTo(100).build();
    const lengths = [[0, 99], [0, 100], [100, 200], [101, 0xffffffff]];
    expect(lengths.map(([shortest, longest]) => addon().bpfRun(filter.load({ shortest, longest }), frame) !== 0)).toEqual([false, true, true, false]);
  });

  describe('on random and damaged frames', () => {
    const tally = new Map<string, number>();
    const change = fc.record({ address: fc.constantFrom(SHARED, BARE, WHOLE), proto: fc.constantFrom('tcp' as const, 'udp' as const), port: fc.constantFrom(22, 53, 80, 8080, 8082), what: fc.constantFrom('lease', 'lease', 'release', 'release', 'leave') });
    const rounds = fc.array(fc.record({ changes: fc.array(change, { maxLength: 3 }), given: fc.array(fc.oneof({ weight: 9, arbitrary: frames(false) }, { weight: 1, arbitrary: noise }), { maxLength: 20 }) }), { maxLength: 4 });

    it.each([NIC_MAC, null])('leaves what the engine passes for the same reason (station %s)', { timeout: 120_000 }, (station) => {
      fc.assert(
        fc.property(rounds, fc.boolean(), (all, rejecting) => {
          const filter = fresh(station);
          const plane = new Plane({ entries: WORLD, addresses: [BARE], rejecting, follower: filter, ...(station === null ? {} : { station }) });
          for (const { changes, given } of all) {
            for (const { address, proto, port, what } of changes) {
              if (what === 'lease') plane.writer.lease(ip(address), protoOf(proto), port, 0, true);
              else if (what === 'release') plane.writer.release(ip(address), protoOf(proto), port);
              else plane.writer.removeAddress(ip(address));
            }
            const whole = given.map(({ bytes }) => bytes).filter((bytes) => bytes.length > 0 && bytes.length < LONGEST_TRIAL);
            const lefts = leftBy(filter, whole);
            const decisions = plane.ingress(...whole);
            lefts.forEach((left, n) => {
              tally.set(`${left}`, (tally.get(`${left}`) ?? 0) + 1);
              if (left !== null) expect(decisions[n]).toEqual({ verdict: PASS, reason: left, copies: [], rejected: false });
            });
          }
          filters.pop()?.close();
        }),
        { numRuns: 400 },
      );
    });

    afterAll(() => {
      console.info(`host filter: ${[...tally].map(([left, times]) => `${left} ${times}`).join(', ')}`);
      for (const left of ['null', 'not-leased', 'not-ours', 'not-ipv4', 'other-protocol', 'other-station']) expect(tally.get(left) ?? 0, left).toBeGreaterThan(10);
    });
  });
});
