/**
 * Departures: what a guest that is gone had on an address of its own is quarantined (D3), in the table and on the host, and then nobody's.
 *
 *     depart ─▶ quarantined ──time──▶ forgotten        takeOver: the same guest has it at once
 *
 * Kept     an address of a pool is in the store (pools/floating.ts), so its quarantine goes on under the next daemon; that of an address that
 *          a guest's settings name ends with the daemon.
 * Not here leases on the shared addresses: the lease book's.
 */
import type { GuestUplink } from './guest-uplink.js';
import type { Departed, GuestPlan } from './lease-plan.js';
import type { FloatingAddresses } from './pools/floating.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatIpv4 } from '../wire/address.js';

export class Departures {
  private readonly floating: FloatingAddresses;
  private readonly log: Log;
  /** The ends of the quarantines. */
  private readonly timers = new Map<Departed, NodeJS.Timeout>();

  constructor(floating: FloatingAddresses, log: Log) {
    this.floating = floating;
    this.log = log;
  }

  /** Goes on with the quarantines of an earlier daemon, which are in the plan. */
  takeUp(at: GuestUplink): void {
    for (const departed of at.plan.departed) {
      at.publisher.quarantine(departed);
      this.endLater(departed, at);
    }
  }

  /** The guest, which is in no plan any more, is gone. */
  depart(guest: GuestPlan, at: GuestUplink): void {
    const since = Date.now();
    at.publisher.endLeases(guest, 'quarantine');
    const until = since + at.plan.pool.quarantineMs;
    if (guest.ofPool) this.floating.release(guest.name, since, until);
    this.keep({ ...guest, since, until }, at);
  }

  /** D3: the same guest may have at once what is quarantined after it; the rest of that stays so. */
  takeOver(guest: GuestPlan, at: GuestUplink): void {
    for (const before of at.plan.departed.filter((one) => one.name === guest.name && overlap(one, guest))) {
      // What is left of a pool's address is nobody's, and discarded for as long as the guest is there.
      if (guest.whole !== null || (guest.ofPool && before.whole !== null)) {
        this.forget(before, at);
        continue;
      }
      const [tcp, udp] = [guest.tcp.union(guest.useTcp), guest.udp.union(guest.useUdp)];
      this.drop(before, at);
      this.keep({ ...before, tcp: before.tcp.subtract(tcp), udp: before.udp.subtract(udp), useTcp: before.useTcp.subtract(tcp), useUdp: before.useUdp.subtract(udp) }, at);
    }
  }

  close(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
  }

  private keep(departed: Departed, at: GuestUplink): void {
    at.plan.depart(departed);
    this.endLater(departed, at);
  }

  private endLater(departed: Departed, at: GuestUplink): void {
    this.timers.set(departed, setTimeout(() => this.forget(departed, at), Math.max(0, departed.until - Date.now())));
  }

  private forget(departed: Departed, at: GuestUplink): void {
    this.drop(departed, at);
    if (departed.ofPool) this.floating.free(departed);
    at.publisher.endLeases(departed, 'release');
    at.host.unreserveGuest(departed);
    at.host.followPlan().catch((error: unknown) => this.log.error(messageOf(error)));
  }

  private drop(departed: Departed, at: GuestUplink): void {
    clearTimeout(this.timers.get(departed));
    this.timers.delete(departed);
    at.plan.forget(departed);
  }
}

/** ERR_PORT_TAKEN for a guest that leases what is quarantined after another. */
export function refuseQuarantined(guest: GuestPlan, { plan }: GuestUplink): void {
  const found = plan.departed.find((one) => one.name !== guest.name && overlap(one, guest));
  if (found === undefined) return;
  const until = new Date(found.until).toISOString();
  throw new BerthError('ERR_PORT_TAKEN', `guest ${guest.name}: what it leases on ${formatIpv4(found.addresses[0])} is quarantined after guest ${found.name} until ${until}; ask again then`);
}

function overlap(a: GuestPlan, b: GuestPlan): boolean {
  if (!a.addresses.some((address) => b.addresses.includes(address))) return false;
  return a.whole !== null || b.whole !== null || a.tcp.overlaps(b.tcp) || a.udp.overlaps(b.udp);
}
