/**
 * Packet sockets: the NIC's receive ring (default back end), the host side of a VMM's tap, and plain sending.
 *
 * Ring         TPACKET_V2 (no block timer), virtio-net headers, ETH_P_ALL, own transmissions ignored, promiscuous by
 *              membership, which the kernel gives back when the socket closes; packet(7).
 * Geometry     a slot holds the longest super-frame; slots lie in 1 MiB blocks (15 each, the rest of a block unused).
 */
import { addon, check } from '../native/binding.js';

export const RING_SLOT_BYTES = 68 * 1024;
export const RING_BLOCK_BYTES = 1024 * 1024;
/** 510 slots: 34 MiB. A burst of that many frames waits without loss. */
export const RING_SLOTS = 34 * Math.floor(RING_BLOCK_BYTES / RING_SLOT_BYTES);

/** A packet socket on the NIC with its ring. The descriptor is the caller's until it is attached to LivePorts. */
export function openRing(nic: string, ifindex: number): number {
  return check(addon().openPacket(ifindex, true, RING_SLOTS, RING_SLOT_BYTES, RING_BLOCK_BYTES), `opening a packet ring on ${nic}`);
}

/** A packet socket on the host side of a tap whose other end a VMM holds. */
export function openTapHostSide(tap: string, ifindex: number): number {
  return check(addon().openPacket(ifindex, false, 0, 0, 0), `opening a packet socket on ${tap}`);
}

/** Frames that the kernel dropped at the ring since the last call. */
export function takeKernelDrops(fd: number): number {
  return Math.max(0, addon().takeDrops(fd));
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
