/** Own connections of mapped guests over a restart of the engine: what is listed, and what is taken up. Live: journey/mapped-odd.test.ts. */
import { describe, expect, it } from 'vitest';
import { DISCARD, ip, Plane, type PlaneOptions, TAKEN, TO_NIC, toGuest } from '../support/dataplane-harness.js';
import { BLOCK, fromGuest, fromOutside, MAPPED_WORLD, MAPS, REMOTE, SHARED, toGuestFrame } from '../support/mapped-world.js';
import type { Mapping } from '../../src/dataplane/mapping.js';
import { listConnections, takeUpConnections } from '../../src/dataplane/own-connections.js';
import { TCP_ACK, TCP_FIN, TCP_SYN } from '../../src/wire/tcp.js';

const NOW = 1_700_000_000;
const OUTSIDE_PORT = BLOCK.first + (40_001 % 4);
const ROW = [0, 40_001, ip(SHARED) | 0, OUTSIDE_PORT, ip(REMOTE) | 0, 80];
const mappingOf = (plane: Plane): Mapping => plane.engine.memory.mapping!;
const answer = (flags: number) => fromOutside().tcp(80, OUTSIDE_PORT, { flags }).build();
const own = (flags: number) => fromGuest().tcp(40_001, 80, { flags }).build();

function restarted(list: number[], options: PlaneOptions = {}): Plane {
  const plane = new Plane({ ...MAPPED_WORLD, ...options });
  takeUpConnections(mappingOf(plane), Int32Array.from(list), NOW);
  return plane;
}

describe('own connections', () => {
  it('are listed once they are established, until they end; connections to what is mapped, UDP and echo are not', () => {
    const plane = new Plane(MAPPED_WORLD);
    const listed = (): number[] => [...listConnections(mappingOf(plane))];
    plane.egress(0, own(TCP_SYN), fromGuest().udp(1, 53).build(), fromGuest().icmpEcho('request', 1).build());
    plane.ingress(fromOutside().tcp(50_000, 8443, { flags: TCP_SYN }).build());
    plane.egress(0, fromGuest().tcp(443, 50_000, { flags: TCP_SYN | TCP_ACK }).build());
    plane.ingress(fromOutside().tcp(50_000, 8443, { flags: TCP_ACK }).build(), answer(TCP_SYN | TCP_ACK));
    mappingOf(plane).flows.changed = false;
    expect(listed()).toEqual([]);
    plane.egress(0, own(TCP_ACK));
    expect(listed()).toEqual(ROW);
    expect(mappingOf(plane).flows.changed).toBe(true);
    plane.egress(0, own(TCP_FIN | TCP_ACK));
    plane.ingress(answer(TCP_FIN | TCP_ACK));
    expect(listed()).toEqual([]);
  });

  it('that are taken up reach a guest that only listens; what it sends then goes to whom the frame came from', () => {
    const plane = restarted(ROW);
    expect(plane.ingress(answer(TCP_ACK))).toMatchObject([{ verdict: toGuest(0) }]);
    expect(plane.bytesOf()).toEqual(toGuestFrame().tcp(80, 40_001, { flags: TCP_ACK }).build());
    expect(plane.egress(0, own(TCP_ACK))).toMatchObject([{ verdict: TO_NIC }]);
    expect([...listConnections(mappingOf(plane))]).toEqual(ROW);
  });

  it.each<{ what: string; list: number[]; options?: PlaneOptions }>([
    { what: 'under another address', list: ROW, options: { maps: { ...MAPS, outside: [ip('192.0.2.12')] } } },
    { what: 'by a port that is not of the block', list: ROW.with(3, BLOCK.last + 1) },
    { what: 'of a guest that is not mapped', list: ROW.with(0, 2) },
    { what: 'of a link that there is not', list: ROW.with(0, 999) },
    { what: 'in half a row', list: ROW.slice(0, 5) },
  ])('are left out $what', ({ list, options }) => {
    const plane = restarted(list, options);
    expect(mappingOf(plane).flows.count).toBe(0);
    expect(plane.ingress(answer(TCP_ACK))).toMatchObject([{ verdict: DISCARD }]);
  });

  it('that are there twice are taken up once', () => {
    const plane = restarted([...ROW, ...ROW, ...ROW.with(1, 40_002)]);
    expect(mappingOf(plane).flows.count).toBe(1);
    expect(plane.egress(0, own(TCP_ACK))).toMatchObject([{ verdict: TAKEN }]);
  });
});
