/**
 * The control journey put together: lease book, control plane, and the channels of the guests' agents. Only where a guest
 * has an agent, or guests are added or removed; else a daemon whose leases are all in the configuration does without.
 *
 * Lifetime     started when the engine runs, closed before it stops. What the store holds outlives both.
 */
import type { HostStack } from './host-stack.js';
import { leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { ControlPlane } from './plane.js';
import { poolPorts } from './pool.js';
import type { Publisher } from './publisher.js';
import { GuestServer } from './server.js';
import type { NetworkFacts } from './session.js';
import type { Store } from './store.js';
import type { Log } from '../base/log.js';

export interface ControlParts {
  plan: LeasePlan;
  /** The host's network as it is now. */
  facts: () => NetworkFacts;
  publisher: Publisher;
  host: HostStack;
  /** Stays the caller's. */
  store: Store;
  log: Log;
}

export class Control {
  readonly plane: ControlPlane;
  readonly server: GuestServer;

  private constructor(plane: ControlPlane, server: GuestServer) {
    this.plane = plane;
    this.server = server;
  }

  static async start({ plan, facts, publisher, host, store, log }: ControlParts): Promise<Control> {
    const { pool } = plan;
    const bookOptions = { pool: poolPorts(pool), reserve: pool.reserve, quarantineMs: pool.quarantineMs, reservedByHost: leasedElsewhere(plan) };
    const plane = await ControlPlane.start({ plan, bookOptions, store, publisher, host, log });
    const server = new GuestServer(plane, facts, log);
    await server.start(plan);
    plane.onEnded = (guest, ports, reason) => {
      server.revoked(guest, ports, reason);
    };
    return new Control(plane, server);
  }

  async close(): Promise<void> {
    this.server.close();
    await this.plane.close();
  }
}
