/**
 * Host senders: what the host's own stack sends for Berth, by raw sockets: answers of `reject`, and first packets of mapped guests.
 *
 * One each     guest: packets whose neighbour is not known yet wait in the kernel at their socket's cost, for seconds, and one that is full
 *              takes no more. What a guest sends to addresses that nobody has is then its own loss.
 * NIC          guests' packets leave by it and by no other interface; answers as the host's routes say.
 */
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { RawSocketOut } from '../io/raw-socket-out.js';

/** In place of a link: for answers. */
export const ANSWERS = -1;

export class HostSenders {
  private readonly nic: string;
  private readonly log: Log;
  /** By link. */
  private readonly senders = new Map<number, RawSocketOut>();

  constructor(nic: string, log: Log) {
    this.nic = nic;
    this.log = log;
  }

  /** Opens the socket of the guest on `link`, or for ANSWERS; what is sent opens it otherwise. Throws as RawSocketOut. */
  open(link: number): RawSocketOut {
    let sender = this.senders.get(link);
    if (sender !== undefined) return sender;
    const warn = (error: Error): void => {
      this.log.warn(error.message);
    };
    sender = new RawSocketOut(warn, link === ANSWERS ? undefined : this.nic);
    this.senders.set(link, sender);
    return sender;
  }

  /** Sends a complete IPv4 packet, which is given away. */
  send(link: number, packet: Uint8Array): void {
    try {
      this.open(link).send(packet);
    } catch (error) {
      this.log.warn(messageOf(error));
    }
  }

  /** The guest on `link` has left, or all have. */
  close(link?: number): void {
    for (const [of, sender] of this.senders) {
      if (link !== undefined && of !== link) continue;
      sender.close();
      this.senders.delete(of);
    }
  }
}
