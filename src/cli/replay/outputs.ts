/** Where a replay's forwarded frames go: a capture a guest (`--split`), a live NIC (`--onto`), both, or nowhere. */
import { join, resolve } from 'node:path';
import { BerthError, ConfigError, messageOf, newFileReason } from '../../base/errors.js';
import { makeFolder } from '../../base/folder.js';
import type { FrameSink, FrameSlots } from '../../io/frame-io.js';
import { findInterface } from '../../io/interfaces.js';
import { FrameSender } from '../../io/packet-io.js';
import { PcapWriter } from '../../io/pcap-writer.js';

export class ReplayOutputs implements FrameSink {
  /** Frames sent onto the NIC, and those that were cut in the capture or too long for it. */
  sent = 0;
  unsent = 0;
  private readonly writers: PcapWriter[];
  private readonly sender: FrameSender | null;

  /** `split`: a folder, made if need be; `onto`: an interface. */
  constructor(guests: readonly string[], split: string | undefined, onto: string | undefined) {
    this.sender = onto === undefined ? null : openSender(onto);
    if (split !== undefined) prepare(split);
    this.writers = split === undefined ? [] : guests.map((guest) => new PcapWriter(join(split, `${guest}.pcap`)));
  }

  forward(slots: FrameSlots, verdict: Int32Array): number {
    if (this.writers.length === 0 && this.sender === null) return 0;
    const { bytes, offset, length, wireLength, seconds, nanoseconds } = slots;
    for (let i = 0; i < slots.count; i++) {
      if (verdict[i] <= 0) continue;
      if (this.writers.length > 0) this.writers[verdict[i] - 1].write(bytes, offset[i], length[i], wireLength[i], seconds[i], nanoseconds[i]);
      if (this.sender === null) continue;
      if (length[i] === wireLength[i] && this.sender.send(bytes, offset[i], length[i])) this.sent++;
      else this.unsent++;
    }
    return 0;
  }

  /** A copy of an ARP reply has nowhere to go: it is counted. */
  copy(): number {
    return 0;
  }

  reject(): boolean {
    return false;
  }

  answerArp(): boolean {
    return false;
  }

  punt(): boolean {
    return false;
  }

  toHost(): boolean {
    return false;
  }

  close(): void {
    for (const writer of this.writers) writer.close();
    this.sender?.close();
  }
}

function openSender(nic: string): FrameSender {
  const found = findInterface(nic);
  if (found === null) throw new ConfigError('ERR_NIC_MISSING', `--onto: there is no interface ${nic}; ip link shows what there is`);
  if (!found.up) throw new BerthError('ERR_NIC_DOWN', `--onto: ${nic} is down and takes no frames; ip link set ${nic} up`);
  try {
    return new FrameSender(nic, found.ifindex);
  } catch (cause) {
    throw new BerthError('ERR_NOT_ROOT', `--onto needs root (${messageOf(cause)}); start it with sudo`, { cause });
  }
}

function prepare(folder: string): void {
  try {
    makeFolder(resolve(folder));
  } catch (cause) {
    throw new BerthError('ERR_CAPTURE_WRITE', `${folder}: no folder to write captures into (${newFileReason(cause)}); name another`, { cause });
  }
}
