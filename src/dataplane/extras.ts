/**
/**
 * Extras: what happens to a frame besides its verdict: copies to guests (ARP replies), answers (policy `reject`, ARP by proxy), frames that
 * are handed to the control plane, and those of mapped guests that the host's own stack is to send.
 * A bounded list of (frame, action), filled by the verdict stage and emptied by the forward stage of the same turn.
 */

/** The action "answer with a reset or port unreachable". */
export const REJECT = 0;
/** The action "answer the ARP request: its target is here". */
export const ANSWER_ARP = 0xffff_ffff;
/** The action "hand a copy to the control plane". */
export const PUNT = 0xffff_fffe;
/** The action "the host's own stack is to send the packet: it knows the next hop"; any other action is the port that gets a copy. */
export const TO_HOST = 0xffff_fffd;

export class Extras {
  /** Policy notInUse: reject. */
  rejecting: boolean;
  count = 0;
  readonly frame: Uint32Array;
  readonly action: Uint32Array;
  /** Those that found the list full; they are not made. */
  dropped = 0;

  constructor(rejecting: boolean, capacity = 4096) {
    this.rejecting = rejecting;
    this.frame = new Uint32Array(capacity);
    this.action = new Uint32Array(capacity);
  }

  add(frame: number, action: number): void {
    if (this.count === this.frame.length) {
      this.dropped++;
      return;
    }
    this.frame[this.count] = frame;
    this.action[this.count] = action;
    this.count++;
  }
}
