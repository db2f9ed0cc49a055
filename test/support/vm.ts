/**
 * A guest VM of a live test: QEMU on a tap of the lab's host, a real kernel inside, and in it `berth agent` on a virtio port.
 *
 *     const vm = await Vm.start(world, kernel, 'tap-vm', agentSocket);
 *     await vm.agent.says(/^welcomed /);            the agent's log
 *     await vm.run('cat /proc/uptime');             a command in the guest
 *     const { peer, pid } = await vm.startPeer();   a peer in the guest
 *     await vm.kill();                              as when QEMU crashes
 *
 * Ports        berth.agent.0 is Berth's; test.log carries the agent's log to QEMU's standard output, test.shell commands, test.peer
 *              what a peer says and is told.
 * Emulated     (-accel tcg), so that it runs on every x86-64 machine: three seconds to init, five more until the agent is ready.
 * MAC          QEMU's own at the start: that the agent sets the NIC's can then be seen.
 */
import { createServer, type Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { RunningDaemon, until, type World } from './live.js';
import { Peer } from './peer.js';
import { makeInitramfs } from './vm-image.js';

const INIT = fileURLToPath(new URL('vm-init.sh', import.meta.url));
const MEMORY_MB = 512;
const BOOT_MS = 30_000;
const COMMAND_MS = 10_000;

export class Vm {
  /** QEMU's process, whose standard output is the agent's log. */
  readonly agent: RunningDaemon;
  private readonly shell: Interface;
  private readonly shellPort: Socket;
  private readonly peerPort: Socket;

  private constructor(agent: RunningDaemon, shellPort: Socket, peerPort: Socket) {
    this.agent = agent;
    this.shellPort = shellPort;
    this.peerPort = peerPort;
    this.shell = createInterface({ input: shellPort }).on('error', () => undefined); // QEMU was killed
  }

  /** Boots it; resolves when it takes commands. QEMU listens on `agentSocket`. */
  static async start(world: World, kernel: string, tap: string, agentSocket: string): Promise<Vm> {
    const { folder } = world.lab;
    const initramfs = `${folder}/initramfs`;
    makeInitramfs(initramfs, kernel, INIT);
    const ends = new Map<string, Socket>();
    for (const name of ['test.shell', 'test.peer']) listen(`${folder}/${name}`, (socket) => ends.set(name, socket));
    let said = '';
    listen(`${folder}/console`, (socket) => socket.on('data', (data: Buffer) => (said += data.toString())));
    const command = [
      ...['qemu-system-x86_64', '-accel', 'tcg', '-M', 'q35', '-smp', '2', '-m', String(MEMORY_MB), '-nodefaults', '-no-reboot', '-display', 'none'],
      ...['-kernel', `${kernel}/vmlinuz`, '-initrd', initramfs, '-append', 'console=ttyS0 quiet panic=-1', '-serial', `unix:${folder}/console`],
      ...['-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no`, '-device', 'virtio-net-pci,netdev=net'],
      ...['-device', 'virtio-serial-pci'],
      ...port('berth.agent.0', 'socket', `,path=${agentSocket},server=on,wait=off`),
      ...port('test.log', 'stdio'),
      ...port('test.shell', 'socket', `,path=${folder}/test.shell`),
      ...port('test.peer', 'socket', `,path=${folder}/test.peer`),
    ];
    const agent = new RunningDaemon(world.lab.spawn(world.lab.host, command, 'pipe'));
    await until(() => ends.size === 2 || !agent.isRunning, COMMAND_MS, () => 'QEMU to connect to the test');
    if (!agent.isRunning) throw new Error(`QEMU has ended: ${agent.errors}`);
    const vm = new Vm(agent, ends.get('test.shell')!, ends.get('test.peer')!);
    await vm.run('true', BOOT_MS).catch((cause: unknown) => {
      throw new Error(`the VM does not boot; its console says\n${said}`, { cause });
    });
    return vm;
  }

  /** Runs a line of shell in the guest, one at a time, and returns its output; throws when it fails. `ip` alone is busybox's own. */
  async run(line: string, timeoutMs = COMMAND_MS): Promise<string> {
    const output: string[] = [];
    const take = (text: string): void => void output.push(text);
    this.shell.on('line', take);
    try {
      this.shellPort.write(`${line}\n`);
      const ended = (): boolean => output.at(-1)?.startsWith('=') === true;
      await until(() => ended() || !this.agent.isRunning, timeoutMs, () => `the guest to run ${line}: ${output.join('\n')}`);
      if (!ended()) throw new Error(`QEMU has ended: ${this.agent.errors}`);
    } finally {
      this.shell.off('line', take);
    }
    const status = output.pop();
    if (status !== '=0') throw new Error(`${line} in the guest: status ${status}: ${output.join('\n')}`);
    return output.join('\n');
  }

  /** Starts a process in the guest. */
  async spawn(command: string): Promise<void> {
    await this.run(`${command} </dev/null >/dev/null 2>&1 &`);
  }

  /** Once a VM; `pid` is the guest's. */
  async startPeer(): Promise<{ peer: Peer; pid: number }> {
    const pid = await this.run('node /berth/test/support/peer.mjs <>/dev/virtio-ports/test.peer >&0 2>/dev/console & echo $!');
    return { peer: new Peer(this.peerPort, this.peerPort), pid: Number(pid) };
  }

  /** It stands still, and QEMU with it. */
  pause(): void {
    this.agent.child.kill('SIGSTOP');
  }

  resume(): void {
    this.agent.child.kill('SIGCONT');
  }

  /** As when QEMU crashes. */
  async kill(): Promise<void> {
    await this.agent.stop('SIGKILL');
  }
}

/** QEMU's options for a virtio port and what it is connected to. */
function port(name: string, backend: string, settings = ''): string[] {
  return ['-chardev', `${backend},id=${name}${settings}`, '-device', `virtserialport,chardev=${name},name=${name}`];
}

/** Listens for QEMU, which connects once. */
function listen(path: string, onConnection: (socket: Socket) => void): void {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(path);
  onTestFinished(() => void server.close());
}
