/**
 * Flow table: the flows of mapped guests, found from either side; a fixed number of them, in typed arrays.
 *
 *     inside    (link, protocol, inside port, remote address, remote port)     ─┐
 *                                                                               ├─▶ slot ─▶ the other side's endpoint, next hop, age
 *     outside   (outside address, protocol, outside port, remote …)            ─┘
 *
 * Remote       is part of both keys (address- and port-dependent mapping, RFC 4787 §4.1): many flows share an outside port,
 *              and nobody answers in a flow but the one whom the guest spoke to, or who spoke to it.
 * Ages         one list a guest and class, oldest first; all of a class live equally long, so expiry looks at the oldest only.
 *
 *                  opening 4 min ─▶ established 2 h 4 min ─▶ closed 4 min     RFC 5382 REQ-5: both ends have sent FIN, or one RST
 *                  udp 5 min                                                  RFC 4787 REQ-5
 *                  echo 60 s                                                  RFC 5508 REQ-1
 *
 * Full         a guest has at most a quarter of the slots, or its share where there are more than four guests. One that needs more loses its own
 *              oldest flow: closed, then opening, echo, udp;
 *              never an established connection, and never another guest's.
 * Chains       two hash chains through `nextInside`, `nextOutside`. -1 is none everywhere. The hashes are seeded: a guest chooses most of a key,
 *              and is not to choose one chain for all of its flows.
 * Clock        whole seconds modulo 2^32, from the frames.
 */
import { HASH_MULTIPLIER } from '../steering/table-layout.js';

export const FLOW_TCP = 0;
export const FLOW_UDP = 1;
/** ICMP echo: identifiers instead of ports, remote port 0. */
export const FLOW_ECHO = 2;

export const OPENING = 0;
export const ESTABLISHED = 1;
export const CLOSED = 2;
export const UDP = 3;
export const ECHO = 4;
const CLASSES = 5;
/** Seconds, by class. */
const LIFETIMES = [240, 7440, 240, 300, 60];
/** Whose oldest flow makes room for a new one, in this order. */
const EXPENDABLE = [CLOSED, OPENING, ECHO, UDP];

export const NO_FLOW = -1;

const LEAST_SHARES = 4;

export class FlowTable {
  readonly capacity: number;
  /** Flows that there are. */
  count = 0;
  /** An established connection has begun or ended since this was last set to false. */
  changed = false;
  readonly link: Int32Array;
  readonly protocol: Uint8Array;
  readonly insidePort: Uint16Array;
  readonly outsidePort: Uint16Array;
  readonly outsideAddress: Int32Array;
  readonly remote: Int32Array;
  readonly remotePort: Uint16Array;
  readonly class: Uint8Array;
  /** What has been seen of a connection; tcp-state.ts. */
  readonly seenFlags: Uint8Array;
  /** The station that the last frame from outside came from: bytes 0–3 and 4–5 of its MAC, and when. */
  readonly hopHigh: Int32Array;
  readonly hopLow: Uint16Array;
  readonly hopSeen: Int32Array;
  private readonly seen: Int32Array;
  private readonly nextInside: Int32Array;
  private readonly nextOutside: Int32Array;
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private readonly insideHeads: Int32Array;
  private readonly outsideHeads: Int32Array;
  private readonly oldest: Int32Array;
  private readonly newest: Int32Array;
  private readonly perLink: Int32Array;
  /** Flows that a guest may have. */
  private quota: number;
  private readonly mask: number;
  /** Small enough to be no object. */
  private readonly seed = Math.floor(Math.random() * 2 ** 30);
  /** Free slots, chained through `nextInside`. */
  private free = 0;

  /** `capacity`: a power of two; `links`: how many there may be. */
  constructor(links: number, capacity = 65_536) {
    this.capacity = capacity;
    this.mask = capacity - 1;
    this.quota = capacity / LEAST_SHARES;
    this.link = new Int32Array(capacity).fill(-1);
    this.protocol = new Uint8Array(capacity);
    this.insidePort = new Uint16Array(capacity);
    this.outsidePort = new Uint16Array(capacity);
    this.outsideAddress = new Int32Array(capacity);
    this.remote = new Int32Array(capacity);
    this.remotePort = new Uint16Array(capacity);
    this.class = new Uint8Array(capacity);
    this.seenFlags = new Uint8Array(capacity);
    this.hopHigh = new Int32Array(capacity);
    this.hopLow = new Uint16Array(capacity);
    this.hopSeen = new Int32Array(capacity);
    this.seen = new Int32Array(capacity);
    this.nextInside = new Int32Array(capacity);
    this.nextOutside = new Int32Array(capacity);
    this.older = new Int32Array(capacity);
    this.newer = new Int32Array(capacity);
    this.insideHeads = new Int32Array(capacity).fill(-1);
    this.outsideHeads = new Int32Array(capacity).fill(-1);
    this.oldest = new Int32Array(links * CLASSES).fill(-1);
    this.newest = new Int32Array(links * CLASSES).fill(-1);
    this.perLink = new Int32Array(links);
    for (let slot = 0; slot < capacity; slot++) this.nextInside[slot] = slot + 1 === capacity ? -1 : slot + 1;
  }

  /** Flows of the guest on `link`. */
  countOf(link: number): number {
    return this.perLink[link];
  }

  /** So many guests divide the table from now on; those that have more flows than that lose expendable ones. */
  share(guests: number): void {
    this.quota = Math.max(1, Math.floor(this.capacity / Math.max(LEAST_SHARES, guests)));
    for (let link = 0; link < this.perLink.length; link++) while (this.perLink[link] > this.quota && this.makeRoom(link));
  }

  /** Slot of the flow from the guest's own endpoint to the remote one; NO_FLOW for none. */
  findInside(link: number, protocol: number, insidePort: number, remote: number, remotePort: number): number {
    let slot = this.insideHeads[this.insideHash(link, protocol, insidePort, remote, remotePort)];
    while (slot !== NO_FLOW) {
      if (this.insidePort[slot] === insidePort && this.remote[slot] === remote && this.remotePort[slot] === remotePort && this.link[slot] === link && this.protocol[slot] === protocol) break;
      slot = this.nextInside[slot];
    }
    return slot;
  }

  /** Slot of the flow between the outside endpoint and the remote one; NO_FLOW for none. */
  findOutside(outsideAddress: number, protocol: number, outsidePort: number, remote: number, remotePort: number): number {
    let slot = this.outsideHeads[this.outsideHash(outsideAddress, protocol, outsidePort, remote, remotePort)];
    while (slot !== NO_FLOW) {
      const isIt = this.outsidePort[slot] === outsidePort && this.remote[slot] === remote && this.remotePort[slot] === remotePort;
      if (isIt && this.outsideAddress[slot] === outsideAddress && this.protocol[slot] === protocol) break;
      slot = this.nextOutside[slot];
    }
    return slot;
  }

  /** A new flow of the class; NO_FLOW where there is no room. Neither of its keys may be there yet. */
  add(link: number, protocol: number, insidePort: number, outsideAddress: number, outsidePort: number, remote: number, remotePort: number, flowClass: number, now: number): number {
    if ((this.free === NO_FLOW || this.perLink[link] >= this.quota) && !this.makeRoom(link)) return NO_FLOW;
    const slot = this.free;
    this.free = this.nextInside[slot];
    this.link[slot] = link;
    this.protocol[slot] = protocol;
    this.insidePort[slot] = insidePort;
    this.outsidePort[slot] = outsidePort;
    this.outsideAddress[slot] = outsideAddress;
    this.remote[slot] = remote;
    this.remotePort[slot] = remotePort;
    this.seenFlags[slot] = 0;
    this.hopHigh[slot] = 0;
    this.hopLow[slot] = 0;
    this.hopSeen[slot] = 0;
    const inside = this.insideHash(link, protocol, insidePort, remote, remotePort);
    this.nextInside[slot] = this.insideHeads[inside];
    this.insideHeads[inside] = slot;
    const outside = this.outsideHash(outsideAddress, protocol, outsidePort, remote, remotePort);
    this.nextOutside[slot] = this.outsideHeads[outside];
    this.outsideHeads[outside] = slot;
    this.perLink[link]++;
    this.count++;
    this.seen[slot] = now;
    this.enlist(slot, flowClass);
    return slot;
  }

  /** A frame of the flow was seen. At most one change of the lists a second. */
  touch(slot: number, now: number): void {
    if (this.seen[slot] === (now | 0)) return;
    this.seen[slot] = now;
    this.delist(slot);
    this.enlist(slot, this.class[slot]);
  }

  /** The flow is of this class from now on. */
  move(slot: number, flowClass: number): void {
    if (this.class[slot] === flowClass) return;
    if (flowClass === ESTABLISHED || this.class[slot] === ESTABLISHED) this.changed = true;
    this.delist(slot);
    this.enlist(slot, flowClass);
  }

  remove(slot: number): void {
    if (this.class[slot] === ESTABLISHED) this.changed = true;
    this.delist(slot);
    const link = this.link[slot];
    const inside = this.insideHash(link, this.protocol[slot], this.insidePort[slot], this.remote[slot], this.remotePort[slot]);
    unchain(this.insideHeads, this.nextInside, inside, slot);
    const outside = this.outsideHash(this.outsideAddress[slot], this.protocol[slot], this.outsidePort[slot], this.remote[slot], this.remotePort[slot]);
    unchain(this.outsideHeads, this.nextOutside, outside, slot);
    this.link[slot] = -1;
    this.nextInside[slot] = this.free;
    this.free = slot;
    this.perLink[link]--;
    this.count--;
  }

  /** Removes what has been idle for too long; a step a class where nothing has. */
  expire(link: number, now: number): void {
    for (let flowClass = 0; flowClass < CLASSES; flowClass++) {
      const lifetime = LIFETIMES[flowClass];
      for (;;) {
        const slot = this.oldest[link * CLASSES + flowClass];
        if (slot === NO_FLOW || ((now - this.seen[slot]) | 0) <= lifetime) break;
        this.remove(slot);
      }
    }
  }

  /** Removes all flows of the guest. */
  forgetLink(link: number): void {
    for (let flowClass = 0; flowClass < CLASSES; flowClass++) {
      for (let slot = this.oldest[link * CLASSES + flowClass]; slot !== NO_FLOW; slot = this.oldest[link * CLASSES + flowClass]) this.remove(slot);
    }
  }

  /** Removes the guest's flows for which this holds: when its maps change. */
  removeWhere(link: number, isGone: (slot: number) => boolean): void {
    for (let flowClass = 0; flowClass < CLASSES; flowClass++) {
      for (let slot = this.oldest[link * CLASSES + flowClass]; slot !== NO_FLOW; ) {
        const after = this.newer[slot];
        if (isGone(slot)) this.remove(slot);
        slot = after;
      }
    }
  }

  /** Removes one expendable flow of the guest; false where it has none. */
  private makeRoom(link: number): boolean {
    for (let n = 0; n < EXPENDABLE.length; n++) {
      const slot = this.oldest[link * CLASSES + EXPENDABLE[n]];
      if (slot === NO_FLOW) continue;
      this.remove(slot);
      return true;
    }
    return false;
  }

  /** Puts the flow at the new end of its class's list. */
  private enlist(slot: number, flowClass: number): void {
    const list = this.link[slot] * CLASSES + flowClass;
    const last = this.newest[list];
    this.class[slot] = flowClass;
    this.older[slot] = last;
    this.newer[slot] = NO_FLOW;
    if (last === NO_FLOW) this.oldest[list] = slot;
    else this.newer[last] = slot;
    this.newest[list] = slot;
  }

  private delist(slot: number): void {
    const list = this.link[slot] * CLASSES + this.class[slot];
    const before = this.older[slot];
    const after = this.newer[slot];
    if (before === NO_FLOW) this.oldest[list] = after;
    else this.newer[before] = after;
    if (after === NO_FLOW) this.newest[list] = before;
    else this.older[after] = before;
  }

  private insideHash(link: number, protocol: number, insidePort: number, remote: number, remotePort: number): number {
    return mix(((insidePort << 16) | remotePort) ^ this.seed, remote, (link << 2) | protocol) & this.mask;
  }

  private outsideHash(outsideAddress: number, protocol: number, outsidePort: number, remote: number, remotePort: number): number {
    return mix(((outsidePort << 16) | remotePort) ^ this.seed, remote, outsideAddress ^ protocol) & this.mask;
  }
}

function mix(a: number, b: number, c: number): number {
  let hash = Math.imul(a, HASH_MULTIPLIER) ^ b;
  hash = Math.imul(hash ^ (hash >>> 15), HASH_MULTIPLIER) ^ c;
  hash = Math.imul(hash ^ (hash >>> 15), HASH_MULTIPLIER);
  return hash >>> 8;
}

/** Takes the slot out of its chain, which it is in. */
function unchain(heads: Int32Array, next: Int32Array, head: number, slot: number): void {
  if (heads[head] === slot) {
    heads[head] = next[slot];
    return;
  }
  let before = heads[head];
  while (next[before] !== slot) before = next[before];
  next[before] = next[slot];
}
