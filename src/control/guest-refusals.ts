/** Why a guest cannot be had that its settings allow: what the NIC and the leases of others say to it. */
import type { GuestPlan } from './lease-plan.js';
import { NO_PORTS } from './lease-state.js';
import type { LeaseBook } from './leases.js';
import { type Config, place } from '../base/config.js';
import { BerthError, ConfigError } from '../base/errors.js';
import type { Interface } from '../io/interfaces.js';
import { formatMac } from '../wire/address.js';

/** Throws for a guest whose stated MAC is not the NIC's, unless it is mapped: then nobody outside sees it. */
export function refuseForeignMac(guest: GuestPlan, nic: Interface, config: Config): void {
  if (guest.mac === null || guest.mapped !== null || formatMac(guest.mac) === nic.mac) return;
  throw new ConfigError(
    'ERR_GUEST_MAC',
    `${place(config, ['guests', guest.name, 'link', 'mac'])}: guest ${guest.name} has MAC ${formatMac(guest.mac)}, NIC ${nic.name} has ${nic.mac}; a guest that shares the address must have the NIC's MAC`,
  );
}

/** While a guest was left out another may have been granted its ports, and keeps them. */
export function refuseHeld({ name, onShared, tcp, udp }: GuestPlan, book: LeaseBook): void {
  const { refusal } = book.checkFixed(name, onShared ? { tcp, udp } : NO_PORTS, Date.now());
  if (refusal !== null) throw new BerthError(refusal.code, `guest ${name}: ${refusal.message}`);
}
