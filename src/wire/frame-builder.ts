/**
 * Frames by hand, for tests, benches, the demo and what the control plane sends itself; never in the data path.
 *
 *     eth().vlan(5).ipv4({ ttl: 3 }).tcp(40000, 8080, { flags: TCP_SYN }).build()    a frame
 *     ipv4({ src: '192.0.2.10' }).udp(53, 40000).packet()                           an IPv4 packet
 *
 * Values       each call returns a new builder; a prefix can be kept and used again.
 * Defaults     legal everywhere: lengths and checksums are worked out, `eth().ipv4().tcp(40000, 8080)` is a good SYN.
 * Wrong        on request only: version, ihl, totalLength, checksum, a transport header behind a fragment offset.
 * Errors       ERR_FRAME_BUILDER for values that do not fit their field and for calls out of order.
 */
import { ETHERNET_HEADER_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_VLAN, VLAN_TAG_BYTES } from './ethernet.js';
import {
  type ArpOptions,
  type Bytes,
  DEFAULT_DESTINATION_MAC,
  DEFAULT_SOURCE_MAC,
  type Ipv4Options,
  type TcpOptions,
  type UdpOptions,
  type Upper,
  encodeArp,
  encodeIcmp,
  encodeIpv4,
  encodeTcp,
  encodeUdp,
  fail,
  field,
  mac,
  toBytes,
} from './frame-layers.js';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST } from './icmp.js';
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from './ipv4.js';

export { fragment } from './frame-fragment.js';
export {
  DEFAULT_DESTINATION_IP,
  DEFAULT_DESTINATION_MAC,
  DEFAULT_SOURCE_IP,
  DEFAULT_SOURCE_MAC,
} from './frame-layers.js';
export type { ArpOptions, Bytes, Ipv4Options, TcpOptions, UdpOptions } from './frame-layers.js';

const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

export interface EthernetOptions {
  readonly src?: string;
  /** Default: broadcast for an ARP request, DEFAULT_DESTINATION_MAC otherwise. */
  readonly dst?: string;
}

/** What stands behind the Ethernet header when it is not IPv4. */
interface Other {
  readonly etherType: number;
  readonly broadcast: boolean;
  readonly encode: (source: Uint8Array, destination: Uint8Array) => Uint8Array;
}

interface Layers {
  readonly ethernet?: EthernetOptions;
  readonly tags: readonly { readonly type: number; readonly control: number }[];
  readonly ip?: Ipv4Options;
  readonly upper?: Upper;
  readonly other?: Other;
  readonly minimumBytes: number;
}

/** Starts a frame. */
export function eth(options: EthernetOptions = {}): FrameBuilder {
  return new FrameBuilder({ ethernet: options, tags: [], minimumBytes: 0 });
}

/** Starts a packet without Ethernet header: for `packet()` only. */
export function ipv4(options: Ipv4Options = {}): FrameBuilder {
  return new FrameBuilder({ ip: options, tags: [], minimumBytes: 0 });
}

export class FrameBuilder {
  private readonly layers: Layers;

  constructor(layers: Layers) {
    this.layers = layers;
  }

  /** Adds a tag inside those already there (IEEE 802.1Q): `id` 0 … 4095, `type` the tag's own EtherType. */
  vlan(id: number, type = ETHERTYPE_VLAN, priority = 0): FrameBuilder {
    const control = (field('priority', priority, 7) << 13) | field('VLAN id', id, 4095);
    return this.with({ tags: [...this.layers.tags, { type: field('tag type', type, 0xffff), control }] });
  }

  ipv4(options: Ipv4Options = {}): FrameBuilder {
    if (this.layers.other !== undefined) return fail('the frame already has a body that is not IPv4');
    return this.with({ ip: options });
  }

  tcp(sourcePort: number, destinationPort: number, options: TcpOptions = {}): FrameBuilder {
    return this.upper(PROTOCOL_TCP, options.payload, encodeTcp(sourcePort, destinationPort, options));
  }

  udp(sourcePort: number, destinationPort: number, options: UdpOptions = {}): FrameBuilder {
    return this.upper(PROTOCOL_UDP, options.payload, encodeUdp(sourcePort, destinationPort, options));
  }

  /** ICMP echo (RFC 792). */
  icmpEcho(kind: 'request' | 'reply', identifier: number, sequence = 1, payload: Bytes = []): FrameBuilder {
    const type = kind === 'request' ? ICMP_ECHO_REQUEST : ICMP_ECHO_REPLY;
    const rest = field('identifier', identifier, 0xffff) * 0x10000 + field('sequence', sequence, 0xffff);
    return this.icmp(type, 0, rest, payload);
  }

  /**
   * An ICMP error (RFC 792) about `inner`, the IPv4 packet it quotes.
   * @param rest bytes 4 … 7: the gateway of a redirect, the next-hop MTU of 3/4 (RFC 1191), a parameter pointer << 24.
   */
  icmpError(type: number, code: number, inner: Uint8Array, rest = 0): FrameBuilder {
    return this.icmp(type, code, rest, inner);
  }

  /** Any protocol number, `bytes` straight after the IPv4 header: also the body of a later fragment. */
  proto(protocol: number, bytes: Bytes): FrameBuilder {
    return this.upper(field('protocol', protocol, 255), bytes, (payload) => payload);
  }

  /** Replaces the data of the transport layer just added. */
  payload(bytes: Bytes): FrameBuilder {
    const upper = this.layers.upper ?? fail('payload() needs a transport layer before it');
    return this.with({ upper: { ...upper, payload: toBytes(bytes) } });
  }

  arp(operation: 'request' | 'reply', options: ArpOptions = {}): FrameBuilder {
    const request = operation === 'request';
    return this.instead(ETHERTYPE_ARP, request, (source, destination) =>
      encodeArp(request, options, source, destination),
    );
  }

  /** Any EtherType, `bytes` straight after it. */
  raw(etherType: number, bytes: Bytes): FrameBuilder {
    const body = toBytes(bytes);
    return this.instead(field('EtherType', etherType, 0xffff), false, () => body);
  }

  /** Ethernet padding: zeros behind the packet until the frame has `bytes` bytes. */
  padTo(bytes: number): FrameBuilder {
    return this.with({ minimumBytes: bytes });
  }

  /** The frame, destination MAC to payload, in memory of its own. */
  build(): Uint8Array {
    const { ethernet, tags, other, minimumBytes } = this.layers;
    if (ethernet === undefined) return fail('build() needs eth() first; packet() gives the IPv4 packet');
    const source = mac(ethernet.src ?? DEFAULT_SOURCE_MAC);
    const destination = mac(ethernet.dst ?? (other?.broadcast ? BROADCAST_MAC : DEFAULT_DESTINATION_MAC));
    const body = other === undefined ? this.packet() : other.encode(source, destination);
    const header = ETHERNET_HEADER_BYTES + tags.length * VLAN_TAG_BYTES;
    const frame = new Uint8Array(Math.max(header + body.length, minimumBytes));
    const view = new DataView(frame.buffer);
    frame.set(destination, 0);
    frame.set(source, 6);
    let at = 12;
    for (const tag of tags) {
      view.setUint16(at, tag.type);
      view.setUint16(at + 2, tag.control);
      at += VLAN_TAG_BYTES;
    }
    view.setUint16(at, other?.etherType ?? ETHERTYPE_IPV4);
    frame.set(body, header);
    return frame;
  }

  /** The IPv4 packet alone, in memory of its own. */
  packet(): Uint8Array {
    const { ip, upper } = this.layers;
    if (ip === undefined || upper === undefined) return fail('an IPv4 packet needs ipv4() and a layer on it, as .tcp()');
    return encodeIpv4(ip, upper);
  }

  private icmp(type: number, code: number, rest: number, payload: Bytes): FrameBuilder {
    return this.upper(PROTOCOL_ICMP, payload, encodeIcmp(type, code, rest));
  }

  private upper(protocol: number, payload: Bytes | undefined, encode: Upper['encode']): FrameBuilder {
    if (this.layers.ip === undefined) return fail('a transport layer needs ipv4() before it');
    return this.with({ upper: { protocol, payload: toBytes(payload ?? []), encode } });
  }

  private instead(etherType: number, broadcast: boolean, encode: Other['encode']): FrameBuilder {
    if (this.layers.ip !== undefined) return fail('the frame already has ipv4()');
    return this.with({ other: { etherType, broadcast, encode } });
  }

  private with(changes: Partial<Layers>): FrameBuilder {
    return new FrameBuilder({ ...this.layers, ...changes });
  }
}
