/**
 * Guest links: keeps every guest's link attached to the engine while it is there, and no other guest the worse for it.
 *
 * Looks        twice a second at what is attached and what is awaited; at once when the engine reports a failed port.
 * At start     a link that can never be had as configured (in use, not a tap, another MAC) is an error; later it is a
 *              warning, said once, and tried again.
 */
import type { HostStack } from './host-stack.js';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { GuestLink } from '../io/guest-link.js';
import { interfaceIndex } from '../io/interfaces.js';
import { Lock } from '../io/lock.js';
import type { TapDress } from '../io/tap-io.js';

/** The engine, as far as links concern it. */
export interface LinkHost {
  attach(port: number, fd: number, isSocket: boolean, serial: number): void;
  detach(port: number): void;
  /** Resolves when the engine has closed the port's descriptor, with a tap of ours, and nothing of its guest is remembered. */
  leave(port: number): Promise<void>;
}

const LOOK_MS = 500;

interface Attachment {
  readonly guest: string;
  readonly port: number;
  readonly link: GuestLink;
  /** Of a VMM's tap. */
  readonly lock: Lock | null;
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
  private readonly dress: TapDress;
  /** Of the last attachment of each port whose guest has left. */
  private readonly serials = new Map<number, number>();
  private timer: NodeJS.Timeout | null = null;

  constructor(dress: TapDress, engine: LinkHost, host: HostStack, log: Log) {
    this.dress = dress;
    this.engine = engine;
    this.host = host;
    this.log = log;
  }

  /** Attaches what is there and begins to look after the rest. Throws for a link of the configuration that is refused. */
  async start(plan: LeasePlan): Promise<void> {
    for (const guest of plan.guests) {
      try {
        await this.add(guest);
      } catch (error) {
        if (!guest.atRunTime || !(error instanceof BerthError)) throw error;
        this.log.warn({ guest: guest.name }, `guest ${guest.name}: ${messageOf(error)}; it has no link until it is removed and added again`);
      }
    }
    this.timer = setInterval(() => {
      for (const one of this.all) this.look(one);
    }, LOOK_MS);
  }

  /** Attaches the guest's link, or waits for it. Throws, with nothing changed, for one that is refused. */
  async add({ name, index, link }: GuestPlan): Promise<void> {
    if (link === null) return;
    const lock = link.kind === 'tap' ? await Lock.take('tap', link.tap) : null;
    const one: Attachment = { guest: name, port: 1 + index, link: new GuestLink(link, this.dress), lock, attached: false, serial: this.serials.get(1 + index) ?? 0, quieted: 0, said: '' };
    try {
      this.tryAttach(one);
    } catch (error) {
      this.giveBack(one);
      throw error;
    }
    if (!one.attached) this.say(one, `${one.link.description} is not there yet; waiting for it`);
    this.all.push(one);
  }

  /** Gives a removed guest's link back, once the engine has forgotten all of it: its port may then be another's. */
  async remove({ name, index }: GuestPlan): Promise<void> {
    const at = this.all.findIndex((one) => one.guest === name);
    const [one] = at < 0 ? [] : this.all.splice(at, 1);
    await this.engine.leave(1 + index);
    if (one === undefined) return;
    this.serials.set(one.port, one.serial);
    this.giveBack(one);
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
    // All are forgotten: a tap that is set down as it was found is none that went away.
    for (const { link, lock } of this.all.splice(0)) {
      link.undress();
      lock?.release();
    }
  }

  /** Undoes on the host what was done for the link. */
  private giveBack({ link, quieted, lock }: Attachment): void {
    const { config } = link;
    link.undress();
    if (config.kind === 'tap' && quieted !== 0) this.host.unquietTap(config.tap);
    if (config.kind === 'netns') {
      this.host.removeTap({ netns: config.netns, name: config.name });
    }
    lock?.release();
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
