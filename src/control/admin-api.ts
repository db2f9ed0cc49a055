/**
 * What the admin interface says: the answers of its routes, as they cross the socket. Read by the command line too.
 *
 * Ports        as in the configuration: `80,8000-8999`; the empty text for none.
 * Times        ISO 8601; null where a lease has no end.
 * Not here     how they are found (admin-desk.ts), their description for machines (admin-schemas.ts).
 */
import type { ProtoName } from './lease-state.js';

export interface PortTexts {
  tcp: string;
  udp: string;
}

export interface BlockLine {
  first: number;
  last: number;
  until: string;
}

export interface GuestStatus {
  name: string;
  /** `run time`: added while the daemon ran, and kept. */
  source: 'configuration' | 'run time';
  link: { description: string; attached: boolean };
  agent: 'connected' | 'away' | 'none';
  /** The dedicated address leased whole; its ports are not listed. */
  whole: string | null;
  /** The one address that it leases ports of; null: of every shared one, or `whole`. */
  address: string | null;
  leased: PortTexts;
  used: PortTexts;
  blocks: BlockLine[];
  /** Ports that count towards `maxPorts`. */
  count: number;
  maxPorts: number;
}

export interface GuestRemoval {
  name: string;
  /** It is in the configuration, so it is there again after the next start. */
  returns: boolean;
  /** What the operator should know of it; empty: nothing. */
  message: string;
}

export interface Status {
  pid: number;
  startedAt: string;
  nic: { name: string; mac: string; mtu: number; backend: string };
  /** Networks besides the NIC's. */
  networks: { name: string; nic: string; mac: string }[];
  addresses: string[];
  notInUse: string;
  guests: GuestStatus[];
  /** Of all agents: messages that were not understood or not allowed, sessions ended for that. */
  agents: { bad: number; closed: number };
  /** Whether processors are kept awake now, and for how long they were in all; null: never. */
  cpuLatency: { isHeld: boolean; heldMs: number } | null;
  counters: object;
}

export interface Health {
  /** `degraded`: the daemon does what it can, and `problems` says what is missing. */
  status: 'ok' | 'degraded';
  pid: number;
  startedAt: string;
  problems: string[];
}

export interface LeaseLine {
  guest: string;
  addresses: string[];
  /** `any` and `all`: a whole address. */
  proto: ProtoName | 'any';
  ports: string;
  state: 'leased' | 'quarantined';
  /** `run time`: with a guest that was added while the daemon ran. */
  source: 'configuration' | 'run time' | 'granted';
  block: boolean;
  since: string;
  until: string | null;
}

/** What a grant, a revocation or a renewal came to, and what the guest holds now. */
export interface LeaseAnswer {
  guest: string;
  changed: PortTexts;
  leased: PortTexts;
  blocks: BlockLine[];
  /** When the first of its leases that end does. */
  until: string | null;
}

/** One mapped guest: outside ports to inside ports, on every shared address. */
export interface MapStatus {
  guest: string;
  inside: string;
  gateway: string;
  /** What the guest's own connections leave by; the empty text for none. */
  block: string;
  /** `to` are as many ports as `ports`. */
  maps: { proto: ProtoName; ports: string; to: string }[];
}

export interface MapChange extends MapStatus {
  /** What the operator should know of it; empty: nothing. */
  message: string;
}

export interface HostSocket {
  /** As ss(8) has it: LISTEN, UNCONN, ESTAB … */
  state: string;
  local: string;
  /** `nginx, pid 812`; null where it cannot be known. */
  owner: string | null;
}

/** One endpoint: what the steering table has there, and the words for it. */
export interface Place {
  address: string;
  state: 'free' | 'leased' | 'in use' | 'quarantined';
  guest: string | null;
  source: 'configuration' | 'run time' | 'granted' | null;
  since: string | null;
  until: string | null;
  verdict: 'forward' | 'discard' | 'reject' | 'pass';
  /** The reason that the frame would be counted under; null when it is forwarded. */
  reason: string | null;
  words: string[];
}

export interface Explanation {
  proto: ProtoName;
  port: number;
  places: Place[];
  /** null: it could not be found out. */
  host: HostSocket[] | null;
  words: string[];
}

/** An address of a pool or a block of its ports, or as many unused addresses that follow one another. */
export interface PoolLine {
  pool: string;
  network: string;
  /** `203.0.113.16`, or `203.0.113.18-203.0.113.31` */
  address: string;
  count: number;
  state: 'unused' | 'leased' | 'in use' | 'quarantined';
  /** Who has it, or had it. */
  guest: string | null;
  /** `all`, `1024-2047` in both protocols, or the only ones that are leased of a dedicated address: `tcp 80, 443`; null: unused. */
  ports: string | null;
  /** Of the state, of a block of its lease; null: unused. */
  since: string | null;
  /** End of the quarantine. */
  until: string | null;
}

export interface AddressExplanation {
  address: string;
  pool: string;
  network: string;
  /** As in the list. */
  lines: PoolLine[];
  words: string[];
}

/** Any answer that is not 2xx. */
export interface AdminFailure {
  error: string;
  message: string;
}
