/**
 * The world of the control benches: a lab of namespaces, the built daemon in its host, guests, and programs that answer a JSON object
 * a line. The pieces are those of the live tests' world (test/support/live.ts), without a test runner.
 *
 * Ends early   closeWorlds removes every world there is, whatever its case is doing; nothing can be started in one any more.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { DIST, load } from '../support/dist.mjs';

const BERTH = path.join(DIST, 'cli/main.js');
const READY_MS = 60_000;

export const { HOST_ADDRESS } = await load('cli/lab');

/** A process that is asked. */
export class Actor {
  constructor(child) {
    this.child = child;
    this.waiting = [];
    child.stderr.on('data', (data) => process.stderr.write(data));
    createInterface({ input: child.stdout }).on('line', (line) => this.waiting.shift()?.(JSON.parse(line)));
  }

  ask(question) {
    return new Promise((resolve, reject) => {
      this.waiting.push(resolve);
      this.child.once('exit', () => reject(new Error(`${question.op}: the process has ended`)));
      this.child.stdin.write(`${JSON.stringify(question)}\n`);
    }).finally(() => this.child.removeAllListeners('exit'));
  }
}

const worlds = new Set();
let isOver = false;

/** Removes every world. What its case waits for fails. */
export async function closeWorlds() {
  isOver = true;
  await Promise.all([...worlds].map((world) => world.close()));
}

function refuseWhenOver() {
  if (isOver) throw new Error('the bench ends');
}

export class BenchWorld {
  static async make(label, guests, policy, pool) {
    const { Lab } = await load('cli/lab');
    refuseWhenOver();
    const world = new BenchWorld(new Lab(label));
    try {
      world.addGuests(guests, policy, pool);
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  constructor(lab) {
    this.lab = lab;
    worlds.add(this);
  }

  addGuests(guests, policy, pool) {
    const { lab } = this;
    this.names = Array.from({ length: guests }, (_, i) => `g${i}`);
    this.namespaces = this.names.map((name) => lab.addGuest(name));
    lab.run(lab.host, ['ip', 'route', 'add', 'default', 'via', '192.0.2.1']);
    const setting = {
      nic: 'eth0',
      admin: { socket: `${lab.folder}/admin.sock` },
      store: { path: `${lab.folder}/store` },
      pool,
      guests: Object.fromEntries(this.names.map((name, i) => [name, { link: { netns: this.namespaces[i] }, agent: { socket: this.socketOf(i) }, policy }])),
    };
    this.config = `${lab.folder}/berth.yaml`;
    writeFileSync(this.config, JSON.stringify(setting)); // JSON is YAML
  }

  socketOf(i) {
    return `${this.lab.folder}/${this.names[i]}.sock`;
  }

  /** Starts the daemon; `env` for what node is to do besides (a profile). */
  async startDaemon() {
    const profile = process.env.BERTH_BENCH_PROFILE;
    this.daemon = this.spawn(this.lab.host, [process.execPath, ...(profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]), BERTH, 'run', '--config', this.config]);
    await says(this.daemon, '"ready"');
    // What it complains of afterwards belongs to the result.
    createInterface({ input: this.daemon.stdout }).on('line', (line) => {
      if (/"level":"(warn|error|fatal)"/.test(line)) process.stderr.write(`      daemon: ${line.slice(0, 500)}\n`);
    });
  }

  async startAgent(i) {
    const agent = this.spawn(this.namespaces[i], [process.execPath, BERTH, 'agent', '--socket', this.socketOf(i), '--interface', 'eth0']);
    await says(agent, 'welcomed');
  }

  actor(namespace, command) {
    return new Actor(this.spawn(namespace, command, 'pipe'));
  }

  spawn(namespace, command, stdin) {
    refuseWhenOver();
    return this.lab.spawn(namespace, command, stdin);
  }

  residentBytes() {
    return 1024 * Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${this.daemon.pid}/status`, 'utf8'))[1]);
  }

  async stopDaemon(signal) {
    const ended = new Promise((resolve) => this.daemon.once('exit', resolve));
    this.daemon.kill(signal);
    await ended;
  }

  /** Removes everything; agents undo their own on their SIGTERM. May be called more than once. */
  close() {
    this.closing ??= this.remove();
    return this.closing;
  }

  async remove() {
    try {
      if (this.daemon !== undefined && this.daemon.exitCode === null && this.daemon.signalCode === null) await this.stopDaemon('SIGTERM');
      this.lab.run(this.lab.host, [process.execPath, BERTH, 'clean']); // what one that was killed, or only just begun, has left
    } finally {
      await this.lab.close();
      worlds.delete(this);
    }
  }
}

async function says(child, words) {
  let said = '';
  const take = (data) => (said += data);
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  for (const deadline = performance.now() + READY_MS; !said.includes(words); await sleep(5)) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`waited for ${words}:\n${said}`);
  }
  child.stdout.off('data', take);
  child.stdout.resume();
  child.stderr.off('data', take);
  child.stderr.resume();
}
