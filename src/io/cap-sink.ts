/**
 * The portable back end seen from the engine: frames of the NIC come from and go to a CapRing; links are live ports.
 * An ingress batch goes to links only, an egress batch to the NIC, and of mapped guests to links too.
 */
import type { CapRing } from './cap-ring.js';
import { type FrameSink, type FrameSlots, LOST, LOST_FULL, NIC_PORT } from './frame-io.js';
import type { LivePorts } from './live-ports.js';

export class CapSink implements FrameSink {
  private readonly links: LivePorts;
  private readonly received: CapRing;
  private readonly toSend: CapRing;
  private readonly onSend: () => void;
  private ingress = false;

  /** `onSend` tells the main thread that frames wait in `toSend`. */
  constructor(links: LivePorts, received: CapRing, toSend: CapRing, onSend: () => void) {
    this.links = links;
    this.received = received;
    this.toSend = toSend;
    this.onSend = onSend;
    links.attachMemory(received.frames);
  }

  /** Fills the slots with frames from the NIC; false when none wait. */
  receive(slots: FrameSlots): boolean {
    this.ingress = this.received.peek(slots) > 0;
    if (this.ingress) this.links.receivedElsewhere();
    return this.ingress;
  }

  /** The next batch comes from a link. */
  beginEgress(): void {
    this.ingress = false;
  }

  forward(slots: FrameSlots, verdict: Int32Array): number {
    if (this.ingress) {
      const lost = this.links.forward(slots);
      this.received.release(slots.count);
      return lost;
    }
    let lost = 0;
    for (let i = 0; i < slots.count; i++) {
      if (verdict[i] > NIC_PORT) {
        const failed = this.links.copy(slots, i, verdict[i]);
        if (failed === 0) continue;
        verdict[i] = failed;
        lost++;
      }
      if (verdict[i] !== NIC_PORT || this.toSend.put(slots.bytes, slots.offset[i], slots.length[i])) continue;
      verdict[i] = LOST - 4 * NIC_PORT - LOST_FULL;
      lost++;
    }
    this.onSend();
    return lost;
  }

  copy(slots: FrameSlots, frame: number, port: number): number {
    return this.links.copy(slots, frame, port);
  }

  reject(slots: FrameSlots, frame: number, l3: number): boolean {
    return this.links.reject(slots, frame, l3);
  }

  answerArp(slots: FrameSlots, frame: number, l3: number): boolean {
    return this.links.answerArp(slots, frame, l3);
  }

  punt(slots: FrameSlots, frame: number, link: number): boolean {
    return this.links.punt(slots, frame, link);
  }

  toHost(slots: FrameSlots, frame: number, l3: number, link: number): boolean {
    return this.links.toHost(slots, frame, l3, link);
  }
}
