/**
 * What the BPF programs at the NIC and at the guests' links have in common: how they read a frame, and what they look up.
 *
 * Plain        an untagged IPv4 frame without options, no fragment, of TCP or UDP with a whole header, all lengths fitting. What is not
 *              plain is the engine's to read (dataplane/parse.ts).
 * Read         once, by one call, on to the stack: a call for each field cost 120 ns a program, this 50 (bench/README.md).
 * Registers    BUFFER, LENGTH (bytes from the destination MAC on), ENDPOINT and SCRATCH live through the program.
 * Entry        what the kernel's copy of the steering table (kernel-table.ts) says of an endpoint: NOBODYS, ENGINES, or STEERED + the
 *              link that it is in use on, with WATCHED where a frame must be noted: the use ends when there are none.
 */
import { type BpfAssembler, STACK } from './bpf-assembler.js';
import { FRAGMENT_OFFSET_MASK, MORE_FRAGMENTS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';

export const BUFFER = 6;
export const LENGTH = 7;
export const ENDPOINT = 8;
export const SCRATCH = 9;

/** Fields of struct __sk_buff. */
const SKB_LENGTH = 0;
const SKB_TAGGED = 20;

/** bpf_skb_load_bytes and bpf_skb_pull_data, bpf-helpers(7) */
const LOAD_BYTES = 26;
const PULL_DATA = 39;
/** The shortest plain frame: no field that is looked at lies behind it. */
const READ_BYTES = 42;
/** Where on the stack: so that the addresses in it are aligned, as the verifier wants them. */
const FRAME = -66;
/** The row that an entry was found in. */
const ROW = -8;
const FETCHED = -12;

/** Offsets in an untagged frame. */
export const SOURCE_MAC = 6;
export const TYPE = 12;
export const IP_START = 14;
const VERSION = 14;
const TOTAL_LENGTH = 16;
const FRAGMENT = 20;
const PROTOCOL = 23;
/** Where an endpoint's address and port are. */
export const SOURCE = { address: 26, port: 34 };
export const DESTINATION = { address: 30, port: 36 };

export const UDP_BIT = 1 << 16;
/** In ENDPOINT: neither TCP nor UDP. */
export const NO_PORTS = 1 << 17;

export const NOBODYS = 0;
export const ENGINES = 1;
export const STEERED = 2;
export const WATCHED = 0x8000;

/** In an address's row: it has none, or shares too few of them with others: the engine sees all its frames. */
export const NO_ROW = 0;
export const EVERY_FRAME = 0xffff;
/** An address's entry: its row in the lower half, in the upper the entry of a dedicated address for ports without one of their own. */
export const WHOLE_SHIFT = 16;

/** Descriptors of the maps that the programs look into. */
export interface FrameMaps {
  /** IPv4 address → row and entry of the whole. */
  addresses: number;
  /** Row → an entry of 16 bits for each endpoint, UDP's behind TCP's. */
  endpoints: number;
  /** Row → a bit for each endpoint that is WATCHED: a frame was seen. */
  activity: number;
  /** Link → interface to send to (0: none) and whether by its peer. */
  links: number;
  /** Link → frames and bytes to it, frames and bytes from it, 64 bits each. */
  linkCounters: number;
  /** A row a reason of host-filter-program.ts: frames, bytes (64 bits each). */
  leftCounters: number;
}

export const LINK_INTERFACE = 0;
export const LINK_BY_PEER = 4;

/**
 * At ingress, before `begin`: brings the frame's beginning into memory that nobody else can write. What a process of the guest has
 * spliced into a frame would be its own to change between the check and the wire. Goes to `odd` where that cannot be done.
 */
export function own(program: BpfAssembler, odd: string): void {
  program.copy(BUFFER, 1);
  program.read(LENGTH, BUFFER, SKB_LENGTH);
  program.jumpIfLess(LENGTH, READ_BYTES, odd);
  program.set(2, READ_BYTES);
  program.call(PULL_DATA);
  program.jumpUnlessEqual(0, 0, odd);
  program.copy(1, BUFFER);
}

/** Sets BUFFER and LENGTH, and puts the frame's beginning on the stack; goes to `odd` for a tagged frame and for one shorter than that. */
export function begin(program: BpfAssembler, odd: string): void {
  program.copy(BUFFER, 1);
  program.read(LENGTH, BUFFER, SKB_LENGTH);
  program.read(0, BUFFER, SKB_TAGGED);
  program.jumpUnlessEqual(0, 0, odd);
  program.jumpIfLess(LENGTH, READ_BYTES, odd);
  program.set(2, 0);
  program.copy(3, STACK);
  program.add(3, FRAME);
  program.set(4, READ_BYTES);
  program.call(LOAD_BYTES);
  program.jumpUnlessEqual(0, 0, odd);
}

/** dst = a field of the frame as a number. */
export function loadByte(program: BpfAssembler, dst: number, at: number): void {
  program.readByte(dst, STACK, FRAME + at);
}

export function loadHalf(program: BpfAssembler, dst: number, at: number): void {
  program.readHalf(dst, STACK, FRAME + at);
  program.swapHalf(dst);
}

/** dst = a byte that `begin` has not read; goes to `odd` where the frame has none there. */
export function fetchByte(program: BpfAssembler, dst: number, at: number, odd: string): void {
  program.copy(1, BUFFER);
  program.set(2, at);
  program.copy(3, STACK);
  program.add(3, FETCHED);
  program.set(4, 1);
  program.call(LOAD_BYTES);
  program.jumpUnlessEqual(0, 0, odd);
  program.readByte(dst, STACK, FETCHED);
}

/** Goes to `other` unless the six bytes at `at` are the MAC. */
export function checkMac(program: BpfAssembler, at: number, mac: Uint8Array, other: string): void {
  for (let n = 0; n < 6; n += 2) {
    loadHalf(program, 0, at + n);
    program.jumpUnlessEqual(0, (mac[n] << 8) | mac[n + 1], other);
  }
}

/** Of an IPv4 frame: ENDPOINT is the bit of its protocol, or NO_PORTS; goes to `odd` for one that is not plain, and for ICMP. */
export function readIpv4(program: BpfAssembler, odd: string): void {
  program.jumpIfLess(LENGTH, IP_START + 20, odd);
  loadByte(program, 0, VERSION);
  program.jumpUnlessEqual(0, 0x45, odd);
  loadHalf(program, 0, FRAGMENT);
  program.jumpIfAny(0, MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK, odd);
  loadHalf(program, 0, TOTAL_LENGTH);
  program.copy(SCRATCH, 0);
  program.copy(1, LENGTH);
  program.add(1, -IP_START);
  program.jumpIfMoreThan(SCRATCH, 1, odd);
  loadByte(program, 0, PROTOCOL);
  program.set(ENDPOINT, 0);
  program.jumpIfEqual(0, PROTOCOL_TCP, 'tcp');
  program.set(ENDPOINT, UDP_BIT);
  program.jumpIfEqual(0, PROTOCOL_UDP, 'udp');
  program.jumpIfEqual(0, PROTOCOL_ICMP, odd);
  program.set(ENDPOINT, NO_PORTS);
  program.jumpIfLess(SCRATCH, 20, odd);
  program.jump('read');
  program.place('tcp');
  program.jumpIfLess(SCRATCH, 20 + 20, odd);
  program.place('udp');
  program.jumpIfLess(SCRATCH, 20 + 8, odd);
  program.place('read');
}

/** Register 0 = a pointer to what is known of the address, or goes to `foreign`. */
export function lookUpAddress(program: BpfAssembler, maps: FrameMaps, at: number, foreign: string): void {
  program.read(0, STACK, FRAME + at);
  program.swapWord(0);
  program.lookup(maps.addresses, 0);
  program.jumpIfMissing(foreign);
}

/** After lookUpAddress, for a frame with ports: SCRATCH is the entry of its endpoint. */
export function lookUpEntry(program: BpfAssembler, maps: FrameMaps, portAt: number): void {
  program.read(SCRATCH, 0, 0);
  loadHalf(program, 0, portAt);
  program.addRegister(ENDPOINT, 0);
  program.and(ENDPOINT, UDP_BIT | 0xffff); // for the verifier: within the row
  program.copy(1, SCRATCH);
  program.and(1, 0xffff);
  program.jumpIfEqual(1, NO_ROW, 'whole');
  program.jumpIfEqual(1, EVERY_FRAME, 'engines entry');
  program.write(STACK, ROW, 1);
  program.lookup(maps.endpoints, 1);
  program.jumpIfMissing('engines entry');
  program.copy(1, ENDPOINT);
  program.shiftLeft(1, 1);
  program.addRegister(0, 1);
  program.readHalf(1, 0, 0);
  program.jumpIfEqual(1, NOBODYS, 'whole');
  program.copy(SCRATCH, 1);
  program.jump('entry');
  program.place('engines entry');
  program.set(SCRATCH, ENGINES);
  program.jump('entry');
  program.place('whole');
  program.shiftRight(SCRATCH, WHOLE_SHIFT);
  program.place('entry');
}

/** After lookUpEntry: notes the frame of a WATCHED endpoint. */
export function noteActivity(program: BpfAssembler, maps: FrameMaps): void {
  program.jumpIfLess(SCRATCH, WATCHED, 'noted');
  program.read(1, STACK, ROW);
  program.lookup(maps.activity, 1);
  program.jumpIfMissing('noted');
  program.copy(1, ENDPOINT);
  program.shiftRight(1, 5);
  program.shiftLeft(1, 2);
  program.addRegister(0, 1);
  program.copy(1, ENDPOINT);
  program.and(1, 31);
  program.set(2, 1);
  program.shiftLeftBy(2, 1);
  program.read(1, 0, 0);
  program.jumpIfAnyOf(1, 2, 'noted');
  program.orAtomically(0, 0, 2);
  program.place('noted');
}

/** SCRATCH, an entry of at least STEERED, becomes its link; register 0 a pointer to the link's interface. Goes to `missing` where it has none. */
export function lookUpLink(program: BpfAssembler, maps: FrameMaps, missing: string): void {
  program.and(SCRATCH, WATCHED - 1);
  program.add(SCRATCH, -STEERED);
  program.lookup(maps.links, SCRATCH);
  program.jumpIfMissing(missing);
  program.read(1, 0, LINK_INTERFACE);
  program.jumpIfEqual(1, 0, missing);
}

/** One frame of LENGTH bytes more: at row SCRATCH, from byte `at` of it on. */
export function count(program: BpfAssembler, counters: number, at: number, missing: string): void {
  program.lookup(counters, SCRATCH);
  program.jumpIfMissing(missing);
  program.set(1, 1);
  program.addAtomically(0, at, 1);
  program.addAtomically(0, at + 8, LENGTH);
}
