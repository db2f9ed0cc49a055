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
import { LICENSE, linkFilterProgram, linkProgram, nicProgram, type SocketBuffer, socketBufferOf } from './fast-path-program.js';
import type { KernelTable, SteerableLink } from './kernel-table.js';
import { KernelTypes } from './kernel-types.js';
import { addon, AT_INGRESS, check, SOCKET_FILTER } from '../native/binding.js';

export class FastPath {
  private readonly table: KernelTable;
  private readonly nic: number;
  private readonly mac: Uint8Array;
  private readonly buffer: SocketBuffer;
  private readonly nicEnd: number;
  /** By link: what keeps its program at the interface. */
  private readonly links = new Map<number, number>();

  private constructor(table: KernelTable, nic: number, mac: Uint8Array) {
    this.table = table;
    this.nic = nic;
    this.mac = mac;
    this.buffer = socketBufferOf(new KernelTypes());
    this.nicEnd = attachIngress(nic, nicProgram(table.maps, mac), 'the NIC');
  }

  /** On the NIC with this index and MAC (six bytes). ERR_NATIVE, ERR_NO_BTF where it cannot be had. */
  static open(table: KernelTable, nic: number, mac: Uint8Array): FastPath {
    return new FastPath(table, nic, mac);
  }

  /** `socket`: the engine's packet socket on the link's host side, which stays the caller's. */
  attachLink(link: number, host: SteerableLink, socket: number): void {
    this.detachLink(link);
    const { table, mac, buffer, nic } = this;
    this.links.set(link, attachIngress(host.ifindex, linkProgram(table.maps, link, mac, nic, buffer), `link ${link}`));
    const filter = load(SOCKET_FILTER, linkFilterProgram(table.maps, link, mac, buffer));
    const attached = addon().bpfAttach(socket, filter);
    addon().closeFd(filter);
    check(attached, `filtering what the engine sees of link ${link}`);
    table.attachLink(link, host);
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
