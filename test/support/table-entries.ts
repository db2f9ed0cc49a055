/** What the tests of the steering table have in common: two addresses, an entry's value, the data plane's own write. */
import { ACTIVE, IMPLICIT, type Proto, STATE_IN_USE } from '../../src/steering/table-layout.js';
import type { SteeringTable } from '../../src/steering/table.js';

export const A = 0xc000020a;
export const B = 0xc000020b;

/** An entry for a link: state and flags in `bits`. */
export const value = (link: number, bits: number): number => ((link << 16) | bits) >>> 0;

/** What the data plane does for an implicit indication (D7). */
export function imply(table: SteeringTable, address: number, proto: Proto, port: number): void {
  const at = table.position(address, proto, port);
  const before = table.words[at];
  Atomics.compareExchange(table.words, at, before, ((before & ~7) | STATE_IN_USE | IMPLICIT | ACTIVE) >>> 0);
  table.markUsed(address);
}
