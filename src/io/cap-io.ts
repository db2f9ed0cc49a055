/**
 * The portable NIC back end: frames through libpcap, by the npm package `cap`. The only import of it.
 *
 * Thread       main thread only: a worker that loads `cap` aborts the process. Frames travel to the engine's worker and
 *              back through two CapRings, a copy each way.
 * Limits       no virtio-net header: switch the NIC's GRO and LRO off, or super-frames are lost; no kernel drop count.
 * Direction    libpcap also shows what the host sends; the filter keeps only what comes in.
 */
import { createRequire } from 'node:module';
import type { Cap } from 'cap';
import { CapRing, type CapRingBuffers } from './cap-ring.js';
import { FrameSlots } from './frame-io.js';
import { BerthError, messageOf } from '../base/errors.js';

const KERNEL_BUFFER_BYTES = 10 * 1024 * 1024;
const BUFFER_BYTES = 65535;

export class CapIo {
  private dropped = 0;
  private readonly cap: Cap;
  /** Not retained by `cap`, which writes into it: a field, for as long as the capture is open. */
  private readonly buffer = Buffer.alloc(BUFFER_BYTES);
  private readonly out = Buffer.alloc(BUFFER_BYTES);
  private readonly received: CapRing;
  private readonly toSend: CapRing;
  private readonly slots = new FrameSlots(64);

  /** `onFrames`: wake the engine, frames wait for it. ERR_CAP_OPEN where libpcap refuses. */
  constructor(nic: string, rings: CapRingBuffers, onFrames: () => void) {
    this.received = new CapRing(rings.received);
    this.toSend = new CapRing(rings.toSend);
    try {
      // Loaded on first use: a daemon with the default back end never loads libpcap.
      const library = createRequire(import.meta.url)('cap') as { Cap: new () => Cap };
      this.cap = new library.Cap();
      const linkType = this.cap.open(nic, 'inbound', KERNEL_BUFFER_BYTES, this.buffer);
      if (linkType !== 'ETHERNET') throw new BerthError('ERR_CAP_OPEN', `it is ${linkType}, not Ethernet`);
    } catch (cause) {
      throw new BerthError('ERR_CAP_OPEN', `cap cannot open ${nic}: ${messageOf(cause)}`, { cause });
    }
    this.cap.setMinBytes?.(0);
    this.cap.on('packet', (bytes: number, truncated: boolean) => {
      if (truncated || !this.received.put(this.buffer, 0, bytes)) this.dropped++;
      else onFrames();
    });
  }

  /** Sends every frame that the engine has put into its ring. */
  flush(): void {
    const { slots, toSend, out } = this;
    while (toSend.peek(slots) > 0) {
      for (let i = 0; i < slots.count; i++) {
        out.set(toSend.frames.subarray(slots.offset[i], slots.offset[i] + slots.length[i]));
        try {
          this.cap.send(out, slots.length[i]);
        } catch {
          this.dropped++;
        }
      }
      toSend.release(slots.count);
    }
  }

  /** Frames lost since the last call: the ring to the engine was full, or the NIC took no more. */
  takeDrops(): number {
    const drops = this.dropped;
    this.dropped = 0;
    return drops;
  }

  close(): void {
    this.cap.close();
  }
}
