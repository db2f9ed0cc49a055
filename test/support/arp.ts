/** ARP as it is seen from outside: tcpdump in a namespace, and the neighbour table there. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type World, until } from './live.js';

export class ArpWatch {
  readonly lines: string[] = [];
  private readonly child: ChildProcess;
  private said = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.on('data', (data: Buffer) => (this.said += data.toString()));
    createInterface({ input: child.stdout! }).on('line', (line) => this.lines.push(line));
  }

  /** Resolves when tcpdump listens. */
  static async start(world: World, namespace = world.lab.outside, nic = 'eth0'): Promise<ArpWatch> {
    const watch = new ArpWatch(world.lab.spawn(namespace, ['tcpdump', '-i', nic, '-nn', '-e', '-l', '--immediate-mode', 'arp']));
    await until(() => watch.said.includes('listening on'), 5000, () => `tcpdump to listen: ${watch.said}`);
    return watch;
  }

  /** Source MACs of the replies that said where the address is. */
  replies(address: string): string[] {
    return this.matches(new RegExp(`^\\S+ (\\S+) > .*Reply ${address.replaceAll('.', '\\.')} is-at (\\S+),`)).map(([, from, at]) => `${from} ${at}`);
  }

  /** Source MACs of its announcements. */
  announcements(address: string): string[] {
    const escaped = address.replaceAll('.', '\\.');
    return this.matches(new RegExp(`^\\S+ (\\S+) > ff:ff:ff:ff:ff:ff, .*Request who-has ${escaped}(?: \\(\\S+\\))? tell ${escaped},`)).map(([, from]) => from);
  }

  stop(): void {
    this.child.kill();
  }

  private matches(pattern: RegExp): RegExpExecArray[] {
    return this.lines.map((line) => pattern.exec(line)).filter((found) => found !== null);
  }
}

/** Forgets every neighbour, so that the next frame asks for its own. */
export function forgetNeighbours(world: World, namespace = world.lab.outside): void {
  world.lab.run(namespace, ['ip', 'neigh', 'flush', 'all']);
}
