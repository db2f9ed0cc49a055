/**
 * The control journey put together: lease book, control plane, and the channels of the guests' agents. Only where a guest
 * has an agent, or guests are added or removed; else a daemon whose leases are all in the configuration does without.
 *
 * Lifetime     started when the engine runs, closed before it stops. What the store holds outlives both.
 */
import { readFileSync } from 'node:fs';
import type { HostStack } from './host-stack.js';
import { leasedElsewhere, type LeasePlan } from './lease-plan.js';
import { ControlPlane } from './plane.js';
import type { Publisher } from './publisher.js';
import { GuestServer } from './server.js';
import type { NetworkFacts } from './session.js';
import type { Store } from './store.js';
import type { Log } from '../base/log.js';
import { PortSet } from '../wire/port-set.js';

const EPHEMERAL_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
const FIRST_UNPRIVILEGED = 1024;

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
    const bookOptions = { pool: pool.ports ?? defaultPool(), reserve: pool.reserve, quarantineMs: pool.quarantineMs, reservedByHost: leasedElsewhere(plan) };
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

/** All ports but the privileged ones and those that the host's kernel hands out itself. */
function defaultPool(): PortSet {
  const [first, last] = readFileSync(EPHEMERAL_RANGE, 'utf8').trim().split(/\s+/).map(Number);
  return PortSet.fromRanges([{ first: FIRST_UNPRIVILEGED, last: 65535 }]).subtract(PortSet.fromRanges([{ first, last }]));
}
