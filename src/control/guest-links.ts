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
import type { SteerableLink } from '../io/kernel-table.js';
import { GuestLink } from '../io/guest-link.js';
import { interfaceIndex } from '../io/interfaces.js';
import { Lock } from '../io/lock.js';
import type { LinkDress } from '../io/tap-io.js';

/** The engine, as far as links concern it. */
export interface LinkHost {
  /** `dhcp`: Berth serves it on the link. */
  attach(port: number, fd: number, isSocket: boolean, serial: number, dhcp: boolean): void;
  detach(port: number): void;
  /** Resolves when the engine has closed the port's descriptor, with a tap of ours, and nothing of its guest is remembered. */
  leave(port: number): Promise<void>;
}

/** The kernel's steering, as far as links concern it. */
export interface LinkSteering {
  attachLink(link: number, host: SteerableLink, socket: number): void;
  detachLink(link: number): void;
  /** It is another guest's from now on. */
  retireLink(link: number): void;
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
  /** What of it has been kept from the host's stack: a VMM's tap, the host's end of a veth. */
  quieted: { name: string; index: number } | null;
  /** What was last said about it, so that it is not said twice a second. */
  said: string;
}

export class GuestLinks {
  private readonly all: Attachment[] = [];
  private readonly engine: LinkHost;
  private readonly host: HostStack;
  private readonly log: Log;
  private readonly dress: LinkDress;
  private readonly steering: LinkSteering | null;
  /** Of the last attachment of each port whose guest has left. */
  private readonly serials = new Map<number, number>();
  private timer: NodeJS.Timeout | null = null;

  /** `steering`: null where the engine has every frame. */
  constructor(dress: LinkDress, engine: LinkHost, steering: LinkSteering | null, host: HostStack, log: Log) {
    this.dress = dress;
    this.steering = steering;
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
    const one: Attachment = { guest: name, port: 1 + index, link: new GuestLink(link, this.dress), lock, attached: false, serial: this.serials.get(1 + index) ?? 0, quieted: null, said: '' };
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
    this.steering?.retireLink(index);
    await this.engine.leave(1 + index);
    if (one === undefined) return;
    this.serials.set(one.port, one.serial);
    this.giveBack(one);
  }

  /** The engine has detached the port because its descriptor failed. */
  failed(port: number, serial: number): void {
    const one = this.all.find((candidate) => candidate.port === port);
    if (one?.serial === serial) this.lost(one, 'went away');
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
    if (config.kind === 'netns') this.host.removeInterface({ netns: config.netns, name: config.name });
    if (quieted !== null) this.host.unquietLink(quieted.name);
    lock?.release();
  }

  private lost(one: Attachment, why: string): void {
    one.attached = false;
    this.steering?.detachLink(one.port - 1);
    this.say(one, `${one.link.description} ${why}; waiting for it to return`);
  }

  private look(one: Attachment): void {
    const why = one.attached ? one.link.whyGone() : null;
    if (why !== null) {
      this.engine.detach(one.port);
      this.lost(one, why);
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
    if (config.kind === 'netns') this.host.rememberInterface({ netns: config.netns, name: config.name });
    if (config.kind === 'tap') this.quietTap(one, config.tap);
    const open = one.link.open((name) => {
      this.quiet(one, name);
    });
    if (open === null) return;
    one.serial++;
    if (open.host !== null) this.steer(one, open.host, open.fd);
    this.engine.attach(one.port, open.fd, open.host !== null, one.serial, config.configure === 'dhcp');
    one.attached = true;
    one.said = '';
    this.log.info({ guest: one.guest }, `guest ${one.guest} attached: ${one.link.description}`);
  }

  /** Without steering by the kernel the engine has all of the link's frames. */
  private steer(one: Attachment, host: SteerableLink, socket: number): void {
    try {
      this.steering?.attachLink(one.port - 1, host, socket);
    } catch (error) {
      this.log.warn({ guest: one.guest }, `guest ${one.guest}: no fast path (${messageOf(error)}); its frames go through the engine`);
    }
  }

  /** Before a VMM's tap is set up. */
  private quietTap(one: Attachment, tap: string): void {
    if (interfaceIndex(tap) === 0 || interfaceIndex(tap) === one.quieted?.index) return;
    one.link.refuseUnfit();
    this.quiet(one, tap);
  }

  /** No frame of the guest may reach the host's stack. */
  private quiet(one: Attachment, name: string): void {
    const index = interfaceIndex(name);
    if (one.quieted?.index === index) return;
    this.host.quietLink(name);
    one.quieted = { name, index };
  }

  private say(one: Attachment, text: string): void {
    if (one.said === text) return;
    one.said = text;
    this.log.warn({ guest: one.guest }, `guest ${one.guest}: ${text}`);
  }
}
