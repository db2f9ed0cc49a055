/** Says that mapped guests have found every port of their block in use, once a minute a guest at most. */
import type { LeasePlan } from './lease-plan.js';
import type { Log } from '../base/log.js';

const BETWEEN_MS = 60_000;

export class ExhaustedBlocks {
  private readonly plan: LeasePlan;
  private readonly log: Log;
  /** When it was said last, by guest. */
  private readonly said = new Map<string, number>();

  constructor(plan: LeasePlan, log: Log) {
    this.plan = plan;
    this.log = log;
  }

  /** The guest on the link had none for a new connection. */
  warn(link: number): void {
    const guest = this.plan.guests.find(({ index }) => index === link);
    const now = performance.now();
    if (guest === undefined || now - (this.said.get(guest.name) ?? -BETWEEN_MS) < BETWEEN_MS) return;
    this.said.set(guest.name, now);
    this.log.warn({ guest: guest.name }, `guest ${guest.name}: every port of its block of ${guest.mapped?.blockSize ?? 0} is in use towards one address and port; its new connections there are dropped (ports-exhausted) until some end: set a larger \`block\``);
  }
}
