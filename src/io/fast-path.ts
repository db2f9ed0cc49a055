/**
 * Fast path: has the kernel itself steer what is plainly in use, between the NIC and a guest's link; fast-path-program.ts says what that
 * is. The engine has everything else, and all of it where there is no fast path.
 *
 * Why          a frame that goes through a ring, a thread and a tap costs two copies and a wake-up, which no loop can win back:
 *              bench/README.md has both beside the kernel's own port forwarding.
 * Lifetime     a program leaves its interface with the descriptor here: of a daemon that is killed nothing goes on steering.
 * Order        a frame that comes while a link is attached or detached may be seen by both, then it is there twice, never lost.
 * Needs        Linux 6.6 (tcx) with its types (BTF), and the rights to bpf(2) and over the interfaces; `open` throws where something is missing.
 */
import { type GuestSide, LICENSE, linkFilterProgram, linkProgram, nicProgram, socketBufferOf } from './fast-path-program.js';
import type { KernelTable, SteerableLink } from './kernel-table.js';
import { KernelTypes } from './kernel-types.js';
import { addon, AT_INGRESS, check, SOCKET_FILTER } from '../native/binding.js';

/** What the NIC is, as far as steering concerns it. */
export interface SteeredNic {
  ifindex: number;
  /** Six bytes. */
  mac: Uint8Array;
  mtu: number;
}

export class FastPath {
  private readonly table: KernelTable;
  private readonly guestSide: Omit<GuestSide, 'link'>;
  private readonly nicEnd: number;
  /** By link: what keeps its program at the interface. */
  private readonly links = new Map<number, number>();

  private constructor(table: KernelTable, { ifindex, mac, mtu }: SteeredNic) {
    this.table = table;
    this.guestSide = { mac, nic: ifindex, mtu, buffer: socketBufferOf(new KernelTypes()) };
    // What the kernel's verifier refuses is known now.
    for (const fd of [load(AT_INGRESS, this.linkProgram(0)), load(SOCKET_FILTER, this.linkFilter(0))]) addon().closeFd(fd);
    this.nicEnd = attachIngress(ifindex, nicProgram(table.maps, mac), 'the NIC');
  }

  /** ERR_NATIVE, ERR_NO_BTF where it cannot be had. */
  static open(table: KernelTable, nic: SteeredNic): FastPath {
    return new FastPath(table, nic);
  }

  /** `socket`: the engine's packet socket on the link's host side, which stays the caller's. ERR_NATIVE, with nothing changed, where it cannot be. */
  attachLink(link: number, host: SteerableLink, socket: number): void {
    this.detachLink(link);
    const end = attachIngress(host.ifindex, this.linkProgram(link), `link ${link}`);
    try {
      const filter = load(SOCKET_FILTER, this.linkFilter(link));
      const attached = addon().bpfAttach(socket, filter);
      addon().closeFd(filter);
      check(attached, `filtering what the engine sees of link ${link}`);
    } catch (error) {
      addon().closeFd(end);
      throw error;
    }
    this.links.set(link, end);
    this.table.attachLink(link, host);
  }

  /** The engine has all frames for the link again. */
  detachLink(link: number): void {
    this.table.detachLink(link);
    const end = this.links.get(link);
    if (end === undefined) return;
    this.links.delete(link);
    addon().closeFd(end);
  }

  /** The link's guest has left. */
  retireLink(link: number): void {
    this.detachLink(link);
    this.table.retireLink(link);
  }

  private linkProgram(link: number): Uint8Array {
    return linkProgram(this.table.maps, { ...this.guestSide, link });
  }

  private linkFilter(link: number): Uint8Array {
    return linkFilterProgram(this.table.maps, { ...this.guestSide, link });
  }

  close(): void {
    for (const link of [...this.links.keys()]) this.detachLink(link);
    addon().closeFd(this.nicEnd);
  }
}

function attachIngress(ifindex: number, instructions: Uint8Array, where: string): number {
  const program = load(AT_INGRESS, instructions);
  const end = addon().bpfAttachIngress(ifindex, program);
  addon().closeFd(program); // the attachment keeps it
  return check(end, `attaching the fast path to ${where}`);
}

function load(use: number, instructions: Uint8Array): number {
  return check(addon().bpfLoad(use, instructions, LICENSE), 'loading a program of the fast path');
}
