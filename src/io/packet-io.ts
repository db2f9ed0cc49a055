/**
 * Packet sockets: the NIC's receive rings (default back end), the host side of a guest's link, and plain sending.
 *
 * Ring         TPACKET_V2 (no block timer), virtio-net headers, ETH_P_ALL, own transmissions ignored, promiscuous by
 *              membership, which the kernel gives back when the socket closes; packet(7).
 * Two rings    a socket each, with a filter on the frame's length: deep and small-slotted for what comes in bursts while the
 *              engine's thread waits for a processor, large-slotted for super-frames, which carry many segments each.
 * Blocks       of 1 MiB hold the slots, as many as fit; the rest of a block is unused.
 */
import { addon, check } from '../native/binding.js';

export const RING_BLOCK_BYTES = 1024 * 1024;

/** The size of a ring's slots, its number of blocks, and the lengths of the frames it takes, in bytes. */
interface RingShape {
  slotBytes: number;
  blocks: number;
  shortest: number;
  longest: number;
}

/** With the kernel's and the virtio-net header before it, such a frame fits a small slot; those of the usual MTU do. */
const LONGEST_SMALL = 1900;
/** 8,192 slots. A burst of that many frames waits without loss. */
export const SMALL_RING: RingShape = { slotBytes: 2048, blocks: 16, shortest: 0, longest: LONGEST_SMALL };
/** 510 slots, each of which holds the longest super-frame. */
export const LARGE_RING: RingShape = { slotBytes: 68 * 1024, blocks: 34, shortest: LONGEST_SMALL + 1, longest: 0xffffffff };

/** The sockets of the NIC's two rings, each of which takes the frames of its size. */
export interface RingSockets {
  small: number;
  large: number;
}

/** Opens both rings on the NIC. The descriptors are the caller's until they are attached to LivePorts. */
export function openRings(nic: string, ifindex: number): RingSockets {
  const open = ({ slotBytes, blocks, shortest, longest }: RingShape, promiscuous: boolean): number =>
    check(addon().openRing(ifindex, promiscuous, slotBytes, RING_BLOCK_BYTES, blocks, shortest, longest), `opening a packet ring on ${nic}`);
  const small = open(SMALL_RING, true);
  try {
    return { small, large: open(LARGE_RING, false) };
  } catch (error) {
    addon().closeFd(small);
    throw error;
  }
}

/** A packet socket on the host side of a guest's link: of a tap whose other end a VMM holds, or of a veth. */
export function openHostSide(name: string, ifindex: number): number {
  return check(addon().openPacket(ifindex), `opening a packet socket on ${name}`);
}

/** Frames that the kernel dropped at the rings since the last call. */
export function takeKernelDrops({ small, large }: RingSockets): number {
  return Math.max(0, addon().takeDrops(small)) + Math.max(0, addon().takeDrops(large));
}

/** Sends complete frames on an interface, as they are: for captures (`replay --onto`). */
export class FrameSender {
  private readonly fd: number;
  private readonly nic: string;

  constructor(nic: string, ifindex: number) {
    this.nic = nic;
    this.fd = check(addon().openSender(ifindex), `opening a packet socket on ${nic}`);
  }

  /** Returns true if the interface took the frame; false for one that is too long for it. Other errors throw. */
  send(frames: Uint8Array, offset: number, length: number): boolean {
    const result = addon().sendFrame(this.fd, frames, offset, length);
    if (result === -EMSGSIZE || result === -EINVAL) return false;
    check(result, `sending on ${this.nic}`);
    return true;
  }

  close(): void {
    addon().closeFd(this.fd);
  }
}

const EINVAL = 22;
const EMSGSIZE = 90;
