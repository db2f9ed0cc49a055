/**
 * What a TCP segment means for its flow (RFC 5382 §5): opening until both ends have spoken and one of them acknowledges, closed once both
 * have sent FIN or one has sent RST. A segment is believed whatever its sequence number: a reset that the guest does not believe either
 * is taken back by its next segment.
 */
import { CLOSED, ESTABLISHED, type FlowTable, OPENING } from './flow-table.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/tcp.js';

/** Who sent the segment. */
export const INSIDE = 1;
export const OUTSIDE = 2;
const BOTH = INSIDE | OUTSIDE;
/** FIN was seen from: INSIDE or OUTSIDE, shifted by so much. */
const FIN_SHIFT = 2;

/** `control` is byte 13 of the header, `from` INSIDE or OUTSIDE. */
export function trackTcp(flows: FlowTable, slot: number, control: number, from: number): void {
  if ((control & TCP_RST) !== 0) {
    flows.move(slot, CLOSED);
    return;
  }
  let seen = flows.seenFlags[slot];
  if ((control & (TCP_SYN | TCP_ACK)) === TCP_SYN && flows.class[slot] === CLOSED) {
    seen = 0;
    flows.move(slot, OPENING);
  }
  seen |= from;
  if ((control & TCP_FIN) !== 0) seen |= from << FIN_SHIFT;
  flows.seenFlags[slot] = seen;
  if (seen >>> FIN_SHIFT === BOTH) flows.move(slot, CLOSED);
  else if ((control & (TCP_SYN | TCP_ACK)) === TCP_ACK && (seen & BOTH) === BOTH && (from === INSIDE || flows.class[slot] !== CLOSED)) flows.move(slot, ESTABLISHED);
}
