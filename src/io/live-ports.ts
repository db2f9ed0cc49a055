/**
 * Live ports: the addon's rings, taps and packet sockets as a source and sink of frames for one engine.
 *
 * Memory       received frames are borrowed until `forward` of the same batch. NIC frames lie in the kernel's rings,
 *              link frames in the addon's slots, both seen without a copy.
 * Thread       all calls from the thread that made it.
 */
import { addon, check, LINK_MEMORY, type NativePorts, OTHER_MEMORY, RING_MEMORY } from '../native/binding.js';
import { type FrameSink, type FrameSlots, VNET_HEADER_BYTES } from './frame-io.js';
import { LARGE_RING, RING_BLOCK_BYTES, type RingSockets, SMALL_RING } from './packet-io.js';

/** Frames a turn: enough that the crossings cost nothing a frame, few enough that their headers stay in the cache. */
export const LIVE_BATCH = 256;

/** Empty looks before sleeping; design §5. */
const LOOKS = 20;

/** What is done with frames by others than the ports. The frames are borrowed for the call. */
export type FrameTakers = Pick<FrameSink, 'reject' | 'answerArp' | 'punt' | 'toHost'>;

export class LivePorts implements FrameSink {
  /** Filled by `wait`: ports with frames, WOKEN, or a port + FAILED. */
  readonly ready: Int32Array;
  private readonly slots: FrameSlots;
  private readonly native: NativePorts;
  private readonly views: Uint8Array[] = [];
  private readonly takers: FrameTakers;
  private memory = LINK_MEMORY;

  /** `slots` and `verdict` are the engine's arrays, which the addon reads and writes. */
  constructor(slots: FrameSlots, verdict: Int32Array, maxPorts: number, takers: FrameTakers) {
    const { offset, length, wireLength, seconds, nanoseconds, capacity } = slots;
    this.slots = slots;
    this.ready = new Int32Array(capacity);
    this.native = new (addon().Ports)(offset, length, wireLength, seconds, nanoseconds, verdict, this.ready, maxPorts);
    this.views[LINK_MEMORY] = new Uint8Array(this.native.memory(LINK_MEMORY));
    this.takers = takers;
  }

  /** `fd`: an event that ends `wait`; stays the caller's. */
  attachEvent(fd: number): void {
    check(this.native.attachEvent(fd), 'watching the wake-up event');
  }

  /** Takes over the NIC's sockets as port 0. `mtu`: the NIC's, in bytes. */
  attachRings({ small, large }: RingSockets, mtu: number): void {
    const attached = this.native.attachRings(
      mtu,
      ...[small, SMALL_RING.slotBytes, RING_BLOCK_BYTES, SMALL_RING.blocks],
      ...[large, LARGE_RING.slotBytes, RING_BLOCK_BYTES, LARGE_RING.blocks],
    );
    check(attached, 'mapping the packet rings');
    this.views[RING_MEMORY] = new Uint8Array(this.native.memory(RING_MEMORY));
  }

  /** Shows frames that somebody else puts into `bytes` (the `cap` back end); they are forwarded like any other. */
  attachMemory(bytes: Uint8Array): void {
    this.native.setOtherMemory(bytes);
    this.views[OTHER_MEMORY] = bytes;
  }

  /** Takes over the descriptor of link `port - 1`; false, with the descriptor closed, if it cannot be watched. */
  attachLink(port: number, fd: number, isSocket: boolean): boolean {
    if (this.native.attachLink(port, fd, isSocket) >= 0) return true;
    addon().closeFd(fd);
    return false;
  }

  detach(port: number, keepTap: boolean): void {
    check(this.native.detach(port, keepTap), `detaching port ${port}`);
  }

  /** Sleeps until something is ready; returns how many entries of `ready` are valid. */
  wait(timeoutMs: number): number {
    return check(this.native.wait(timeoutMs, LOOKS), 'waiting for frames');
  }

  receiveRings(): number {
    this.slots.count = this.native.receiveRings();
    return this.lend(RING_MEMORY);
  }

  receiveLink(port: number): number {
    this.slots.count = this.native.receiveLink(port);
    return this.lend(LINK_MEMORY);
  }

  /** The slots have been filled with frames in the attached memory. */
  receivedElsewhere(): void {
    this.lend(OTHER_MEMORY);
  }

  forward(slots: FrameSlots): number {
    return this.native.forward(this.memory, slots.count);
  }

  copy(slots: FrameSlots, frame: number, port: number): number {
    return this.native.sendOne(this.memory, port, slots.offset[frame], slots.length[frame]);
  }

  reject(slots: FrameSlots, frame: number, l3: number): boolean {
    return this.takers.reject(slots, frame, l3);
  }

  answerArp(slots: FrameSlots, frame: number, l3: number): boolean {
    return this.takers.answerArp(slots, frame, l3);
  }

  punt(slots: FrameSlots, frame: number, link: number): boolean {
    return this.takers.punt(slots, frame, link);
  }

  toHost(slots: FrameSlots, frame: number, l3: number, link: number): boolean {
    return this.takers.toHost(slots, frame, l3, link);
  }

  /**
   * Sends a frame of our own to a link, at once. Only between batches: it is put where the frames of links are received.
   * Returns 0, or the lost code. `frame`: complete, checksums too, of at most 64 KiB; borrowed for the call.
   */
  send(port: number, frame: Uint8Array): number {
    const memory = this.views[LINK_MEMORY];
    memory.fill(0, 0, VNET_HEADER_BYTES);
    memory.set(frame, VNET_HEADER_BYTES);
    return this.native.sendOne(LINK_MEMORY, port, VNET_HEADER_BYTES, frame.length);
  }

  /** Closes every descriptor and unmaps the rings; nothing may be called afterwards. */
  close(): void {
    this.native.close(...this.views.slice(0, OTHER_MEMORY).map((view) => view.buffer as ArrayBuffer));
  }

  private lend(memory: number): number {
    this.memory = memory;
    this.slots.lend(this.views[memory]);
    return this.slots.count;
  }
}
