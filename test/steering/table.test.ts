/**
 * Steering table, one thread: against a Map, through random leases, states, rebuilds and readers that adopt late; sizes;
 * publishing. Several threads: table-stress.test.ts.
 */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  ACTIVE,
  H_ADDRESSES,
  H_CAPACITY,
  H_KEYS,
  H_SUPERSEDED,
  HEADER_WORDS,
  IMPLICIT,
  MAY_IMPLY,
  type Proto,
  STATE_FREE,
  STATE_IN_USE,
  STATE_LEASED,
  STATE_QUARANTINED,
  TABLE_MAGIC,
  tableBytes,
} from '../../src/steering/table-layout.js';
import { TableWriter } from '../../src/steering/table-writer.js';
import { MISS, SteeringTable } from '../../src/steering/table.js';

const A = 0xc000020a;
const B = 0xc000020b;
const value = (link: number, bits: number): number => ((link << 16) | bits) >>> 0;

/** What the data plane does for an implicit indication (D7). */
function imply(table: SteeringTable, address: number, proto: Proto, port: number): void {
  const at = table.position(address, proto, port);
  const before = table.words[at];
  Atomics.compareExchange(table.words, at, before, ((before & ~7) | STATE_IN_USE | IMPLICIT | ACTIVE) >>> 0);
}

describe('one endpoint', () => {
  it('is free, leased, in use, leased, quarantined, free', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    expect(table.value(A, 0, 80)).toBe(STATE_FREE);
    expect(table.position(A, 0, 80)).toBe(MISS);
    writer.lease(A, 0, 80, 3, true);
    expect(table.value(A, 0, 80)).toBe(value(3, STATE_LEASED | MAY_IMPLY));
    expect(writer.use(A, 0, 80)).toBe(true);
    expect(table.value(A, 0, 80)).toBe(value(3, STATE_IN_USE | MAY_IMPLY));
    expect(writer.endUse(A, 0, 80)).toBe(true);
    expect(table.value(A, 0, 80)).toBe(value(3, STATE_LEASED | MAY_IMPLY));
    expect(writer.quarantine(A, 0, 80)).toBe(true);
    expect(table.value(A, 0, 80)).toBe(value(3, STATE_QUARANTINED | MAY_IMPLY));
    expect(writer.release(A, 0, 80)).toBe(true);
    expect(table.value(A, 0, 80)).toBe(STATE_FREE);
    expect(writer.endpoints).toBe(0);
  });

  it('says false to every change of what is not leased', () => {
    const writer = new TableWriter();
    writer.addAddress(B);
    for (const address of [A, B]) {
      expect([writer.use(address, 0, 80), writer.endUse(address, 0, 80), writer.quarantine(address, 0, 80), writer.release(address, 0, 80), writer.useWhole(address)]).toEqual(
        Array(5).fill(false),
      );
    }
    expect(writer.endpoints).toBe(0);
  });

  it('is not used from quarantine: only what is leased can be used (D1)', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.lease(A, 0, 80, 3, true);
    writer.quarantine(A, 0, 80);
    expect(writer.use(A, 0, 80)).toBe(false);
    expect(table.value(A, 0, 80) & 7).toBe(STATE_QUARANTINED);
  });

  it('is not leased again out of quarantine by a late end of use (D1)', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.lease(A, 0, 80, 3, true);
    writer.quarantine(A, 0, 80);
    writer.endUse(A, 0, 80);
    expect(table.value(A, 0, 80) & 7).toBe(STATE_QUARANTINED);
  });

  it('keeps its slot for ever: released and leased again, it is where it was', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.lease(A, 1, 53, 0, false);
    const at = table.position(A, 1, 53);
    expect(at).toBeGreaterThanOrEqual(HEADER_WORDS);
    writer.release(A, 1, 53);
    expect(table.position(A, 1, 53)).toBe(MISS);
    for (let port = 1000; port < 1100; port++) writer.lease(A, 1, port, 1, false);
    writer.lease(A, 1, 53, 2, false);
    expect(table.position(A, 1, 53)).toBe(at);
    expect(table.value(A, 1, 53)).toBe(value(2, STATE_LEASED));
  });

  it('tells addresses, protocols and ports apart', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.addAddress(B);
    writer.lease(A, 0, 80, 1, false);
    for (const [address, proto, port] of [[B, 0, 80], [A, 1, 80], [A, 0, 81], [A, 0, 0], [A + 2, 0, 80], [0, 0, 80], [0xffffffff, 0, 80]] as const) {
      expect(table.value(address, proto, port), `${address} ${proto} ${port}`).toBe(STATE_FREE);
    }
  });

  it('takes the extremes: link 65535, port 65535, addresses 0.0.0.1 and 255.255.255.255', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    for (const address of [1, 0xffffffff]) {
      writer.lease(address, 1, 65535, 65535, true);
      writer.use(address, 1, 65535);
      expect(table.value(address, 1, 65535)).toBe(value(65535, STATE_IN_USE | MAY_IMPLY));
    }
  });
});

describe('a dedicated address', () => {
  it('answers for every port without an entry of its own, once it is leased whole', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.lease(A, 0, 443, 1, false);
    expect(table.value(A, 0, 80)).toBe(STATE_FREE);
    writer.leaseWhole(A, 2, true);
    writer.useWhole(A);
    for (const [proto, port] of [[0, 0], [0, 80], [1, 80], [1, 0], [1, 65535]] as const) expect(table.value(A, proto, port)).toBe(value(2, STATE_IN_USE | MAY_IMPLY));
    expect(table.value(A, 0, 443)).toBe(value(1, STATE_LEASED));
    writer.quarantine(A, 0, 443);
    expect(table.value(A, 0, 443)).toBe(value(1, STATE_QUARANTINED));
    writer.release(A, 0, 443);
    expect(table.value(A, 0, 443)).toBe(value(2, STATE_IN_USE | MAY_IMPLY));
    expect(table.value(B, 0, 80)).toBe(STATE_FREE);
  });

  // Found by the stress test: one look-up in some millions said "not leased" for an address that always was.
  it('answers by the wildcard when the exact entry is released in the middle of a look-up', () => {
    const writer = new TableWriter();
    const table = new SteeringTable(writer.buffer);
    writer.leaseWhole(A, 2, false);
    writer.lease(A, 0, 443, 1, false);
    const load = Atomics.load;
    const spy = vi.spyOn(Atomics, 'load').mockImplementationOnce(((words: Uint32Array, at: number) => {
      spy.mockRestore();
      writer.release(A, 0, 443);
      return load(words, at);
    }) as typeof Atomics.load);
    try {
      expect(table.value(A, 0, 443)).toBe(value(2, STATE_LEASED));
    } finally {
      spy.mockRestore();
    }
  });

  it('survives a rebuild', () => {
    const writer = new TableWriter({ endpoints: 2 });
    writer.leaseWhole(A, 2, false);
    for (let port = 1; port < 200; port++) writer.lease(B, 0, port, 1, false);
    const table = new SteeringTable(writer.buffer);
    expect(writer.generation).toBeGreaterThan(1);
    expect(table.value(A, 1, 9)).toBe(value(2, STATE_LEASED));
    expect(table.value(B, 0, 200)).toBe(STATE_FREE);
  });
});

it('an address that is left has no endpoint any more, in every buffer that a reader may be in; others keep theirs', () => {
  const writer = new TableWriter({ endpoints: 4 });
  const old = new SteeringTable(writer.buffer);
  writer.addReader(1);
  for (const address of [A, B]) for (let port = 1; port <= 40; port++) writer.lease(address, 0, port, 3, true);
  writer.leaseWhole(A, 4, true);
  imply(new SteeringTable(writer.buffer), A, 0, 7);
  writer.releaseAddress(A);
  for (const table of [old, new SteeringTable(writer.buffer)]) expect([1, 7, 40, 99].map((port) => table.value(A, 0, port))).toEqual([0, 0, 0, 0]);
  expect(new SteeringTable(writer.buffer).value(B, 0, 7)).toBe(value(3, STATE_LEASED | MAY_IMPLY));
  expect(writer.endpoints).toBe(40);
  writer.releaseAddress(0x01020304);
});

describe('size', () => {
  it('holds 65,536 endpoints in 1 MiB and a header, without a rebuild', () => {
    let published = 0;
    const writer = new TableWriter({ endpoints: 65_536, addresses: 1, publish: () => published++ });
    const table = new SteeringTable(writer.buffer);
    for (let port = 0; port < 32_768; port++) {
      writer.lease(A, 0, port + 1, port & 7, false);
      writer.lease(A, 1, port + 1, port & 7, false);
    }
    expect(published).toBe(0);
    expect(writer.endpoints).toBe(65_536);
    expect(writer.buffer.byteLength).toBeLessThanOrEqual(2 ** 20 + 4 * HEADER_WORDS + 64);
    for (let port = 0; port < 32_768; port++) {
      if (table.value(A, 0, port + 1) !== value(port & 7, STATE_LEASED) || table.value(A, 1, port + 1) !== value(port & 7, STATE_LEASED)) expect.unreachable(`port ${port + 1}`);
      if (table.value(A, 0, port + 32_769) !== STATE_FREE && port < 32_767) expect.unreachable(`free port ${port + 32_769}`);
    }
  });

  it('never lets more than half of the slots hold a key, whatever the number', () => {
    for (const endpoints of [1, 2, 3, 1000, 1024, 5000]) {
      const writer = new TableWriter({ endpoints });
      for (let port = 1; port <= 6000; port++) {
        writer.lease(A, (port & 1) as Proto, port, 0, false);
        const { words } = new SteeringTable(writer.buffer);
        if (2 * words[H_KEYS] > words[H_CAPACITY]) expect.unreachable(`${words[H_KEYS]} keys in ${words[H_CAPACITY]} slots`);
      }
      const { words } = new SteeringTable(writer.buffer);
      expect(words[H_KEYS]).toBe(6000);
      expect(words.byteLength).toBe(tableBytes((words.length - HEADER_WORDS - 2 * words[H_CAPACITY]) / 2, words[H_CAPACITY]));
    }
  });

  it('does not grow under churn of ever different endpoints: tombstones go', () => {
    const writer = new TableWriter({ endpoints: 64 });
    for (let n = 0; n < 60_000; n++) {
      writer.lease(A, 0, 1 + (n % 65_000), 0, false);
      if (n >= 50) writer.release(A, 0, 1 + ((n - 50) % 65_000));
    }
    expect(writer.endpoints).toBe(50);
    expect(new SteeringTable(writer.buffer).words[H_CAPACITY]).toBeLessThanOrEqual(512);
  });

  it('holds many addresses, and refuses the 32,768th', () => {
    const writer = new TableWriter();
    for (let n = 1; n <= 32_767; n++) if (writer.addAddress(0x0a000000 + n) !== n) expect.unreachable(`index ${n}`);
    expect(writer.addAddress(0x0a000000 + 5)).toBe(5);
    expect(() => writer.addAddress(0x0b000000)).toThrow(expect.objectContaining({ code: 'ERR_TABLE_FULL' }) as Error);
    writer.lease(0x0a000000 + 32_767, 1, 65535, 9, false);
    const table = new SteeringTable(writer.buffer);
    expect(table.value(0x0a000000 + 32_767, 1, 65535)).toBe(value(9, STATE_LEASED));
    expect(table.words[H_ADDRESSES]).toBe(32_767);
    expect(table.address(0x0b000000)).toBe(0);
  });

  it('refuses memory that is not a table of this version', () => {
    const words = new Uint32Array(new SharedArrayBuffer(1024));
    expect(() => new SteeringTable(words.buffer)).toThrow(expect.objectContaining({ code: 'ERR_TABLE_FORMAT' }) as Error);
    words[0] = TABLE_MAGIC;
    words[1] = 99;
    expect(() => new SteeringTable(words.buffer)).toThrow(expect.objectContaining({ code: 'ERR_TABLE_FORMAT' }) as Error);
  });
});

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

describe('against a Map', () => {
  type Held = { link: number; state: number; mayImply: boolean; implicit: boolean; active: boolean };

  class Model {
    readonly held = new Map<string, Held>();
    readonly ours = new Set<number>();
    value(address: number, proto: Proto, port: number): number {
      const found = this.held.get(`${address} ${proto} ${port}`) ?? this.held.get(`${address} whole`);
      if (found === undefined) return 0;
      const { link, state, mayImply, implicit, active } = found;
      return value(link, state | (mayImply ? MAY_IMPLY : 0) | (implicit ? IMPLICIT : 0) | (active ? ACTIVE : 0));
    }
  }

  interface Real {
    writer: TableWriter;
    /** Readers: where each is, and where it could be. */
    readers: { table: SteeringTable }[];
  }

  const ADDRESSES = [A, B, 0x0a000001, 0x0a000002, 0x0a000003, 0x0a000004];
  const PORTS = [1, 2, 3, 80, 443, 8080, 65535, ...Array.from({ length: 60 }, (_, n) => 1000 + n)];
  const endpoint = fc.tuple(fc.constantFrom(...ADDRESSES), fc.constantFrom<Proto>(0, 1), fc.constantFrom(...PORTS));

  function command(name: string, run: (model: Model, real: Real) => void): fc.Command<Model, Real> {
    return {
      check: () => true,
      run: (model, real) => {
        run(model, real);
        verify(model, real);
      },
      toString: () => name,
    };
  }

  /** The writer's own buffer holds everything; a late reader's at least what existed when its buffer was made. */
  function verify(model: Model, { writer, readers }: Real): void {
    expect(writer.endpoints).toBe(model.held.size);
    const current = new SteeringTable(writer.buffer);
    for (const address of ADDRESSES) {
      expect(current.address(address) !== 0, 'ours').toBe(model.ours.has(address));
      for (const proto of [0, 1] as const) {
        for (const port of PORTS) {
          const expected = model.value(address, proto, port);
          const found = current.value(address, proto, port);
          if (found !== expected) expect(found, `${address.toString(16)} ${proto} ${port}`).toBe(expected);
          const position = current.position(address, proto, port);
          if (expected !== 0 && position === MISS) expect.unreachable('a miss for an entry');
          if (position !== MISS && current.words[position] !== found) expect.unreachable('position and value differ');
          for (const { table } of readers) {
            const late = table.value(address, proto, port);
            // A late buffer may lack an entry that came after it was full; it never has another's or an old one's.
            if (late !== expected && late !== 0 && !model.held.has(`${address} whole`)) expect(late, `late ${address.toString(16)} ${proto} ${port}`).toBe(expected);
          }
        }
      }
    }
  }

  const change = (name: string, from: (state: number) => boolean, to: number, call: (writer: TableWriter, address: number, proto: Proto, port: number) => boolean) =>
    endpoint.map(([address, proto, port]) =>
      command(`${name} ${address.toString(16)} ${proto} ${port}`, (model, { writer }) => {
        const key = `${address} ${proto} ${port}`;
        const held = model.held.get(key);
        // Only in the order that the states have (D1); what happens outside it has tests of its own.
        if (held !== undefined && !from(held.state)) return;
        expect(call(writer, address, proto, port)).toBe(held !== undefined);
        if (held === undefined) return;
        if (to === STATE_FREE) model.held.delete(key);
        else Object.assign(held, { state: to, implicit: false, active: false });
      }),
    );

  const lease = fc.tuple(endpoint, fc.nat(65535), fc.boolean()).map(([[address, proto, port], link, mayImply]) =>
    command(`lease ${address.toString(16)} ${proto} ${port} → ${link}`, (model, { writer }) => {
      writer.lease(address, proto, port, link, mayImply);
      model.ours.add(address);
      model.held.set(`${address} ${proto} ${port}`, { link, state: STATE_LEASED, mayImply, implicit: false, active: false });
    }),
  );

  const commands = [
    lease,
    lease,
    lease,
    lease,
    change('use', (state) => state !== STATE_QUARANTINED, STATE_IN_USE, (writer, ...at) => writer.use(...at)),
    change('end use', (state) => state === STATE_IN_USE, STATE_LEASED, (writer, ...at) => writer.endUse(...at)),
    change('quarantine', () => true, STATE_QUARANTINED, (writer, ...at) => writer.quarantine(...at)),
    change('release', () => true, STATE_FREE, (writer, ...at) => writer.release(...at)),
    fc.tuple(fc.constantFrom(...ADDRESSES), fc.nat(9), fc.boolean(), fc.boolean()).map(([address, link, mayImply, inUse]) =>
      command(`lease all of ${address.toString(16)}`, (model, { writer }) => {
        writer.leaseWhole(address, link, mayImply);
        if (inUse) expect(writer.useWhole(address)).toBe(true);
        model.ours.add(address);
        model.held.set(`${address} whole`, { link, state: inUse ? STATE_IN_USE : STATE_LEASED, mayImply, implicit: false, active: false });
      }),
    ),
    fc.constantFrom(...ADDRESSES).map((address) =>
      command(`release all of ${address.toString(16)}`, (model, { writer }) => {
        expect(writer.release(address, 0, 0)).toBe(model.held.delete(`${address} whole`));
      }),
    ),
    fc.constantFrom(...ADDRESSES).map((address) =>
      command(`add ${address.toString(16)}`, (model, { writer }) => {
        const index = writer.addAddress(address);
        expect(index).toBe(model.ours.has(address) ? new SteeringTable(writer.buffer).address(address) & 0x7fff : model.ours.size + 1);
        model.ours.add(address);
      }),
    ),
    fc.nat(2).map((n) =>
      command(`reader ${n} adopts`, (_model, { writer, readers }) => {
        readers[n].table = new SteeringTable(writer.buffer);
        writer.adopted(n, writer.generation);
      }),
    ),
    // In the current buffer: swaps in a late one are seen by its own readers first (see "carries over").
    endpoint.map(([address, proto, port]) =>
      command(`the guest implies ${address.toString(16)} ${proto} ${port}`, (model, { writer, readers }) => {
        const held = model.held.get(`${address} ${proto} ${port}`);
        if (held?.state !== STATE_LEASED || !held.mayImply) return;
        for (const [n, reader] of readers.entries()) {
          reader.table = new SteeringTable(writer.buffer);
          writer.adopted(n, writer.generation);
        }
        imply(readers[0].table, address, proto, port);
        Object.assign(held, { state: STATE_IN_USE, implicit: true, active: true });
      }),
    ),
    fc.constantFrom<Proto>(0, 1).map((proto) =>
      command(`sweep ${proto}`, (model, { writer, readers }) => {
        for (const [n, reader] of readers.entries()) {
          reader.table = new SteeringTable(writer.buffer);
          writer.adopted(n, writer.generation);
        }
        let ended = 0;
        for (const [key, held] of model.held) {
          if (!held.implicit || key.split(' ')[1] !== String(proto)) continue;
          if (!held.active) {
            ended++;
            Object.assign(held, { state: STATE_LEASED, implicit: false });
          }
          held.active = false;
        }
        expect(writer.sweepIdle(proto)).toBe(ended);
      }),
    ),
  ];

  it('gives the same answers through random changes, rebuilds and late readers', { timeout: 120_000 }, () => {
    let rebuilds = 0;
    fc.assert(
      fc.property(fc.commands(commands, { maxCommands: 150, size: 'max' }), (run) => {
        const writer = new TableWriter({ endpoints: 4, addresses: 1, publish: () => rebuilds++ });
        const readers = [0, 1, 2].map((reader) => {
          writer.addReader(reader);
          return { table: new SteeringTable(writer.buffer) };
        });
        fc.modelRun(() => ({ model: new Model(), real: { writer, readers } }), run);
      }),
      { numRuns: 150 },
    );
    expect(rebuilds).toBeGreaterThan(100);
  });
});
