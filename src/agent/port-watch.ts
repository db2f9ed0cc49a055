/**
 * Port watch: which local ports the sockets of this guest have, within milliseconds of a change.
 *
 *     destroy events ──┐
 *     timer (20 ms) ───┴─▶ look: dump ─▶ compare ─▶ { use, endUse }
 *
 * In use       while any socket has the port (D8): listening, bound, connected, accepted, or closed with data still to send. The
 *              dump is the count: a group of SO_REUSEPORT sockets is one use, and the last to go ends it. A connection in TIME_WAIT
 *              has no socket. Sockets that cannot serve IPv4 from outside (loopback, V6ONLY) do not count.
 * Cost         listeners and UDP sockets 0.05 ms a look, connections 0.4 ms (the kernel's whole hash table is walked, here 262,144
 *              buckets), so those are looked at every fullEveryMs, when a socket has gone, and before a port is given up.
 * Certain      a dump is not atomic: a socket that moves may be missed. A port ends when two dumps in a row have not got it.
 * Short lives  a socket that came and went between two looks is known by its end: its port is in endUse without a use.
 * Overflow     of events (ENOBUFS): look at everything. Under a storm of events looks take at most a fifth of the time; on a machine
 *              with so many connections (14,000: 5 ms a dump) that this would cost an end more than LONGEST_REST_MS, more.
 */
import type { Ports } from '../protocol/messages.js';
import { addon, BOUND, check, CONNECTED, errnoName, LISTENING, type NativePoll, type NativeSockDiag, READABLE } from '../native/binding.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.js';
import { PortSet } from '../wire/port-set.js';

const EVERYTHING = LISTENING | BOUND | CONNECTED;
/** A look after an event waits until this many times the last look's duration have passed. */
const REST = 4;
const LONGEST_REST_MS = 10;
const EVENT_BATCH = 4096;

export interface PortChange {
  readonly use: Ports;
  /** Ports without a socket now: of those in use before, and of sockets that were too short-lived to be seen. */
  readonly endUse: Ports;
}

export interface PortWatchOptions {
  /** Between two looks; default 20 ms. */
  readonly intervalMs?: number;
  /** The same when nothing has changed for idleAfterMs; default 40 ms. */
  readonly idleIntervalMs?: number;
  readonly idleAfterMs?: number;
  /** Between two looks at connections; default 100 ms. */
  readonly fullEveryMs?: number;
  /** Listen to destroy events; default true. Without them an end is found by the timer alone. */
  readonly events?: boolean;
  readonly onChange: (change: PortChange) => void;
  /** A look failed; the last state stands, and the next look comes. */
  readonly onError?: (message: string) => void;
}

export class PortWatch {
  private readonly diag: NativeSockDiag;
  private readonly options: Required<PortWatchOptions>;
  private readonly tcp = new PortTable();
  private readonly udp = new PortTable();
  private readonly ports = new Uint16Array(65536);
  private readonly kinds = new Uint8Array(65536);
  private readonly gone = new Uint32Array(EVENT_BATCH);
  private poll: NativePoll | null = null;
  private timer: NodeJS.Timeout | null = null;
  private eventTimer: NodeJS.Timeout | null = null;
  private lastChange = 0;
  private lastFull = 0;
  private lastLook = 0;
  private lookMs = 0;
  /** Looks so far, and events lost, for tests and the log. */
  readonly counters = { looks: 0, fullLooks: 0, events: 0, overflows: 0 };

  /** ERR_NO_ADDON where it has not been built. */
  constructor(options: PortWatchOptions) {
    this.options = { intervalMs: 20, idleIntervalMs: 40, idleAfterMs: 10_000, fullEveryMs: 100, events: true, onError: () => undefined, ...options };
    this.diag = new (addon().SockDiag)();
  }

  /** Looks for the first time, so that `used` is right when it returns, and from then on by itself. ERR_NATIVE without sock_diag. */
  start(): void {
    if (this.options.events) {
      const fd = check(this.diag.subscribe(), 'destroy events of sock_diag');
      this.poll = new (addon().Poll)(fd, () => this.takeEvents());
      this.poll.watch(READABLE);
    }
    this.look(true);
    this.arm();
  }

  stop(): void {
    for (const timer of [this.timer, this.eventTimer]) if (timer !== null) clearTimeout(timer);
    this.timer = this.eventTimer = null;
    this.poll?.close();
    this.poll = null;
    this.diag.close();
  }

  /** Ports with any socket. */
  get used(): Ports {
    return { tcp: this.tcp.used, udp: this.udp.used };
  }

  /** Ports at which something waits for others: listening TCP, unconnected UDP. */
  get serving(): Ports {
    return { tcp: this.tcp.portsOf(LISTENING), udp: this.udp.portsOf(BOUND) };
  }

  /** Looks now; `full`: at connections too. */
  look(full: boolean): void {
    const start = performance.now();
    this.counters.looks++;
    if (full) this.counters.fullLooks++;
    const tcp = this.update(this.tcp, PROTOCOL_TCP, full ? EVERYTHING : LISTENING);
    const udp = this.update(this.udp, PROTOCOL_UDP, EVERYTHING);
    const end = performance.now();
    this.lastLook = end;
    this.lookMs = end - start;
    if (full) this.lastFull = end;
    if (tcp === null && udp === null) return;
    this.lastChange = end;
    const [{ use: tcpUse, endUse: tcpEnd }, { use: udpUse, endUse: udpEnd }] = [tcp ?? NO_CHANGE, udp ?? NO_CHANGE];
    this.options.onChange({ use: { tcp: tcpUse, udp: udpUse }, endUse: { tcp: tcpEnd, udp: udpEnd } });
  }

  private update(table: PortTable, protocol: number, which: number): { use: PortSet; endUse: PortSet } | null {
    table.begin();
    table.note(this.ports, this.kinds, this.dump(protocol, which), which);
    if (!table.loses(which)) return table.end(which);
    table.note(this.ports, this.kinds, this.dump(protocol, EVERYTHING), EVERYTHING);
    return table.end(EVERYTHING);
  }

  private dump(protocol: number, which: number): number {
    return check(this.diag.dump(protocol, which, this.ports, this.kinds), 'sock_diag');
  }

  private arm(): void {
    const { intervalMs, idleIntervalMs, idleAfterMs } = this.options;
    const idle = performance.now() - this.lastChange > idleAfterMs;
    this.timer = setTimeout(() => {
      this.tryLook(performance.now() - this.lastFull >= this.options.fullEveryMs);
      this.arm();
    }, idle ? idleIntervalMs : intervalMs);
  }

  private tryLook(full: boolean): void {
    try {
      this.look(full);
    } catch (error) {
      this.options.onError(error instanceof Error ? error.message : String(error));
    }
  }

  private takeEvents(): void {
    for (;;) {
      const count = this.diag.readDestroyed(this.gone);
      if (count < 0) {
        this.counters.overflows++;
        this.options.onError(`events of closed sockets were lost (${errnoName(count)}); looking at all`);
        break;
      }
      this.counters.events += count;
      for (let i = 0; i < count; i++) (this.gone[i] >>> 16 === PROTOCOL_TCP ? this.tcp : this.udp).ended.add(this.gone[i] & 0xffff);
      if (count < EVENT_BATCH) break;
    }
    if (this.eventTimer !== null) return;
    const wait = this.lastLook + Math.min(REST * this.lookMs, LONGEST_REST_MS) - performance.now();
    if (wait <= 0) {
      this.tryLook(true);
      return;
    }
    this.eventTimer = setTimeout(() => {
      this.eventTimer = null;
      this.tryLook(true);
    }, Math.ceil(wait));
  }
}

const NO_CHANGE = { use: PortSet.EMPTY, endUse: PortSet.EMPTY };

/** The ports of one protocol: kinds of sockets by port, brought up to date by begin, note (once or more), end. */
class PortTable {
  /** Ports of sockets that have gone since the last end(). */
  readonly ended = new Set<number>();
  used = PortSet.EMPTY;
  private readonly kinds = new Uint8Array(65536);
  /** By port: the number of the last update that noted it. */
  private readonly seen = new Uint32Array(65536);
  /** Ports with kinds, in no order. */
  private list: number[] = [];
  private number = 0;
  private changed = false;

  begin(): void {
    this.number++;
    this.changed = false;
  }

  /** Takes a dump of the kinds `which`: of those, each port has what the dump says. */
  note(ports: Uint16Array, kinds: Uint8Array, count: number, which: number): void {
    for (let i = 0; i < count; i++) {
      const port = ports[i];
      const before = this.kinds[port];
      const now = (this.seen[port] === this.number ? before : before & ~which) | kinds[i];
      this.seen[port] = this.number;
      if (now === before) continue;
      if (before === 0) this.list.push(port);
      this.kinds[port] = now;
      this.changed = true;
    }
  }

  /** Whether a port would go if `which` were all that was asked for. */
  loses(which: number): boolean {
    return this.list.some((port) => this.seen[port] !== this.number && (this.kinds[port] & which) !== 0 && (this.kinds[port] & ~which) === 0);
  }

  /** Takes out what was not noted; null when nothing is different. */
  end(which: number): { use: PortSet; endUse: PortSet } | null {
    let left = false;
    for (const port of this.list) {
      const now = this.seen[port] === this.number ? this.kinds[port] : this.kinds[port] & ~which;
      if (now !== this.kinds[port]) this.changed = true;
      this.kinds[port] = now;
      left ||= now === 0;
    }
    if (left) this.list = this.list.filter((port) => this.kinds[port] !== 0);
    if (!this.changed && this.ended.size === 0) return null;
    const before = this.used;
    if (this.changed) this.used = setOf(this.list);
    const shortLived = setOf([...this.ended].filter((port) => this.kinds[port] === 0));
    this.ended.clear();
    const endUse = before.subtract(this.used).union(shortLived);
    const use = this.used.subtract(before);
    return this.changed || !endUse.isEmpty ? { use, endUse } : null;
  }

  portsOf(kinds: number): PortSet {
    return setOf(this.list.filter((port) => (this.kinds[port] & kinds) !== 0));
  }
}

function setOf(ports: readonly number[]): PortSet {
  return PortSet.fromRanges(ports.map((port) => ({ first: port, last: port })));
}
