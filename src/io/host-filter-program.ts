/**
 * The program of the host filter, at the packet sockets of the NIC's rings: which frames the engine is to see.
 *
 * Takes        (all of the frame, for the engine) what may be for a guest: an endpoint or dedicated address that has an entry;
 *              and all that the engine does more with than pass it, or that is rare: ARP, ICMP, tags, fragments, IP
 *              options, lengths that do not fit.
 * Leaves       (to the host, counted) what the engine would pass and do no more, by the same rules and for the same
 *              reason: dataplane/parse.ts, dataplane/verdict-ingress.ts.
 * Drops        (uncounted) what the fast path brings to its guest (fast-path-program.ts), and what is not of the ring's
 *              lengths: the other ring's program sees it.
 * Tested       against the engine, frame by frame: test/io/kernel-steering.test.ts.
 */
import { BpfAssembler } from './bpf-assembler.js';
import { begin, checkMac, count, DESTINATION, ENDPOINT, ENGINES, type FrameMaps, LENGTH, loadByte, loadHalf, lookUpAddress, lookUpEntry, lookUpLink, NO_PORTS, NOBODYS, readIpv4, SCRATCH, TYPE } from './frame-program.js';
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_OLD_QINQ, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN } from '../wire/ethernet.js';

/** Why a frame was left to the host; a reason's position is its row in the counters. */
export const LEFT_REASONS = ['not-leased', 'not-ours', 'not-ipv4', 'other-protocol', 'other-station'] as const;
export type LeftReason = (typeof LEFT_REASONS)[number];

/** Frames that a ring takes, in bytes from the destination MAC on. */
export interface Lengths {
  shortest: number;
  longest: number;
}

/** `mac`: the NIC's six bytes; null: frames for every station are read. */
export function hostFilterProgram(maps: FrameMaps, mac: Uint8Array | null, { shortest, longest }: Lengths): Uint8Array {
  const program = new BpfAssembler();
  const leave = (reason: LeftReason): void => {
    program.set(SCRATCH, LEFT_REASONS.indexOf(reason));
    program.jump('leave');
  };

  program.read(LENGTH, 1, 0);
  program.jumpIfLess(LENGTH, shortest, 'drop');
  program.jumpIfMore(LENGTH, longest, 'drop');
  begin(program, 'take');
  if (mac !== null) {
    loadByte(program, 0, 0);
    program.jumpIfAny(0, 1, 'our station');
    checkMac(program, 0, mac, 'other station');
    program.place('our station');
  }
  loadHalf(program, 0, TYPE);
  program.jumpIfEqual(0, ETHERTYPE_IPV4, 'ipv4');
  for (const type of [ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_OLD_QINQ]) program.jumpIfEqual(0, type, 'take');
  leave('not-ipv4');
  program.place('ipv4');
  readIpv4(program, 'take');
  lookUpAddress(program, maps, DESTINATION.address, 'not ours');
  program.jumpIfEqual(ENDPOINT, NO_PORTS, 'other protocol');
  lookUpEntry(program, maps, DESTINATION.port);
  program.jumpIfEqual(SCRATCH, ENGINES, 'take');
  program.jumpIfEqual(SCRATCH, NOBODYS, 'not leased');
  lookUpLink(program, maps, 'take');
  program.jump('drop');

  program.place('not leased');
  leave('not-leased');
  program.place('other protocol');
  leave('other-protocol');
  program.place('not ours');
  leave('not-ours');
  if (mac !== null) {
    program.place('other station');
    leave('other-station');
  }
  program.place('leave');
  count(program, maps.leftCounters, 0, 'drop');
  program.place('drop');
  program.set(0, 0);
  program.exit();
  program.place('take');
  program.set(0, -1);
  program.exit();
  return program.assemble();
}
