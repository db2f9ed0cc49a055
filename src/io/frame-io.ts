/**
 * What every source and sink of frames has in common: descriptors of frames that lie in borrowed memory.
 *
 * Memory       belongs to the source (a kernel ring, a read buffer, a chunk of a capture file) and is borrowed until
 *              the source's next receive or read. Nobody keeps an offset past that.
 * Shape        a structure of arrays, one typed array a field; JavaScript and the addon see the same arrays.
 * Not here     what the data plane works out about a frame: dataplane/frame-batch.ts.
 */

/** Bytes of `struct virtio_net_hdr` that live sources and sinks carry just before each frame (virtio 1.2 §5.1.6). */
export const VNET_HEADER_BYTES = 10;

/** Descriptors of up to `capacity` frames; entries 0 … count-1 are valid. */
export class FrameSlots {
  readonly capacity: number;
  count = 0;
  /** The memory that `offset` points into; replaced by the source with `lend()`. */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  /** Byte offset of the frame's first byte (the destination MAC). */
  readonly offset: Uint32Array;
  /** Captured bytes, from the destination MAC on. 0 for a frame that is not Ethernet. */
  readonly length: Uint32Array;
  /** Bytes the frame had on the wire; at least `length` in honest sources. */
  readonly wireLength: Uint32Array;
  /** Time of capture: seconds since 1970 (modulo 2^32) and nanoseconds within the second. */
  readonly seconds: Uint32Array;
  readonly nanoseconds: Uint32Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.offset = new Uint32Array(capacity);
    this.length = new Uint32Array(capacity);
    this.wireLength = new Uint32Array(capacity);
    this.seconds = new Uint32Array(capacity);
    this.nanoseconds = new Uint32Array(capacity);
  }

  /** Points the descriptors at `bytes`. Allocates a view only when the memory really changes. */
  lend(bytes: Uint8Array): void {
    if (bytes === this.bytes) return;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** The port of the NIC; link n is port 1 + n. */
export const NIC_PORT = 0;

/** A frame that could not be sent has its verdict replaced by LOST - 4·port - one of these, or 2: too long (native-bindings/src/ports.h, LostCode). */
export const LOST = -16;
export const LOST_DOWN = 0;
export const LOST_FULL = 1;

/** Where the forward stage sends frames: live ports, the `cap` back end, files, or nowhere. */
export interface FrameSink {
  /**
   * Sends each frame whose verdict is a port (0 the NIC, 1 + n link n) and gives the frames' memory back to the source.
   * The verdict of a frame that could not be sent becomes LOST - 4·port - LOST_…; returns how many those are.
   */
  forward(slots: FrameSlots, verdict: Int32Array): number;
  /** Sends one frame to a port besides its verdict, before `forward`. Returns 0, or the lost code. */
  copy(slots: FrameSlots, frame: number, port: number): number;
  /** Answers a refused frame (policy `reject`), within the rate allowed; `l3` is the offset of its IPv4 header. True if it did. */
  reject(slots: FrameSlots, frame: number, l3: number): boolean;
  /** Answers an ARP request by proxy, within the rate allowed; `l3` is the offset of its ARP packet. True if it did. */
  answerArp(slots: FrameSlots, frame: number, l3: number): boolean;
  /** Hands a copy of a frame from the guest on `link` to the control plane, within the rate allowed. True if it did. */
  punt(slots: FrameSlots, frame: number, link: number): boolean;
  /** Gives the packet of the mapped guest on `link`, readdressed, to the host's own stack to send, within the rate allowed. True if it did. */
  toHost(slots: FrameSlots, frame: number, l3: number, link: number): boolean;
}
