/**
 * Effects: makes true on the host and in the steering table what has been committed.
 *
 *     committed ─▶ mute ─▶ steering table, operation by operation ─▶ unmute, unreserve ─▶ told
 *
 * Order        the host is silent before the first frame may be steered, and hears again only after the last one. What ends is
 *              discarded by the table before the host may have it again.
 * Failure      of one operation is its own; the others of its batch are made true.
 * Not silent   where the mute cannot be had, a grant fails and is not published, though it is in the store: whoever asked learns of it
 *              by the next statement of all. The mute is tried again, after RETRY_MS or with the next, and then the table has the grant.
 * Not here     what is reserved: that is done when it is decided (plane.ts, operations.ts).
 */
import { letGo } from './host-claims.js';
import type { HostStack } from './host-stack.js';
import { type Change, changedPorts, changesOf, endedBy, type LeaseState, NEVER, NO_PORTS, type Ports, portsOf, PROTOS, type ProtoName, usesOf } from './lease-state.js';
import type { LeaseBook } from './leases.js';
import type { Operation } from './operations.js';
import type { Publisher } from './publisher.js';
import type { Log } from '../base/log.js';
import { PortSet } from '../wire/port-set.js';

const RETRY_MS = 1000;

export interface EffectsParts {
  book: LeaseBook;
  publisher: Publisher;
  host: HostStack;
  log: Log;
}

export class Effects {
  private readonly parts: EffectsParts;
  private readonly committed: LeaseState;
  private readonly ended: (guest: string, ports: Ports, reason: string) => void;
  /** Ports that the host is asked to be silent for, besides the plan's. */
  private muted: Ports = NO_PORTS;
  /** Those of them that it may not be silent for. */
  private loud: Ports = NO_PORTS;
  private silenceAt = NEVER;

  /** `ended` is told what guests have lost, once they have. */
  constructor(parts: EffectsParts, committed: LeaseState, ended: (guest: string, ports: Ports, reason: string) => void) {
    this.parts = parts;
    this.committed = committed;
    this.ended = ended;
  }

  /** When the mute is to be tried again (wall clock, ms), which any batch does then; NEVER: it holds. */
  get retryAt(): number {
    return this.silenceAt;
  }

  /** Takes up what was committed before. ERR_TOOL where the host cannot be silenced. */
  async takeUp(): Promise<void> {
    this.muted = portsOf(this.committed.snapshot(), ({ until }) => until !== NEVER);
    await this.parts.host.setGranted(this.muted);
    this.publish();
  }

  /** Makes a batch true, in order. An operation that cannot be gets its `failure`. */
  async makeTrue(batch: readonly Operation[]): Promise<void> {
    await this.silence(batch);
    for (const operation of batch) {
      try {
        this.parts.publisher.apply(this.publishable(operation.changes));
        if (operation.failure === null && operation.result.refusal === null) await operation.sequel.after?.();
      } catch (error) {
        operation.failure = error as Error;
      }
    }
    this.giveBack(changedPorts(changesIn(batch), ({ type }) => type === 'free'));
    for (const { changes, sequel } of batch) {
      if (sequel.reason !== undefined) for (const [guest, ports] of endedBy(changes)) this.ended(guest, ports, sequel.reason);
    }
  }

  /** Publishes what is granted or quarantined, with what is in use: all of it, or of that `only` these ports. */
  publish(only: Ports | null = null, addresses?: readonly number[]): void {
    const { publisher } = this.parts;
    const chosen = (proto: ProtoName, ports: PortSet): PortSet => (only === null ? ports : ports.intersect(only[proto])).subtract(this.loud[proto]);
    for (const proto of PROTOS) {
      for (const run of this.committed.runs[proto].all) {
        if (run.until === NEVER) continue;
        for (const range of chosen(proto, PortSet.fromRanges([run])).ranges()) publisher.apply(changesOf(proto, { ...run, ...range }), addresses);
      }
    }
    for (const guest of this.committed.holders) {
      const { used } = this.committed.holding(guest);
      publisher.apply(usesOf(guest, { tcp: chosen('tcp', used.tcp), udp: chosen('udp', used.udp) }), addresses);
    }
  }

  /** Mutes what the batch grants or quarantines, and what could not be muted before. */
  private async silence(batch: readonly Operation[]): Promise<void> {
    const fresh = both(changedPorts(changesIn(batch), (change) => isGrant(change) || change.type === 'quarantine'), this.muted, (ports, muted) => ports.subtract(muted));
    if (isNone(fresh) && Date.now() < this.silenceAt) return;
    const late = this.loud;
    const granted = (operations: readonly Operation[]): Ports => both(changedPorts(changesIn(operations), isGrant), fresh, (ports, loud) => ports.intersect(loud));
    this.muted = both(this.muted, fresh, (muted, ports) => muted.union(ports));
    this.loud = both(late, granted(batch), (loud, ports) => loud.union(ports));
    try {
      await this.parts.host.setGranted(this.muted);
    } catch (error) {
      this.silenceAt = Date.now() + RETRY_MS;
      for (const operation of batch) if (!isNone(granted([operation]))) operation.failure = error as Error;
      return;
    }
    this.silenceAt = NEVER;
    this.loud = NO_PORTS;
    if (!isNone(late)) this.publish(late);
  }

  /** The changes, but for grants of ports that the host may not be silent for. */
  private publishable(changes: readonly Change[]): readonly Change[] {
    if (isNone(this.loud)) return changes;
    return changes.flatMap((change): readonly Change[] => {
      if (!isGrant(change)) return [change];
      return Array.from(PortSet.fromRanges([change]).subtract(this.loud[change.proto]).ranges(), (range) => ({ ...change, ...range }));
    });
  }

  /** What nobody has any more is the host's. */
  private giveBack(freed: Ports): void {
    if (isNone(freed)) return;
    const { book, host, log } = this.parts;
    letGo(host, freed, [this.committed, book]);
    const granted = portsOf(this.committed.snapshot(), () => true);
    this.muted = both(this.muted, both(freed, granted, (ports, kept) => ports.subtract(kept)), (muted, gone) => muted.subtract(gone));
    host.setGranted(this.muted).catch((error: unknown) => log.error({ err: error }, 'ports that are free again stay silent'));
  }
}

/** Leases of the configuration are the plan's to mute and to publish. */
function isGrant(change: Change): change is Extract<Change, { type: 'lease' | 'renew' }> {
  return change.type === 'lease' && change.until !== NEVER;
}

function changesIn(batch: readonly Operation[]): Change[] {
  return batch.flatMap(({ changes }) => changes);
}

function both(a: Ports, b: Ports, operation: (a: PortSet, b: PortSet) => PortSet): Ports {
  return { tcp: operation(a.tcp, b.tcp), udp: operation(a.udp, b.udp) };
}

function isNone({ tcp, udp }: Ports): boolean {
  return tcp.isEmpty && udp.isEmpty;
}
