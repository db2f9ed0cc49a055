/**
 * Host filter: keeps the host's own frames out of the packet rings, so that they cost Berth nothing, and those that the fast path steers.
 *
 *     NIC ─▶ packet socket: program ─┬─ taken ─▶ ring ─▶ engine
 *                                    └─ left: counted, the host's stack has its copy anyway
 *
 * Cost         a frame of the host's two runs of the program, one for each ring.
 */
import { hostFilterProgram, type Lengths } from './host-filter-program.js';
import type { KernelTable } from './kernel-table.js';
import { LARGE_RING, type RingSockets, SMALL_RING } from './packet-io.js';
import { addon, check, SOCKET_FILTER } from '../native/binding.js';

const NO_LICENSE = '';

/** From now on the rings get only what the engine must see. `mac`: the NIC's six bytes; null: frames for every station are read. */
export function filterRings(table: KernelTable, mac: Uint8Array | null, { small, large }: RingSockets): void {
  for (const [socket, lengths] of [[small, SMALL_RING], [large, LARGE_RING]] as const) {
    const program = loadHostFilter(table, mac, lengths);
    const attached = addon().bpfAttach(socket, program);
    addon().closeFd(program); // the socket keeps it
    check(attached, 'attaching the host filter');
  }
}

/** Loads the program for a ring and returns its descriptor, which is the caller's. */
export function loadHostFilter(table: KernelTable, mac: Uint8Array | null, lengths: Lengths): number {
  return check(addon().bpfLoad(SOCKET_FILTER, hostFilterProgram(table.maps, mac, lengths), NO_LICENSE), 'loading the host filter');
}
