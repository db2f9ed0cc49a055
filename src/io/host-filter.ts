/**
 * Host filter: keeps the host's own frames out of the packet rings, so that they cost Berth nothing.
 *
 *     NIC ─▶ packet socket: program ─┬─ taken ─▶ ring ─▶ engine
 *                   ▲                └─ left: counted here, the host's stack has its copy anyway
 *     table writer ─┘ bitmap of the endpoints that have an entry, through memory shared with the kernel
 *
 * Follows      the steering table: a bit is set before the entry can be found and cleared after it is gone. More than
 *              needed may be taken, never less: an address past ROWS is taken whole, and so is a dedicated one, for as long as it
 *              is ours. The row of an address that has left is clear, and its next one's.
 * Cost         2 MiB of kernel memory; a frame of the host's two runs of the program, one for each ring.
 * Needs        bpf(2) with CAP_BPF (or root); `open` throws where it is refused, and the engine sees every frame.
 */
import { hostFilterProgram, LEFT_REASONS, type LeftReason, type Lengths } from './host-filter-program.js';
import { LARGE_RING, type RingSockets, SMALL_RING } from './packet-io.js';
import { addon, check } from '../native/binding.js';

/** linux/bpf.h */
const HASH = 1;
const ARRAY = 2;
const NO_PREALLOC = 1;
const MMAPABLE = 1 << 10;

/** Addresses that have a row of their own; row 0 stays unused. */
const ROWS = 128;
/** Both protocols, 65,536 ports each, a bit a port. */
const ROW_BITS = 17;
const ROW_BYTES = (1 << ROW_BITS) / 8;
const MAX_ADDRESSES = 32767;
const COUNTER_BYTES = 16;
const PAGE_BYTES = 4096;

export class HostFilter {
  private readonly mac: Uint8Array | null;
  private readonly descriptors: number[] = [];
  private readonly addresses: number;
  private readonly bitmap: number;
  private readonly counters: number;
  private readonly bits: Uint32Array;
  private readonly counts: BigUint64Array;

  /** `mac`: the NIC's six bytes; null: frames for every station are read. */
  constructor(mac: Uint8Array | null) {
    this.mac = mac;
    try {
      this.addresses = this.keep(addon().bpfCreateMap(HASH, 4, 4, MAX_ADDRESSES, NO_PREALLOC));
      this.bitmap = this.keep(addon().bpfCreateMap(ARRAY, 4, ROW_BYTES, ROWS, MMAPABLE));
      this.counters = this.keep(addon().bpfCreateMap(ARRAY, 4, COUNTER_BYTES, LEFT_REASONS.length, MMAPABLE));
      this.bits = new Uint32Array(this.show(this.bitmap, ROWS * ROW_BYTES));
      this.counts = new BigUint64Array(this.show(this.counters, PAGE_BYTES));
      this.load({ shortest: 0, longest: 0 }); // what the kernel's verifier refuses is known now
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** From now on the rings get only what the engine must see. */
  attach({ small, large }: RingSockets): void {
    check(addon().bpfAttach(small, this.load(SMALL_RING)), 'attaching the host filter');
    check(addon().bpfAttach(large, this.load(LARGE_RING)), 'attaching the host filter');
  }

  /** Loads the program for a ring and returns its descriptor, which stays the filter's. */
  load(lengths: Lengths): number {
    const { addresses, bitmap, counters } = this;
    return this.keep(addon().bpfLoad(hostFilterProgram({ addresses, bitmap, counters }, this.mac, lengths)));
  }

  address(address: number, index: number): void {
    this.point(address, index < ROWS ? index : 0);
  }

  whole(address: number): void {
    this.point(address, 0);
  }

  addressLeft(address: number): void {
    check(addon().bpfDeleteFromMap(this.addresses, Uint32Array.of(address)), 'taking an address from the host filter');
  }

  /** `key`: as in the steering table, which is the bit's number in the bitmap. */
  taken(key: number): void {
    if (key >>> ROW_BITS < ROWS) Atomics.or(this.bits, key >>> 5, 1 << (key & 31));
  }

  freed(key: number): void {
    if (key >>> ROW_BITS < ROWS) Atomics.and(this.bits, key >>> 5, ~(1 << (key & 31)));
  }

  /** What has been left to the host so far. */
  left(): Record<LeftReason, { frames: number; bytes: number }> {
    const tally = (row: number): { frames: number; bytes: number } => ({ frames: Number(this.counts[2 * row]), bytes: Number(this.counts[2 * row + 1]) });
    return Object.fromEntries(LEFT_REASONS.map((reason, row) => [reason, tally(row)])) as Record<LeftReason, { frames: number; bytes: number }>;
  }

  /** Closes the descriptors. Sockets that it is attached to keep it; `left` still answers. */
  close(): void {
    for (const fd of this.descriptors.splice(0)) addon().closeFd(fd);
  }

  private point(address: number, row: number): void {
    check(addon().bpfUpdateMap(this.addresses, Uint32Array.of(address), Uint32Array.of(row)), 'telling the host filter an address');
  }

  private keep(fd: number): number {
    this.descriptors.push(check(fd, 'making the host filter'));
    return fd;
  }

  private show(map: number, bytes: number): ArrayBuffer {
    const memory = addon().bpfMapMemory(map, bytes);
    check(typeof memory === 'number' ? memory : 0, 'mapping the host filter');
    return memory as ArrayBuffer;
  }
}
