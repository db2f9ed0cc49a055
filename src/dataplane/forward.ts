/**
 * Forward stage: extras first (they need the frames' memory), then every frame to its port, then the count.
 */
import type { Counters, Direction } from './counters.js';
import { ANSWER_ARP, type Extras, PUNT, REJECT, TO_HOST } from './extras.js';
import { DISCARD, type FrameBatch, NO_NEXT_HOP } from './frame-batch.js';
import type { FrameSink } from '../io/frame-io.js';

export function forward(batch: FrameBatch, extras: Extras, sink: FrameSink, counters: Counters, direction: Direction, link: number): void {
  if (extras.count > 0) doExtras(batch, extras, sink, counters, link);
  sink.forward(batch.slots, batch.verdict);
  counters.count(batch, direction, link);
}

function doExtras(batch: FrameBatch, extras: Extras, sink: FrameSink, counters: Counters, link: number): void {
  for (let e = 0; e < extras.count; e++) {
    const frame = extras.frame[e];
    const action = extras.action[e];
    if (action === REJECT) {
      if (sink.reject(batch.slots, frame, batch.l3[frame])) counters.countAnswer();
    } else if (action === ANSWER_ARP) {
      if (sink.answerArp(batch.slots, frame, batch.l3[frame])) counters.countArpReply();
    } else if (action === PUNT) {
      if (sink.punt(batch.slots, frame, link)) counters.countPunt();
    } else if (action === TO_HOST) {
      if (sink.toHost(batch.slots, frame, batch.l3[frame], link)) continue;
      batch.verdict[frame] = DISCARD;
      batch.reason[frame] = NO_NEXT_HOP;
    } else if (sink.copy(batch.slots, frame, action) === 0) {
      counters.countCopy(action);
    }
  }
  counters.countUnmade(extras.dropped);
  extras.count = 0;
  extras.dropped = 0;
}
