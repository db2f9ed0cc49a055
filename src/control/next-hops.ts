/**
 * Next hops: for the engine, which has no routes of its own, where frames of mapped guests go that nobody has answered yet.
 *
 *     packet ─▶ the host's own stack sends it ─▶ its route and its neighbour are asked ─▶ engine: MAC for that address
 *
 * Why so       the kernel has routes, rules and neighbours, resolves them, and keeps what it sends until they are; nothing here has to be
 *              kept in step with it. The engine forgets an answer after 30 s and asks again by its next frame (dataplane/next-hops.ts).
 * NIC          what a guest sends leaves by the NIC or not at all: `send` knows no other interface, and routes are asked for as if there were none.
 * Host's own   addresses, of whatever interface, are not sent to: the kernel would take the packet for its own sockets.
 */
import { execFile } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatIpv4, parseMac } from '../wire/address.js';

/** A neighbour is resolved at once, or after a retry or two of the kernel's, a second apart. */
const LOOKS_MS = [0, 5, 20, 100, 500, 1500];
const TIMEOUT_MS = 2000;
/** Addresses that are looked up at one time for one guest: each is some processes, and takes two seconds where nobody has it. */
const MOST = 8;
/** How old what is known of the host's own addresses may be. */
const OWN_MS = 1000;
/** linux/neighbour.h: an address is known, as `ip neighbour` says it. */
const USABLE = new Set(['REACHABLE', 'STALE', 'DELAY', 'PROBE', 'PERMANENT', 'NOARP']);

interface RouteJson {
  gateway?: string;
  dev?: string;
}

interface NeighbourJson {
  lladdr?: string;
  state?: string[];
}

export class NextHops {
  private readonly nic: string;
  private readonly send: (link: number, packet: Uint8Array) => void;
  private readonly tell: (address: number, mac: Uint8Array) => void;
  /** Addresses that are looked up, and the link of the guest that each is for. */
  private readonly asked = new Map<number, number>();
  /** The host's own addresses, and when they were read. */
  private own = new Set<string>();
  private ownRead = -OWN_MS;
  private closed = false;

  /** `send`: by the host's own stack, for the guest on the link; `tell`: the engine. */
  constructor(nic: string, send: (link: number, packet: Uint8Array) => void, tell: (address: number, mac: Uint8Array) => void) {
    this.nic = nic;
    this.send = send;
    this.tell = tell;
  }

  /** Sends the packet of the guest on `link` (null: it cannot be sent as it is) and has the engine told where the next ones for the address go. */
  handle(link: number, address: number, packet: Uint8Array | null): void {
    if (this.isOwn(formatIpv4(address))) return;
    if (packet !== null) this.send(link, packet);
    if (this.asked.has(address) || [...this.asked.values()].filter((other) => other === link).length >= MOST) return;
    this.asked.set(address, link);
    void this.find(address).finally(() => this.asked.delete(address));
  }

  close(): void {
    this.closed = true;
  }

  private isOwn(address: string): boolean {
    const now = performance.now();
    if (now - this.ownRead >= OWN_MS) {
      this.ownRead = now;
      this.own = new Set(Object.values(networkInterfaces()).flatMap((entries = []) => entries.map((entry) => entry.address)));
    }
    return this.own.has(address);
  }

  private async find(address: number): Promise<void> {
    const route = (await this.ip<RouteJson>('route', 'get', formatIpv4(address), 'oif', this.nic)).at(0);
    if (route?.dev !== this.nic) return;
    for (const wait of LOOKS_MS) {
      await sleep(wait, undefined, { ref: false });
      if (this.closed) return;
      const neighbour = (await this.ip<NeighbourJson>('neighbour', 'show', 'to', route.gateway ?? formatIpv4(address), 'dev', this.nic)).at(0);
      const mac = neighbour?.state?.some((state) => USABLE.has(state)) === true ? parseMac(neighbour.lladdr ?? '') : null;
      if (mac === null || this.closed) continue;
      this.tell(address, mac);
      return;
    }
  }

  /** What `ip -json` says; nothing where it fails. */
  private ip<T>(...args: string[]): Promise<T[]> {
    return new Promise((resolve) => {
      execFile('ip', ['-json', ...args], { timeout: TIMEOUT_MS, encoding: 'utf8' }, (error, output) => {
        resolve(error === null && output.trim() !== '' ? (JSON.parse(output) as T[]) : []);
      });
    });
  }
}
