/** Steering table: a new buffer is published, and readers who adopt it late miss nothing. */
import { describe, expect, it } from 'vitest';
import { ACTIVE, H_SUPERSEDED, IMPLICIT, MAY_IMPLY, STATE_FREE, STATE_IN_USE, STATE_LEASED, STATE_QUARANTINED } from '../../src/steering/table-layout.js';
import { TableWriter } from '../../src/steering/table-writer.js';
import { SteeringTable } from '../../src/steering/table.js';
import { A, imply, value } from '../support/table-entries.js';

describe('publishing', () => {
  /** A writer whose table has been replaced once; the reader is still in the old one. */
  function rebuilt(): { writer: TableWriter; old: SteeringTable; fresh: SteeringTable; published: number[] } {
    const published: number[] = [];
    const writer = new TableWriter({ endpoints: 4, publish: (_buffer, generation) => published.push(generation) });
    writer.addReader(7);
    const old = new SteeringTable(writer.buffer);
    for (let port = 1; port <= 4; port++) writer.lease(A, 0, port, 1, true);
    expect(old.superseded).toBe(false);
    writer.lease(A, 0, 5, 1, true);
    return { writer, old, fresh: new SteeringTable(writer.buffer), published };
  }

  it('hands out a new buffer with the next generation and marks the old one superseded', () => {
    const { writer, old, fresh, published } = rebuilt();
    expect(published).toEqual([2]);
    expect([old.generation, fresh.generation, writer.generation]).toEqual([1, 2, 2]);
    expect([old.superseded, fresh.superseded]).toEqual([true, false]);
    expect(old.words[H_SUPERSEDED]).toBe(1);
    for (let port = 1; port <= 5; port++) expect(fresh.value(A, 0, port)).toBe(value(1, STATE_LEASED | MAY_IMPLY));
  });

  it('writes every change to both buffers until the reader has left the old one', () => {
    const { writer, old, fresh } = rebuilt();
    writer.use(A, 0, 1);
    writer.quarantine(A, 0, 2);
    writer.release(A, 0, 3);
    for (const table of [old, fresh]) {
      expect([1, 2, 3].map((port) => table.value(A, 0, port) & 7)).toEqual([STATE_IN_USE, STATE_QUARANTINED, STATE_FREE]);
    }
    writer.adopted(7, 2);
    writer.use(A, 0, 4);
    expect([old.value(A, 0, 4) & 7, fresh.value(A, 0, 4) & 7]).toEqual([STATE_LEASED, STATE_IN_USE]);
  });

  it('writes to both buffers while one of two readers is late', () => {
    const writer = new TableWriter({ endpoints: 4 });
    const old = new SteeringTable(writer.buffer);
    writer.addReader(1);
    writer.addReader(2);
    for (let port = 1; port <= 5; port++) writer.lease(A, 0, port, 1, true);
    writer.adopted(1, 2);
    writer.use(A, 0, 1);
    expect(old.value(A, 0, 1) & 7).toBe(STATE_IN_USE);
    writer.removeReader(2);
    writer.use(A, 0, 2);
    expect(old.value(A, 0, 2) & 7).toBe(STATE_LEASED);
  });

  it('carries over the indications made in the old buffer', () => {
    const { writer, old, fresh } = rebuilt();
    imply(old, A, 0, 1);
    expect(fresh.value(A, 0, 1) & 7).toBe(STATE_LEASED);
    writer.adopted(7, 2);
    expect(fresh.value(A, 0, 1)).toBe(value(1, STATE_IN_USE | MAY_IMPLY | IMPLICIT | ACTIVE));
  });

  it('carries over nothing that the control plane has ended, moved or confirmed since', () => {
    const { writer, old, fresh } = rebuilt();
    for (let port = 1; port <= 4; port++) imply(old, A, 0, port);
    writer.quarantine(A, 0, 1);
    writer.release(A, 0, 2);
    writer.release(A, 0, 3);
    writer.lease(A, 0, 3, 9, true);
    writer.use(A, 0, 4);
    writer.adopted(7, 2);
    expect([1, 2, 3, 4].map((port) => fresh.value(A, 0, port))).toEqual([
      value(1, STATE_QUARANTINED | MAY_IMPLY),
      0,
      value(9, STATE_LEASED | MAY_IMPLY),
      value(1, STATE_IN_USE | MAY_IMPLY),
    ]);
  });

  it('carries over through two rebuilds that the reader slept through', () => {
    const { writer, old } = rebuilt();
    for (let port = 6; port <= 40; port++) writer.lease(A, 0, port, 1, true);
    expect(writer.generation).toBeGreaterThan(2);
    imply(old, A, 0, 1);
    writer.adopted(7, writer.generation);
    expect(new SteeringTable(writer.buffer).value(A, 0, 1) & IMPLICIT).toBe(IMPLICIT);
  });

  it('ends implicit uses of one protocol after a whole time-out without a frame', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    for (const proto of [0, 1] as const) for (const port of [1, 2, 3]) writer.lease(A, proto, port, 1, true);
    writer.use(A, 0, 3);
    for (const proto of [0, 1] as const) for (const port of [1, 2]) imply(table, A, proto, port);
    expect(writer.sweepIdle(0)).toBe(0);
    imply(table, A, 0, 2);
    expect(writer.sweepIdle(0)).toBe(1);
    expect([1, 2, 3].map((port) => table.value(A, 0, port))).toEqual([value(1, STATE_LEASED | MAY_IMPLY), value(1, STATE_IN_USE | MAY_IMPLY | IMPLICIT), value(1, STATE_IN_USE | MAY_IMPLY)]);
    expect([1, 2].map((port) => table.value(A, 1, port) & ACTIVE)).toEqual([ACTIVE, ACTIVE]);
    expect(writer.sweepIdle(0)).toBe(1);
    expect(writer.sweepIdle(0)).toBe(0);
    expect(writer.sweepIdle(1)).toBe(0);
    expect(writer.sweepIdle(1)).toBe(2);
  });
});
