/**
 * The kernel's part of steering under test: its programs run by the kernel itself (BPF_PROG_TEST_RUN), frame by frame.
 */
import { linkFilterProgram, linkProgram, LICENSE, nicProgram, socketBufferOf } from '../../src/io/fast-path-program.js';
import { loadHostFilter } from '../../src/io/host-filter.js';
import { LEFT_REASONS, type LeftReason, type Lengths } from '../../src/io/host-filter-program.js';
import { KernelTable } from '../../src/io/kernel-table.js';
import { KernelTypes } from '../../src/io/kernel-types.js';
import { addon, AT_INGRESS, check, SOCKET_FILTER } from '../../src/native/binding.js';
import { parseMac } from '../../src/wire/address.js';

/** Longer frames do not fit into the page that a trial has. */
export const LONGEST_TRIAL = 3000;
export const MTU = 1500;
const SEEN = 0xffffffff;
const UNSEEN = 0;
const NEXT = 0xffffffff;
const DROP = 2;
const REDIRECTED = 7;
/** lo: a trial goes nowhere. */
export const SOME_INTERFACE = { name: 'lo', ifindex: 1, byPeer: false };

/** True where the kernel refuses bpf(2), or has no fast path; says so. */
export function withoutKernelSteering(name: string): boolean {
  try {
    new KernelTable(1).close();
    new KernelTypes();
    return false;
  } catch (error) {
    console.warn(`skipped: ${name} needs bpf(2) and the kernel's types: ${String(error)}`);
    return true;
  }
}

/** What becomes of a frame before the engine: it is the engine's, left to the host and why, or steered to a guest's link or the NIC. */
export type Found = 'engine' | LeftReason | `to ${number}` | 'to the NIC';

export class KernelSteering {
  readonly table: KernelTable;
  private readonly mac: Uint8Array | null;
  private readonly filter: number;
  private readonly nic: number | null;
  private readonly links: { program: number; filter: number }[];
  private readonly descriptors: number[] = [];

  /** `mac` null: as on a capture, where nothing is steered. */
  constructor(mac: string | null, links = 3) {
    this.table = new KernelTable(links);
    this.mac = mac === null ? null : parseMac(mac);
    this.filter = this.keep(loadHostFilter(this.table, this.mac, { shortest: 0, longest: 0xffffffff }));
    const { mac: station, table } = this;
    const load = (use: number, instructions: Uint8Array): number => this.keep(check(addon().bpfLoad(use, instructions, LICENSE), 'loading'));
    this.nic = station === null ? null : load(AT_INGRESS, nicProgram(table.maps, station));
    const buffer = socketBufferOf(new KernelTypes());
    this.links = station === null ? [] : Array.from({ length: links }, (_, link) => {
      const side = { link, mac: station, nic: SOME_INTERFACE.ifindex, mtu: MTU, buffer };
      return { program: load(AT_INGRESS, linkProgram(table.maps, side)), filter: load(SOCKET_FILTER, linkFilterProgram(table.maps, side)) };
    });
    this.links.forEach((_, link) => {
      table.attachLink(link, { ...SOME_INTERFACE, byPeer: link % 2 === 1 });
    });
  }

  /** A frame that came to the NIC. Checks that the programs agree, and that it is counted, with its bytes, once or not at all. */
  fromNic(frame: Uint8Array): Found {
    const before = this.tallies();
    const seen = run(SOCKET_FILTER, this.filter, frame);
    const left = this.changed(before, frame.length);
    const verdict = this.nic === null || !isTriedAtIngress(frame) ? NEXT : run(AT_INGRESS, this.nic, frame);
    const counted = this.changed(before, frame.length);
    if (verdict === REDIRECTED && seen === UNSEEN && left.length === 0 && counted.length === 1) return counted[0];
    if (verdict === NEXT && seen === SEEN && counted.length === 0) return 'engine';
    if (verdict === NEXT && seen === UNSEEN && counted.length === 1) return counted[0];
    throw new Error(`the ring's filter returns ${seen}, the NIC's program ${verdict}; counted: ${counted.join() || 'nothing'}`);
  }

  /** A frame that came from the guest on this link. */
  fromLink(link: number, frame: Uint8Array): Found {
    const before = this.tallies();
    const { filter, program } = this.links[link];
    const seen = run(SOCKET_FILTER, filter, frame);
    const verdict = !isTriedAtIngress(frame) ? DROP : run(AT_INGRESS, program, frame);
    const counted = this.changed(before, frame.length);
    if (verdict === REDIRECTED && seen === UNSEEN && counted.join() === `from ${link}`) return 'to the NIC';
    if (verdict === DROP && seen === SEEN && counted.length === 0) return 'engine';
    throw new Error(`link ${link}: the socket's filter returns ${seen}, the program ${verdict}; counted: ${counted.join() || 'nothing'}`);
  }

  /** Whether a ring of these lengths takes the frame. */
  takes(lengths: Lengths, frame: Uint8Array): boolean {
    return run(SOCKET_FILTER, this.keep(loadHostFilter(this.table, this.mac, lengths)), frame) === SEEN;
  }

  close(): void {
    this.table.close();
    for (const fd of this.descriptors) addon().closeFd(fd);
  }

  private tallies(): [Found, { frames: number; bytes: number }][] {
    const left = this.table.left();
    return [
      ...LEFT_REASONS.map((reason): [Found, { frames: number; bytes: number }] => [reason, left[reason]]),
      ...this.links.flatMap((_, link): [Found, { frames: number; bytes: number }][] => {
        const { ingress, egress } = this.table.steeredFor(link);
        return [[`to ${link}`, ingress], [`from ${link}` as Found, egress]];
      }),
    ];
  }

  private changed(before: ReturnType<typeof this.tallies>, bytes: number): Found[] {
    return this.tallies()
      .filter(([, now], n) => now.frames === before[n][1].frames + 1 && now.bytes === before[n][1].bytes + bytes)
      .map(([name]) => name);
  }

  private keep(fd: number): number {
    this.descriptors.push(fd);
    return fd;
  }
}

/** The kernel makes no trial at ingress of less than the headers of Ethernet and IPv4, or of what calls itself IPv6 and is shorter than its header. */
function isTriedAtIngress(frame: Uint8Array): boolean {
  const isIpv6 = frame[12] === 0x86 && frame[13] === 0xdd;
  return frame.length >= (isIpv6 ? 54 : 34);
}

function run(use: number, program: number, frame: Uint8Array): number {
  return check(addon().bpfRun(use, program, frame), 'running a program');
}
