/**
 * `--verdicts`: one JSON object a frame, a line each, in the capture's order. What could not be read is left out.
 *
 * Written by hand, not by JSON.stringify: every part is a number or a name without characters that JSON would escape
 * (guest names are checked by the configuration, reasons and addresses are ours).
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { BerthError, fileReason, newFileReason } from '../../base/errors.js';
import { DISCARD, FIRST_FRAGMENT, type FrameBatch, KIND_ARP, KIND_UDP, PASS, REASONS } from '../../dataplane/frame-batch.js';
import { formatIpv4 } from '../../wire/address.js';
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from '../../wire/ipv4.js';

const FLUSH_AT = 256 * 1024;

export class VerdictLines {
  private readonly guests: readonly string[];
  private readonly path: string;
  private readonly fd: number;
  private text = '';
  private frame = 0;

  /** `path`: a file, which is replaced, or `-` for standard output. */
  constructor(path: string, guests: readonly string[]) {
    this.guests = guests;
    this.path = path;
    try {
      this.fd = path === '-' ? 1 : openSync(path, 'w');
    } catch (cause) {
      throw new BerthError('ERR_VERDICTS_WRITE', `${path}: cannot be created (${newFileReason(cause)}); name a file that this user may write, or - for standard output`, { cause });
    }
  }

  /** Adds the lines of a decided batch whose memory is still there. */
  add(batch: FrameBatch): void {
    for (let i = 0; i < batch.slots.count; i++) this.text += this.line(batch, i);
    if (this.text.length >= FLUSH_AT) this.flush();
  }

  close(): void {
    this.flush();
    if (this.fd !== 1) closeSync(this.fd);
  }

  private line(batch: FrameBatch, i: number): string {
    const verdict = batch.verdict[i];
    this.frame++;
    let line = `{"n":${this.frame},"verdict":"${verdict === PASS ? 'pass' : verdict === DISCARD ? 'discard' : 'forward'}"`;
    if (verdict > 0) line += `,"guest":"${this.guests[verdict - 1]}"`;
    const reason = REASONS[batch.reason[i]];
    if (reason !== '') line += `,"reason":"${reason}"`;
    return line + describePacket(batch, i) + '}\n';
  }

  private flush(): void {
    const bytes = Buffer.from(this.text, 'latin1');
    this.text = '';
    try {
      for (let done = 0; done < bytes.length; ) done += this.writeSome(bytes, done);
    } catch (cause) {
      throw new BerthError('ERR_VERDICTS_WRITE', `${this.path === '-' ? 'standard output' : this.path}: cannot be written (${fileReason(cause)}); make room, or name another file`, { cause });
    }
  }

  /** Standard output may be a pipe that is full and does not block. */
  private writeSome(bytes: Buffer, done: number): number {
    try {
      return writeSync(this.fd, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      return 0;
    }
  }
}

/** `,"proto":"tcp","src":"198.51.100.7","sport":40000,…`, as far as the frame could be read. */
function describePacket(batch: FrameBatch, i: number): string {
  const kind = batch.kind[i];
  const header = batch.l3[i];
  if (header === 0 || kind === KIND_ARP) return '';
  const hasPorts = kind <= KIND_UDP + FIRST_FRAGMENT;
  const ports = batch.ports[i];
  return (
    `,"proto":${protocolName(batch.slots.view.getUint8(header + 9))}` +
    `,"src":"${formatIpv4(batch.source[i])}"${hasPorts ? `,"sport":${ports >>> 16}` : ''}` +
    `,"dst":"${formatIpv4(batch.destination[i])}"${hasPorts ? `,"dport":${ports & 0xffff}` : ''}`
  );
}

function protocolName(protocol: number): string {
  if (protocol === PROTOCOL_TCP) return '"tcp"';
  if (protocol === PROTOCOL_UDP) return '"udp"';
  return protocol === PROTOCOL_ICMP ? '"icmp"' : String(protocol);
}
