/**
/**
 * Extras: what happens to a frame besides its verdict: copies to guests (ARP replies), answers (policy `reject`, ARP by proxy), and
 * frames that are handed to the control plane.
 * A bounded list of (frame, action), filled by the verdict stage and emptied by the forward stage of the same turn.
 */

/** The action "answer with a reset or port unreachable". */
export const REJECT = 0;
/** The action "answer the ARP request: its target is here". */
export const ANSWER_ARP = 0xffff_ffff;
/** The action "hand a copy to the control plane"; any other action is the port that gets a copy. */
export const PUNT = 0xffff_fffe;

export class Extras {
  /** Policy notInUse: reject. */
  rejecting: boolean;
  count = 0;
  readonly frame: Uint32Array;
  readonly action: Uint32Array;
  /** Copies or answers that found the list full; they are not made. */
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
