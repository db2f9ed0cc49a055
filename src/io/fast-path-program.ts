/**
 * The programs of the fast path: what is plainly in use is steered by the kernel itself, between the NIC and a guest's link.
 *
 *     NIC ─▶ packet sockets (host filter: not for the engine) ─▶ nicProgram ─▶ the guest's interface, or on to the host's stack
 *     link ─▶ packet socket (linkProgram: not for the engine) ─▶ linkProgram ─▶ NIC, or dropped
 *
 * Steers       a plain frame (frame-program.ts) for our station whose destination endpoint is in use on a link; from the link, one with the
 *              NIC's MAC as source whose source endpoint is in use on it. The engine would decide the same (test/io/kernel-steering.test.ts).
 * Leaves       everything else to the engine: all that is not in use, all that is answered, remembered, copied, or refused with a
 *              reason. What the guest sends and is not steered ends here, so that nothing of it reaches the host's stack.
 * Hostile      a guest says where in its frame a checksum is to be written: as in the addon (ports_receive.cc, IsHonest) it must be
 *              the frame's own, or a guest could have its ports overwritten behind the check. That is read from the kernel's own
 *              socket buffer. What is checked is in memory that the guest cannot write any more, and no longer than the NIC takes.
 * License      the kernel lets only a program under the GPL read that: these instructions, and nothing else here, are offered under it.
 */
import { BpfAssembler } from './bpf-assembler.js';
import { begin, BUFFER, checkMac, count, DESTINATION, ENDPOINT, fetchByte, type FrameMaps, IP_START, LENGTH, LINK_BY_PEER, LINK_INTERFACE, loadByte, loadHalf, lookUpAddress, lookUpEntry, lookUpLink, NO_PORTS, noteActivity, own, readIpv4, SCRATCH, SOURCE, SOURCE_MAC, STEERED, TYPE, UDP_BIT, WATCHED } from './frame-program.js';
import type { Field, KernelTypes } from './kernel-types.js';
import { BerthError } from '../base/errors.js';
import { ETHERTYPE_IPV4 } from '../wire/ethernet.js';

export const LICENSE = 'GPL';

/** bpf-helpers(7) */
const REDIRECT = 23;
const REDIRECT_PEER = 155;
/** What a program at ingress returns (linux/bpf.h, enum tcx_action_base): on to the next hook, or nowhere. */
const NEXT = -1;
const DROP = 2;
/** What a socket's filter returns. */
const UNSEEN = 0;
const SEEN = -1;

const SKB_GSO_SIZE = 176;
/** include/linux/skbuff.h */
const CHECKSUM_PARTIAL = 3;
const CHECKSUM_START = IP_START + 20;
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
const IP_BYTES = 20;
const UDP_BYTES = 8;
const TCP_DATA_OFFSET_AT = IP_START + IP_BYTES + 12;

/** In a row of the links' counters: frames and bytes to the guest, then from it. */
const TO_GUEST = 0;
const FROM_GUEST = 16;

/** Where the kernel keeps what the guest asked for, and how to get there. */
export interface SocketBuffer {
  /** bpf_cast_to_kern_ctx */
  cast: number;
  ipSummed: Field;
  checksumStart: number;
  checksumOffset: number;
  head: number;
  data: number;
}

/** ERR_NO_BTF where this kernel lacks what is needed. */
export function socketBufferOf(types: KernelTypes): SocketBuffer {
  const cast = types.functionId('bpf_cast_to_kern_ctx');
  const field = (name: string): Field => {
    const found = types.field('sk_buff', name);
    if (found === null) throw new BerthError('ERR_NO_BTF', `the kernel's socket buffer has no ${name}`);
    return found;
  };
  if (cast === null) throw new BerthError('ERR_NO_BTF', 'the kernel has no bpf_cast_to_kern_ctx');
  const bytes = (name: string): number => field(name).offset >>> 3;
  return { cast, ipSummed: field('ip_summed'), checksumStart: bytes('csum_start'), checksumOffset: bytes('csum_offset'), head: bytes('head'), data: bytes('data') };
}

/** At the NIC's ingress. `mac`: the NIC's six bytes. */
export function nicProgram(maps: FrameMaps, mac: Uint8Array): Uint8Array {
  const program = new BpfAssembler();
  begin(program, 'next');
  loadByte(program, 0, 0);
  program.jumpIfAny(0, 1, 'our station');
  checkMac(program, 0, mac, 'next');
  program.place('our station');
  lookUp(program, maps, DESTINATION, 'next');
  program.jumpIfLess(SCRATCH, STEERED, 'next');
  noteActivity(program, maps);
  lookUpLink(program, maps, 'next');
  program.read(ENDPOINT, 0, LINK_INTERFACE);
  program.read(BUFFER, 0, LINK_BY_PEER);
  count(program, maps.linkCounters, TO_GUEST, 'next');
  program.copy(1, ENDPOINT);
  program.set(2, 0);
  program.jumpIfEqual(BUFFER, 0, 'plainly');
  program.call(REDIRECT_PEER);
  program.exit();
  program.place('plainly');
  program.call(REDIRECT);
  program.exit();
  program.place('next');
  program.set(0, NEXT);
  program.exit();
  return program.assemble();
}

/** What a link's programs check a frame of its guest against. */
export interface GuestSide {
  link: number;
  /** The NIC's: its MAC (six bytes), index and MTU. */
  mac: Uint8Array;
  nic: number;
  mtu: number;
  buffer: SocketBuffer;
}

/** At the ingress of a link's host side: to the NIC what the guest may send. */
export function linkProgram(maps: FrameMaps, side: GuestSide): Uint8Array {
  const program = new BpfAssembler();
  own(program, 'engine');
  checkFromGuest(program, maps, side);
  noteActivity(program, maps);
  lookUpLink(program, maps, 'engine');
  count(program, maps.linkCounters, FROM_GUEST, 'engine');
  program.set(1, side.nic);
  program.set(2, 0);
  program.call(REDIRECT);
  program.exit();
  program.place('engine');
  program.set(0, DROP);
  program.exit();
  return program.assemble();
}

/** The filter of the engine's packet socket there: the frames that linkProgram does not steer. */
export function linkFilterProgram(maps: FrameMaps, side: GuestSide): Uint8Array {
  const program = new BpfAssembler();
  checkFromGuest(program, maps, side);
  lookUpLink(program, maps, 'engine');
  program.set(0, UNSEEN);
  program.exit();
  program.place('engine');
  program.set(0, SEEN);
  program.exit();
  return program.assemble();
}

/** Goes on for a frame that is to be steered if the link is attached, to `engine` for any other. */
function checkFromGuest(program: BpfAssembler, maps: FrameMaps, { link, mac, mtu, buffer }: GuestSide): void {
  begin(program, 'engine');
  checkMac(program, SOURCE_MAC, mac, 'engine');
  lookUp(program, maps, SOURCE, 'engine');
  program.copy(1, SCRATCH);
  program.and(1, WATCHED - 1);
  program.jumpUnlessEqual(1, STEERED + link, 'engine');
  checkHonesty(program, buffer);
  checkLength(program, mtu);
}

/** SCRATCH is the entry of a plain frame's endpoint; goes to `other` for any other frame. */
function lookUp(program: BpfAssembler, maps: FrameMaps, { address, port }: typeof SOURCE, other: string): void {
  loadHalf(program, 0, TYPE);
  program.jumpUnlessEqual(0, ETHERTYPE_IPV4, other);
  readIpv4(program, other);
  program.jumpIfEqual(ENDPOINT, NO_PORTS, other);
  lookUpAddress(program, maps, address, other);
  lookUpEntry(program, maps, port);
}

/** A redirected frame meets no other check of its length: neither it nor the segments that it is to be cut into may be longer than the MTU. */
function checkLength(program: BpfAssembler, mtu: number): void {
  program.read(1, BUFFER, SKB_GSO_SIZE);
  program.jumpIfEqual(1, 0, 'whole frame');
  program.set(2, UDP_BYTES);
  program.jumpIfAny(ENDPOINT, UDP_BIT, 'segment');
  fetchByte(program, 2, TCP_DATA_OFFSET_AT, 'engine');
  program.shiftRight(2, 4);
  program.shiftLeft(2, 2);
  program.place('segment');
  program.read(1, BUFFER, SKB_GSO_SIZE);
  program.addRegister(1, 2);
  program.jumpIfMore(1, mtu - IP_BYTES, 'engine');
  program.jump('fits');
  program.place('whole frame');
  program.jumpIfMore(LENGTH, mtu + IP_START, 'engine');
  program.place('fits');
}

function checkHonesty(program: BpfAssembler, { cast, ipSummed, checksumStart, checksumOffset, head, data }: SocketBuffer): void {
  const bit = ipSummed.offset & 7;
  program.copy(1, BUFFER);
  program.callKernel(cast);
  program.readByte(1, 0, ipSummed.offset >>> 3);
  program.shiftRight(1, bit);
  program.and(1, (1 << ipSummed.bits) - 1);
  program.jumpIfEqual(1, CHECKSUM_PARTIAL, 'partial');
  // Without a checksum to be written there is nothing to cut.
  program.read(1, BUFFER, SKB_GSO_SIZE);
  program.jumpUnlessEqual(1, 0, 'engine');
  program.jump('honest');

  program.place('partial');
  program.readHalf(1, 0, checksumStart);
  program.readHalf(2, 0, checksumOffset);
  program.readDouble(3, 0, data);
  program.readDouble(4, 0, head);
  program.subtractRegister(3, 4);
  program.subtractRegister(1, 3);
  program.jumpUnlessEqual(1, CHECKSUM_START, 'engine');
  program.jumpIfAny(ENDPOINT, UDP_BIT, 'udp checksum');
  program.jumpUnlessEqual(2, TCP_CHECKSUM, 'engine');
  program.jump('honest');
  program.place('udp checksum');
  program.jumpUnlessEqual(2, UDP_CHECKSUM, 'engine');
  program.place('honest');
}
