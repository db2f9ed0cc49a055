/** Ports of a block: all of them are found, and looking for one takes no more of the engine than is the guest's due. */
import { describe, expect, it } from 'vitest';
import { CLOSED, FLOW_TCP, OPENING } from '../../src/dataplane/flow-table.js';
import { type MappedGuest, Mapping } from '../../src/dataplane/mapping.js';
import { ANY_STATION } from '../../src/dataplane/parse.js';
import { Recent } from '../../src/dataplane/recent.js';

const SIZE = 1024;
const FIRST = 20_480;

class Ports {
  readonly mapping = new Mapping(2, false, ANY_STATION);
  looks = 0;
  private readonly guest: MappedGuest;
  private readonly echoes = new Recent(4);

  constructor() {
    this.mapping.update({ outside: [1], guests: [{ link: 0, inside: 2, gateway: 3, mac: null, block: { first: FIRST, last: FIRST + SIZE - 1 }, tcp: [], udp: [] }] });
    this.guest = this.mapping.guests[0]!;
    const { flows } = this.mapping;
    const findOutside = flows.findOutside.bind(flows);
    flows.findOutside = (...key) => {
      this.looks++;
      return findOutside(...key);
    };
  }

  take(insidePort: number, remote: number, now: number): number {
    return this.mapping.takePort(this.guest, 0, FLOW_TCP, insidePort, remote, 80, this.echoes, now);
  }

  /** A flow to the remote end from every port, a few a second. */
  fill(remote: number, flowClass: number): void {
    for (let n = 0; n < SIZE; n++) {
      const port = this.take(n, remote, n);
      expect(port).toBe(FIRST + n);
      this.mapping.flows.add(0, FLOW_TCP, n, 1, port, remote, 80, flowClass, n);
    }
  }
}

describe('a port of the block', () => {
  it('is found as long as one is free', () => {
    const ports = new Ports();
    ports.fill(7, OPENING);
    expect(ports.take(3, 7, 5000)).toBe(0);
    ports.mapping.flows.remove(ports.mapping.flows.findOutside(1, FLOW_TCP, FIRST + 2, 7, 80));
    expect(ports.take(3, 7, 5001)).toBe(FIRST + 2);
  });

  it('is soon a closed connection’s where most are taken', () => {
    const ports = new Ports();
    ports.fill(7, CLOSED);
    ports.looks = 0;
    expect(ports.take(3, 7, 5000)).toBe(FIRST + 3);
    expect(ports.looks).toBeLessThan(64);
  });

  it('is not looked for in vain for long, however a guest asks', () => {
    const ports = new Ports();
    for (const remote of [7, 8]) ports.fill(remote, OPENING);
    ports.looks = 0;
    for (let n = 0; n < 1000; n++) expect(ports.take(n, 7 + (n & 1), 5000)).toBe(0);
    expect(ports.looks).toBeLessThan(110_000);
    expect(ports.take(3, 9, 5000)).toBe(FIRST + 3);
  });
});
