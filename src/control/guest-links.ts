/**
 * Guest links: keeps every guest's link attached to the engine while it is there, and no other guest the worse for it.
 *
 * Looks        twice a second at what is attached and what is awaited; at once when the engine reports a failed port.
 * At start     a link that can never be had as configured (in use, not a tap, another MAC) is an error; later it is a
 *              warning, said once, and tried again.
 */
import type { HostStack } from './host-stack.js';
import type { LeasePlan } from './lease-plan.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { GuestLink } from '../io/guest-link.js';
import { interfaceIndex } from '../io/interfaces.js';
import type { Lock } from '../io/lock.js';
import type { TapDress } from '../io/tap-io.js';

/** The engine, as far as links concern it. */
export interface LinkHost {
  attach(port: number, fd: number, isSocket: boolean, serial: number): void;
  detach(port: number): void;
}

const LOOK_MS = 500;

interface Attachment {
  readonly guest: string;
  readonly port: number;
  readonly link: GuestLink;
  attached: boolean;
  /** Of the latest attachment: a report about an earlier one is late. */
  serial: number;
  /** The tap of a VMM that has been kept from the host's stack, by its index. */
  quieted: number;
  /** What was last said about it, so that it is not said twice a second. */
  said: string;
}

export class GuestLinks {
  private readonly all: Attachment[] = [];
  private readonly engine: LinkHost;
  private readonly host: HostStack;
  private readonly log: Log;
  private readonly locks: Lock[] = [];
  private timer: NodeJS.Timeout | null = null;

  constructor(plan: LeasePlan, dress: TapDress, engine: LinkHost, host: HostStack, log: Log) {
    for (const { name, index, link } of plan.guests) {
      if (link !== null) this.all.push({ guest: name, port: 1 + index, link: new GuestLink(link, dress), attached: false, serial: 0, quieted: 0, said: '' });
    }
    this.engine = engine;
    this.host = host;
    this.log = log;
  }

  /** Attaches what is there and begins to look after the rest. Throws for a link that is refused. */
  async start(takeLock: (tap: string) => Promise<Lock>): Promise<void> {
    for (const one of this.all) {
      if (one.link.config.kind === 'tap') this.locks.push(await takeLock(one.link.config.tap));
      this.tryAttach(one);
      if (!one.attached) this.say(one, `${one.link.description} is not there yet; waiting for it`);
    }
    this.timer = setInterval(() => {
      for (const one of this.all) this.look(one);
    }, LOOK_MS);
  }

  /** The engine has detached the port because its descriptor failed. */
  failed(port: number, serial: number): void {
    const one = this.all.find((candidate) => candidate.port === port);
    if (one?.serial === serial) this.lost(one);
  }

  stateOf(guest: string): { description: string; attached: boolean } {
    const one = this.all.find((candidate) => candidate.guest === guest);
    return { description: one?.link.description ?? '', attached: one?.attached ?? false };
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    for (const one of this.all) one.link.undress();
    for (const lock of this.locks.splice(0)) lock.release();
  }

  private lost(one: Attachment): void {
    one.attached = false;
    this.say(one, `${one.link.description} went away; waiting for it to return`);
  }

  private look(one: Attachment): void {
    if (one.attached && one.link.isGone()) {
      this.engine.detach(one.port);
      this.lost(one);
    }
    if (one.attached) return;
    try {
      this.tryAttach(one);
    } catch (error) {
      if (!(error instanceof BerthError)) throw error;
      this.say(one, messageOf(error));
    }
  }

  private tryAttach(one: Attachment): void {
    const { config } = one.link;
    if (config.kind === 'netns') this.host.rememberTap({ netns: config.netns, name: config.name });
    if (config.kind === 'tap') this.quiet(one, config.tap);
    const open = one.link.open();
    if (open === null) return;
    one.serial++;
    this.engine.attach(one.port, open.fd, open.isSocket, one.serial);
    one.attached = true;
    one.said = '';
    this.log.info({ guest: one.guest }, `guest ${one.guest} attached: ${one.link.description}`);
  }

  /** Before the tap is set up: no frame of the guest may reach the host's stack. */
  private quiet(one: Attachment, tap: string): void {
    const index = interfaceIndex(tap);
    if (index === 0 || index === one.quieted) return;
    one.link.refuseUnfit();
    this.host.quietTap(tap);
    one.quieted = index;
  }

  private say(one: Attachment, text: string): void {
    if (one.said === text) return;
    one.said = text;
    this.log.warn({ guest: one.guest }, `guest ${one.guest}: ${text}`);
  }
}
