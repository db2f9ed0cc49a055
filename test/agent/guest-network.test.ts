/** The port settings that follow from leases; setting and restoring a real interface is in agent.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { automaticPorts, portSettings } from '../../src/agent/guest-network.js';
import { PortSet } from '../../src/wire/port-set.js';

const none = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };
const set = (text: string): PortSet => (text === '' ? PortSet.EMPTY : PortSet.parse(text));

describe('automaticPorts', () => {
  it.each([
    ['the blocks, whatever else is leased', [{ first: 20000, last: 20003 }], { tcp: '80,20000-20003', udp: '20000-20003' }, '20000-20003'],
    ['both blocks', [{ first: 20000, last: 20003 }, { first: 20008, last: 20011 }], { tcp: '', udp: '' }, '20000-20003,20008-20011'],
    ['without blocks what is leased for both protocols', [], { tcp: '80,8000-8010', udp: '8005-8020' }, '8005-8010'],
    ['else for one', [], { tcp: '80,8000-8010', udp: '' }, '8000-8010'],
    ['never a privileged port', [], { tcp: '80,443', udp: '53' }, ''],
  ])('are %s', (_, blocks, { tcp, udp }, expected) => {
    expect(automaticPorts(blocks, { tcp: set(tcp), udp: set(udp) }).format()).toBe(expected);
  });

  it('are none without a lease', () => expect(automaticPorts([], none).isEmpty).toBe(true));
});

describe('portSettings', () => {
  it('puts the gap between two blocks with what was reserved before', () => {
    expect(portSettings(set('20000-21023,22048-23071'), '8080,20005')).toEqual({ range: '20000 23071', reserved: '8080,20005,21024-22047' });
  });

  it('leaves the kernel exactly the ports that were neither missing nor reserved', () => {
    const port = fc.integer({ min: 1024, max: 1200 });
    const ranges = fc.array(fc.tuple(port, fc.nat(20)).map(([first, length]) => ({ first, last: first + length })), { minLength: 1, maxLength: 5 }).map((all) => PortSet.fromRanges(all));
    fc.assert(
      fc.property(ranges, ranges, (automatic, before) => {
        const { range, reserved } = portSettings(automatic, before.format());
        const [first, last] = range.split(' ').map(Number);
        const chosen = PortSet.fromRanges([{ first, last }]).subtract(set(reserved));
        expect(chosen.format()).toBe(automatic.subtract(before).format());
        expect(before.isSubsetOf(set(reserved))).toBe(true);
      }),
    );
  });
});
