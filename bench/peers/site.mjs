/**
 * A site: one contender's namespaces with its forwarder and the load server in them, ready to be measured.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTENDERS } from './contenders.mjs';
import { load } from '../support/dist.mjs';
import { HOST_PORT, runLoad, startServer } from '../support/load.mjs';
import { cpuSeconds, residentMiB, sleeps } from '../support/processes.mjs';

const READY_MS = 8000;
const { HOST_ADDRESS, Lab, OUTSIDE_ADDRESS } = await load('cli/lab');

/** Why the contender cannot be measured here, or undefined. */
export function missing(name) {
  const [command, debianPackage] = CONTENDERS[name].needs ?? [];
  if (command === undefined || spawnSync('which', [command]).status === 0) return undefined;
  return `${command} is not installed (Debian: ${debianPackage})`;
}

export class Site {
  constructor(name) {
    this.name = name;
    this.bulkOnly = CONTENDERS[name].bulkOnly === true;
    this.lab = new Lab('bench');
  }

  /** Sets everything up; resolves when the server answers to the outside. */
  async start() {
    const { lab } = this;
    this.guest = lab.addGuest('guest');
    lab.run(lab.host, ['ip', 'route', 'add', 'default', 'via', OUTSIDE_ADDRESS]);
    // Short connections leave their ports in TIME_WAIT for a minute.
    lab.run(lab.outside, ['sh', '-c', 'echo 10000 65000 > /proc/sys/net/ipv4/ip_local_port_range']);
    const { pids, at, address = HOST_ADDRESS } = await CONTENDERS[this.name].set(lab, this.guest);
    this.pids = pids;
    this.address = address;
    this.server = (await startServer(lab, at)).pid;
    for (const deadline = performance.now() + READY_MS; ; await sleep(50)) {
      try {
        this.run('count', 0);
        return;
      } catch (error) {
        if (performance.now() > deadline) throw new Error(`${this.name} does not forward: ${error.message}`, { cause: error });
      }
    }
  }

  run(command, ...numbers) {
    return runLoad(this.lab, this.lab.outside, command, { address: this.address }, ...numbers);
  }

  /** Bulk to a server of the host's own, which is none of the forwarder's business; `forwarder`: the CPU seconds that it used. */
  async measureOwn(milliseconds) {
    this.ownServer ??= await startServer(this.lab, this.lab.host, HOST_PORT);
    const before = cpuSeconds(this.pids);
    const result = runLoad(this.lab, this.lab.outside, 'in', { address: HOST_ADDRESS, first: HOST_PORT }, 1, milliseconds);
    return { ...result, forwarder: cpuSeconds(this.pids) - before };
  }

  /** Runs a client and adds what it cost: CPU seconds of the forwarder's processes, and of all: client, server, forwarder. */
  measure(command, ...numbers) {
    const before = [cpuSeconds(this.pids), cpuSeconds([this.server])];
    const result = this.run(command, ...numbers);
    const forwarder = cpuSeconds(this.pids) - before[0];
    return { ...result, forwarder, whole: forwarder + cpuSeconds([this.server]) - before[1] + result.cpu };
  }

  /** What the forwarder uses when nothing is sent: share of a core, and sleeps a second. */
  async idle(milliseconds) {
    const start = performance.now();
    const before = [cpuSeconds(this.pids), sleeps(this.pids)];
    await sleep(milliseconds);
    const seconds = (performance.now() - start) / 1000;
    return { share: (cpuSeconds(this.pids) - before[0]) / seconds, sleeps: (sleeps(this.pids) - before[1]) / seconds };
  }

  get memory() {
    return residentMiB(this.pids);
  }

  close() {
    return this.lab.close();
  }
}
