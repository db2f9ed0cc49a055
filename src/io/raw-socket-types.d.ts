/** What io/raw-socket-out.ts and the checksum tests use of raw-socket 1.8, which has no types of its own. */
declare module 'raw-socket' {
  import type { EventEmitter } from 'node:events';

  interface Socket extends EventEmitter {
    /** Queues the packet and keeps `buffer` until `done`; one packet leaves each time the socket is writable. */
    send(
      buffer: Uint8Array,
      offset: number,
      length: number,
      address: string,
      done: (error: Error | null, bytes: number) => void,
    ): this;
    setOption(level: number, option: number, value: number): void;
    setOption(level: number, option: number, value: Uint8Array, length: number): void;
    pauseRecv(): this;
    pauseSend(): this;
    close(): this;
  }

  /** Throws when the kernel refuses the socket; protocol 0 is always refused on Linux. */
  function createSocket(options: { protocol: number; addressFamily?: number }): Socket;
  function createChecksum(...buffers: Uint8Array[]): number;
  const AddressFamily: { readonly IPv4: number; readonly IPv6: number };
  const SocketLevel: { readonly IPPROTO_IP: number; readonly SOL_SOCKET: number };
  const SocketOption: { readonly IP_HDRINCL: number; readonly SO_BINDTODEVICE: number };
}
