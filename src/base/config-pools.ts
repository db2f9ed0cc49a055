/**
 * What a configuration says of address pools, with the defaults of what it leaves out.
 *
 *   networks   physical networks by name, a NIC each      pools   addresses on one of them, and what a choice needs to know
 *   pool       of a guest: a dedicated address is wanted, or ports of one, and by which policy it is chosen
 *
 * Not here   what the addresses are and who has them: control/pools/.
 */
import type { RawConfig, RawGuest } from './config-schema.js';
import type { POLICIES } from './config-values.js';

export type PolicyName = (typeof POLICIES)[number];
/** One policy, or several with their weights. */
export type PolicyChoice = PolicyName | Readonly<Partial<Record<PolicyName, number>>>;

/** Whether guests of one class are to be on one network or on different ones. */
export type ClassRule = 'together' | 'apart';

/** In place of a pool's name: the best address of all pools. */
export const ANY_POOL = 'any';

/** A router, and the length of its network's prefix. */
export interface GatewayConfig {
  readonly address: string;
  readonly prefix: number;
}

export interface NetworkConfig {
  readonly name: string;
  readonly nic: string;
  /** for guests that Berth configures; null: what the host has there, and that of the first network always is */
  readonly gateway: GatewayConfig | null;
}

export interface AddressPoolConfig {
  readonly name: string;
  /** null: the NIC's own */
  readonly network: string | null;
  /** addresses and ranges as written */
  readonly addresses: string;
  /** bits a second; null: what the kernel says of the NIC */
  readonly speed: number | null;
  /** guests that may be there at once; null: as many as there is room for */
  readonly maxGuests: number | null;
  /** of the guests that these addresses are for; null: any */
  readonly class: string | null;
  /** for guests that name none */
  readonly policy: PolicyChoice | null;
}

/** What a guest wants. */
export interface AddressWish {
  /** of a pool, or ANY_POOL */
  readonly name: string;
  /** so many ports, a power of two, of an address that other guests may have ports of; null: the address is the guest's own */
  readonly ports: number | null;
  /** null: the pool's */
  readonly policy: PolicyChoice | null;
  readonly class: string | null;
  readonly rule: ClassRule;
}

export function toNetworks(raw: RawConfig['networks']): NetworkConfig[] {
  return Object.entries(raw ?? {}).map(([name, { nic, gateway }]) => ({ name, nic, gateway: gateway ?? null }));
}

export function toAddressPools(raw: RawConfig['pools']): AddressPoolConfig[] {
  return Object.entries(raw ?? {}).map(([name, { network, addresses, speed, maxGuests, class: served, policy }]) => ({
    name,
    network: network ?? null,
    addresses,
    speed: speed ?? null,
    maxGuests: maxGuests ?? null,
    class: served ?? null,
    policy: policy ?? null,
  }));
}

export function toWish(raw: RawGuest['pool']): AddressWish | null {
  return raw === undefined ? null : { name: raw.name ?? ANY_POOL, ports: raw.ports ?? null, policy: raw.policy ?? null, class: raw.class ?? null, rule: raw.rule ?? 'together' };
}
