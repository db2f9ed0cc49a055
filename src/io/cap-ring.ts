/**
 * Cap ring: frames between the main thread, where `cap` must live, and the engine's worker.
 *
 *     control words (Int32)      frames (Uint8): one slot a frame, the 10-byte header's room first
 *     ┌──────┬──────┬────────┐   ┌────┬──────────────────┬────┬─────────────── …
 *     │ head │ tail │ lengths│   │room│ frame            │room│ frame
 *     └──────┴──────┴────────┘   └────┴──────────────────┴────┴─────────────── …
 *
 * One writer and one reader, each in its own thread. `head` counts frames written, `tail` frames taken, both modulo 2^32;
 * slot = count mod slots. The writer publishes a frame by storing head last, the reader frees it by storing tail.
 */
import { type FrameSlots, VNET_HEADER_BYTES } from './frame-io.js';

const HEAD = 0;
const TAIL = 1;
const LENGTHS = 2;
/** A guest that sends at full speed may be a few megabytes ahead of libpcap. */
const RING_SLOTS = 4096;
/** `cap` cannot carry super-frames: a slot holds any frame up to a jumbo one. */
const SLOT_BYTES = 9216 + 64;
/** The 16-byte start of a slot leaves room for the header and aligns the IP header to 2 mod 4, which costs nothing here. */
const FRAME_START = 16;

export interface CapRingBuffers {
  readonly received: { control: SharedArrayBuffer; frames: SharedArrayBuffer };
  readonly toSend: { control: SharedArrayBuffer; frames: SharedArrayBuffer };
}

export function createCapRings(): CapRingBuffers {
  const one = (): { control: SharedArrayBuffer; frames: SharedArrayBuffer } => ({
    control: new SharedArrayBuffer((LENGTHS + RING_SLOTS) * 4),
    frames: new SharedArrayBuffer(RING_SLOTS * SLOT_BYTES),
  });
  return { received: one(), toSend: one() };
}

export class CapRing {
  readonly frames: Uint8Array;
  private readonly control: Int32Array;

  constructor(buffers: { control: SharedArrayBuffer; frames: SharedArrayBuffer }) {
    this.control = new Int32Array(buffers.control);
    this.frames = new Uint8Array(buffers.frames);
  }

  /** Writer: copies a frame in. False when the ring is full or the frame does not fit. */
  put(bytes: Uint8Array, offset: number, length: number): boolean {
    const head = this.control[HEAD];
    if (length > SLOT_BYTES - FRAME_START || ((head - Atomics.load(this.control, TAIL)) | 0) >= RING_SLOTS) return false;
    const slot = head & (RING_SLOTS - 1);
    const start = slot * SLOT_BYTES + FRAME_START;
    this.frames.fill(0, start - VNET_HEADER_BYTES, start);
    this.frames.set(bytes.subarray(offset, offset + length), start);
    this.control[LENGTHS + slot] = length;
    Atomics.store(this.control, HEAD, (head + 1) | 0);
    return true;
  }

  /** Reader: describes up to slots.capacity waiting frames; they stay borrowed until `release`. */
  peek(slots: FrameSlots): number {
    const tail = this.control[TAIL];
    const waiting = (Atomics.load(this.control, HEAD) - tail) | 0;
    const count = Math.min(waiting, slots.capacity);
    const now = Date.now();
    for (let i = 0; i < count; i++) {
      const slot = (tail + i) & (RING_SLOTS - 1);
      slots.offset[i] = slot * SLOT_BYTES + FRAME_START;
      slots.length[i] = this.control[LENGTHS + slot];
      slots.wireLength[i] = slots.length[i];
      slots.seconds[i] = now / 1000;
      slots.nanoseconds[i] = (now % 1000) * 1e6;
    }
    slots.count = count;
    return count;
  }

  /** Reader: gives `count` frames back. */
  release(count: number): void {
    Atomics.store(this.control, TAIL, (this.control[TAIL] + count) | 0);
  }
}
