/**
 * The control journey put together: lease book, control plane, and the channels of the guests' agents. Only where a guest
 * has an agent, or guests are added or removed; else a daemon whose leases are all in the configuration does without.
 *
 * Lifetime     started when the engine runs, closed before it stops. What the store holds outlives both.
 */
import { readFileSync } from 'node:fs';
import { networkFacts, readFacts } from './facts.js';
import type { HostStack } from './host-stack.js';
import { leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { ControlPlane } from './plane.js';
import type { Publisher } from './publisher.js';
import { GuestServer } from './server.js';
import type { Store } from './store.js';
import type { Config } from '../base/config.js';
import type { Log } from '../base/log.js';
import { type Interface, watchNetwork } from '../io/interfaces.js';
import { PortSet } from '../wire/port-set.js';

const EPHEMERAL_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
const FIRST_UNPRIVILEGED = 1024;

export interface ControlParts {
  config: Config;
  plan: LeasePlan;
  nic: Interface;
  publisher: Publisher;
  host: HostStack;
  /** Stays the caller's. */
  store: Store;
  log: Log;
}

export class Control {
  readonly plane: ControlPlane;
  readonly server: GuestServer;
  private readonly stopWatching: () => void;

  private constructor(plane: ControlPlane, server: GuestServer, stopWatching: () => void) {
    this.plane = plane;
    this.server = server;
    this.stopWatching = stopWatching;
  }

  static async start({ config, plan, nic, publisher, host, store, log }: ControlParts): Promise<Control> {
    const { pool } = plan;
    const bookOptions = { pool: pool.ports ?? defaultPool(), reserve: pool.reserve, quarantineMs: pool.quarantineMs, reservedByHost: leasedElsewhere(plan) };
    const plane = await ControlPlane.start({ plan, bookOptions, store, publisher, host, log });
    let facts = networkFacts(nic, plan.shared);
    let seen = facts;
    const server = new GuestServer(plane, () => facts, log);
    await server.start(plan);
    plane.onEnded = (guest, ports, reason) => {
      server.revoked(guest, ports, reason);
    };
    const stopWatching = watchNetwork(() => {
      const now = readFacts(nic.name, config.addresses === null ? null : plan.shared);
      if (now === null || JSON.stringify(now) === JSON.stringify(seen)) return;
      seen = now;
      if (JSON.stringify(now.addresses) !== JSON.stringify(facts.addresses)) {
        // The table, the mute and the sockets are for the addresses of the start: a guest that followed would be served nowhere.
        log.warn({ addresses: now.addresses }, 'the host\'s addresses have changed; start the daemon again to serve the new ones');
      }
      facts = { ...now, addresses: facts.addresses };
      log.info({ gateway: now.gateway, mtu: now.mtu }, 'the host\'s network has changed; the agents are told');
      server.changed(facts);
    });
    return new Control(plane, server, stopWatching);
  }

  async close(): Promise<void> {
    this.stopWatching();
    this.server.close();
    await this.plane.close();
  }
}

/** All ports but the privileged ones and those that the host's kernel hands out itself. */
function defaultPool(): PortSet {
  const [first, last] = readFileSync(EPHEMERAL_RANGE, 'utf8').trim().split(/\s+/).map(Number);
  return PortSet.fromRanges([{ first: FIRST_UNPRIVILEGED, last: 65535 }]).subtract(PortSet.fromRanges([{ first, last }]));
}
