/** Port sets against the plainest model there is: a Set of numbers. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BerthError } from '../../src/base/errors.js';
import { PortSet } from '../../src/wire/port-set.js';

interface Sample {
  readonly set: PortSet;
  readonly model: ReadonlySet<number>;
}

/** Ports crowded at both ends of the range, so that ranges touch, nest and overlap, and some anywhere. */
const port = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 65500, max: 65535 }), fc.integer({ min: 1, max: 65535 }));
const range = fc.oneof(
  fc.tuple(port, fc.integer({ min: 0, max: 12 })).map(([first, length]) => ({ first, last: Math.min(65535, first + length) })),
  fc.tuple(port, fc.integer({ min: 0, max: 1500 })).map(([first, length]) => ({ first, last: Math.min(65535, first + length) })),
);
const sample: fc.Arbitrary<Sample> = fc.array(range, { maxLength: 8 }).map((ranges) => {
  const model = new Set<number>();
  for (const { first, last } of ranges) for (let p = first; p <= last; p++) model.add(p);
  return { set: PortSet.fromRanges(ranges), model };
});

const sorted = (model: Iterable<number>): number[] => [...model].sort((a, b) => a - b);

/** The set has the model's ports, and the one form that those ports have. */
function expectSame(set: PortSet, model: ReadonlySet<number>): void {
  expect(set.size).toBe(model.size);
  expect(set.isEmpty).toBe(model.size === 0);
  const ports = [...set.ports()];
  expect(ports.every((p) => model.has(p))).toBe(true);
  expect(ports.length).toBe(model.size);
  let end = -1;
  for (const { first, last } of set.ranges()) {
    expect(first).toBeGreaterThan(end + 1);
    expect(last).toBeGreaterThanOrEqual(first);
    end = last;
  }
}

describe('port set, against a Set of numbers', () => {
  it('holds the ports of its ranges', () => {
    fc.assert(fc.property(sample, ({ set, model }) => expectSame(set, model)));
  });

  it('answers has() for every port and for numbers that are none', () => {
    fc.assert(
      fc.property(sample, fc.array(port), ({ set, model }, ports) => {
        for (const p of [...ports, ...ports.map((q) => q + 1), 0, -1, 65536]) expect(set.has(p)).toBe(model.has(p));
      }),
    );
  });

  it('joins, intersects and subtracts', () => {
    fc.assert(
      fc.property(sample, sample, (a, b) => {
        expectSame(a.set.union(b.set), new Set([...a.model, ...b.model]));
        expectSame(a.set.intersect(b.set), new Set([...a.model].filter((p) => b.model.has(p))));
        expectSame(a.set.subtract(b.set), new Set([...a.model].filter((p) => !b.model.has(p))));
      }),
      { numRuns: 300 },
    );
  });

  it('compares: subset, overlap, first common port, equality', () => {
    fc.assert(
      fc.property(sample, sample, (a, b) => {
        const common = sorted([...a.model].filter((p) => b.model.has(p)));
        expect(a.set.overlaps(b.set)).toBe(common.length > 0);
        expect(a.set.firstCommon(b.set)).toBe(common[0] ?? null);
        expect(a.set.isSubsetOf(b.set)).toBe(common.length === a.model.size);
        expect(a.set.equals(b.set)).toBe(common.length === a.model.size && a.model.size === b.model.size);
        expect(a.set.intersect(b.set).isSubsetOf(a.set)).toBe(true);
        expect(a.set.equals(a.set.union(a.set.intersect(b.set)))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(sample, ({ set }) => {
        if (!set.isEmpty) expect(PortSet.parse(set.format()).equals(set)).toBe(true);
        expect(String(set)).toBe(set.format());
      }),
    );
  });

  it('reads any text either as ports or with an ERR_PORT_SET of one line', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9 ,\n-]{0,20}$/)), (text) => {
        try {
          expectSame(PortSet.parse(text), new Set(PortSet.parse(text).ports()));
        } catch (error) {
          expect(error).toBeInstanceOf(BerthError);
          expect(error).toMatchObject({ code: 'ERR_PORT_SET', message: expect.not.stringContaining('\n') as string });
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('is not changed by its operations', () => {
    const set = PortSet.parse('80,90-99');
    set.union(PortSet.ALL).subtract(PortSet.parse(95));
    expect(set.format()).toBe('80,90-99');
  });
});

describe('all ports', () => {
  it('less some, and with them again, is all', () => {
    fc.assert(
      fc.property(sample, ({ set }) => {
        const others = PortSet.ALL.subtract(set);
        expect(others.size).toBe(65535 - set.size);
        expect(others.overlaps(set)).toBe(false);
        expect(others.union(set).equals(PortSet.ALL)).toBe(true);
      }),
    );
  });
});

describe('port set, as text', () => {
  it.each([
    ['80,443,8000-8999', '80,443,8000-8999', 1002],
    [80, '80', 1],
    [' 80 , 8000 - 8001 ', '80,8000-8001', 3],
    ['443,80,80', '80,443', 2],
    ['80,81,82', '80-82', 3],
    ['10-20,15-30', '10-30', 21],
    ['7-7', '7', 1],
    ['1-65535', '1-65535', 65535],
  ])('reads %j as %s', (text, formatted, size) => {
    const set = PortSet.parse(text);
    expect(set.format()).toBe(formatted);
    expect(set.size).toBe(size);
  });

  const ALLOWED = 'expected ports 1 to 65535, as 80 or "80,443,8000-8999")';
  it.each([
    ['', `no port at all (got "", ${ALLOWED}`],
    ['  ', `no port at all (got "  ", ${ALLOWED}`],
    ['0', `not a port or a range of ports: "0" at character 1 (got "0", ${ALLOWED}`],
    [0, `not a port number (got 0, ${ALLOWED}`],
    [65536, `not a port number (got 65536, ${ALLOWED}`],
    [80.5, `not a port number (got 80.5, ${ALLOWED}`],
    [Number.NaN, `not a port number (got NaN, ${ALLOWED}`],
    ['80,65536', `not a port or a range of ports: "65536" at character 4 (got "80,65536", ${ALLOWED}`],
    ['80, http', `not a port or a range of ports: "http" at character 5 (got "80, http", ${ALLOWED}`],
    ['80,,81', `a comma with no port beside it at character 4 (got "80,,81", ${ALLOWED}`],
    ['80,', `a comma with no port beside it at character 4 (got "80,", ${ALLOWED}`],
    ['90-80', `a range that ends before it starts: "90-80" at character 1 (got "90-80", ${ALLOWED}`],
    ['1-2-3', `not a port or a range of ports: "1-2-3" at character 1 (got "1-2-3", ${ALLOWED}`],
    ['-80', `not a port or a range of ports: "-80" at character 1 (got "-80", ${ALLOWED}`],
    ['0x50', `not a port or a range of ports: "0x50" at character 1 (got "0x50", ${ALLOWED}`],
    ['80\n81', `not a port or a range of ports: "80\\n81" at character 1 (got "80\\n81", ${ALLOWED}`],
  ])('refuses %j', (text, message) => {
    expect(() => PortSet.parse(text)).toThrow(expect.objectContaining({ code: 'ERR_PORT_SET', message }));
  });

  it('refuses ranges that are none', () => {
    expect(() => PortSet.fromRanges([{ first: 5, last: 4 }])).toThrow(expect.objectContaining({ code: 'ERR_PORT_SET' }));
    expect(() => PortSet.fromRanges([{ first: 0, last: 4 }])).toThrow(expect.objectContaining({ code: 'ERR_PORT_SET' }));
  });

  it('formats the empty set as the empty text, and with another separator', () => {
    expect(PortSet.EMPTY.format()).toBe('');
    expect(PortSet.parse('80,443').format(', ')).toBe('80, 443');
  });
});
