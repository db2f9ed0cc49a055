/**
 * The flow table against a model that is a list: any order of adding, touching, moving, removing, expiring and forgetting finds the same
 * flows by both keys, with the same counts; and what the model cannot say about a full table is said here one by one.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CLOSED, ECHO, ESTABLISHED, FLOW_TCP, FLOW_UDP, FlowTable, NO_FLOW, OPENING, UDP } from '../../src/dataplane/flow-table.js';

const LIFETIMES = [240, 7440, 240, 300, 60];
const LINKS = 3;

interface Flow {
  link: number;
  protocol: number;
  insidePort: number;
  outsideAddress: number;
  outsidePort: number;
  remote: number;
  remotePort: number;
}

/** Few values a field, so that keys meet. */
const flows = fc.record<Flow>({
  link: fc.nat({ max: LINKS - 1 }),
  protocol: fc.nat({ max: 2 }),
  insidePort: fc.nat({ max: 2 }),
  outsideAddress: fc.constantFrom(0x0a000001, -1062731520),
  outsidePort: fc.nat({ max: 3 }),
  remote: fc.constantFrom(1, -2),
  remotePort: fc.nat({ max: 1 }),
});
const classes = fc.nat({ max: 4 });
type Step =
  | { type: 'add'; flow: Flow; class: number }
  | { type: 'touch' | 'remove'; which: number }
  | { type: 'move'; which: number; class: number }
  | { type: 'pass'; seconds: number }
  | { type: 'expire' | 'forget'; link: number };
const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ type: fc.constant('add' as const), flow: flows, class: classes }),
    fc.record({ type: fc.constantFrom('touch' as const, 'remove' as const), which: fc.nat({ max: 20 }) }),
    fc.record({ type: fc.constant('move' as const), which: fc.nat({ max: 20 }), class: classes }),
    fc.record({ type: fc.constant('pass' as const), seconds: fc.constantFrom(1, 59, 61, 239, 301, 7441) }),
    fc.record({ type: fc.constantFrom('expire' as const, 'forget' as const), link: fc.nat({ max: LINKS - 1 }) }),
  ),
  { maxLength: 60 },
);

const insideKey = ({ link, protocol, insidePort, remote, remotePort }: Flow): string => [link, protocol, insidePort, remote, remotePort].join();
const outsideKey = ({ outsideAddress, protocol, outsidePort, remote, remotePort }: Flow): string => [outsideAddress, protocol, outsidePort, remote, remotePort].join();

describe('flow table', () => {
  it('is a list of flows with two keys', () => {
    fc.assert(
      fc.property(steps, (given) => {
        const table = new FlowTable(LINKS, 1024);
        let model: { flow: Flow; slot: number; class: number; seen: number }[] = [];
        let now = 0x7ffffff0; // the clock is modulo 2^32, and signed
        const insideOf = ({ link, protocol, insidePort, remote, remotePort }: Flow): number => table.findInside(link, protocol, insidePort, remote, remotePort);
        const outsideOf = ({ outsideAddress, protocol, outsidePort, remote, remotePort }: Flow): number => table.findOutside(outsideAddress, protocol, outsidePort, remote, remotePort);
        for (const step of given) {
          const one = 'which' in step ? model[step.which % Math.max(1, model.length)] : undefined;
          if (step.type === 'add') {
            const { flow } = step;
            if (model.some((other) => insideKey(other.flow) === insideKey(flow) || outsideKey(other.flow) === outsideKey(flow))) continue;
            const slot = table.add(flow.link, flow.protocol, flow.insidePort, flow.outsideAddress, flow.outsidePort, flow.remote, flow.remotePort, step.class, now | 0);
            expect(slot).not.toBe(NO_FLOW);
            model.push({ flow, slot, class: step.class, seen: now });
          } else if (step.type === 'touch' && one !== undefined) {
            table.touch(one.slot, now | 0);
            one.seen = now;
          } else if (step.type === 'remove' && one !== undefined) {
            table.remove(one.slot);
            model = model.filter((other) => other !== one);
          } else if (step.type === 'move' && one !== undefined) {
            table.touch(one.slot, now | 0); // as the engine does: a move follows a frame
            table.move(one.slot, step.class);
            one.seen = now;
            one.class = step.class;
          } else if (step.type === 'pass') {
            now += step.seconds;
          } else if (step.type === 'expire') {
            table.expire(step.link, now | 0);
            model = model.filter((other) => other.flow.link !== step.link || now - other.seen <= LIFETIMES[other.class]);
          } else if (step.type === 'forget') {
            table.forgetLink(step.link);
            model = model.filter((other) => other.flow.link !== step.link);
          }
          expect(table.count).toBe(model.length);
        }
        for (const { flow, slot, class: kind } of model) {
          expect([insideOf(flow), outsideOf(flow), table.class[slot]]).toEqual([slot, slot, kind]);
        }
        for (let link = 0; link < LINKS; link++) expect(table.countOf(link)).toBe(model.filter(({ flow }) => flow.link === link).length);
        for (const { flow } of model) table.remove(insideOf(flow));
        expect(table.count).toBe(0);
        for (const { flow } of model) expect([insideOf(flow), outsideOf(flow)]).toEqual([NO_FLOW, NO_FLOW]);
      }),
      { numRuns: 1500 },
    );
  });

  const CAPACITY = 64;
  const QUOTA = CAPACITY / 4;
  const add = (table: FlowTable, link: number, n: number, kind: number, now = 0): number => table.add(link, kind === UDP ? FLOW_UDP : FLOW_TCP, n, 1, 100 * link + n, 9, 80, kind, now);

  it('a guest has a quarter of it, and then loses its own oldest: closed before opening, echo, udp', () => {
    const table = new FlowTable(LINKS, CAPACITY);
    const kinds = [UDP, ECHO, OPENING, CLOSED];
    const slots = kinds.map((kind, n) => add(table, 0, n, kind, n));
    for (let n = kinds.length; n < QUOTA; n++) add(table, 0, n, ESTABLISHED, n);
    for (let n = 0; n < kinds.length; n++) {
      const gone = slots[kinds.length - 1 - n];
      expect(add(table, 0, 50 + n, ESTABLISHED, 99)).toBe(gone);
    }
    expect(table.countOf(0)).toBe(QUOTA);
    expect(add(table, 0, 60, ESTABLISHED)).toBe(NO_FLOW);
  });

  it('more than four guests divide it: each finds room for as many as the others may have', () => {
    const table = new FlowTable(8, CAPACITY);
    for (let link = 0; link < 4; link++) for (let n = 0; n < QUOTA; n++) add(table, link, n, UDP);
    table.share(8);
    for (let link = 0; link < 8; link++) for (let n = 0; n < QUOTA; n++) expect(add(table, link, QUOTA + n, UDP)).not.toBe(NO_FLOW);
    for (let link = 0; link < 8; link++) expect(table.countOf(link)).toBe(QUOTA / 2);
    for (let link = 1; link < 8; link++) table.forgetLink(link);
    table.share(1);
    for (let n = 0; n < QUOTA; n++) expect(add(table, 0, 2 * QUOTA + n, ESTABLISHED)).not.toBe(NO_FLOW);
    table.share(8); // what is established stays
    expect(table.countOf(0)).toBe(QUOTA);
  });

  it('what one guest has filled is not another’s loss', () => {
    const table = new FlowTable(5, CAPACITY);
    for (let link = 0; link < 4; link++) for (let n = 0; n < QUOTA; n++) expect(add(table, link, n, UDP)).not.toBe(NO_FLOW);
    expect(table.count).toBe(CAPACITY);
    expect(add(table, 4, 0, UDP)).toBe(NO_FLOW);
    for (let link = 0; link < 4; link++) expect(table.countOf(link)).toBe(QUOTA);
    table.forgetLink(2);
    expect(add(table, 4, 0, UDP)).not.toBe(NO_FLOW);
  });
});
