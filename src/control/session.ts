/**
 * Session: one connection of one guest's agent. The channel is the identity: what comes in here is this guest's word.
 *
 *     lines ─▶ messages ─▶ control plane ─▶ answers, in the order of the requests
 *
 * VMM          a channel that a VMM carries into the guest knows no connections: neither the agent's coming nor its going is seen. The
 *              host says that it waits for hello; an agent that says nothing any more is gone (D4).
 * Hostile      until checked. A line that is no message gets an error and the session goes on; an over-long line, a refused
 *              hello, silence before hello, or more than a fair number of messages a second end the session. Nothing that a
 *              guest sends is kept beyond one line and the requests that wait, and those are bounded by not reading on.
 * Protocol     src/protocol/README.md.
 */
import type { Socket } from 'node:net';
import type { ControlPlane } from './plane.js';
import type { Ports } from './lease-state.js';
import { NEVER } from './lease-state.js';
import type { Refusal } from './lease-policy.js';
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { TokenBucket } from '../base/rate-limit.js';
import { encodeAnswer, encodeNotification, encodeRefusal, INTERNAL_ERROR, INVALID_PARAMS, LineDecoder, METHOD_NOT_FOUND, type Id, type Message, parseMessage, REFUSED } from '../protocol/codec.js';
import { checkParams, isMethod, type Method, type NoticeToSend, type Notification, type Params, PROTOCOL_VERSION, type ResultToSend } from '../protocol/messages.js';

/** What the host's network looks like to a guest that shares it. */
export interface NetworkFacts {
  addresses: { address: string; prefix: number }[];
  gateway: string | null;
  mtu: number;
  mac: string;
  dns: string[];
}

export interface SessionCounters {
  /** Messages that were not understood or not allowed. */
  bad: number;
  /** Sessions ended for what the guest did. */
  closed: number;
}

/** How long a connection of the agent's own may be without hello. */
const HELLO_MS = 10_000;
/** How long an agent behind a VMM may say nothing: it states what is in use every 30 s. */
const SILENT_MS = 90_000;
/** Messages a second in the long run, and at once. An agent needs a few dozen. */
const RATE = 500;
const BURST = 2000;
/** Requests that may wait for their turn before reading stops. */
const MAX_WAITING = 64;
/** Bytes of answers that the guest has not taken: past the first number nothing more is read, past the second the session ends. */
const MAX_UNREAD = 256 * 1024;
const MOST_UNREAD = 1024 * 1024;
/** After its end a session may send what was answered this long, and no longer. */
const LINGER_MS = 1000;
/** Ports listed a protocol, unless fewer are asked for. */
const LIST_LIMIT = 1024;

export class Session {
  private readonly socket: Socket;
  private readonly guest: string;
  private readonly plane: ControlPlane;
  private readonly facts: () => NetworkFacts;
  private readonly log: Log;
  private readonly counters: SessionCounters;
  private readonly onWelcome: () => void;
  private readonly decoder = new LineDecoder();
  private readonly bucket = new TokenBucket(RATE, BURST, performance.now());
  private readonly viaVmm: boolean;
  /** Until something has to be heard; null: for as long as it takes. */
  private patience: NodeJS.Timeout | null = null;
  private tail: Promise<void> = Promise.resolve();
  private waiting = 0;
  private greeted = false;
  private over = false;

  /** `viaVmm`: the socket is a VMM's, which carries the channel; else a connection of the agent's own. */
  constructor(socket: Socket, guest: string, plane: ControlPlane, facts: () => NetworkFacts, counters: SessionCounters, log: Log, viaVmm: boolean, onWelcome: () => void) {
    this.socket = socket;
    this.guest = guest;
    this.plane = plane;
    this.facts = facts;
    this.counters = counters;
    this.onWelcome = onWelcome;
    this.log = log;
    this.viaVmm = viaVmm;
    if (!viaVmm) this.allow(HELLO_MS, 'no hello');
    // What an earlier session left half written ends with the empty line.
    else this.send(`\n${encodeRefusal(null, REFUSED, 'say hello', { code: 'ERR_NO_HELLO' })}`);
    socket.on('data', (bytes: Buffer) => {
      this.read(bytes);
    });
    socket.on('error', () => undefined); // 'close' follows
    socket.on('drain', () => {
      this.throttle();
    });
    socket.once('close', () => {
      this.over = true;
      this.clearPatience();
    });
  }

  notify<N extends Notification>(name: N, params: NoticeToSend<N>): void {
    if (this.greeted) this.send(encodeNotification(name, params));
  }

  /** Says all that the guest holds: somebody else has had it granted more. */
  announce(): void {
    this.notify('granted', this.holding());
  }

  /** Ends the session; `why` is logged when it is the guest's doing. */
  end(why: string | null): void {
    if (this.over) return;
    this.over = true;
    if (why !== null) {
      this.counters.closed++;
      this.log.warn({ guest: this.guest }, `guest ${this.guest}: session ended: ${why}`);
    }
    this.socket.destroySoon();
    // Which waits for a guest that does not read, and keeps all that was answered.
    const linger = setTimeout(() => this.socket.destroy(), LINGER_MS);
    this.socket.once('close', () => {
      clearTimeout(linger);
    });
  }

  private allow(ms: number, otherwise: string): void {
    this.clearPatience();
    this.patience = setTimeout(() => {
      this.end(otherwise);
    }, ms);
  }

  private clearPatience(): void {
    if (this.patience !== null) clearTimeout(this.patience);
    this.patience = null;
  }

  private read(bytes: Buffer): void {
    try {
      for (const line of this.decoder.push(bytes)) {
        if (this.over) return;
        if (!this.bucket.take(performance.now())) {
          this.end('too many messages');
          return;
        }
        this.take(parseMessage(line));
      }
    } catch (error) {
      this.send(encodeRefusal(null, REFUSED, messageOf(error), { code: 'ERR_LINE_TOO_LONG' }));
      this.end(messageOf(error));
    }
  }

  private take(message: Message): void {
    if (message.kind === 'invalid') {
      this.counters.bad++;
      this.send(encodeRefusal(message.id, message.code, message.message));
    } else if (message.kind === 'request') {
      if (this.greeted) this.patience?.refresh();
      this.waiting++;
      this.tail = this.tail
        .then(async () => {
          if (!this.over) await this.answer(message.id, message.method, message.params);
        })
        .catch((error: unknown) => {
          this.log.error({ guest: this.guest, err: error }, 'a request failed');
          this.end('an internal error');
        })
        .finally(() => {
          this.waiting--;
          this.throttle();
        });
      this.throttle();
    }
  }

  /** Reads on only while few requests wait and the guest takes its answers. */
  private throttle(): void {
    if (this.waiting > MAX_WAITING || this.socket.writableLength > MAX_UNREAD) this.socket.pause();
    else if (!this.over) this.socket.resume();
  }

  private async answer(id: Id, method: string, given: unknown): Promise<void> {
    if (!isMethod(method)) {
      this.counters.bad++;
      this.send(encodeRefusal(id, METHOD_NOT_FOUND, `there is no method ${method.slice(0, 40)}`));
      return;
    }
    const read = checkParams(method, given);
    if (!read.ok) {
      this.counters.bad++;
      this.send(encodeRefusal(id, INVALID_PARAMS, `${method}: ${read.problem}`));
      return;
    }
    if (method !== 'hello' && !this.greeted) {
      this.refuse(id, { code: 'ERR_NO_HELLO', message: `${method}: say hello first` });
      return;
    }
    try {
      await this.handle(id, method, read.value);
    } catch (error) {
      this.log.error({ guest: this.guest, err: error }, `${method} failed`);
      this.send(encodeRefusal(id, INTERNAL_ERROR, 'the host could not do it; try again'));
    }
  }

  private async handle(id: Id, method: Method, params: unknown): Promise<void> {
    const { plane, guest } = this;
    switch (method) {
      case 'hello':
        await this.hello(id, params as Params<'hello'>);
        break;
      case 'list-free': {
        const { proto, limit } = params as Params<'list-free'>;
        const free = plane.book.listFree(guest, Math.min(limit ?? LIST_LIMIT, LIST_LIMIT));
        this.done(id, 'list-free', { tcp: proto === 'udp' ? '' : free.tcp, udp: proto === 'tcp' ? '' : free.udp });
        break;
      }
      case 'request': {
        const { block, ...ports } = params as Params<'request'>;
        const named = ports.tcp.isEmpty && ports.udp.isEmpty ? null : await plane.grantPorts(guest, ports);
        const refusal = named?.refusal ?? (block ? (await plane.grantBlock(guest)).refusal : null);
        if (refusal !== null) this.refuse(id, refusal);
        else this.done(id, 'request', this.holding());
        break;
      }
      case 'release':
        this.settle(id, 'release', (await plane.release(guest, params as Ports)).refusal);
        break;
      case 'use': {
        const { all, ...ports } = params as Params<'use'>;
        if (!all) this.settle(id, 'use', (await plane.use(guest, ports)).refusal);
        else {
          await plane.resync(guest, ports);
          this.done(id, 'use', this.holding());
        }
        break;
      }
      case 'end-use':
        this.settle(id, 'end-use', (await plane.endUse(guest, params as Ports)).refusal);
        break;
      case 'renew': {
        const { refusal, until } = await plane.renew(guest);
        if (refusal !== null) this.refuse(id, refusal);
        else this.done(id, 'renew', until === null ? {} : { until });
        break;
      }
    }
  }

  private async hello(id: Id, { version, epoch, used }: Params<'hello'>): Promise<void> {
    const { plane, guest } = this;
    if (version !== PROTOCOL_VERSION) {
      this.refuse(id, { code: 'ERR_VERSION', message: `version ${version} is not spoken here, ${PROTOCOL_VERSION} is` });
      this.end(`version ${version}`);
      return;
    }
    const { refusal } = await plane.hello(guest, epoch);
    if (refusal !== null) {
      this.refuse(id, refusal, plane.epochOf(guest));
      this.end(refusal.message);
      return;
    }
    if (this.over) return;
    if (this.viaVmm) this.allow(SILENT_MS, `its agent has said nothing for ${SILENT_MS / 1000} s`);
    else this.clearPatience();
    this.onWelcome();
    const begun = await plane.begin(guest, epoch, used);
    if (begun.refusal !== null) {
      this.refuse(id, begun.refusal, plane.epochOf(guest));
      this.end(begun.refusal.message);
      return;
    }
    this.greeted = true;
    const policy = plane.book.guests.get(guest);
    this.done(id, 'hello', { guest, ...this.facts(), ...this.holding(), ...(policy === undefined ? {} : { policy }), epoch });
  }

  private holding(): ResultToSend<'request'> {
    const { leased, blocks } = this.plane.book.holding(this.guest);
    const until = Math.min(...blocks.map((block) => block.until));
    return { leases: leased, blocks: [...blocks], ...(Number.isFinite(until) && until < NEVER ? { until } : {}) };
  }

  private settle(id: Id, method: 'release' | 'use' | 'end-use', refusal: Refusal | null): void {
    if (refusal !== null) this.refuse(id, refusal);
    else this.done(id, method, {});
  }

  /** `method` only says which shape the result must have. */
  private done<M extends Method>(id: Id, _method: M, result: ResultToSend<M>): void {
    this.send(encodeAnswer(id, result));
  }

  private refuse(id: Id, { code, message }: Refusal | { code: string; message: string }, epoch?: number): void {
    this.counters.bad++;
    this.send(encodeRefusal(id, REFUSED, message, epoch === undefined ? { code } : { code, epoch }));
  }

  private send(line: string): void {
    if (this.over) return;
    if (this.socket.writableLength > MOST_UNREAD) this.end('it does not read its answers');
    else if (!this.socket.write(line)) this.throttle();
  }
}
