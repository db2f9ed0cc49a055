/**
 * Complete IPv4 packets out through the host's own routing, with any source address: the answers of `reject`, and first packets of mapped
 * guests, which leave by one interface.
 * The only import of raw-socket.
 *
 * Loading      the addon is loaded by the first RawSocketOut, so a process that never rejects does without it.
 * Thread       main thread only: the addon loads once a process and uses libuv's default loop.
 * Socket       IPPROTO_RAW, which is send-only and implies IP_HDRINCL (raw(7)). Reading stays paused and writing is
 *              polled only while packets wait, so an open socket alone does not keep the process alive.
 * Kernel       writes the header checksum and total length itself; identification 0 stays 0 only with DF.
 * Memory       `send` keeps the packet until it left: the caller gives it away.
 * Cost         6.8 µs and one turn of the event loop a packet; at most MAX_PENDING wait, more are dropped.
 */
import { createRequire } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import type * as RawSocketModule from 'raw-socket';
import { BerthError, messageOf } from '../base/errors.js';
import { IPV4_MIN_HEADER_BYTES } from '../wire/ipv4.js';

const IPPROTO_RAW = 255;
const MAX_PENDING = 1024;

export class RawSocketOut {
  /** Packets that the kernel took. */
  sent = 0;
  /** Packets that the kernel refused, that are too short for an IPv4 header, or that came after `close`. */
  failed = 0;
  /** Packets dropped because too many were waiting, or were still waiting at `close`. */
  dropped = 0;

  /** Held for as long as we live: the addon's socket dies with its JavaScript object. */
  private readonly socket: RawSocketModule.Socket;
  private readonly onError: (error: BerthError) => void;
  private readonly reported = new Set<string>();
  private pending = 0;
  private closed = false;

  /**
   * @param onError told of each kind of failure once, by its text; every failure is counted.
   * @param device the interface that all leaves by, whatever the routes say; none: as they say.
   * @throws BerthError ERR_RAW_SOCKET_THREAD off the main thread, ERR_RAW_SOCKET_LOAD when the addon does not load,
   *   ERR_RAW_SOCKET_OPEN when the kernel refuses the socket (CAP_NET_RAW).
   */
  constructor(onError: (error: BerthError) => void, device?: string) {
    const raw = loadRawSocket();
    try {
      this.socket = raw.createSocket({ protocol: IPPROTO_RAW, addressFamily: raw.AddressFamily.IPv4 });
    } catch (cause) {
      const text = `cannot open a raw socket: ${messageOf(cause)}; rejecting needs CAP_NET_RAW`;
      throw new BerthError('ERR_RAW_SOCKET_OPEN', text, { cause });
    }
    this.onError = onError;
    this.socket.on('error', (error: Error) => {
      this.report('ERR_RAW_SOCKET_BROKEN', error);
      this.close();
    });
    this.socket.pauseRecv();
    try {
      this.socket.setOption(raw.SocketLevel.IPPROTO_IP, raw.SocketOption.IP_HDRINCL, 1);
      if (device !== undefined) this.socket.setOption(raw.SocketLevel.SOL_SOCKET, raw.SocketOption.SO_BINDTODEVICE, Buffer.from(device), Buffer.byteLength(device));
    } catch (cause) {
      this.close();
      throw new BerthError('ERR_RAW_SOCKET_OPEN', `cannot set up a raw socket: ${messageOf(cause)}`, { cause });
    }
  }

  /** Sends a complete IPv4 packet, not altered afterwards by the caller, to its destination address. Never throws. */
  send(packet: Uint8Array): void {
    if (this.closed || packet.length < IPV4_MIN_HEADER_BYTES) {
      this.failed++;
      return;
    }
    if (this.pending >= MAX_PENDING) {
      this.dropped++;
      return;
    }
    const address = `${packet[16]}.${packet[17]}.${packet[18]}.${packet[19]}`;
    this.pending++;
    this.socket.send(packet, 0, packet.length, address, (error) => {
      this.pending--;
      if (error === null) {
        this.sent++;
      } else {
        this.failed++;
        this.report('ERR_RAW_SOCKET_SEND', error);
      }
    });
  }

  /** Closes the socket and drops what still waits. Nothing keeps the event loop alive after it. May be repeated. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.dropped += this.pending;
    this.pending = 0;
    this.socket.close();
  }

  private report(code: string, cause: Error): void {
    if (this.reported.has(cause.message)) return;
    this.reported.add(cause.message);
    this.onError(new BerthError(code, `raw socket: ${cause.message}`, { cause }));
  }
}

function loadRawSocket(): typeof RawSocketModule {
  if (!isMainThread) {
    throw new BerthError('ERR_RAW_SOCKET_THREAD', 'raw-socket works in the main thread only: send packets there');
  }
  try {
    return createRequire(import.meta.url)('raw-socket') as typeof RawSocketModule;
  } catch (cause) {
    const text = `cannot load raw-socket: ${messageOf(cause)}; run npm install`;
    throw new BerthError('ERR_RAW_SOCKET_LOAD', text, { cause });
  }
}
