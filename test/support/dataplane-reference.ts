/**
 * The rules of design §3 once more, as plainly as they can be written: objects, strings, maps, no speed.
 *
 * Shares with src   nothing but the names of the reasons. `readFrame` is separate from the rules, so that the rules can
 *                   also be applied to what another program has read (corpora.test.ts).
 * Decided here      where the design is silent, as the test tables say: malformed comes before everything but another
 *                   station; a short first fragment is an orphan; ICMP follows the wildcard of a dedicated address.
 */
import type { Reason } from '../../src/dataplane/frame-batch.js';

export type Body =
  | { is: 'malformed' }
  | { is: 'other-station' }
  | { is: 'not-ipv4' }
  | { is: 'arp'; operation: number; senderMac: string; sender: string; target: string }
  | ({ is: 'ipv4' } & Ipv4);

export interface Ipv4 {
  src: string;
  dst: string;
  protocol: number;
  id: number;
  /** In units of 8 bytes. */
  offset: number;
  more: boolean;
  /** What lies behind the header, inside the capture and the total length. */
  payload: number[];
  /** Read by somebody else; otherwise from `payload`. */
  ports?: { src: number; dst: number };
}

export interface Frame {
  destinationMac: string;
  sourceMac: string;
  /** Too short for an Ethernet header. */
  isRunt: boolean;
  tags: number;
  body: Body;
}

const u16 = (bytes: ArrayLike<number>, at: number): number => bytes[at] * 256 + bytes[at + 1];
const dotted = (bytes: ArrayLike<number>, at: number): string => [0, 1, 2, 3].map((n) => bytes[at + n]).join('.');
const hex = (bytes: number[]): string => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');

/** `bytes` is what was captured, `wire` how long the frame was, `station` the NIC's MAC (captures have none). */
export function readFrame(bytes: number[], wire: number, station?: string): Frame {
  const frame: Frame = { destinationMac: hex(bytes.slice(0, 6)), sourceMac: hex(bytes.slice(6, 12)), isRunt: bytes.length < 14, tags: 0, body: { is: 'malformed' } };
  if (frame.isRunt) return frame;
  const isGroup = (bytes[0] & 1) === 1;
  if (station !== undefined && !isGroup && frame.destinationMac !== station) return { ...frame, body: { is: 'other-station' } };

  let at = 12;
  while (frame.tags < 2 && [0x8100, 0x88a8, 0x9100].includes(u16(bytes, at))) {
    at += 4;
    frame.tags++;
    if (at + 2 > bytes.length) return frame;
  }
  const type = u16(bytes, at);
  const packet = bytes.slice(at + 2);
  if (type === 0x0806) return { ...frame, body: readArp(packet) };
  if (type !== 0x0800) return { ...frame, body: { is: 'not-ipv4' } };
  return { ...frame, body: readIpv4(packet, wire - (at + 2)) };
}

function readArp(packet: number[]): Body {
  if (packet.length < 28) return { is: 'malformed' };
  if (packet.slice(0, 6).join() !== '0,1,8,0,6,4') return { is: 'not-ipv4' };
  return { is: 'arp', operation: u16(packet, 6), senderMac: hex(packet.slice(8, 14)), sender: dotted(packet, 14), target: dotted(packet, 24) };
}

function readIpv4(packet: number[], onWire: number): Body {
  if (packet.length < 20) return { is: 'malformed' };
  const version = Math.floor(packet[0] / 16);
  const header = (packet[0] % 16) * 4;
  const total = u16(packet, 2) === 0 ? packet.length : u16(packet, 2);
  if (version !== 4 || header < 20 || total < header || header > packet.length || total > onWire) return { is: 'malformed' };
  const flags = u16(packet, 6);
  const ip: Ipv4 = {
    protocol: packet[9],
    id: u16(packet, 4),
    offset: flags % 0x2000,
    more: Math.floor(flags / 0x2000) % 2 === 1,
    src: dotted(packet, 12),
    dst: dotted(packet, 16),
    payload: packet.slice(header, total),
  };
  const needs = headerOf(ip.protocol);
  if (ip.offset === 0 && !ip.more && ip.payload.length < needs) return { is: 'malformed' };
  return { is: 'ipv4', ...ip };
}

/** Bytes that a transport header needs: TCP its 20, UDP and ICMP their 8. */
function headerOf(protocol: number): number {
  return protocol === 6 ? 20 : protocol === 17 || protocol === 1 ? 8 : 0;
}

export interface Held {
  guest: number;
  state: 'leased' | 'in use' | 'quarantined';
  mayImply: boolean;
  /** In use by its own frame; a frame seen since the last sweep. */
  implicit?: boolean;
  active?: boolean;
}

export interface Outcome {
  verdict: 'pass' | 'discard' | 'forward';
  guest?: number;
  reason: Reason;
  copies: number[];
  rejected: boolean;
  proxied: boolean;
}

interface Remembered<T> {
  what: T;
  at: number;
}

export class Reference {
  /** "address tcp 80", "address udp 53", "address whole". */
  readonly held = new Map<string, Held>();
  readonly ours = new Set<string>();
  rejecting = false;
  private readonly decisions = new Map<string, Remembered<Outcome>>();
  private readonly sent = new Map<string, Remembered<number>>();
  private readonly echoes = new Map<string, Remembered<number>>();

  constructor(private readonly station?: string) {}

  hold(address: string, proto: 'tcp' | 'udp' | 'any', port: number | 'all', held: Held): void {
    this.ours.add(address);
    this.held.set(port === 'all' ? `${address} whole` : `${address} ${proto} ${port}`, held);
  }

  ingress(frame: Frame, now: number): Outcome {
    const { body } = frame;
    if (body.is === 'malformed' || body.is === 'other-station' || body.is === 'not-ipv4') return pass(body.is);
    if (body.is === 'arp') return this.arpIn(body);
    if (!this.ours.has(body.dst)) return pass('not-ours');
    const isKnown = headerOf(body.protocol) > 0;
    if (!isKnown) return pass('other-protocol');
    const datagram = `${body.src} ${body.dst} ${body.protocol} ${body.id}`;
    if (body.offset > 0) return fresh(this.decisions, datagram, now) ?? pass('orphan-fragment');
    if (body.payload.length < headerOf(body.protocol) && body.ports === undefined) return pass('orphan-fragment');
    const outcome = body.protocol === 1 ? this.icmpIn(body, now) : this.endpointIn(body);
    if (body.more) this.decisions.set(datagram, { what: { ...outcome, rejected: false }, at: now });
    return outcome;
  }

  egress(frame: Frame, guest: number, now: number): Outcome {
    const { body } = frame;
    if (this.station !== undefined && !frame.isRunt && frame.sourceMac !== this.station) return refuse('spoofed');
    if (body.is === 'malformed' || body.is === 'not-ipv4') return refuse(body.is);
    if (body.is === 'ipv4' && body.offset === 0 && body.payload.length < headerOf(body.protocol)) return refuse('malformed');
    if (frame.tags > 0) return refuse('tagged');
    if (body.is === 'arp') return this.arpOut(frame, body, guest);
    if (body.is !== 'ipv4') throw new Error('a guest has no other stations');
    if (headerOf(body.protocol) === 0) return refuse('other-protocol');
    const datagram = `${body.src} ${body.dst} ${body.protocol} ${body.id}`;
    if (body.offset > 0) return fresh(this.sent, datagram, now) === guest ? forward() : refuse('orphan-fragment');
    const outcome = body.protocol === 1 ? this.icmpOut(body, guest, now) : this.endpointOut(body, guest);
    if (outcome.verdict === 'forward' && body.more) this.sent.set(datagram, { what: guest, at: now });
    return outcome;
  }

  /** The endpoint's own entry, else the dedicated address it lies on. */
  find(address: string, protocol: number, port: number): Held | undefined {
    return this.held.get(`${address} ${protocol === 6 ? 'tcp' : 'udp'} ${port}`) ?? this.held.get(`${address} whole`);
  }

  private endpointIn(body: Ipv4): Outcome {
    const port = body.ports?.dst ?? u16(body.payload, 2);
    const held = this.find(body.dst, body.protocol, port);
    if (held === undefined) return pass('not-leased');
    if (held.state === 'quarantined') return refuse('quarantined');
    if (held.state === 'leased') return { ...refuse('not-in-use'), rejected: this.rejecting };
    if (held.implicit) held.active = true;
    return forward(held.guest);
  }

  private endpointOut(body: Ipv4, guest: number): Outcome {
    const held = this.find(body.src, body.protocol, u16(body.payload, 0));
    if (held?.guest !== guest || held.state === 'quarantined') return refuse('spoofed');
    const flags = body.protocol === 6 ? body.payload[13] : 0;
    const hasData = body.payload.length > (body.payload[12] >> 4) * 4;
    const begins = body.protocol !== 6 || ((flags & 5) === 0 && ((flags & 2) !== 0 ? (flags & 16) === 0 : hasData));
    if ((flags & 4) !== 0) return forward();
    if (held.state === 'leased' && held.mayImply && begins) {
      held.state = 'in use';
      held.implicit = true;
    }
    if (held.implicit) held.active = true;
    return forward();
  }

  private guestsOf(address: string): number[] {
    const guests: number[] = [];
    for (const [key, { guest }] of this.held) if (key.startsWith(`${address} `) && !guests.includes(guest)) guests.push(guest);
    return guests;
  }

  private arpIn({ operation, target }: Body & { is: 'arp' }): Outcome {
    if (!this.ours.has(target)) return pass('not-ours');
    if (operation === 2) return { ...pass(''), copies: this.guestsOf(target) };
    return { ...pass(''), proxied: operation === 1 && this.isUsed(target) };
  }

  private isUsed(address: string): boolean {
    const whole = this.held.get(`${address} whole`);
    if (whole === undefined || whole.state === 'quarantined') return false;
    return [...this.held].some(([key, { state }]) => key.startsWith(`${address} `) && state === 'in use');
  }

  private arpOut(frame: Frame, body: Body & { is: 'arp' }, guest: number): Outcome {
    if (body.senderMac !== frame.sourceMac || !this.guestsOf(body.sender).includes(guest)) return refuse('spoofed');
    if (body.sender === body.target && !this.hasWhole(body.sender, guest)) return refuse('announcement');
    return forward();
  }

  private hasWhole(address: string, guest: number): boolean {
    const whole = this.held.get(`${address} whole`);
    return whole !== undefined && whole.guest === guest && whole.state !== 'quarantined';
  }

  private icmpIn(body: Ipv4, now: number): Outcome {
    const [type] = body.payload;
    if ([3, 4, 5, 11, 12].includes(type)) return this.errorIn(body.payload.slice(8), now);
    if (type === 0) {
      const guest = fresh(this.echoes, `${body.dst} ${body.src} ${u16(body.payload, 4)}`, now);
      if (guest !== undefined) return forward(guest);
    }
    return byState(this.held.get(`${body.dst} whole`), type === 0 ? 'not-leased' : 'other-protocol', refuse);
  }

  private errorIn(quote: number[], now: number): Outcome {
    const inner = readQuote(quote);
    if (inner === undefined) return pass('malformed');
    if (inner.offset > 0) return pass('orphan-fragment');
    if (inner.protocol === 6 || inner.protocol === 17) return byState(this.find(inner.src, inner.protocol, u16(inner.payload, 0)), 'not-leased', pass);
    if (inner.protocol === 1 && inner.payload[0] === 8) {
      const guest = fresh(this.echoes, `${inner.src} ${inner.dst} ${u16(inner.payload, 4)}`, now);
      if (guest !== undefined) return forward(guest);
    }
    return byState(this.held.get(`${inner.src} whole`), 'not-leased', pass);
  }

  private icmpOut(body: Ipv4, guest: number, now: number): Outcome {
    const [type] = body.payload;
    if (type === 8) {
      if (!this.hasWhole(body.src, guest) && !this.guestsOf(body.src).includes(guest)) return refuse('spoofed');
      const key = `${body.src} ${body.dst} ${u16(body.payload, 4)}`;
      if ((fresh(this.echoes, key, now) ?? guest) !== guest) return refuse('identifier-taken');
      this.echoes.set(key, { what: guest, at: now });
      return forward();
    }
    if (this.hasWhole(body.src, guest)) return forward();
    // A redirect (5) is a router's to send, never a guest's.
    const inner = [3, 4, 11, 12].includes(type) ? readQuote(body.payload.slice(8)) : undefined;
    if (inner === undefined || inner.offset > 0 || (inner.protocol !== 6 && inner.protocol !== 17) || inner.dst !== body.src) return refuse('spoofed');
    const held = this.find(inner.dst, inner.protocol, u16(inner.payload, 2));
    return held?.guest === guest && held.state !== 'quarantined' ? forward() : refuse('spoofed');
  }
}

/** The packet in error: its header and at least 64 bits of data (RFC 792). */
function readQuote(quote: number[]): Ipv4 | undefined {
  if (quote.length < 20 || Math.floor(quote[0] / 16) !== 4) return undefined;
  const header = (quote[0] % 16) * 4;
  if (header < 20 || quote.length < header + 8) return undefined;
  const flags = u16(quote, 6);
  return { src: dotted(quote, 12), dst: dotted(quote, 16), protocol: quote[9], id: 0, offset: flags % 0x2000, more: false, payload: quote.slice(header) };
}

function fresh<T>(memory: Map<string, Remembered<T>>, key: string, now: number): T | undefined {
  const found = memory.get(key);
  return found !== undefined && Math.abs(now - found.at) <= 30 ? found.what : undefined;
}

function byState(held: Held | undefined, free: Reason, unused: (reason: Reason) => Outcome): Outcome {
  if (held === undefined) return pass(free);
  if (held.state === 'in use') return forward(held.guest);
  return unused(held.state === 'leased' ? 'not-in-use' : 'quarantined');
}

function pass(reason: Reason): Outcome {
  return { verdict: 'pass', reason, copies: [], rejected: false, proxied: false };
}

function refuse(reason: Reason): Outcome {
  return { verdict: 'discard', reason, copies: [], rejected: false, proxied: false };
}

/** Without a guest: to the NIC. */
function forward(guest?: number): Outcome {
  return { verdict: 'forward', ...(guest === undefined ? {} : { guest }), reason: '', copies: [], rejected: false, proxied: false };
}
