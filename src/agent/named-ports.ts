/**
 * Ports that the agent has asked for by name, and when each was last used: those that no socket has had for a while are given back.
 * Ports that the operator leased are never among them. An agent that was started again has asked for nothing yet, and leaves
 * what the one before it asked for.
 */
import type { Ports } from '../protocol/messages.js';
import { PortSet } from '../wire/port-set.js';

const PROTOCOLS = ['tcp', 'udp'] as const;

export class NamedPorts {
  private readonly lastUsed = { tcp: new Map<number, number>(), udp: new Map<number, number>() };
  private readonly idleMs: number;

  constructor(idleMs: number) {
    this.idleMs = idleMs;
  }

  add(proto: 'tcp' | 'udp', port: number, now: number): void {
    this.lastUsed[proto].set(port, now);
  }

  /** `used`: ports that have a socket, or had one a moment ago. */
  note(used: Ports, now: number): void {
    for (const proto of PROTOCOLS) for (const port of this.lastUsed[proto].keys()) if (used[proto].has(port)) this.lastUsed[proto].set(port, now);
  }

  /** Forgets those that have been idle for long enough, and returns those of them that are leased still. */
  takeIdle(leases: Ports, now: number): Ports {
    const [tcp, udp] = PROTOCOLS.map((proto) => {
      const idle = [...this.lastUsed[proto]].filter(([, at]) => now - at >= this.idleMs).map(([port]) => port);
      for (const port of idle) this.lastUsed[proto].delete(port);
      return PortSet.fromRanges(idle.map((port) => ({ first: port, last: port }))).intersect(leases[proto]);
    });
    return { tcp, udp };
  }
}
