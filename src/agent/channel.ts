/**
 * Channels to the host: a byte stream over a Unix socket, or over a virtio port of a virtual machine.
 *
 * Virtio port  a file that Node has no stream for: opened non-blocking and polled. It has no connections: while nobody has the
 *              host's end open, reading gives nothing and writing EAGAIN. That is an end here; the client tries again.
 * Port's name  is a link that udev makes; in a guest without udev the kernel's own list of ports is searched for it.
 * Backlog      what the host does not read is kept up to MAX_BACKLOG bytes; more is an end.
 */
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { BerthError, messageOf } from '../base/errors.js';
import { addon, errnoName, type NativePoll, READABLE, WRITABLE } from '../native/binding.js';

const MAX_BACKLOG = 1 << 20;
const READ_BYTES = 64 * 1024;
const PORT_LINKS = '/dev/virtio-ports';
const PORT_LIST = '/sys/class/virtio-ports';

export interface ChannelEvents {
  onOpen(): void;
  /** Borrowed until it returns. */
  onData(bytes: Uint8Array): void;
  /** Once, also when it could not be opened; nothing follows. */
  onEnd(reason: string): void;
}

export interface Channel {
  write(text: string): void;
  /** Ends it without onEnd. */
  close(): void;
}

export type OpenChannel = (events: ChannelEvents) => Channel;

export function unixSocket(path: string): OpenChannel {
  return (events) => new SocketChannel(path, events);
}

/** `name` is the one that the VMM gave the port, or a path. */
export function virtioPort(name: string): OpenChannel {
  return (events) => new PortChannel(name, events);
}

/** Where the port is, or should be. */
function portFile(name: string): string {
  if (name.includes('/')) return name;
  const link = `${PORT_LINKS}/${name}`;
  if (existsSync(link) || !existsSync(PORT_LIST)) return link;
  const device = readdirSync(PORT_LIST).find((one) => readFileSync(`${PORT_LIST}/${one}/name`, 'utf8').trim() === name);
  return device === undefined ? link : `/dev/${device}`;
}

class SocketChannel implements Channel {
  private readonly socket: Socket;
  private ended = false;

  constructor(path: string, events: ChannelEvents) {
    this.socket = connect(path);
    let reason = 'closed by the host';
    this.socket.on('connect', () => events.onOpen());
    this.socket.on('data', (bytes) => events.onData(bytes));
    this.socket.on('error', (error) => (reason = messageOf(error)));
    this.socket.on('close', () => {
      if (!this.ended) events.onEnd(reason);
    });
  }

  write(text: string): void {
    this.socket.write(text);
    if (this.socket.writableLength > MAX_BACKLOG) this.socket.destroy(new Error('the host does not read'));
  }

  close(): void {
    this.ended = true;
    if (this.socket.connecting) this.socket.destroy();
    else this.socket.destroySoon(); // what was written is sent
  }
}

class PortChannel implements Channel {
  private readonly events: ChannelEvents;
  private readonly buffer = Buffer.allocUnsafe(READ_BYTES);
  private fd = -1;
  private poll: NativePoll | null = null;
  private backlog = Buffer.alloc(0);

  constructor(name: string, events: ChannelEvents) {
    this.events = events;
    setImmediate(() => this.open(name));
  }

  write(text: string): void {
    if (this.fd < 0) return;
    const idle = this.backlog.length === 0;
    this.backlog = Buffer.concat([this.backlog, Buffer.from(text)]);
    if (this.backlog.length > MAX_BACKLOG) this.end('the host does not read');
    else if (idle) this.flush();
  }

  close(): void {
    this.poll?.close();
    this.poll = null;
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -2;
  }

  private open(name: string): void {
    if (this.fd === -2) return;
    let path = name;
    try {
      path = portFile(name);
      this.fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
      this.poll = new (addon().Poll)(this.fd, (ready) => this.ready(ready));
    } catch (error) {
      this.end(error instanceof BerthError ? error.message : `${path}: ${messageOf(error)}`);
      return;
    }
    this.poll.watch(READABLE);
    // Whatever half line an earlier session left is ended by this.
    this.write('\n');
    this.events.onOpen();
  }

  private ready(ready: number): void {
    if (ready < 0) return this.end(errnoName(ready));
    if ((ready & WRITABLE) !== 0) this.flush();
    if ((ready & READABLE) === 0 || this.fd < 0) return;
    let count: number;
    try {
      count = readSync(this.fd, this.buffer, 0, READ_BYTES, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') this.end(messageOf(error));
      return;
    }
    if (count === 0) this.end('nobody at the host\'s end');
    else this.events.onData(this.buffer.subarray(0, count));
  }

  private flush(): void {
    try {
      while (this.backlog.length > 0) this.backlog = this.backlog.subarray(writeSync(this.fd, this.backlog));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return this.end(messageOf(error));
    }
    this.poll?.watch(this.backlog.length > 0 ? READABLE | WRITABLE : READABLE);
  }

  private end(reason: string): void {
    if (this.fd === -2) return;
    this.close();
    this.events.onEnd(reason);
  }
}
