/**
 * A Unix socket in front of a guest's socket that loses, doubles, delays, reorders and cuts what passes, both ways, a line at
 * a time; by chance, but the same for one seed and one course of events.
 *
 *     const proxy = await FaultyChannel.listen(path, target, seed);
 *     proxy.faulty = true;      from now on; false: everything passes as it came
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Shares of the lines. */
const FAULTS = { lose: 0.08, double: 0.08, delay: 0.12, swap: 0.08, cut: 0.03 };
const MOST_DELAY_MS = 60;

export class FaultyChannel {
  faulty = false;
  readonly counts = { lose: 0, double: 0, delay: 0, swap: 0, cut: 0, passed: 0 };
  private readonly target: string;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private state: number;

  private constructor(target: string, seed: number) {
    this.target = target;
    this.state = seed | 0;
    this.server = createServer((socket) => {
      this.join(socket);
    });
  }

  static async listen(path: string, target: string, seed: number): Promise<FaultyChannel> {
    const channel = new FaultyChannel(target, seed);
    rmSync(path, { force: true });
    channel.server.listen(path);
    await once(channel.server, 'listening');
    return channel;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private join(near: Socket): void {
    const far = connect(this.target);
    for (const [from, to] of [[near, far], [far, near]] as const) {
      this.sockets.add(from);
      from.on('error', () => undefined);
      from.once('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
      this.carry(from, to);
    }
  }

  private carry(from: Socket, to: Socket): void {
    let rest = '';
    let kept: string | null = null;
    const send = (line: string): void => void (to.destroyed || to.write(line));
    from.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines.map((one) => `${one}\n`)) {
        const fault = this.fault();
        this.counts[fault]++;
        if (fault === 'cut') {
          send(line.slice(0, Math.floor(this.random() * line.length)));
          to.destroySoon();
          from.destroySoon();
          return;
        }
        if (fault === 'delay') setTimeout(() => send(line), this.random() * MOST_DELAY_MS);
        else if (fault === 'swap' && kept === null) kept = line;
        else if (fault !== 'lose') send(line);
        // The copy of a doubled line comes late, after whatever has been said meanwhile.
        if (fault === 'double') setTimeout(() => send(line), this.random() * MOST_DELAY_MS);
        if (kept !== null && kept !== line) {
          send(kept);
          kept = null;
        }
      }
    });
  }

  private fault(): keyof typeof this.counts {
    if (!this.faulty) return 'passed';
    let share = this.random();
    for (const [fault, of] of Object.entries(FAULTS)) {
      if (share < of) return fault as keyof typeof FAULTS;
      share -= of;
    }
    return 'passed';
  }

  /** mulberry32 */
  private random(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
}
