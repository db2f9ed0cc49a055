/**
 * What a configuration says to the control plane, with the defaults of all that it leaves out.
 *
 *   admin    where operators talk to the daemon        agent    where a guest's agent does
 *   store    where leases are kept                     policy   what that guest may have
 *   pool     which ports blocks are cut from
 *
 * Ports    as written, read by control/static-leases.ts; a pool without ports is found out by the daemon when it starts.
 * Times    whole milliseconds.
 */
import type { RawConfig, RawGuest } from './config-schema.js';
import type { PortText } from './config-values.js';

export interface AdminConfig {
  /** absolute path of the Unix socket */
  readonly socket: string;
  /** who may use it besides root: a name or a number; null: nobody */
  readonly group: string | number | null;
}

export interface StoreConfig {
  /** absolute path of a folder */
  readonly path: string;
}

export interface PoolConfig {
  /** null: all but those below 1024, the host's ephemeral range and its listeners */
  readonly ports: PortText | null;
  /** ports that only guests with less than one block get */
  readonly reserve: number;
  /** how long a released port waits before another guest may have it; 0: not at all */
  readonly quarantineMs: number;
}

export interface AgentConfig {
  /** absolute path of the Unix socket */
  readonly socket: string;
  /** true: somebody else (a VMM) listens there; false: the daemon does */
  readonly connect: boolean;
}

export interface PortTexts {
  readonly tcp: PortText | null;
  readonly udp: PortText | null;
}

export interface PolicyConfig {
  /** ports in a block: a power of two, 1 to 32768 */
  readonly block: number;
  readonly maxPorts: number;
  readonly threshold: 'strict' | 'literal';
  /** what may be asked for by name */
  readonly allow: PortTexts;
  readonly deny: PortTexts;
  readonly implicit: boolean;
  readonly leaseTimeMs: number;
}

const DEFAULT_ADMIN: AdminConfig = { socket: '/run/berth/admin.sock', group: null };
const DEFAULT_STORE: StoreConfig = { path: '/var/lib/berth' };
const DEFAULT_POOL: PoolConfig = { ports: null, reserve: 2048, quarantineMs: 60_000 };

export function toAdmin(raw: RawConfig['admin']): AdminConfig {
  return { socket: raw?.socket ?? DEFAULT_ADMIN.socket, group: raw?.group ?? DEFAULT_ADMIN.group };
}

export function toStore(raw: RawConfig['store']): StoreConfig {
  return { path: raw?.path ?? DEFAULT_STORE.path };
}

/** `off` is the same as no `pool` at all. */
export function toPool(raw: RawConfig['pool']): PoolConfig {
  if (raw === undefined || raw === 'off') return DEFAULT_POOL;
  return {
    ports: raw.ports ?? DEFAULT_POOL.ports,
    reserve: raw.reserve ?? DEFAULT_POOL.reserve,
    quarantineMs: raw.quarantine ?? DEFAULT_POOL.quarantineMs,
  };
}

export function toAgent(guest: string, raw: RawGuest['agent']): AgentConfig | null {
  return raw === undefined ? null : { socket: raw.socket ?? `/run/berth/${guest}.sock`, connect: raw.connect ?? false };
}

export function toPolicy(raw: RawGuest['policy']): PolicyConfig {
  return {
    block: raw?.block ?? 1024,
    maxPorts: raw?.maxPorts ?? 4096,
    threshold: raw?.threshold ?? 'strict',
    allow: toPortTexts(raw?.allow),
    deny: toPortTexts(raw?.deny),
    implicit: raw?.implicit ?? true,
    leaseTimeMs: raw?.leaseTime ?? 3_600_000,
  };
}

export function toPortTexts(raw: { readonly tcp?: PortText | undefined; readonly udp?: PortText | undefined } | undefined): PortTexts {
  return { tcp: raw?.tcp ?? null, udp: raw?.udp ?? null };
}
