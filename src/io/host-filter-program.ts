/**
 * The program of the host filter: whether a frame from the NIC is the host's own beyond doubt.
 *
 * Takes        (all of the frame, for the engine) what may be for a guest: an endpoint whose bit is set, a dedicated address;
 *              and all that the engine does more with than pass it, or that is rare: ARP, ICMP, tags, fragments, IP
 *              options, lengths that do not fit.
 * Leaves       (to the host, counted) what the engine would pass and do no more, by the same rules and for the same
 *              reason: dataplane/parse.ts, dataplane/verdict-ingress.ts.
 * Drops        (uncounted) what is not of the ring's lengths: the other ring's program sees it.
 * Tested       against the engine, frame by frame: test/io/host-filter.test.ts.
 */
import { BpfAssembler } from './bpf-assembler.js';
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_OLD_QINQ, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN } from '../wire/ethernet.js';
import { FRAGMENT_OFFSET_MASK, MORE_FRAGMENTS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';

/** Why a frame was left to the host; a reason's position is its row in the counters. */
export const LEFT_REASONS = ['not-leased', 'not-ours', 'not-ipv4', 'other-protocol', 'other-station'] as const;
export type LeftReason = (typeof LEFT_REASONS)[number];

/** What the program looks into: descriptors of maps. */
export interface FilterMaps {
  /** IPv4 address → its row of the bitmap, or 0: all its frames are taken. */
  addresses: number;
  /** A row an address: a bit for each endpoint, UDP's behind TCP's. */
  bitmap: number;
  /** A row a reason: frames, bytes (64 bits each). */
  counters: number;
}

/** Frames that a ring takes, in bytes from the destination MAC on. */
export interface Lengths {
  shortest: number;
  longest: number;
}

/** Registers that live through the program. */
const BUFFER = 6;
const LENGTH = 7;
const ENDPOINT = 8;
const SCRATCH = 9;

/** Fields of struct __sk_buff. */
const SKB_LENGTH = 0;
const SKB_TAGGED = 20;

/** Offsets in an untagged frame. */
const TYPE = 12;
const VERSION = 14;
const TOTAL_LENGTH = 16;
const FRAGMENT = 20;
const PROTOCOL = 23;
const DESTINATION = 30;
const DESTINATION_PORT = 36;
const IP_START = 14;

const UDP_BIT = 1 << 16;
const NO_PORTS = 1 << 17;

/** `mac`: the NIC's six bytes; null: frames for every station are read. */
export function hostFilterProgram(maps: FilterMaps, mac: Uint8Array | null, { shortest, longest }: Lengths): Uint8Array {
  const program = new BpfAssembler();
  const leave = (reason: LeftReason): void => {
    program.set(SCRATCH, LEFT_REASONS.indexOf(reason));
    program.jump('leave');
  };

  program.copy(BUFFER, 1);
  program.read(LENGTH, BUFFER, SKB_LENGTH);
  program.jumpIfLess(LENGTH, shortest, 'drop');
  program.jumpIfMore(LENGTH, longest, 'drop');
  program.read(0, BUFFER, SKB_TAGGED);
  program.jumpUnlessEqual(0, 0, 'take');
  program.jumpIfLess(LENGTH, IP_START, 'take');

  if (mac !== null) {
    const view = new DataView(mac.buffer, mac.byteOffset, 6);
    program.loadByte(0);
    program.jumpIfAny(0, 1, 'our station');
    program.loadWord(0);
    program.jumpUnlessEqual(0, view.getUint32(0), 'other station');
    program.loadHalf(4);
    program.jumpIfEqual(0, view.getUint16(4), 'our station');
    program.place('other station');
    leave('other-station');
    program.place('our station');
  }

  program.loadHalf(TYPE);
  program.jumpIfEqual(0, ETHERTYPE_IPV4, 'ipv4');
  for (const type of [ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_OLD_QINQ]) program.jumpIfEqual(0, type, 'take');
  leave('not-ipv4');

  program.place('ipv4');
  program.jumpIfLess(LENGTH, IP_START + 20, 'take');
  program.loadByte(VERSION);
  program.jumpUnlessEqual(0, 0x45, 'take');
  program.loadHalf(FRAGMENT);
  program.jumpIfAny(0, MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK, 'take');
  program.loadHalf(TOTAL_LENGTH);
  program.copy(SCRATCH, 0);
  program.copy(1, LENGTH);
  program.add(1, -IP_START);
  program.jumpIfMoreThan(SCRATCH, 1, 'take');
  program.loadByte(PROTOCOL);
  program.set(ENDPOINT, 0);
  program.jumpIfEqual(0, PROTOCOL_TCP, 'tcp');
  program.set(ENDPOINT, UDP_BIT);
  program.jumpIfEqual(0, PROTOCOL_UDP, 'udp');
  program.jumpIfEqual(0, PROTOCOL_ICMP, 'take');
  program.set(ENDPOINT, NO_PORTS);
  program.jumpIfLess(SCRATCH, 20, 'take');
  program.jump('destination');
  program.place('tcp');
  program.jumpIfLess(SCRATCH, 20 + 20, 'take');
  program.place('udp');
  program.jumpIfLess(SCRATCH, 20 + 8, 'take');

  program.place('destination');
  program.loadWord(DESTINATION);
  program.lookup(maps.addresses, 0);
  program.jumpIfFound('ours');
  leave('not-ours');
  program.place('ours');
  program.jumpUnlessEqual(ENDPOINT, NO_PORTS, 'ports');
  leave('other-protocol');

  program.place('ports');
  program.read(SCRATCH, 0, 0);
  program.jumpIfEqual(SCRATCH, 0, 'take');
  program.loadHalf(DESTINATION_PORT);
  program.addRegister(ENDPOINT, 0);
  program.and(ENDPOINT, UDP_BIT | 0xffff); // for the verifier: within the row
  program.lookup(maps.bitmap, SCRATCH);
  program.jumpIfFound('row');
  program.jump('take');
  program.place('row');
  program.copy(1, ENDPOINT);
  program.shiftRight(1, 5);
  program.shiftLeft(1, 2);
  program.addRegister(0, 1);
  program.read(1, 0, 0);
  program.and(ENDPOINT, 31);
  program.shiftRightBy(1, ENDPOINT);
  program.jumpIfAny(1, 1, 'take');
  leave('not-leased');

  program.place('leave');
  program.lookup(maps.counters, SCRATCH);
  program.jumpIfFound('count');
  program.jump('drop');
  program.place('count');
  program.set(1, 1);
  program.addAtomically(0, 0, 1);
  program.addAtomically(0, 8, LENGTH);
  program.place('drop');
  program.set(0, 0);
  program.exit();
  program.place('take');
  program.set(0, -1);
  program.exit();
  return program.assemble();
}
