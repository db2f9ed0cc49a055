/** Port blocks: which ports of a pool's address may still be leased as a block. The host has nothing there, so all but the privileged ones. */
import { type PortRange, PortSet } from '../../wire/port-set.js';

const PORTS = PortSet.fromRanges([{ first: 1024, last: 65535 }]);

/** The first block of `size` ports (a power of two), aligned to it, that has none of `taken`; null where there is none. And how many such there are. */
export function freeBlocks(taken: readonly PortRange[], size: number): { first: PortRange | null; count: number } {
  let first: PortRange | null = null;
  let count = 0;
  for (const range of PORTS.subtract(PortSet.fromRanges(taken)).ranges()) {
    const from = Math.ceil(range.first / size) * size;
    const blocks = Math.max(0, Math.floor((range.last + 1 - from) / size));
    if (blocks > 0) first ??= { first: from, last: from + size - 1 };
    count += blocks;
  }
  return { first, count };
}
