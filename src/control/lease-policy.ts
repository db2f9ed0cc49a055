/**
 * What a guest may have, and the words in which it is refused.
 *
 * Threshold    R9, over ports: one held in both protocols counts once, leases of the configuration do not count.
 * Refusals     values, not exceptions: the guest gets `code` and `message`. A message names no other guest.
 */
import { BerthError } from '../base/errors.js';
import type { PortSet } from '../wire/port-set.js';
import type { Holding, Ports, ProtoName } from './lease-state.js';

export interface GuestPolicy {
  /** ports in a block, a power of two */
  readonly block: number;
  /** the threshold of R9 */
  readonly maxPorts: number;
  /** strict: a grant must not take the guest past `maxPorts`; literal: at or under it, the whole grant is given */
  readonly threshold: 'strict' | 'literal';
  /** what may be asked for by name */
  readonly allow: Ports;
  /** what the guest gets neither by name nor in a block */
  readonly deny: Ports;
  /** D7; the lease book only keeps it for others */
  readonly implicit: boolean;
  readonly leaseTimeMs: number;
}

export type RefusalCode =
  | 'ERR_OVER_THRESHOLD'
  | 'ERR_POOL_EMPTY'
  | 'ERR_POOL_SHORT'
  | 'ERR_NOT_ALLOWED'
  | 'ERR_NOT_LEASED'
  | 'ERR_PORT_TAKEN'
  | 'ERR_OLD_EPOCH'
  | 'ERR_UNKNOWN_GUEST';

export interface Refusal {
  readonly code: RefusalCode;
  readonly message: string;
}

/** A guest that asks: `holds` is what counts towards its threshold. */
export interface Asker {
  readonly name: string;
  readonly policy: GuestPolicy;
  readonly holds: number;
}

/** Throws BerthError `ERR_POLICY` for a policy that makes no sense. */
export function checkPolicy(name: string, { block, maxPorts, leaseTimeMs }: GuestPolicy): void {
  const wrong = (key: string, got: number, expected: string): BerthError =>
    new BerthError('ERR_POLICY', `guest ${name}: policy.${key} cannot be used (got ${got}, expected ${expected})`);
  if (!Number.isInteger(block) || block < 1 || block > 32_768 || (block & (block - 1)) !== 0) throw wrong('block', block, 'a power of two from 1 to 32768');
  if (!Number.isInteger(maxPorts) || maxPorts < 0) throw wrong('maxPorts', maxPorts, 'a number of ports, 0 or more');
  if (!(leaseTimeMs > 0)) throw wrong('leaseTime', leaseTimeMs, 'a time above 0');
}

/** What counts towards the threshold. */
export function counted({ leased, fixed }: Readonly<Holding>): PortSet {
  return leased.tcp.subtract(fixed.tcp).union(leased.udp.subtract(fixed.udp));
}

/** R9: compares the guest's count with its threshold before `more` ports are granted. */
export function overThreshold({ policy, holds }: Asker, more: number): Refusal | null {
  const { maxPorts, threshold } = policy;
  if (threshold === 'literal' ? holds <= maxPorts : holds + more <= maxPorts) return null;
  const rule = threshold === 'literal' ? `more are granted at or under ${maxPorts}` : `at most ${maxPorts} are allowed`;
  return refuse('ERR_OVER_THRESHOLD', `the guest holds ${holds} ports and asks for ${more} more, ${rule}; release some, or raise maxPorts`);
}

/** Ports that the policy does not let the guest ask for by name. */
export function notAllowed({ policy }: Asker, proto: ProtoName, ports: PortSet): Refusal | null {
  const outside = ports.subtract(policy.allow[proto].subtract(policy.deny[proto]));
  if (outside.isEmpty) return null;
  return refuse('ERR_NOT_ALLOWED', `${proto} ${outside.format()} is not allowed by the guest's policy; ask for a block, or extend policy.allow`);
}

export function refuse(code: RefusalCode, message: string): Refusal {
  return { code, message };
}
