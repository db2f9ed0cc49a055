/**
 * A batch: the frames handled in one turn, and what each stage has found out about them.
 *
 * Memory       the frames are the source's (io/frame-io.ts), borrowed for the turn; the arrays here are the batch's own
 *              and are reused for ever. Structure of arrays: a stage is one loop over a few of them.
 * Order        capture fills `slots`; parse fills kind … ports; lookup fills position; verdict fills verdict and reason.
 */
import { type FrameSlots, NIC_PORT } from '../io/frame-io.js';

/** What a frame is, as far as a verdict needs it. TCP and UDP have the value of their bit in a table key. */
export const KIND_TCP = 0;
export const KIND_UDP = 1;
/** Added to KIND_TCP or KIND_UDP for a first fragment. */
export const FIRST_FRAGMENT = 2;
export const KIND_ICMP = 4;
export const KIND_LATER_FRAGMENT = 5;
/** A first fragment too short to hold its ports. */
export const KIND_SHORT_FRAGMENT = 6;
export const KIND_OTHER_PROTOCOL = 7;
export const KIND_ARP = 8;
export const KIND_NOT_IPV4 = 9;
export const KIND_MALFORMED = 10;
export const KIND_OTHER_STATION = 11;

/** Verdicts. A number from 0 on is the port that the frame is forwarded to: 0 the NIC, 1 + n the link with index n. */
export const DISCARD = -1;
export const PASS = -2;
/** Egress of a mapped guest: Berth itself has taken the frame, for the host's stack to send, or as an answer to what it asked. */
export const TAKEN = -3;
export const TO_NIC = NIC_PORT;

export const REASONS = [
  '',
  'not-in-use',
  'quarantined',
  'not-leased',
  'orphan-fragment',
  'not-ours',
  'not-ipv4',
  'other-protocol',
  'malformed',
  'other-station',
  'spoofed',
  'announcement',
  'identifier-taken',
  'tagged',
  'link-down',
  'link-full',
  'too-long',
  'dhcp',
  'no-flow',
  'ports-exhausted',
  'flows-full',
  'no-next-hop',
] as const;
export type Reason = (typeof REASONS)[number];

export const NO_REASON = 0;
export const NOT_IN_USE = 1;
export const QUARANTINED = 2;
export const NOT_LEASED = 3;
export const ORPHAN_FRAGMENT = 4;
export const NOT_OURS = 5;
export const NOT_IPV4 = 6;
export const OTHER_PROTOCOL = 7;
export const MALFORMED = 8;
export const OTHER_STATION = 9;
/** Egress: the source address or endpoint, or the source MAC, is not the guest's. */
export const SPOOFED = 10;
/** Egress: an ARP announcement of a shared address, which would move it in the neighbours' caches. */
export const ANNOUNCEMENT = 11;
/** Egress: an echo request under an identifier that another guest is using towards the same host. */
export const IDENTIFIER_TAKEN = 12;
/** Egress: a VLAN tag, with which a guest could reach a network that is not its own. */
export const TAGGED = 13;
/** The link, or the NIC, was not there or took no more. */
export const LINK_DOWN = 14;
export const LINK_FULL = 15;
/** Longer than the receiver's MTU, or than a slot of the ring. */
export const TOO_LONG = 16;
/** Egress: for Berth itself, which serves DHCP on the link: what it takes of that is handed to the control plane. */
export const DHCP = 17;
/** Of mapped guests: for a port of the block, and answering nothing; or a TCP reset of no connection. */
export const NO_FLOW_REASON = 18;
/** Every port of the guest's block is in use towards the same remote end. */
export const PORTS_EXHAUSTED = 19;
/** The guest has as many flows as it may, and none that could end for a new one. */
export const FLOWS_FULL = 20;
/** The station that the frame has to go to is not known, and was not asked for: too many others were. */
export const NO_NEXT_HOP = 21;

/** No look-up was made, or none was needed; the table's MISS is -1. */
export const NOT_OUR_ADDRESS = -2;

export class FrameBatch {
  readonly slots: FrameSlots;
  readonly kind: Uint8Array;
  /** Byte offset in the source's memory of the IPv4 (or ARP) header; 0 where its addresses cannot be read. */
  readonly l3: Uint32Array;
  /** Byte offset of the L4 header. */
  readonly l4: Uint32Array;
  /** Byte offset just past the last byte that belongs to the packet and was captured. */
  readonly end: Uint32Array;
  /** IPv4 addresses as numbers (host order); ARP's sender and target addresses. */
  readonly source: Uint32Array;
  readonly destination: Uint32Array;
  /** Source port in the upper half, destination port in the lower; only for TCP and UDP. */
  readonly ports: Uint32Array;
  /** Word index in the steering table of the endpoint's value, MISS, or NOT_OUR_ADDRESS. */
  readonly position: Int32Array;
  readonly verdict: Int32Array;
  readonly reason: Uint8Array;

  constructor(slots: FrameSlots) {
    const n = slots.capacity;
    this.slots = slots;
    this.kind = new Uint8Array(n);
    this.l3 = new Uint32Array(n);
    this.l4 = new Uint32Array(n);
    this.end = new Uint32Array(n);
    this.source = new Uint32Array(n);
    this.destination = new Uint32Array(n);
    this.ports = new Uint32Array(n);
    this.position = new Int32Array(n);
    this.verdict = new Int32Array(n);
    this.reason = new Uint8Array(n);
  }
}
