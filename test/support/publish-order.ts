/** Watches that every grant is published only when the store has it, and only where the host is silent for it. */
import { expect } from 'vitest';
import type { LeasePlan } from '../../src/control/lease-plan.js';
import { type Change, LeaseState, NEVER } from '../../src/control/lease-state.js';
import type { Publisher } from '../../src/control/publisher.js';
import type { Store } from '../../src/control/store.js';
import type { PlayedHost } from './played-host.js';

interface Parts {
  publisher: Publisher;
  host: PlayedHost;
  plan: LeasePlan;
  store: Store;
}

/** What it returns fails with all that was published too early. */
export function watchOrder({ publisher, host, plan, store }: Parts): () => void {
  const early = new Set<string>();
  const apply = publisher.apply.bind(publisher);
  publisher.apply = (changes: readonly Change[], addresses = plan.shared) => {
    const stored = new LeaseState(store.load());
    for (const change of changes) {
      if (change.type !== 'lease' || change.until === NEVER) continue;
      for (const port of [change.first, change.last]) {
        if (!addresses.every((address) => host.isSilent(address, change.proto, port))) early.add(`${change.proto} ${port} is not muted`);
        if (stored.at(change.proto, port).run?.guest !== change.guest) early.add(`${change.proto} ${port} is not ${change.guest}'s in the store`);
      }
    }
    apply(changes, addresses);
  };
  return () => expect([...early]).toEqual([]);
}
