/**
 * Client: the agent's end of the protocol. Keeps a session with the host, for ever.
 *
 *     waiting ──time──▶ opening ──open──▶ greeting ──welcome──▶ in session
 *        ▲                 └─────────────────┴──────────────────────┘
 *        └── back-off with jitter ◀── end, time-out, refusal, garbage
 *
 * Epoch        grows with every session, from the clock; where the host knows a higher one (the guest's clock went back) from that.
 * Time-outs    a request without an answer ends the session: what is then true is settled by the next hello, which states all.
 * Garbage      from the host ends the session too; unknown notifications and late answers are ignored.
 * Begun anew   a host that waits for hello says so, and a session that it knows nothing of is over: on a virtio port the guest may
 *              have missed that the host's end was closed in between.
 * Not here     what to state and what to do with a welcome (agent.ts).
 */
import type { Channel, OpenChannel } from './channel.js';
import { BerthError, messageOf } from '../base/errors.js';
import { encodeRequest, LineDecoder, type Message, parseMessage } from '../protocol/codec.js';
import { checkNotice, checkResult, inParts, isNotification, type Method, type Notice, type Notification, type ParamsToSend, type Ports, PROTOCOL_VERSION, readRefusal, type Result, type Welcome } from '../protocol/messages.js';

export interface ClientEvents {
  /** What is in use now: stated at the beginning of each session. */
  inUse(): Ports;
  onWelcome(welcome: Welcome): void;
  onRevoked(notice: Notice<'revoked'>): void;
  onGranted(notice: Notice<'granted'>): void;
  onChanged(notice: Notice<'changed'>): void;
  /** A session, or the attempt at one, has ended. `sinceMs`: how long it lasted; 0 for an attempt. */
  onLost(reason: string, sinceMs: number): void;
}

export interface ClientOptions {
  readonly open: OpenChannel;
  readonly requestTimeoutMs?: number;
  /** Before the first new attempt, and at most. */
  readonly firstDelayMs?: number;
  readonly mostDelayMs?: number;
}

/** A daemon that is started again is back in seconds: at first nobody waits longer than this between attempts. */
const QUICK_DELAY_MS = 250;
const QUICK_FOR_MS = 10_000;

interface Waiting {
  readonly method: Method;
  readonly resolve: (result: never) => void;
  readonly reject: (error: BerthError) => void;
  readonly timer: NodeJS.Timeout;
}

export class Client {
  private readonly events: ClientEvents;
  private readonly options: Required<ClientOptions>;
  private readonly waiting = new Map<number | string, Waiting>();
  private channel: Channel | null = null;
  private decoder = new LineDecoder();
  private retry: NodeJS.Timeout | null = null;
  private failures = 0;
  private awaySince = 0;
  private epoch = 0;
  private welcomedAt = 0;
  private stopped = false;
  /** Answers to an agent that was here before must not be taken for ours. */
  private nextId = Math.floor(Math.random() * 2 ** 31);

  constructor(events: ClientEvents, options: ClientOptions) {
    this.events = events;
    this.options = { requestTimeoutMs: 5000, firstDelayMs: 100, mostDelayMs: 2000, ...options };
  }

  get inSession(): boolean {
    return this.welcomedAt > 0;
  }

  start(): void {
    this.connect();
  }

  /** Ends the session; what was asked and not answered is rejected with ERR_DISCONNECTED. */
  stop(): void {
    this.stopped = true;
    if (this.retry !== null) clearTimeout(this.retry);
    this.channel?.close();
    this.forget('the agent stops');
  }

  /**
   * The answer. Rejects with BerthError: the code of the host's refusal, ERR_DISCONNECTED outside a session or when it ends, ERR_TIMEOUT,
   * ERR_LINE_TOO_LONG (nothing was sent).
   */
  async request<M extends Method>(method: M, params: ParamsToSend<M>): Promise<Result<M>> {
    if (!this.inSession && method !== 'hello') throw new BerthError('ERR_DISCONNECTED', `${method}: not in a session with the host`);
    return this.ask(method, params);
  }

  private ask<M extends Method>(method: M, params: ParamsToSend<M>): Promise<Result<M>> {
    const id = this.nextId++;
    const line = encodeRequest(id, method, params);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.lose(`no answer to ${method} in ${this.options.requestTimeoutMs} ms`, 'ERR_TIMEOUT'), this.options.requestTimeoutMs);
      this.waiting.set(id, { method, resolve, reject, timer });
      this.channel?.write(line);
    });
  }

  private connect(): void {
    this.retry = null;
    this.decoder = new LineDecoder();
    const channel: Channel = this.options.open({
      onOpen: () => void this.greet(channel),
      onData: (bytes) => {
        if (this.channel === channel) this.take(bytes);
      },
      onEnd: (reason) => {
        if (this.channel === channel) this.lose(reason);
      },
    });
    this.channel = channel;
    // A socket that neither opens nor fails (a full backlog) must not hold us for ever.
    this.retry = setTimeout(() => this.lose('no connection'), this.options.requestTimeoutMs);
  }

  private async greet(channel: Channel): Promise<void> {
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.epoch = Math.max(Date.now(), this.epoch + 1);
    const [first, ...rest] = inParts(this.events.inUse());
    try {
      const welcome = await this.ask('hello', { version: PROTOCOL_VERSION, epoch: this.epoch, used: first });
      if (this.channel !== channel) return;
      this.welcomedAt = performance.now();
      this.failures = 0;
      for (const part of rest) await this.ask('use', part);
      this.events.onWelcome(welcome);
    } catch (error) {
      if (this.channel === channel) this.lose(messageOf(error));
    }
  }

  private take(bytes: Uint8Array): void {
    try {
      for (const line of this.decoder.push(bytes)) {
        this.receive(parseMessage(line));
        if (this.channel === null) return;
      }
    } catch (error) {
      this.lose(messageOf(error));
    }
  }

  private receive(message: Message): void {
    switch (message.kind) {
      case 'answer':
      case 'refusal':
        if (this.inSession && message.kind === 'refusal' && readRefusal(message.data).code === 'ERR_NO_HELLO') this.lose('the host has begun anew');
        else if (message.id !== null) this.settle(message.id, message);
        return;
      case 'notification':
        if (this.inSession && isNotification(message.method)) this.notify(message.method, message.params);
        return;
      case 'invalid':
        this.lose(`the host sent what is no message (${message.message})`);
        return;
      case 'request':
        return; // the host asks nothing
    }
  }

  private settle(id: number | string, message: Message & { kind: 'answer' | 'refusal' }): void {
    const waiting = this.waiting.get(id);
    if (waiting === undefined) return;
    this.waiting.delete(id);
    clearTimeout(waiting.timer);
    if (message.kind === 'refusal') {
      const { code, epoch } = readRefusal(message.data);
      if (epoch !== undefined) this.epoch = Math.max(this.epoch, epoch);
      waiting.reject(new BerthError(code, message.message));
      return;
    }
    const read = checkResult(waiting.method, message.result);
    if (read.ok) waiting.resolve(read.value as never);
    else {
      waiting.reject(new BerthError('ERR_PROTOCOL', `the host's answer to ${waiting.method}: ${read.problem}`));
      this.lose(`the host's answer to ${waiting.method} cannot be read (${read.problem})`);
    }
  }

  private notify(name: Notification, params: unknown): void {
    const read = checkNotice(name, params);
    if (!read.ok) this.lose(`the host's ${name} cannot be read (${read.problem})`);
    else if (name === 'revoked') this.events.onRevoked(read.value as Notice<'revoked'>);
    else if (name === 'granted') this.events.onGranted(read.value as Notice<'granted'>);
    else this.events.onChanged(read.value as Notice<'changed'>);
  }

  private lose(reason: string, code = 'ERR_DISCONNECTED'): void {
    if (this.stopped || this.channel === null) return;
    this.channel.close();
    const since = this.inSession ? performance.now() - this.welcomedAt : 0;
    this.forget(reason, code);
    // Doubles with each failure; the half that is random keeps guests from coming back all at once.
    const { firstDelayMs, mostDelayMs } = this.options;
    if (this.failures === 0) this.awaySince = performance.now();
    const quick = performance.now() - this.awaySince < QUICK_FOR_MS;
    const most = Math.min(firstDelayMs * 2 ** this.failures++, mostDelayMs, quick ? QUICK_DELAY_MS : mostDelayMs);
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), most * (0.5 + Math.random() / 2));
    this.events.onLost(reason, since);
  }

  private forget(reason: string, code = 'ERR_DISCONNECTED'): void {
    this.channel = null;
    this.welcomedAt = 0;
    for (const { method, reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new BerthError(code, `${method}: ${reason}`));
    }
    this.waiting.clear();
  }
}
