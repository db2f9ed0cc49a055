/** A virtio port is a character device without connections; a pseudo terminal in raw mode plays it, its other end a process in Python. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Channel, unixSocket, virtioPort } from '../../src/agent/channel.js';
import { until } from '../support/live.js';

/** Prints the name of the device; then copies its bytes to standard output and standard input to it. */
const HOST_END = `
import os, select, sys, tty
master, slave = os.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)
while True:
    for fd in select.select([0, master], [], [])[0]:
        data = os.read(fd, 65536)
        if not data: sys.exit()
        os.write(master if fd == 0 else 1, data)
`;

class Heard {
  text = '';
  opened = false;
  readonly ends: string[] = [];
  readonly onOpen = (): void => void (this.opened = true);
  readonly onData = (bytes: Uint8Array): void => void (this.text += Buffer.from(bytes).toString());
  readonly onEnd = (reason: string): void => void this.ends.push(reason);
}

describe.runIf(process.platform === 'linux' && spawnSync('which', ['python3']).status === 0)('virtio port', () => {
  it('carries lines both ways, begins with an empty one, and ends with the host', async () => {
    const host = spawn('python3', ['-c', HOST_END]);
    onTestFinished(() => void host.kill('SIGKILL'));
    const lines: string[] = [];
    createInterface({ input: host.stdout }).on('line', (line) => lines.push(line));
    await until(() => lines.length === 1, 5000, () => 'the device');
    const heard = new Heard();
    const channel = virtioPort(lines[0])(heard);
    onTestFinished(() => channel.close());
    await until(() => heard.opened, 1000, () => 'the port to open');
    channel.write('hello\n');
    await until(() => lines.length === 3, 1000, () => lines.join('|'));
    expect(lines.slice(1)).toEqual(['', 'hello']);
    host.stdin.write('welcome\n');
    await until(() => heard.text === 'welcome\n', 1000, () => heard.text);
    // More than the device takes at once.
    const long = Array.from({ length: 3 }, (_, i) => String(i).repeat(60_000));
    for (const line of long) channel.write(`${line}\n`);
    await until(() => lines.length === 6, 5000, () => `${lines.length} lines`);
    expect(lines.slice(3)).toEqual(long);
    const ended = once(host, 'exit');
    host.kill('SIGKILL');
    await ended;
    await until(() => heard.ends.length > 0, 1000, () => 'the end');
    expect(heard.ends).toHaveLength(1);
  });

  it('that is not there is an end with its name', async () => {
    const heard = new Heard();
    virtioPort('berth.none.0')(heard);
    await until(() => heard.ends.length === 1, 1000, () => 'the end');
    expect(heard.ends[0]).toMatch(/\/dev\/virtio-ports\/berth\.none\.0.*ENOENT/);
  });
});

describe('unix socket', () => {
  it('that is not there is an end; one closed before is none', async () => {
    const heard = new Heard();
    const channels: Channel[] = [unixSocket('/nowhere/agent.sock')(heard), unixSocket('/nowhere/agent.sock')(heard)];
    channels[1].close();
    await until(() => heard.ends.length > 0, 1000, () => 'the end');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard.ends).toHaveLength(1);
    expect(heard.ends[0]).toMatch(/ENOENT/);
  });
});
