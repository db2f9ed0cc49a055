/**
 * Network: what a guest that shares the host's network must know of it, and what is done when it changes.
 *
 *     rtnetlink ─▶ facts as they are now ─▶ other addresses: everything follows ─▶ agents are told
 *
 * Follows      the NIC's own addresses, where the configuration lists none. An address that a guest leases by itself, or of a
 *              pool, is not shared, and while the NIC has no address at all the old ones stay.
 * Failed       what could not be followed is tried again, and said once.
 */
import { networkFacts } from './facts.js';
import type { LivePlan } from './live-plan.js';
import type { NetworkFacts } from './session.js';
import { poolOf } from './pools/address-pools.js';
import { unicast } from './static-leases.js';
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { findInterface, type Interface, watchNetwork } from '../io/interfaces.js';
import { formatIpv4 } from '../wire/address.js';

export interface NetworkParts {
  nic: Interface;
  /** The configuration lists the shared addresses. */
  listed: boolean;
  plan: LivePlan;
  log: Log;
}

const RETRY_MS = 1000;

export class Network {
  facts: NetworkFacts;
  private readonly parts: NetworkParts;
  private stopWatching: () => void = () => undefined;
  private looking: Promise<void> = Promise.resolve();
  private retry: NodeJS.Timeout | null = null;
  /** Why what has changed could not be followed; empty when it was. */
  private said = '';
  private closed = false;

  constructor(parts: NetworkParts) {
    this.parts = parts;
    this.facts = networkFacts(parts.nic, parts.plan.shared);
  }

  /** `follow`: the shared addresses are these now. `changed`: the facts are others, after everything has followed. */
  watch(follow: (shared: readonly number[]) => Promise<void>, changed: () => void): void {
    const look = (): void => {
      this.looking = this.looking
        .then(() => this.look(follow, changed))
        .then(
          () => void (this.said = ''),
          (error: unknown) => {
            if (messageOf(error) !== this.said) this.parts.log.error({ err: error }, `a change of the host's network could not be followed yet: ${messageOf(error)}`);
            this.said = messageOf(error);
            this.retry ??= setTimeout(() => {
              this.retry = null;
              look();
            }, RETRY_MS);
          },
        );
    };
    this.stopWatching = watchNetwork(look);
    look(); // what has changed since the start was read
  }

  async close(): Promise<void> {
    this.closed = true;
    this.stopWatching();
    await this.looking;
    if (this.retry !== null) clearTimeout(this.retry);
  }

  private async look(follow: (shared: readonly number[]) => Promise<void>, changed: () => void): Promise<void> {
    const { nic, listed, plan, log } = this.parts;
    const now = findInterface(nic.name);
    if (now === null || this.closed) return;
    if (!listed) {
      const shared = this.shareable(unicast(now.addresses));
      if (shared.length === 0) return;
      if (shared.length !== plan.shared.length || shared.some((address) => !plan.shared.includes(address))) {
        log.info(`the host's addresses are ${shared.map(formatIpv4).join(', ')} now, and no longer ${plan.shared.map(formatIpv4).join(', ')}`);
        await follow(shared);
      }
    }
    const facts = networkFacts(now, plan.shared);
    if (JSON.stringify(facts) === JSON.stringify(this.facts)) return;
    this.facts = facts;
    log.info({ gateway: facts.gateway, mtu: facts.mtu }, 'the host\'s network has changed; the agents are told');
    changed();
  }

  private shareable(addresses: readonly number[]): number[] {
    const { plan } = this.parts;
    const own = [...plan.guests.filter(({ onShared }) => !onShared), ...plan.departed].flatMap((guest) => guest.addresses);
    return addresses.filter((address) => plan.shared.includes(address) || (!own.includes(address) && poolOf(plan.pools, address) === undefined));
  }
}
