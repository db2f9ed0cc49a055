/**
 * The kernel's copy of the steering table: what the BPF programs at the NIC and at the guests' links look into.
 *
 *     table writer ─▶ addresses, endpoints   (memory that the kernel sees too)   ◀─ programs
 *     guest links  ─▶ links                                                      ─▶ counters
 *
 * Follows      the steering table, and never says more than it: an endpoint is the engine's before it can be found in the table and
 *              until after it is gone, and steered by the kernel only while the table says that it is in use. A use that the
 *              engine has taken from a frame (D7) is watched: whether it goes on is noted here in the engine's stead.
 * Rows         of all endpoints of an address, for ROWS addresses at a time that lease single ones; of an address past them the
 *              engine sees every frame.
 * Memory       9 MiB of the kernel's, shown to JavaScript.
 * Needs        bpf(2) with CAP_BPF (or root); the constructor throws where it is refused.
 */
import { EVERY_FRAME, ENGINES, type FrameMaps, NO_ROW, NOBODYS, STEERED, WATCHED, WHOLE_SHIFT } from './frame-program.js';
import { LEFT_REASONS, type LeftReason } from './host-filter-program.js';
import { dropsByInterface } from './interfaces.js';
import { addon, check } from '../native/binding.js';

/** linux/bpf.h */
const HASH = 1;
const ARRAY = 2;
const NO_PREALLOC = 1;
const MMAPABLE = 1 << 10;

const MAX_ADDRESSES = 32767;
/** Row 0 stays unused. */
const ROWS = 32;
/** Both protocols, 65,536 ports each. */
const ROW_BITS = 17;
const ROW_BYTES = 2 << ROW_BITS;
const ACTIVITY_BYTES = (1 << ROW_BITS) / 8;
const ENDPOINT_MASK = (1 << ROW_BITS) - 1;
const COUNTER_BYTES = 16;
const LINK_BYTES = 8;
const LINK_COUNTER_BYTES = 32;
const PAGE_BYTES = 4096;

export interface Tally {
  frames: number;
  bytes: number;
}

/** The host side of a link that the kernel can steer to. */
export interface SteerableLink {
  name: string;
  ifindex: number;
  /** It is one end of a veth whose other end is the guest's interface. */
  byPeer: boolean;
}

interface Address {
  readonly address: number;
  row: number;
  whole: number;
}

export class KernelTable {
  readonly maps: FrameMaps;
  private readonly descriptors: number[] = [];
  private readonly entries: Uint16Array;
  private readonly activity: Uint32Array;
  private readonly links: Uint32Array;
  private readonly linkCounts: BigUint64Array;
  /** …their lower halves at even places. */
  private readonly lowWords: Uint32Array;
  private readonly leftCounts: BigUint64Array;
  /** By their index in the steering table. */
  private readonly byIndex: (Address | undefined)[] = [];
  /** Rows that nobody has: never used ones, from this on; and those of addresses that have left, which a program may still look into. */
  private rows = 1;
  private rowsFree: number[] = [];
  private rowsLeft: number[] = [];
  /** By link: its interface while it is attached, and what earlier ones have dropped. */
  private readonly interfaces = new Map<number, { name: string; dropsBefore: number }>();
  private readonly droppedBefore: number[] = [];
  private readonly retired = { ingress: { frames: 0, bytes: 0 }, egress: { frames: 0, bytes: 0 } };

  /** `links`: how many there may be. */
  constructor(links: number) {
    try {
      const array = (bytes: number, entries: number): number => this.keep(addon().bpfCreateMap(ARRAY, 4, bytes, entries, MMAPABLE));
      this.maps = {
        addresses: this.keep(addon().bpfCreateMap(HASH, 4, 4, MAX_ADDRESSES, NO_PREALLOC)),
        endpoints: array(ROW_BYTES, ROWS),
        activity: array(ACTIVITY_BYTES, ROWS),
        links: array(LINK_BYTES, links),
        linkCounters: array(LINK_COUNTER_BYTES, links),
        leftCounters: array(COUNTER_BYTES, LEFT_REASONS.length),
      };
      this.entries = new Uint16Array(this.show(this.maps.endpoints, ROWS * ROW_BYTES));
      this.activity = new Uint32Array(this.show(this.maps.activity, ROWS * ACTIVITY_BYTES));
      this.links = new Uint32Array(this.show(this.maps.links, links * LINK_BYTES));
      this.linkCounts = new BigUint64Array(this.show(this.maps.linkCounters, links * LINK_COUNTER_BYTES));
      this.lowWords = new Uint32Array(this.linkCounts.buffer);
      this.leftCounts = new BigUint64Array(this.show(this.maps.leftCounters, LEFT_REASONS.length * COUNTER_BYTES));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  address(address: number, index: number): void {
    const known = (this.byIndex[index] ??= { address, row: NO_ROW, whole: NOBODYS });
    this.publish(known);
  }

  /** The row of an address that has left is clear by now, and another address's later. */
  addressLeft(address: number): void {
    const index = this.byIndex.findIndex((known) => known?.address === address);
    const known = this.byIndex[index];
    if (known === undefined) return;
    check(addon().bpfDeleteFromMap(this.maps.addresses, Uint32Array.of(address)), 'taking an address from the kernel');
    this.byIndex[index] = undefined;
    if (known.row !== NO_ROW && known.row !== EVERY_FRAME) this.rowsLeft.push(known.row);
  }

  taken(key: number): void {
    this.put(key, ENGINES);
  }

  /** `watched`: frames are noted for takeActive. A watched wildcard is the engine's: its bit would be its address's port 0. */
  steered(key: number, link: number, watched: boolean): void {
    const isWildcard = (key & ENDPOINT_MASK) === 0;
    const isEngines = (watched && isWildcard) || STEERED + link >= WATCHED;
    this.put(key, isEngines ? ENGINES : STEERED + link + (watched ? WATCHED : 0));
  }

  /** Whether a frame of the watched endpoint was seen since the last call. */
  takeActive(key: number): boolean {
    const row = this.byIndex[key >>> ROW_BITS]?.row ?? NO_ROW;
    if (row === NO_ROW || row === EVERY_FRAME) return false;
    const endpoint = (row << ROW_BITS) | (key & ENDPOINT_MASK);
    return (Atomics.and(this.activity, endpoint >>> 5, ~(1 << (endpoint & 31))) & (1 << (endpoint & 31))) !== 0;
  }

  freed(key: number): void {
    this.put(key, NOBODYS);
  }

  attachLink(link: number, { name, ifindex, byPeer }: SteerableLink): void {
    this.interfaces.set(link, { name, dropsBefore: dropsByInterface().get(name) ?? 0 });
    Atomics.store(this.links, 2 * link + 1, byPeer ? 1 : 0);
    Atomics.store(this.links, 2 * link, ifindex);
  }

  /** The engine has the link's frames again. */
  detachLink(link: number): void {
    Atomics.store(this.links, 2 * link, 0);
    if (!this.interfaces.has(link)) return;
    this.droppedBefore[link] = this.droppedFor(link, dropsByInterface());
    this.interfaces.delete(link);
  }

  /** By link: frames for it that its interface was given, by the kernel or by the engine, and dropped. */
  dropped(): (link: number) => number {
    const drops = dropsByInterface();
    return (link) => this.droppedFor(link, drops);
  }

  /** What the kernel has steered to the link's guest and from it. */
  steeredFor(link: number): { ingress: Tally; egress: Tally } {
    return { ingress: tally(this.linkCounts, 4 * link), egress: tally(this.linkCounts, 4 * link + 2) };
  }

  /** What it has steered for all, those that have left too. */
  steeredInAll(): { ingress: Tally; egress: Tally } {
    const all = { ingress: { ...this.retired.ingress }, egress: { ...this.retired.egress } };
    for (let link = 0; link < this.linkCounts.length / 4; link++) addTo(all, this.steeredFor(link));
    return all;
  }

  /** What it has steered both ways for links that are attached, modulo 2^32. */
  traffic(): Tally {
    const { lowWords } = this;
    let frames = 0;
    let bytes = 0;
    for (const link of this.interfaces.keys()) {
      frames += lowWords[8 * link] + lowWords[8 * link + 4];
      bytes += lowWords[8 * link + 2] + lowWords[8 * link + 6];
    }
    return { frames: frames >>> 0, bytes: bytes >>> 0 };
  }

  /** A detached link's guest has left: the next one's numbers begin anew. */
  retireLink(link: number): void {
    addTo(this.retired, this.steeredFor(link));
    this.linkCounts.fill(0n, 4 * link, 4 * link + 4);
    this.droppedBefore[link] = 0;
  }

  /** What has been left to the host so far. */
  left(): Record<LeftReason, Tally> {
    return Object.fromEntries(LEFT_REASONS.map((reason, row) => [reason, tally(this.leftCounts, 2 * row)])) as Record<LeftReason, Tally>;
  }

  /** Closes the descriptors. Programs that look into the maps keep them; the counters still answer. */
  close(): void {
    for (const fd of this.descriptors.splice(0)) addon().closeFd(fd);
  }

  private put(key: number, entry: number): void {
    const known = this.byIndex[key >>> ROW_BITS];
    if (known === undefined) return;
    if ((key & ENDPOINT_MASK) === 0) {
      if (known.whole !== entry) this.publish({ ...known, whole: entry });
      known.whole = entry; // not before the kernel has it
      return;
    }
    if (known.row === NO_ROW) {
      known.row = this.takeRow();
      if (known.row !== EVERY_FRAME) this.entries[(known.row << ROW_BITS) | (key & ENDPOINT_MASK)] = entry;
      this.publish(known);
    }
    if (known.row !== EVERY_FRAME) Atomics.store(this.entries, (known.row << ROW_BITS) | (key & ENDPOINT_MASK), entry);
  }

  private droppedFor(link: number, drops: ReadonlyMap<string, number>): number {
    const known = this.interfaces.get(link);
    const before = this.droppedBefore[link] ?? 0;
    return known === undefined ? before : before + Math.max(0, (drops.get(known.name) ?? 0) - known.dropsBefore);
  }

  private takeRow(): number {
    if (this.rows < ROWS) return this.rows++;
    if (this.rowsFree.length === 0 && this.rowsLeft.length > 0) {
      // A program that has found the row of the address that left must not read the next one's entries in it.
      check(addon().waitForPrograms(), 'waiting for programs in the kernel');
      this.rowsFree = this.rowsLeft.splice(0);
    }
    return this.rowsFree.pop() ?? EVERY_FRAME;
  }

  private publish({ address, row, whole }: Address): void {
    const value = row === EVERY_FRAME ? EVERY_FRAME : row | (whole << WHOLE_SHIFT);
    check(addon().bpfUpdateMap(this.maps.addresses, Uint32Array.of(address), Uint32Array.of(value)), 'telling the kernel an address');
  }

  private keep(fd: number): number {
    this.descriptors.push(check(fd, 'making the kernel\'s copy of the steering table'));
    return fd;
  }

  private show(map: number, bytes: number): ArrayBuffer {
    const memory = addon().bpfMapMemory(map, Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);
    check(typeof memory === 'number' ? memory : 0, 'mapping the kernel\'s copy of the steering table');
    return memory as ArrayBuffer;
  }
}

function addTo(sums: { ingress: Tally; egress: Tally }, more: { ingress: Tally; egress: Tally }): void {
  for (const direction of ['ingress', 'egress'] as const) {
    sums[direction].frames += more[direction].frames;
    sums[direction].bytes += more[direction].bytes;
  }
}

function tally(counts: BigUint64Array, at: number): Tally {
  return { frames: Number(counts[at]), bytes: Number(counts[at + 1]) };
}
