/**
 * Agent: what runs in the guest. Keeps the host's view of the guest's ports, and the guest's network, in step.
 *
 *     port-watch ──change──▶ used ∩ leases ──difference to what the host knows──▶ use / end-use      (flush)
 *                                │
 *                                ├─ 80 % of the blocks ──▶ request a block
 *                                └─ a server outside the leases ──▶ request its port by name
 *     client ──welcome, granted, revoked, changed──▶ leases ──▶ guest-network
 *                                                └▶ name servers ──▶ resolv-conf
 *
 * State        is sent as the difference to what the host was last told, one exchange at a time: changes that come meanwhile are
 *              one batch. A new session begins with all of it, and every restateMs all of it is said again: what a lost or doubled
 *              message left different is mended, on both sides.
 * Away         without the host nothing in the guest changes: network, leases and sockets stay as they are.
 * By name      what was asked for by name and has had no socket for namedMs is given back. Blocks are kept.
 * Length       what is used, told, held and asked for is one state; apart, each part would need the others.
 * Refused      asked again after retryMs; logged once as long as the socket is there.
 */
import { type OpenChannel } from './channel.js';
import { Client, type ClientOptions } from './client.js';
import { automaticPorts, GuestNetwork } from './guest-network.js';
import { NamedPorts } from './named-ports.js';
import { PortWatch, type PortWatchOptions } from './port-watch.js';
import { ResolvConf } from './resolv-conf.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { type Holding, inParts, type Notice, type Ports, type Welcome } from '../protocol/messages.js';
import { PortSet } from '../wire/port-set.js';

/** Share of the blocks' ports in use from which another block is asked for. */
const ALMOST_FULL = 0.8;
const NONE: Ports = { tcp: PortSet.EMPTY, udp: PortSet.EMPTY };
const PROTOCOLS = ['tcp', 'udp'] as const;
const STOP_MS = 500;

export interface AgentOptions {
  readonly open: OpenChannel;
  /** The interface to configure; null: report only. */
  readonly networkInterface: string | null;
  /** The file that has the host's name servers while it runs; default: none has. */
  readonly resolvConf?: string | undefined;
  readonly log: Log;
  /** Before what was refused is asked for again; default 30 s. */
  readonly retryMs?: number;
  /** Between two statements of all that is in use; default 30 s. */
  readonly restateMs?: number;
  /** Before a port that was asked for by name and is used no more is given back; default 10 min. Looked at every restateMs. */
  readonly namedMs?: number;
  readonly watch?: Omit<PortWatchOptions, 'onChange' | 'onError'>;
  readonly client?: Omit<ClientOptions, 'open'>;
}

export class Agent {
  private readonly log: Log;
  private readonly watch: PortWatch;
  private readonly client: Client;
  private readonly network: GuestNetwork | null;
  private readonly resolvConf: ResolvConf | null;
  private readonly retryMs: number;
  private readonly restateMs: number;
  /** The host's last word; null before the first welcome. */
  private welcome: Welcome | null = null;
  private leases: Ports = NONE;
  private blocks: Holding['blocks'] = [];
  /** What the host has been told is in use. */
  private told: Ports = NONE;
  /** Ports whose sockets have gone unseen: the host may have taken the guest's own frames as an indication. */
  private gone: Ports = NONE;
  private flushing = false;
  private renewal: NodeJS.Timeout | null = null;
  private retry: NodeJS.Timeout | null = null;
  private restatement: NodeJS.Timeout | null = null;
  private askingBlock = false;
  private blockRefusal = '';
  /** Ports asked for by name: under way or refused. */
  private readonly asked = { tcp: new Set<number>(), udp: new Set<number>() };
  private readonly named: NamedPorts;
  private readonly complained = { tcp: new Set<number>(), udp: new Set<number>() };
  private lossSaid = false;
  private resolvConfSaid = '';

  constructor(options: AgentOptions) {
    this.log = options.log;
    this.retryMs = options.retryMs ?? 30_000;
    this.restateMs = options.restateMs ?? 30_000;
    this.named = new NamedPorts(options.namedMs ?? 600_000);
    this.watch = new PortWatch({ ...options.watch, onChange: ({ endUse }) => this.onPorts(endUse), onError: (message) => this.log.warn(message) });
    this.network =
      options.networkInterface === null
        ? null
        : new GuestNetwork(options.networkInterface, {
            onRepaired: (what) => this.log.warn(`${options.networkInterface} was changed by something else; set right: ${what}`),
            onTrouble: (message) => this.log.error(`the network cannot be kept: ${message}`),
          });
    this.resolvConf = options.resolvConf === undefined ? null : new ResolvConf(options.resolvConf);
    this.client = new Client(
      {
        inUse: () => this.beginSession(),
        onWelcome: (welcome) => this.onWelcome(welcome),
        onRevoked: (notice) => this.onRevoked(notice),
        onGranted: (notice) => this.onGranted(notice),
        onChanged: (notice) => this.onChanged(notice),
        onLost: (reason, sinceMs) => this.onLost(reason, sinceMs),
      },
      { ...options.client, open: options.open },
    );
  }

  /** Runs until stop. Throws where sockets cannot be watched. */
  start(): void {
    this.watch.start();
    this.client.start();
  }

  /** Ends every use that goes with the network, and puts the network back. */
  async stop(): Promise<void> {
    for (const timer of [this.renewal, this.retry, this.restatement]) if (timer !== null) clearTimeout(timer);
    this.watch.stop();
    if (this.network !== null && this.client.inSession && !isNone(this.told)) {
      const ended = Promise.all(inParts(this.told).map((part) => this.client.request('end-use', part)));
      await Promise.race([ended.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, STOP_MS))]);
    }
    this.client.stop();
    this.setNameServers([]);
    this.network?.restore();
  }

  private get wantedUse(): Ports {
    return both(this.watch.used, this.leases, (used, leased) => used.intersect(leased));
  }

  private beginSession(): Ports {
    // The host knows best what is leased; what we know may be old, so all that is used is stated at the first.
    this.told = this.welcome === null ? this.watch.used : this.wantedUse;
    this.gone = NONE;
    return this.told;
  }

  private onWelcome(welcome: Welcome): void {
    const first = this.welcome === null;
    const lost = both(this.leases, welcome.leases, (had, has) => had.subtract(has));
    this.welcome = welcome;
    this.lossSaid = false;
    this.forgetRefusals();
    this.hold(welcome);
    this.setNameServers(welcome.dns);
    const { addresses, leases } = welcome;
    this.log.info(`${first ? 'welcomed' : 'back in session'} as ${welcome.guest} at ${addresses.map((one) => one.address).join(', ')}; leased tcp ${leases.tcp.format() || 'none'}, udp ${leases.udp.format() || 'none'}`);
    if (!isNone(lost)) this.log.warn(`the host has taken back ${describe(lost)} meanwhile`);
    this.told = both(this.told, this.leases, (told, leased) => told.intersect(leased));
    if (this.renewal !== null) clearInterval(this.renewal);
    this.renewal = setInterval(() => void this.client.request('renew', {}).catch(() => undefined), Math.max(50, welcome.policy.leaseTimeMs / 3));
    this.retry ??= setInterval(() => {
      this.forgetRefusals();
      this.act();
    }, this.retryMs);
    this.restatement ??= setInterval(() => void this.restate(), this.restateMs);
    this.act();
  }

  private onRevoked({ tcp, udp, reason }: Notice<'revoked'>): void {
    this.log.warn(`the host takes back ${describe({ tcp, udp })}${reason === '' ? '' : `: ${reason}`}`);
    const less = (from: Ports): Ports => both(from, { tcp, udp }, (has, gone) => has.subtract(gone));
    this.told = less(this.told);
    const lost = tcp.union(udp);
    this.hold({ leases: less(this.leases), blocks: this.blocks.filter(({ first, last }) => !lost.overlaps(PortSet.fromRanges([{ first, last }]))) });
  }

  private onGranted(holding: Notice<'granted'>): void {
    this.hold(holding);
    const { leases } = holding;
    this.log.info(`the host has granted more; leased ${describe(leases)}`);
    this.act();
  }

  private onChanged(notice: Notice<'changed'>): void {
    if (this.welcome === null) return;
    const { addresses = this.welcome.addresses, gateway = this.welcome.gateway, dns = this.welcome.dns, mtu = this.welcome.mtu } = notice;
    this.welcome = { ...this.welcome, addresses, gateway, dns, mtu };
    this.configure();
    this.setNameServers(dns);
    this.log.info(`the host's network has changed: ${addresses.map((one) => `${one.address}/${one.prefix}`).join(', ')} via ${gateway ?? 'nothing'}`);
  }

  private onLost(reason: string, sinceMs: number): void {
    if (sinceMs > 0 || !this.lossSaid) this.log.warn(`${sinceMs > 0 ? 'the session has ended' : 'no session with the host'} (${reason}); trying again`);
    this.lossSaid = true;
    if (this.renewal !== null) clearInterval(this.renewal);
    this.renewal = null;
  }

  private onPorts(endUse: Ports): void {
    this.gone = both(this.gone, endUse, (gone, ended) => gone.union(ended));
    this.named.note(endUse, performance.now());
    for (const proto of PROTOCOLS) {
      for (const port of endUse[proto].ports()) {
        this.asked[proto].delete(port);
        this.complained[proto].delete(port);
      }
    }
    this.act();
  }

  private act(): void {
    if (!this.client.inSession || this.welcome === null) return;
    void this.flush();
    void this.askForBlock();
    void this.askByName();
  }

  private hold({ leases, blocks }: Pick<Holding, 'leases' | 'blocks'>): void {
    this.leases = leases;
    this.blocks = blocks;
    this.configure();
  }

  private holds({ leases, blocks }: Pick<Holding, 'leases' | 'blocks'>): boolean {
    return leases.tcp.equals(this.leases.tcp) && leases.udp.equals(this.leases.udp) && PortSet.fromRanges(blocks).equals(PortSet.fromRanges(this.blocks));
  }

  private configure(): void {
    if (this.network === null || this.welcome === null) return;
    const { addresses, gateway, mtu, mac } = this.welcome;
    try {
      this.network.apply({ addresses, gateway, mtu, mac, automatic: automaticPorts(this.blocks, this.leases) });
    } catch (error) {
      this.log.error(`the network cannot be set: ${messageOf(error)}`);
    }
  }

  /** With none, what was there before. */
  private setNameServers(servers: readonly string[]): void {
    try {
      this.resolvConf?.set(servers);
      this.resolvConfSaid = '';
    } catch (error) {
      const message = messageOf(error);
      if (message !== this.resolvConfSaid) this.log.warn(`the name servers of the host are not set: ${message}`);
      this.resolvConfSaid = message;
    }
  }

  /** Tells the host what is different from what it knows, until nothing is. */
  private async flush(): Promise<void> {
    if (this.flushing) return;
    this.flushing = true;
    try {
      while (this.client.inSession) {
        const wanted = this.wantedUse;
        const use = both(wanted, this.told, (now, told) => now.subtract(told));
        // A port that went and came back, or that the host knows only by its frames, has its end told too.
        const stale = both(this.gone, this.leases, (gone, leased) => gone.intersect(leased));
        const end = both(both(this.told, stale, (told, gone) => told.union(gone)), wanted, (was, now) => was.subtract(now));
        this.gone = NONE;
        if (isNone(use) && isNone(end)) return;
        this.told = wanted;
        await Promise.all([
          ...(isNone(end) ? [] : inParts(end)).map((part) => this.client.request('end-use', part)),
          ...(isNone(use) ? [] : inParts(use)).map((part) => this.client.request('use', part)),
        ]);
      }
    } catch (error) {
      // The end of a session needs no word: the next one begins with everything.
      if (this.client.inSession) {
        this.log.warn(`the host does not take what is in use: ${messageOf(error)}`);
        setImmediate(() => void this.restate());
      }
    } finally {
      this.flushing = false;
    }
  }

  /** Gives back what is idle, states all that is in use, and takes up all that is held. */
  private async restate(): Promise<void> {
    const parts = inParts(this.wantedUse);
    if (this.flushing || !this.client.inSession) return;
    this.flushing = true;
    try {
      if (parts.length > 1) {
        // All of it waits for the next session. The host must hear of us all the same.
        await this.client.request('use', NONE);
        return;
      }
      this.named.note(this.watch.used, performance.now());
      const idle = this.named.takeIdle(this.leases, performance.now());
      if (!isNone(idle)) {
        // An application that comes now asks for it again when this is over.
        await this.client.request('release', idle);
        this.log.info(`nothing has used ${describe(idle)} for a while: given back`);
      }
      [this.told] = parts;
      const { leases, blocks } = await this.client.request('use', { ...this.told, all: true });
      if (leases !== undefined && blocks !== undefined && !this.holds({ leases, blocks })) this.hold({ leases, blocks });
      this.told = both(this.told, this.leases, (told, leased) => told.intersect(leased));
    } catch {
      // the end of a session: the next one begins with everything
    } finally {
      this.flushing = false;
    }
    this.act();
  }

  private async askForBlock(): Promise<void> {
    if (this.askingBlock || this.blocks.length === 0) return;
    const blocks = PortSet.fromRanges(this.blocks);
    const { tcp, udp } = this.watch.used;
    const used = Math.max(tcp.intersect(blocks).size, udp.intersect(blocks).size);
    if (used < blocks.size * ALMOST_FULL) return;
    this.askingBlock = true;
    try {
      this.hold(await this.client.request('request', { block: true }));
      this.log.info(`${used} of ${blocks.size} ports in use: another block, now ${PortSet.fromRanges(this.blocks).format()}`);
      this.askingBlock = false;
      this.act();
    } catch (error) {
      const { code, message } = refusalOf(error);
      if (code === 'ERR_DISCONNECTED' || code === 'ERR_TIMEOUT') this.askingBlock = false;
      else if (code !== this.blockRefusal) this.log.warn(`${used} of ${blocks.size} ports in use, and no other block: ${message} (${code})`);
      this.blockRefusal = code;
    }
  }

  private async askByName(): Promise<void> {
    const { serving } = this.watch;
    const asking = PROTOCOLS.flatMap((proto) =>
      [...serving[proto].subtract(this.leases[proto]).ports()].filter((port) => !this.asked[proto].has(port)).map((port) => ({ proto, port })),
    );
    for (const { proto, port } of asking) this.asked[proto].add(port);
    // One at a time: a refusal of one says nothing of the others.
    for (const { proto, port } of asking) {
      try {
        this.hold(await this.client.request('request', { [proto]: String(port) }));
        this.asked[proto].delete(port);
        this.complained[proto].delete(port);
        this.named.add(proto, port, performance.now());
        this.log.info(`an application waits at ${proto} port ${port}: leased by name`);
        void this.flush();
      } catch (error) {
        const { code, message } = refusalOf(error);
        if (code === 'ERR_DISCONNECTED' || code === 'ERR_TIMEOUT') this.asked[proto].delete(port);
        else if (!this.complained[proto].has(port)) {
          this.complained[proto].add(port);
          this.log.warn(`an application waits at ${proto} port ${port}, which the host refuses: ${message} (${code}); it cannot be reached from outside`);
        }
      }
    }
  }

  private forgetRefusals(): void {
    this.askingBlock = false;
    for (const proto of PROTOCOLS) this.asked[proto].clear();
  }
}

function both(a: Ports, b: Ports, operation: (a: PortSet, b: PortSet) => PortSet): Ports {
  return { tcp: operation(a.tcp, b.tcp), udp: operation(a.udp, b.udp) };
}

function isNone({ tcp, udp }: Ports): boolean {
  return tcp.isEmpty && udp.isEmpty;
}

function describe({ tcp, udp }: Ports): string {
  return [tcp.isEmpty ? '' : `tcp ${tcp.format()}`, udp.isEmpty ? '' : `udp ${udp.format()}`].filter((text) => text !== '').join(' and ') || 'nothing';
}

function refusalOf(error: unknown): { code: string; message: string } {
  return { code: error instanceof BerthError ? error.code : 'ERR_UNKNOWN', message: messageOf(error) };
}
