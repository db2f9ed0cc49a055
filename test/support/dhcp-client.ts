/** A real DHCP client in a guest's namespace: busybox' udhcpc or ISC's dhclient, with a script that sets what it is told. */
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { until, type World } from './live.js';

const SCRIPT = fileURLToPath(new URL('dhcp-script.sh', import.meta.url));
/** dhclient tries again soon, and renews every few seconds whatever the server says; by broadcast when that fails. */
const DHCLIENT = `
timeout 10; retry 1; initial-interval 1; backoff-cutoff 1; select-timeout 0;
request subnet-mask, routers, domain-name-servers, interface-mtu;
supersede dhcp-renewal-time 2;
supersede dhcp-rebinding-time 4;
`;

export class DhcpClient {
  readonly child: ChildProcess;
  private readonly events: string;
  private output = '';

  /** `options`: more of the client's own, as `-O 159` of udhcpc. */
  constructor(world: World, guest: string, kind: 'udhcpc' | 'dhclient', options: readonly string[] = []) {
    const base = `${world.lab.folder}/${guest}-${kind}`;
    this.events = `${base}.log`;
    copyFileSync(SCRIPT, `${base}.sh`);
    writeFileSync(`${base}.conf`, DHCLIENT);
    const command =
      kind === 'udhcpc'
        ? ['udhcpc', '-f', '-i', 'eth0', '-s', `${base}.sh`, '-t', '5', '-T', '1', '-O', 'mtu', ...options]
        : ['dhclient', '-4', '-d', '-sf', `${base}.sh`, '-cf', `${base}.conf`, '-lf', `${base}.leases`, '-pf', `${base}.pid`, ...options, 'eth0'];
    this.child = world.lab.spawn(world.guest(guest), command);
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on('data', (data: Buffer) => (this.output += data.toString()));
  }

  /** What the script was told, a line an event. */
  told(event: RegExp): string[] {
    return existsSync(this.events) ? readFileSync(this.events, 'utf8').split('\n').filter((line) => event.test(line)) : [];
  }

  /** Waits until the script was told this `times` times; gives the last line. */
  async is(event: RegExp, times = 1, timeoutMs = 10_000): Promise<string> {
    await until(() => this.told(event).length >= times, timeoutMs, () => `${event}, ${times} times:\n${this.told(/./).join('\n')}\n${this.output}`);
    return this.told(event).at(-1)!;
  }
}
