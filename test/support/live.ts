/**
 * Live tests: a lab of namespaces, the built daemon in its host, peers everywhere; removed whatever becomes of the test.
 *
 *     const world = freshWorld('name');             removed when the test ends, also one that ran out of time
 *     const web = world.addGuest('web');            a namespace
 *     const daemon = await world.start({ guests: { web: { link: { netns: web }, … } } });
 *     const guest = world.enter('web');             the address set, a peer inside
 *
 * Needs        root, Linux and the tools that the test names; `liveTests` skips and prints why otherwise.
 * Left behind  nothing: a world also removes what a daemon that was killed left in /run/berth.
 */
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, openSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { HOST_ADDRESS, Lab, OUTSIDE_ADDRESS } from '../../src/cli/lab.js';
import type { NamedCounters } from '../../src/cli/stats.js';
import { ProcessPeer } from './peer.js';

export { HOST_ADDRESS, OUTSIDE_ADDRESS } from '../../src/cli/lab.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const VMM = fileURLToPath(new URL('vmm.mjs', import.meta.url));
const STATE_FOLDER = '/run/berth';
const READY_MS = 10_000;
const STOP_MS = 5000;

/** True where live tests may run; else prints why not. */
export function liveTests(name: string, ...tools: string[]): boolean {
  const missing = ['ip', 'nft', 'ss', ...tools].filter((tool) => spawnSync('which', [tool]).status !== 0);
  if (process.platform !== 'linux') missing.unshift('Linux');
  else if (process.getuid?.() !== 0) missing.unshift('root');
  if (missing.length > 0) console.warn(`skipped: journey/${name} needs ${missing.join(', ')}`);
  else if (!existsSync(PROGRAM)) throw new Error('dist is not built; run `npm run setup`');
  return missing.length === 0;
}

/** Waits until `holds`; the error says what did not come about. */
export async function until(holds: () => boolean, timeoutMs: number, what: () => string): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !holds(); await sleep(5)) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what()}`);
  }
}

export interface GuestSetting {
  link: { netns: string; name?: string; mac?: string; configure?: 'dhcp' } | { tap: string; mac?: string; configure?: 'dhcp' };
  lease?: { address?: string; tcp?: string; udp?: string };
  use?: 'all' | { tcp?: string; udp?: string };
  mode?: 'share' | 'map';
  inside?: string;
  gateway?: string;
  map?: { tcp?: string | number; udp?: string | number; to?: number }[];
  block?: number;
  agent?: { socket: string; connect?: boolean };
  policy?: {
    block?: number;
    maxPorts?: number;
    threshold?: 'strict' | 'literal';
    allow?: { tcp?: string; udp?: string };
    deny?: { tcp?: string; udp?: string };
    implicit?: boolean;
    leaseTime?: string;
  };
  pool?: { name?: string; ports?: number; policy?: string | Record<string, number>; class?: string; rule?: 'together' | 'apart' };
}

/** A configuration file as an object; `nic: eth0` is added. */
export interface Setting {
  nic?: string;
  addresses?: string[];
  backend?: 'packet' | 'cap';
  fastPath?: 'auto' | 'off';
  cpuLatency?: 'auto' | 'off' | number;
  notInUse?: 'drop' | 'reject';
  rejectRate?: number;
  admin?: { socket: string };
  store?: { path: string };
  pool?: { ports?: string; reserve?: number; quarantine?: string };
  networks?: Record<string, { nic: string; gateway?: string }>;
  pools?: Record<string, { network?: string; addresses: string; speed?: string; maxGuests?: number; class?: string; policy?: string }>;
  guests: Record<string, GuestSetting>;
}

export interface LogLine {
  level: string;
  msg: string;
  guest?: string;
  counters?: NamedCounters;
}

export interface Ended {
  /** Exit code; null for a process that was killed. */
  code: number | null;
  /** From the signal to the end. */
  ms: number;
}

/** A daemon that runs, or ran. */
export class RunningDaemon {
  readonly child: ChildProcess;
  readonly log: LogLine[] = [];
  errors = '';
  private readonly ended: Promise<unknown>;

  constructor(child: ChildProcess) {
    this.child = child;
    this.ended = once(child, 'close');
    child.stderr?.on('data', (data: Buffer) => (this.errors += data.toString()));
    createInterface({ input: child.stdout! }).on('line', (line) => this.log.push(JSON.parse(line) as LogLine));
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until it has said this `times` times. */
  async says(pattern: RegExp, times = 1, timeoutMs = READY_MS): Promise<void> {
    const count = (): number => this.log.filter((line) => pattern.test(line.msg)).length;
    await until(() => count() >= times || !this.isRunning, timeoutMs, () => `the daemon to say ${pattern}:\n${this.told()}`);
    if (count() < times) throw new Error(`the daemon ended before it said ${pattern}:\n${this.told()}`);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    const start = performance.now();
    this.child.kill(signal);
    await Promise.race([this.ended, sleep(STOP_MS)]);
    if (this.isRunning) throw new Error(`the daemon runs on ${STOP_MS} ms after ${signal}:\n${this.told()}`);
    return { code: this.child.exitCode, ms: performance.now() - start };
  }

  /** Stops it, if it runs, and gives its last counters. */
  async counters(): Promise<NamedCounters> {
    if (this.isRunning) await this.stop();
    const last = this.log.at(-1);
    if (last?.counters === undefined) throw new Error(`the daemon's last line has no counters:\n${this.told()}`);
    return last.counters;
  }

  private told(): string {
    return [...this.log.map((line) => `${line.level}: ${line.msg}`), this.errors].join('\n');
  }
}

export class World {
  readonly lab: Lab;
  private readonly hostInode: number;
  protected readonly guests = new Map<string, string>();

  constructor(label: string) {
    this.lab = new Lab(label);
    this.hostInode = statSync(`/run/netns/${this.lab.host}`).ino;
  }

  /** Makes a guest's namespace and returns its full name. */
  addGuest(name: string): string {
    const namespace = this.lab.addGuest(name);
    this.guests.set(name, namespace);
    return namespace;
  }

  guest(name: string): string {
    return this.guests.get(name)!;
  }

  /** Sets a guest's address on its link, which is there, and starts a peer in it. */
  enter(name: string): ProcessPeer {
    this.lab.configure(this.guest(name), 'eth0', HOST_ADDRESS, OUTSIDE_ADDRESS);
    return new ProcessPeer(this.lab, this.guest(name));
  }

  /** Sets up a guest that knows nothing of Berth: an address of its own and a way out. Returns a peer in it. */
  enterMapped(name: string, inside: string, gateway: string): ProcessPeer {
    this.lab.configure(this.guest(name), 'eth0', inside, gateway);
    return new ProcessPeer(this.lab, this.guest(name));
  }

  peer(namespace: string): ProcessPeer {
    return new ProcessPeer(this.lab, namespace);
  }

  /** Writes the configuration and starts a daemon on it in the host; resolves when it is ready. */
  async start(setting: Setting, ...options: string[]): Promise<RunningDaemon> {
    const daemon = this.launch(setting, ...options);
    await daemon.says(/^ready$/);
    return daemon;
  }

  /** The same without waiting. */
  launch(setting: Setting, ...options: string[]): RunningDaemon {
    const file = this.write(setting);
    return new RunningDaemon(this.lab.spawn(this.lab.host, [process.execPath, PROGRAM, 'run', '--config', file, ...options]));
  }

  /** Writes a configuration file and returns its path. */
  write(setting: Setting, name = 'berth.yaml'): string {
    const file = `${this.lab.folder}/${name}`;
    writeFileSync(file, JSON.stringify({ nic: 'eth0', admin: { socket: `${this.lab.folder}/admin.sock` }, ...setting }, null, 2)); // JSON is YAML
    return file;
  }

  /** Runs `berth` in the host to its end. */
  async berth(...args: string[]): Promise<{ code: number | null; output: string; errors: string }> {
    return this.run(this.lab.host, [process.execPath, PROGRAM, ...args]);
  }

  /** Runs a program to its end without blocking the test's own event loop. */
  async run(namespace: string, command: readonly string[], timeoutMs = 15_000): Promise<{ code: number | null; output: string; errors: string }> {
    const child = this.lab.spawn(namespace, command);
    let output = '';
    let errors = '';
    child.stdout?.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    await once(child, 'close');
    clearTimeout(timer);
    return { code: child.exitCode, output, errors };
  }

  /** Plays the VM `name`: opens the tap in the host and puts `eth0` into the guest's namespace, as long as it runs. */
  async startVm(tap: string, name: string, offloads = true): Promise<ChildProcess> {
    const child = this.lab.spawn(this.lab.host, [process.execPath, VMM, tap, this.guest(name), 'eth0', this.nicMac(), offloads ? 'on' : 'off']);
    let said = '';
    child.stdout?.on('data', (data: Buffer) => (said += data.toString()));
    child.stderr?.on('data', (data: Buffer) => (said += data.toString()));
    await until(() => said.startsWith('up'), 5000, () => `the VMM to be up: ${said}`);
    return child;
  }

  nicMac(): string {
    return this.link(this.lab.host, 'eth0')!.address;
  }

  /** The MAC of the outside's interface. */
  outsideMac(): string {
    return this.link(this.lab.outside, 'eth0')!.address;
  }

  /** What `ip -details link` says; null for an interface that is not there. */
  link(namespace: string, name: string): { address: string; promiscuity: number; flags: string[] } | null {
    const { status, stdout } = spawnSync('ip', ['-n', namespace, '-json', '-details', 'link', 'show', 'dev', name], { encoding: 'utf8' });
    return status === 0 ? (JSON.parse(stdout) as { address: string; promiscuity: number; flags: string[] }[])[0] : null;
  }

  /** IPv4 addresses of an interface, `192.0.2.10/24`. */
  addresses(namespace: string, name: string): string[] {
    const text = execFileSync('ip', ['-n', namespace, '-json', '-4', 'address', 'show', 'dev', name], { encoding: 'utf8' });
    return (JSON.parse(text) as { addr_info: { local: string; prefixlen: number }[] }[]).flatMap((one) =>
      one.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    );
  }

  /** Ids of the processes in a namespace. */
  processes(namespace: string): number[] {
    return execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).split('\n').filter((line) => line !== '').map(Number);
  }

  /** Everything that a daemon changes in its host; of state files all but one that is just being replaced. */
  hostState(): { ruleset: string; reserved: string; promiscuity: number; stateFiles: string[]; interfaces: string[]; sockets: string } {
    const { lab } = this;
    const files = existsSync(STATE_FOLDER) ? readdirSync(STATE_FOLDER) : [];
    return {
      ruleset: lab.run(lab.host, ['nft', 'list', 'ruleset']).trim(),
      reserved: this.reservedPorts(),
      promiscuity: this.link(lab.host, 'eth0')!.promiscuity,
      stateFiles: files.filter((file) => file.startsWith(`${this.hostInode}-`) && !file.endsWith('.new')).map((file) => file.slice(`${this.hostInode}-`.length)).sort(),
      interfaces: lab.run(lab.host, ['sh', '-c', 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " " | sort']).split('\n').filter((name) => name !== ''),
      sockets: lab.run(lab.host, ['ss', '-Hanut']).trim(),
    };
  }

  reservedPorts(): string {
    return this.lab.run(this.lab.host, ['cat', '/proc/sys/net/ipv4/ip_local_reserved_ports']).trim();
  }

  setReservedPorts(ports: string): void {
    this.sysctl(this.lab.host, 'net/ipv4/ip_local_reserved_ports', ports);
  }

  sysctl(namespace: string, name: string, value: string): void {
    this.lab.run(namespace, ['sh', '-c', `echo "${value}" > /proc/sys/${name}`]);
  }

  /** The namespaces are kept until their files are gone: a new one could have the same inode. */
  async close(): Promise<void> {
    const kept = [this.lab.host, ...this.guests.values()].filter((name) => existsSync(`/run/netns/${name}`)).map((name) => openSync(`/run/netns/${name}`, 'r'));
    try {
      await this.lab.close();
      const prefixes = kept.map((fd) => `${fstatSync(fd).ino}-`);
      const files = existsSync(STATE_FOLDER) ? readdirSync(STATE_FOLDER) : [];
      for (const file of files) if (prefixes.some((prefix) => file.startsWith(prefix))) rmSync(`${STATE_FOLDER}/${file}`, { force: true });
    } finally {
      for (const fd of kept) closeSync(fd);
    }
  }
}

/** A world for one test, removed when it ends. */
export function freshWorld(label: string): World {
  const world = new World(label);
  onTestFinished(() => world.close());
  return world;
}
