/**
 * A data plane for tests: a steering table made by the real writer, the real engine, a sink that records.
 *
 * Memory       the frames of a batch lie in memory of exactly their size, at odd offsets, with guard bytes between them:
 *              a read past the last frame throws, a read past another one meets the guard.
 * Counters     every batch is checked whole: the snapshot must be what the recorded decisions add up to.
 */
import { expect } from 'vitest';
import { Counters, type CounterSnapshot } from '../../src/dataplane/counters.js';
import { Engine } from '../../src/dataplane/engine.js';
import { DISCARD, PASS, type Reason, REASONS, TAKEN } from '../../src/dataplane/frame-batch.js';
import { ANY_STATION, type Station, stationOf } from '../../src/dataplane/parse.js';
import { FrameSlots, type FrameSink, VNET_HEADER_BYTES } from '../../src/io/frame-io.js';
import type { Maps } from '../../src/steering/maps.js';
import { type Proto, PROTO_TCP, PROTO_UDP, STATE_MASK } from '../../src/steering/table-layout.js';
import type { TableFollower } from '../../src/steering/table-follower.js';
import { TableWriter } from '../../src/steering/table-writer.js';
import { SteeringTable } from '../../src/steering/table.js';
import { parseIpv4, parseMac } from '../../src/wire/address.js';

export { DISCARD, PASS, TAKEN };
export const TO_NIC = 0;
/** The verdict "forward to the link of guest n". */
export const toGuest = (guest: number): number => 1 + guest;

export type State = 'leased' | 'in use' | 'quarantined';

/** One entry of a steering table; port 'all': a dedicated address. */
export interface Entry {
  address: string;
  proto: 'tcp' | 'udp' | 'any';
  port: number | 'all';
  guest: number;
  state: State;
  /** Policy `implicit` (D7); default: true. */
  mayImply?: boolean;
}

export interface FrameIn {
  bytes: Uint8Array;
  /** Bytes on the wire; default: as many as were captured. */
  wire?: number;
  seconds?: number;
  /** Its virtio-net header, where the plane's frames have one; default: none is partial or to be cut. */
  header?: Uint8Array;
}

export interface Decision {
  /** DISCARD, PASS, or the port: 0 the NIC, 1 + n guest n. */
  verdict: number;
  reason: Reason;
  /** Guests that got a copy. */
  copies: number[];
  /** The sink was asked to answer with a reset or port unreachable. */
  rejected: boolean;
  /** The sink was asked to answer an ARP request by proxy. */
  proxied: boolean;
  /** The sink was asked to hand it to the control plane. */
  punted: boolean;
}

export const ip = (text: string): number => {
  const address = parseIpv4(text);
  if (address === null) throw new Error(`not an address: ${text}`);
  return address;
};

export const protoOf = (proto: Entry['proto']): Proto => (proto === 'udp' ? PROTO_UDP : PROTO_TCP);

/** Writes the entries as the control plane would: lease first, then the state. */
export function fillTable(writer: TableWriter, entries: readonly Entry[], addresses: readonly string[] = []): void {
  for (const address of addresses) writer.addAddress(ip(address));
  for (const { address, proto, port, guest, state, mayImply = true } of entries) {
    const number = port === 'all' ? 0 : port;
    if (port === 'all') writer.leaseWhole(ip(address), guest, mayImply);
    else writer.lease(ip(address), protoOf(proto), number, guest, mayImply);
    if (state === 'in use' && port === 'all') writer.useWhole(ip(address));
    else if (state === 'in use') writer.use(ip(address), protoOf(proto), number);
    else if (state === 'quarantined') writer.quarantine(ip(address), protoOf(proto), number);
  }
}

/** Records what the forward stage asks for; `lose` plays links that do not take a frame. */
export class RecordingSink implements FrameSink {
  verdicts: number[] = [];
  copies: { frame: number; port: number }[] = [];
  rejects: { frame: number; l3: number }[] = [];
  arpAnswers: number[] = [];
  punts: { frame: number; link: number }[] = [];
  /** Frames given to the host's own stack. */
  handed: number[] = [];
  answers = true;
  takes = true;
  /** Port → lost code (see FrameSink.forward) for frames to it. */
  readonly lose = new Map<number, number>();
  copyStatus = 0;

  forward(slots: FrameSlots, verdict: Int32Array): number {
    let lost = 0;
    this.verdicts = Array.from(verdict.subarray(0, slots.count));
    for (let i = 0; i < slots.count; i++) {
      const code = this.lose.get(verdict[i]);
      if (code === undefined) continue;
      verdict[i] = code;
      lost++;
    }
    return lost;
  }

  copy(_slots: FrameSlots, frame: number, port: number): number {
    this.copies.push({ frame, port });
    return this.copyStatus;
  }

  reject(_slots: FrameSlots, frame: number, l3: number): boolean {
    this.rejects.push({ frame, l3 });
    return this.answers;
  }

  answerArp(_slots: FrameSlots, frame: number): boolean {
    this.arpAnswers.push(frame);
    return this.answers;
  }

  punt(_slots: FrameSlots, frame: number, link: number): boolean {
    this.punts.push({ frame, link });
    return this.takes;
  }

  toHost(_slots: FrameSlots, frame: number): boolean {
    this.handed.push(frame);
    return this.answers;
  }
}

export interface PlaneOptions {
  entries?: readonly Entry[];
  /** Shared addresses besides those of the entries. */
  addresses?: readonly string[];
  guests?: number;
  /** The NIC's MAC; none: as on a capture. */
  station?: string;
  rejecting?: boolean;
  /** Guests on whose links Berth serves DHCP. */
  dhcp?: readonly number[];
  /** What follows the steering table. */
  follower?: TableFollower;
  /** What is mapped, and its outside endpoints. */
  maps?: Maps;
  mapped?: readonly { address: string; proto: 'tcp' | 'udp'; port: number; guest: number }[];
  /** Frames have a virtio-net header before them. */
  headers?: boolean;
}

export const FIRST_SECOND = 1_700_000_000;

export class Plane {
  readonly writer: TableWriter;
  readonly engine: Engine;
  readonly counters: Counters;
  readonly sink = new RecordingSink();
  readonly slots: FrameSlots;
  private readonly headers: boolean;
  private expected: CounterSnapshot;

  constructor(options: PlaneOptions = {}) {
    const { entries = [], addresses = [], guests = 3, station, rejecting = false, dhcp = [], follower, maps, mapped = [], headers = false } = options;
    this.headers = headers;
    this.writer = new TableWriter({ follower });
    fillTable(this.writer, entries, addresses);
    for (const { address, proto, port, guest } of mapped) this.writer.map(ip(address), protoOf(proto), port, guest);
    this.slots = new FrameSlots(256);
    this.counters = new Counters(guests);
    this.expected = this.counters.read();
    this.engine = new Engine({
      slots: this.slots,
      table: new SteeringTable(this.writer.buffer),
      counters: this.counters,
      station: station === undefined ? ANY_STATION : stationFrom(station),
      rejecting,
    });
    const sharing: (number[] | undefined)[] = [];
    for (const { address, guest } of entries) {
      const list = (sharing[this.writer.addAddress(ip(address))] ??= []);
      if (!list.includes(guest)) list.push(guest);
    }
    this.engine.memory.guests = sharing;
    for (const guest of dhcp) this.engine.memory.dhcpLinks.add(guest);
    if (maps !== undefined) this.engine.map(maps, guests, headers);
  }

  ingress(...frames: (FrameIn | Uint8Array)[]): Decision[] {
    this.lay(frames, 0xa5);
    this.engine.ingress(this.sink);
    return this.decisions('ingress', 0);
  }

  egress(guest: number, ...frames: (FrameIn | Uint8Array)[]): Decision[] {
    this.lay(frames, 0x5a);
    this.engine.egress(guest, this.sink);
    return this.decisions('egress', guest);
  }

  /** The value of an endpoint's own entry or its wildcard. */
  value(address: string, proto: Entry['proto'], port: number): number {
    return this.engine.table.value(ip(address), protoOf(proto), port);
  }

  state(address: string, proto: Entry['proto'], port: number): number {
    return this.value(address, proto, port) & STATE_MASK;
  }

  /** Frame `index` of the last batch, as it is in memory now. */
  bytesOf(index = 0): Uint8Array {
    const { bytes, offset, length } = this.slots;
    return bytes.slice(offset[index], offset[index] + length[index]);
  }

  private lay(frames: (FrameIn | Uint8Array)[], guard: number): void {
    const { slots } = this;
    const given = frames.map((frame) => (frame instanceof Uint8Array ? { bytes: frame } : frame));
    const gap = (index: number): number => ((index * 5) % 7) + (this.headers ? VNET_HEADER_BYTES : 0);
    const size = given.reduce((sum, { bytes }, index) => sum + bytes.length + gap(index), 0);
    const memory = new Uint8Array(new ArrayBuffer(size)).fill(guard);
    slots.lend(memory);
    slots.count = given.length;
    let at = 0;
    given.forEach(({ bytes, wire = bytes.length, seconds = FIRST_SECOND, header = new Uint8Array(VNET_HEADER_BYTES) }, index) => {
      at += gap(index);
      if (this.headers) memory.set(header, at - VNET_HEADER_BYTES);
      memory.set(bytes, at);
      slots.offset[index] = at;
      slots.length[index] = bytes.length;
      slots.wireLength[index] = wire;
      slots.seconds[index] = seconds >>> 0;
      slots.nanoseconds[index] = 0;
      at += bytes.length;
    });
    this.sink.copies = [];
    this.sink.rejects = [];
    this.sink.arpAnswers = [];
    this.sink.punts = [];
    this.sink.handed = [];
  }

  private decisions(direction: 'ingress' | 'egress', guest: number): Decision[] {
    const { engine, slots, sink } = this;
    const found: Decision[] = [];
    for (let i = 0; i < slots.count; i++) {
      found.push({
        verdict: sink.verdicts[i],
        reason: REASONS[engine.batch.reason[i]],
        copies: sink.copies.filter(({ frame }) => frame === i).map(({ port }) => port - 1),
        rejected: sink.rejects.some(({ frame }) => frame === i),
        proxied: sink.arpAnswers.includes(i),
        punted: sink.punts.some(({ frame, link }) => frame === i && link === guest && direction === 'egress'),
      });
    }
    found.forEach((decision, i) => {
      this.add(direction, guest, decision, slots.wireLength[i]);
    });
    expect(this.counters.read()).toEqual(this.expected);
    return found;
  }

  /** What the counters should gain, worked out from the meaning of each. Lost frames: see counters.test.ts. */
  private add(direction: 'ingress' | 'egress', guest: number, { verdict, reason, copies, rejected, proxied, punted }: Decision, bytes: number): void {
    if (this.sink.lose.size > 0) {
      this.expected = this.counters.read();
      return;
    }
    const { ingress, egress, guests } = this.expected;
    const into = (tally: { frames: number; bytes: number }): void => {
      tally.frames += 1;
      tally.bytes += bytes;
    };
    if (this.sink.copyStatus === 0) for (const to of copies) guests[to].copies += 1;
    if (rejected && this.sink.answers) this.expected.answers += 1;
    if (proxied && this.sink.answers) this.expected.arpReplies += 1;
    if (punted && this.sink.takes) this.expected.punts += 1;
    if (verdict >= 0 || verdict === TAKEN) {
      into(direction === 'ingress' ? ingress.forwarded : egress.forwarded);
      into(direction === 'ingress' ? guests[verdict - 1].ingress : guests[guest].egress);
      return;
    }
    const name = reason === '' ? 'no-reason' : reason;
    if (direction === 'egress') {
      if (reason !== 'dhcp') guests[guest].refused += 1;
      into((egress.discarded[name as Reason] ??= { frames: 0, bytes: 0 }));
    } else if (verdict === PASS) into((ingress.passed[name] ??= { frames: 0, bytes: 0 }));
    else into((ingress.discarded[name as Reason] ??= { frames: 0, bytes: 0 }));
  }
}

function stationFrom(text: string): Station {
  const mac = parseMac(text);
  if (mac === null) throw new Error(`not a MAC: ${text}`);
  return stationOf(mac);
}
