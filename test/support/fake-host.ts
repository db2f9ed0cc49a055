/**
 * The host's end of the guest protocol, in forty lines: one lease of a block and of names, everything said is kept.
 * For tests of the agent; the real one is src/control/server.ts.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { encodeAnswer, encodeNotification, encodeRefusal, INVALID_PARAMS, LineDecoder, METHOD_NOT_FOUND, parseMessage, REFUSED } from '../../src/protocol/codec.js';
import { checkParams, isMethod, type NoticeToSend, type Notification, type Params, type ResultToSend } from '../../src/protocol/messages.js';
import { PortSet } from '../../src/wire/port-set.js';

type WelcomeToSend = ResultToSend<'hello'>;

export interface FakeSettings {
  welcome: Partial<WelcomeToSend>;
  /** First ports of the blocks given out, the first with the welcome. */
  blocks: number[];
  blockSize: number;
  /** What may be asked for by name. */
  allow: string;
}

export class FakeHost {
  readonly path: string;
  readonly settings: FakeSettings;
  /** Every request, in order, with when it came. */
  readonly said: { method: string; params: Record<string, unknown>; at: number }[] = [];
  readonly hellos: Params<'hello'>[] = [];
  inUse = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };
  /** Requests of these methods get no answer. */
  readonly mute = new Set<string>();
  /** Refuse hello with this epoch as the host's own. */
  refuseBelow = 0;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly named = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };
  private granted = 0;

  constructor(path: string, settings: Partial<FakeSettings> = {}) {
    this.path = path;
    this.settings = { welcome: {}, blocks: [20000], blockSize: 1024, allow: '', ...settings };
    this.server = createServer((socket) => this.accept(socket));
    this.granted = Math.min(1, this.settings.blocks.length);
  }

  async listen(): Promise<void> {
    this.server.listen(this.path);
    await once(this.server, 'listening');
  }

  /** Cuts every session; goes on listening. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  notify<N extends Notification>(name: N, params: NoticeToSend<N>): void {
    this.send(encodeNotification(name, params));
  }

  /** Sends as it is. */
  send(text: string | Uint8Array): void {
    for (const socket of this.sockets) socket.write(text);
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private get holding(): Pick<WelcomeToSend, 'leases' | 'blocks'> {
    const { blocks, blockSize } = this.settings;
    const ranges = blocks.slice(0, this.granted).map((first) => ({ first, last: first + blockSize - 1 }));
    const held = PortSet.fromRanges(ranges);
    return { leases: { tcp: held.union(this.named.tcp), udp: held.union(this.named.udp) }, blocks: ranges };
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    const decoder = new LineDecoder();
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('data', (bytes) => {
      for (const line of decoder.push(bytes)) {
        const message = parseMessage(line);
        if (message.kind !== 'request') continue;
        this.said.push({ method: message.method, params: message.params as Record<string, unknown>, at: performance.now() });
        if (this.mute.has(message.method)) continue;
        socket.write(this.answer(message.id, message.method, message.params));
      }
    });
  }

  private answer(id: number | string, method: string, given: unknown): string {
    if (!isMethod(method)) return encodeRefusal(id, METHOD_NOT_FOUND, `no method ${method}`);
    const read = checkParams(method, given);
    if (!read.ok) return encodeRefusal(id, INVALID_PARAMS, read.problem);
    const params = read.value as Params<'hello'> & Params<'request'>;
    if (method === 'hello') {
      this.hellos.push(params);
      if (params.epoch < this.refuseBelow) return encodeRefusal(id, REFUSED, 'an older session', { code: 'ERR_OLD_EPOCH', epoch: this.refuseBelow });
      this.inUse = { ...params.used };
      return encodeAnswer(id, { guest: 'web', addresses: [], epoch: params.epoch, ...this.holding, ...this.settings.welcome });
    }
    if (method === 'use') for (const proto of ['tcp', 'udp'] as const) this.inUse[proto] = this.inUse[proto].union(params[proto]);
    if (method === 'end-use') for (const proto of ['tcp', 'udp'] as const) this.inUse[proto] = this.inUse[proto].subtract(params[proto]);
    if (method !== 'request') return encodeAnswer(id, method === 'list-free' ? { tcp: '', udp: '' } : {});
    if (params.block && this.granted === this.settings.blocks.length) return encodeRefusal(id, REFUSED, 'the pool is empty', { code: 'ERR_POOL_EMPTY' });
    if (params.block) this.granted++;
    for (const proto of ['tcp', 'udp'] as const) {
      if (!params[proto].isSubsetOf(this.settings.allow === '' ? PortSet.EMPTY : PortSet.parse(this.settings.allow))) {
        return encodeRefusal(id, REFUSED, `${proto} port ${params[proto].format()} is not allowed to this guest`, { code: 'ERR_NOT_ALLOWED' });
      }
      this.named[proto] = this.named[proto].union(params[proto]);
    }
    return encodeAnswer(id, this.holding);
  }
}
