/**
 * Server: a Unix socket for each guest's agent, or a connection to the one that its VMM listens on.
 *
 * One session a guest: a new one takes the place of the one before, whose end may not have been seen yet.
 * Grace        a guest whose session ended keeps its indications for a while (D4), then they end; its leases run on.
 * Files        sockets are made with mode 0600 in a folder of mode 0755, and removed at the end. A VMM's stays.
 * At start     a socket of the configuration that cannot be had is an error; a guest that was added while the daemon ran is
 *              served without its agent then, and its socket tried again.
 */
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import type { Ports } from './lease-state.js';
import type { ControlPlane } from './plane.js';
import { type NetworkFacts, Session, type SessionCounters } from './session.js';
import { makeRoom } from './socket-path.js';
import type { AgentConfig } from '../base/config.js';
import { BerthError, messageOf, newFileReason } from '../base/errors.js';
import type { Log } from '../base/log.js';

/** How long a guest may be away before its indications end. */
const GRACE_MS = 10_000;
/** Between two tries to reach a VMM's socket. */
const RETRY_MS = 500;
/** Between two tries to have a socket of our own: each asks whoever has it whether it is alive. */
const LISTEN_AGAIN_MS = 2000;

interface Agent {
  readonly guest: string;
  readonly path: string;
  session: Session | null;
  /** A connection that has not said hello yet. */
  candidate: Session | null;
  grace: NodeJS.Timeout | null;
  /** null: a VMM listens, or will, and the socket is the VMM's. */
  server: Server | null;
  /** The guest has been removed, or the daemon stops. */
  isOver: boolean;
}

function agentOf(guest: string, { socket }: AgentConfig): Agent {
  return { guest, path: socket, session: null, candidate: null, grace: null, server: null, isOver: false };
}

export class GuestServer {
  readonly counters: SessionCounters = { bad: 0, closed: 0 };
  private readonly plane: ControlPlane;
  private readonly facts: () => NetworkFacts;
  private readonly log: Log;
  private readonly agents: Agent[] = [];

  constructor(plane: ControlPlane, facts: () => NetworkFacts, log: Log) {
    this.plane = plane;
    this.facts = facts;
    this.log = log;
  }

  /** Opens a channel for every guest of the plan that has an agent. Throws for a socket of the configuration that cannot be had. */
  async start(plan: LeasePlan): Promise<void> {
    for (const guest of plan.guests) {
      try {
        await this.add(guest);
      } catch (error) {
        if (!guest.atRunTime || guest.agent === null) throw error;
        const one = agentOf(guest.name, guest.agent);
        this.agents.push(one);
        this.listenLater(one, messageOf(error));
      }
    }
  }

  /** Opens the guest's channel, if it has an agent. Throws, with nothing changed, where its socket cannot be had. */
  async add({ name, agent }: GuestPlan): Promise<void> {
    if (agent === null) return;
    const one = agentOf(name, agent);
    if (!agent.connect) await this.listen(one);
    this.agents.push(one);
    if (agent.connect) this.reach(one);
  }

  /** Ends the guest's session and closes its channel. */
  remove(guest: string): void {
    const at = this.agents.findIndex((one) => one.guest === guest);
    if (at >= 0) for (const one of this.agents.splice(at, 1)) this.end(one);
  }

  /** Tells every agent what has changed of the host's network. */
  changed(facts: NetworkFacts): void {
    for (const { session } of this.agents) session?.notify('changed', facts);
  }

  /** Tells the guest's agent, if it is there, that it has these ports no more. */
  revoked(guest: string, ports: Ports, reason: string): void {
    this.agents.find((one) => one.guest === guest)?.session?.notify('revoked', { ...ports, reason });
  }

  /** Tells the guest's agent, if it is there, all that it holds now: it has been granted more without asking. */
  granted(guest: string): void {
    this.agents.find((one) => one.guest === guest)?.session?.announce();
  }

  isConnected(guest: string): boolean {
    return this.agents.some((one) => one.guest === guest && one.session !== null);
  }

  close(): void {
    for (const one of this.agents) this.end(one);
  }

  private end(one: Agent): void {
    one.isOver = true;
    if (one.grace !== null) clearTimeout(one.grace);
    one.session?.end(null);
    one.candidate?.end(null);
    one.server?.close();
    if (one.server !== null) rmSync(one.path, { force: true });
  }

  /** Says what is in the way, once, and tries again until it is not. */
  private listenLater(one: Agent, obstacle: string, said = ''): void {
    if (obstacle !== said) this.log.warn({ guest: one.guest }, `${obstacle}; it is tried again, and the guest served without its agent until then`);
    setTimeout(() => {
      if (one.isOver) return;
      this.listen(one).then(
        () => {
          this.log.info({ guest: one.guest }, `guest ${one.guest}: its agent can connect to ${one.path} now`);
        },
        (error: unknown) => {
          this.listenLater(one, messageOf(error), obstacle);
        },
      );
    }, LISTEN_AGAIN_MS).unref();
  }

  private async listen(one: Agent): Promise<void> {
    const server = createServer((socket) => {
      this.accept(one, socket);
    });
    try {
      await makeRoom(one.path);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(one.path, resolve);
      });
      chmodSync(one.path, 0o600);
    } catch (cause) {
      throw new BerthError('ERR_AGENT_SOCKET', `guest ${one.guest}: its agent's socket ${one.path} cannot be listened on (${newFileReason(cause)}); mend that, or name another path`, { cause });
    }
    one.server = server;
    if (one.isOver) this.end(one); // meanwhile
  }

  /** Connects to the socket that the VMM listens on, again and again. */
  private reach(one: Agent): void {
    if (one.isOver) return;
    const socket = connect(one.path);
    socket.once('connect', () => {
      this.accept(one, socket);
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      setTimeout(() => {
        this.reach(one);
      }, RETRY_MS).unref();
    });
  }

  /** A newcomer takes the place of the session before only when its hello has been accepted. */
  private accept(one: Agent, socket: Socket): void {
    one.candidate?.end(null);
    const session = new Session(socket, one.guest, this.plane, this.facts, this.counters, this.log, one.server === null, () => {
      one.candidate = null;
      // On a channel that knows no connections a session may follow its like on one stream.
      if (one.session !== session) one.session?.end(null);
      one.session = session;
      if (one.grace !== null) clearTimeout(one.grace);
      one.grace = null;
    });
    one.candidate = session;
    socket.once('close', () => {
      if (one.candidate === session) one.candidate = null;
      if (one.session !== session || one.isOver) return;
      one.session = null;
      one.grace = setTimeout(() => {
        this.log.info({ guest: one.guest }, `guest ${one.guest}: its agent is away; nothing is in use until it is back`);
        this.plane.silence(one.guest).catch(() => undefined); // the plane has logged it
      }, GRACE_MS);
    });
  }
}
