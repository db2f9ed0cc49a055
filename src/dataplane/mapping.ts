/**
 * Mapping: what the engine knows of mapped guests, who have addresses of their own and are reached at outside endpoints.
 *
 *     outside (address, protocol, port) ◀─ configured, or a flow of the guest's own ─▶ inside (address, port)
 *
 * Configured   ranges of outside ports, each to inside ports from `to` on; one inside port has one outside port a protocol, so
 *              that an answer finds its way without a flow too: connections outlive the daemon.
 * Own flows    leave by a port of the guest's block on the first shared address, found from the inside port: the same one for the
 *              same inside port as long as that is free for the remote end (RFC 4787 REQ-1, as far as a block goes). After a restart the
 *              established ones are taken up (own-connections.ts), and the guest's next frame brings back any other.
 * Looking      for a free port costs a look-up a port: after FEW a closed connection's is good enough, and a guest that has had LOOKS of
 *              them in a second has FEW a flow for the rest of it. The engine is everybody's.
 * Gateway      the guest's way out: Berth answers ARP for it with GATEWAY_MAC on that link, and it is the source of what comes in.
 * Station      the guest's own MAC: configured, or the NIC's (links that Berth makes), or unknown; what its frames say comes before all.
 * Unit         addresses as signed numbers (recent.ts says why); ports as numbers.
 */
import { CLOSED, FLOW_ECHO, FlowTable, NO_FLOW } from './flow-table.js';
import { NextHops } from './next-hops.js';
import { type Station, stationOf } from './parse.js';
import { FORGOTTEN, Recent } from './recent.js';
import type { MappedLink, MapRange, Maps } from '../steering/maps.js';

/** 02:62:65:72:74:68, of the range for local use (IEEE 802): bytes 0–3 and 4–5. */
export const GATEWAY_HIGH = 0x02626572;
export const GATEWAY_LOW = 0x7468;

/** Ports that are looked at for a flow in any case. */
const FEW = 32;
/** Ports that are looked at for one guest in a second: some 10 ms. */
const LOOKS = 65_536;

export class MappedGuest {
  readonly inside: number;
  readonly gateway: number;
  /** Bytes 0–3 and 4–5; both 0: not known yet. */
  stationHigh = 0;
  stationLow = 0;
  /** Without ports of its own, `blockSize` is 0. */
  readonly blockFirst: number;
  readonly blockSize: number;
  /** By protocol (FLOW_TCP, FLOW_UDP): three numbers a range. */
  readonly ranges: readonly [Int32Array, Int32Array];
  /** The remote end for which no port was free, and when: not looked for again in the same second. */
  fullRemote = 0;
  fullKey = -1;
  fullSecond = 0;
  /** Ports that were looked at in this second. */
  looks = 0;
  looksSecond = 0;

  /** `nic`: the NIC's MAC. */
  constructor({ inside, gateway, mac, block, tcp, udp }: MappedLink, nic: Station) {
    this.inside = inside | 0;
    this.gateway = gateway | 0;
    if (mac !== null) {
      const { high, low } = mac === 'nic' ? nic : stationOf(mac);
      this.stationHigh = high | 0;
      this.stationLow = low;
    }
    this.blockFirst = block?.first ?? 0;
    this.blockSize = block === null ? 0 : block.last - block.first + 1;
    this.ranges = [flat(tcp), flat(udp)];
  }

  /** The inside port that an outside one is configured for; 0 for none. */
  insidePort(protocol: number, outsidePort: number): number {
    const ranges = this.ranges[protocol];
    for (let at = 0; at < ranges.length; at += 3) {
      if (outsidePort >= ranges[at] && outsidePort <= ranges[at + 1]) return ranges[at + 2] + outsidePort - ranges[at];
    }
    return 0;
  }

  /** The outside port that is configured for an inside one; 0 for none. */
  outsidePort(protocol: number, insidePort: number): number {
    const ranges = this.ranges[protocol];
    for (let at = 0; at < ranges.length; at += 3) {
      const beyond = insidePort - ranges[at + 2];
      if (beyond >= 0 && beyond <= ranges[at + 1] - ranges[at]) return ranges[at] + beyond;
    }
    return 0;
  }
}

export class Mapping {
  readonly flows: FlowTable;
  readonly hops = new NextHops();
  /** Egress: (inside address, destination, protocol and id) of a datagram's first fragment → flow + 1. */
  readonly sentFragments = new Recent(4096);
  /** By link. */
  guests: (MappedGuest | undefined)[] = [];
  /** Source of the guests' own flows. */
  outsideAddress = 0;
  /** Frames have a virtio-net header before them, which says whether their checksum is partial. */
  readonly hasHeaders: boolean;
  private readonly nic: Station;
  /** A link whose guest found no free port since this was last set to -1. */
  exhausted = -1;
  private links: number[] = [];
  private given = new Map<number, string>();
  private expiredAt = 0;

  /** For `links` links at most; `nic`: the NIC's MAC. */
  constructor(links: number, hasHeaders: boolean, nic: Station) {
    this.nic = nic;
    this.flows = new FlowTable(links);
    this.hasHeaders = hasHeaders;
  }

  /** What holds from now on. Flows end of a guest that is another one or has another address or block, of ports that are mapped no more, and all where the addresses change. */
  update({ outside, guests }: Maps): void {
    const given = new Map(guests.map((guest) => [guest.link, JSON.stringify([guest.inside, guest.block, outside])]));
    for (const link of this.links) if (given.get(link) !== this.given.get(link)) this.flows.forgetLink(link);
    this.flows.share(guests.length);
    this.given = given;
    this.links = guests.map(({ link }) => link);
    this.outsideAddress = (outside[0] ?? 0) | 0;
    const before = this.guests;
    this.guests = [];
    for (const guest of guests) {
      const now = (this.guests[guest.link] = new MappedGuest(guest, this.nic));
      const learned = before[guest.link];
      this.flows.removeWhere(guest.link, (slot) => !this.holds(now, slot));
      if (learned === undefined || learned.inside !== now.inside || (learned.stationHigh === 0 && learned.stationLow === 0)) continue;
      now.stationHigh = learned.stationHigh;
      now.stationLow = learned.stationLow;
    }
  }

  /** Nothing that the guest on `link` did before concerns the next one there. */
  forgetLink(link: number): void {
    this.flows.forgetLink(link);
    this.guests[link] = undefined;
    this.given.delete(link);
  }

  /** Whether the flow may go on: by a port of the block, or by one that is configured for its inside port. */
  private holds(guest: MappedGuest, slot: number): boolean {
    const port = this.flows.outsidePort[slot];
    if (port >= guest.blockFirst && port < guest.blockFirst + guest.blockSize) return true;
    return guest.insidePort(this.flows.protocol[slot], port) === this.flows.insidePort[slot];
  }

  /** Ends what has been idle for too long: once a second of the frames' clock, a few steps a guest. */
  expire(now: number): void {
    if (now === this.expiredAt) return;
    this.expiredAt = now;
    for (let n = 0; n < this.links.length; n++) this.flows.expire(this.links[n], now);
  }

  /** The outside port for a new flow of the guest's own: free for this remote end; 0 where the block has none. `echoes`: identifiers in use (memory.ts). */
  takePort(guest: MappedGuest, link: number, protocol: number, insidePort: number, remote: number, remotePort: number, echoes: Recent, now: number): number {
    const { flows, outsideAddress } = this;
    const { blockFirst, blockSize } = guest;
    const key = (remotePort << 2) | protocol;
    if (guest.fullSecond === now && guest.fullRemote === remote && guest.fullKey === key) return 0;
    if (guest.looksSecond !== now) guest.looks = 0;
    guest.looksSecond = now;
    const isThorough = guest.looks < LOOKS || blockSize <= FEW;
    const most = isThorough ? blockSize : FEW;
    let reusable = NO_FLOW;
    for (let n = 0; n < most && (n < FEW || reusable === NO_FLOW); n++) {
      guest.looks++;
      const port = blockFirst + ((insidePort + n) % blockSize);
      const slot = flows.findOutside(outsideAddress, protocol, port, remote, remotePort);
      if (slot === NO_FLOW) {
        if (protocol === FLOW_ECHO && isAnothers(echoes.find(outsideAddress, remote, port, now), link)) continue;
        return port;
      }
      if (reusable === NO_FLOW && flows.class[slot] === CLOSED) reusable = slot;
    }
    if (reusable !== NO_FLOW) {
      const port = flows.outsidePort[reusable];
      flows.remove(reusable);
      return port;
    }
    if (isThorough) {
      guest.fullRemote = remote;
      guest.fullKey = key;
      guest.fullSecond = now;
    }
    this.exhausted = link;
    return 0;
  }
}

/** Whether an echo identifier is in use by another guest than that on `link`; `user` as in memory.ts. */
export function isAnothers(user: number, link: number): boolean {
  return user !== FORGOTTEN && user !== link + 1;
}

function flat(ranges: readonly MapRange[]): Int32Array {
  return Int32Array.from(ranges.flatMap(({ first, last, to }) => [first, last, to]));
}
