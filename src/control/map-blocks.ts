/**
 * Blocks of mapped guests: which ports their own flows leave by. A block is leased like the outside ports of the configuration, in both
 * protocols, on every shared address.
 *
 * Which        the highest that is free: those that agents are granted are the lowest (allocator.ts), so the two meet last. What others
 *              hold, after a restart too, and what the host itself has is passed over.
 */
import type { GuestPlan } from './lease-plan.js';
import type { Ports } from './lease-state.js';
import { mapsWithout } from './map-changes.js';
import { ConfigError } from '../base/errors.js';
import { type PortRange, PortSet } from '../wire/port-set.js';

/** The guest with its block, cut from `pool` without `taken`. ERR_POOL_EMPTY where there is none. */
export function withBlock(guest: GuestPlan, pool: PortSet, taken: PortSet): GuestPlan {
  const { mapped } = guest;
  if (mapped === null || mapped.blockSize === 0) return guest;
  const block = highestBlock(mapped.blockSize, pool.subtract(taken).subtract(guest.tcp).subtract(guest.udp));
  if (block === null) throw new ConfigError('ERR_POOL_EMPTY', `guest ${guest.name}: no block of ${mapped.blockSize} ports is free for what it begins itself; set a smaller \`block\`, or widen pool.ports`);
  return withPorts({ ...guest, mapped: { ...mapped, block } });
}

/** The guest with the leases that follow from its maps and its block. */
export function withPorts(guest: GuestPlan): GuestPlan {
  const { mapped } = guest;
  if (mapped === null) return guest;
  const block = PortSet.fromRanges(mapped.block === null ? [] : [mapped.block]);
  const [tcp, udp] = [PortSet.fromRanges(mapped.tcp).union(block), PortSet.fromRanges(mapped.udp).union(block)];
  return { ...guest, tcp, udp, useTcp: tcp, useUdp: udp };
}

/** The guest without these outside ports, which the host has now: of its block the longest run that is left. */
export function withoutPorts(guest: GuestPlan, lost: Ports): GuestPlan {
  const { mapped, tcp, udp, useTcp, useUdp } = guest;
  const left = { ...guest, tcp: tcp.subtract(lost.tcp), udp: udp.subtract(lost.udp), useTcp: useTcp.subtract(lost.tcp), useUdp: useUdp.subtract(lost.udp) };
  if (mapped === null) return left;
  const runs = mapped.block === null ? [] : [...PortSet.fromRanges([mapped.block]).subtract(lost.tcp.union(lost.udp)).ranges()];
  const block = runs.reduce<PortRange | null>((best, run) => (best === null || run.last - run.first > best.last - best.first ? run : best), null);
  return { ...left, mapped: { ...mapped, ...mapsWithout(mapped, lost), block } };
}

/** The highest run of `size` ports, aligned to it, inside `free`. */
function highestBlock(size: number, free: PortSet): PortRange | null {
  for (const { first, last } of [...free.ranges()].reverse()) {
    const start = Math.floor((last + 1) / size) * size - size;
    if (start >= first && start > 0) return { first: start, last: start + size - 1 };
  }
  return null;
}
