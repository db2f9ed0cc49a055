/** What the daemon (main thread) and the engine's worker say to each other. Plain data; descriptors are numbers. */
import type { CapRingBuffers } from '../io/cap-ring.js';
import type { RingSockets } from '../io/packet-io.js';
import type { Maps } from '../steering/maps.js';

/** The first message to a worker. */
export interface WorkerStart {
  table: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  /** Link indices by address index, for ARP and echo. */
  guests: (number[] | undefined)[];
  maps: Maps;
  /** Of mapped guests under an earlier daemon: own-connections.ts. */
  connections: Int32Array;
  /** An eventfd: signalled after each command. */
  eventFd: number;
  nic: { backend: 'packet'; sockets: RingSockets; mtu: number } | { backend: 'cap'; ring: CapRingBuffers };
  /** Six bytes. */
  mac: Uint8Array;
  rejecting: boolean;
  /** Answers a second at most. */
  rejectRate: number;
  maxPorts: number;
}

export type Command =
  /** `serial` comes back in a report that this very attachment has failed. `dhcp`: Berth serves it on the link. */
  | { type: 'attach'; port: number; fd: number; isSocket: boolean; serial: number; dhcp: boolean }
  | { type: 'detach'; port: number }
  /** The guest is removed: its tap goes, and nothing that is remembered or counted of it stays. Answered by `left`. */
  | { type: 'leave'; port: number }
  | { type: 'table'; buffer: SharedArrayBuffer; generation: number; guests: (number[] | undefined)[]; maps: Maps }
  /** Frames of mapped guests for the address go to this station (six bytes). */
  | { type: 'next-hop'; address: number; mac: Uint8Array }
  /** A complete frame for the guest on the port's link; lost where the link takes none. */
  | { type: 'send'; port: number; frame: Uint8Array }
  /** Close everything and end. keepTaps: leave guest taps for the next daemon. */
  | { type: 'stop'; keepTaps: boolean };

export type Report =
  | { type: 'ready' }
  /** The worker is in this buffer and in no older one. */
  | { type: 'adopted'; generation: number }
  /** The port's descriptor failed; links are detached and must be attached anew. */
  | { type: 'failed'; port: number; serial: number }
  /** Another guest may have the port now. */
  | { type: 'left'; port: number }
  /** A complete IPv4 packet to send from the host (policy `reject`). */
  | { type: 'reject'; packet: Uint8Array }
  /** A complete frame to send from the NIC: an ARP reply. */
  | { type: 'send'; frame: Uint8Array }
  /** A copy of a frame from the guest on the port's link that is for the control plane. */
  | { type: 'punt'; port: number; frame: Uint8Array }
  /** Of the guest on the link, for the host's own stack to send, and to say where the next ones for its destination go; null: it cannot be sent as it is. */
  | { type: 'to-host'; link: number; address: number; packet: Uint8Array | null }
  /** What mapped guests have begun and is established (own-connections.ts), where it has changed. At most one a second. */
  | { type: 'connections'; connections: Int32Array }
  /** The mapped guest on the link found no free port in its block. At most one a second. */
  | { type: 'exhausted'; link: number }
  /** Frames wait in the `cap` ring to be sent. */
  | { type: 'cap-send' };
