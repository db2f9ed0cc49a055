/**
 * The only loader of the addon, and where its negative results become errors. Contract: native-bindings/README.md.
 *
 * Loaded on first use, so that what needs no live traffic (replay, check) runs where it was not built.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import { BerthError, messageOf } from '../base/errors.js';

/** Memories that frames lie in; the same numbers as `enum Memory` in native-bindings/src/ports.h. */
export const RING_MEMORY = 0;
export const LINK_MEMORY = 1;
export const OTHER_MEMORY = 2;

/** In `ready` instead of a port: the event was signalled. Added to a port: its descriptor has failed. */
export const WOKEN = -1;
export const FAILED = 1 << 24;

export interface NativePorts {
  attachEvent(fd: number): number;
  attachRings(mtu: number, ...smallThenLarge: [fd: number, slotBytes: number, blockBytes: number, blocks: number, fd: number, slotBytes: number, blockBytes: number, blocks: number]): number;
  attachLink(port: number, fd: number, isSocket: boolean): number;
  detach(port: number, keepTap: boolean): number;
  memory(which: number): ArrayBuffer;
  setOtherMemory(bytes: Uint8Array): void;
  wait(timeoutMs: number, looks: number): number;
  receiveRings(): number;
  receiveLink(port: number): number;
  forward(memory: number, count: number): number;
  sendOne(memory: number, port: number, offset: number, length: number): number;
  close(...views: ArrayBuffer[]): void;
}

/** What a port's sockets do, as bits; the same numbers as `enum SocketKind` in native-bindings/src/sock_diag.h. */
export const LISTENING = 1;
export const BOUND = 2;
export const CONNECTED = 4;

/** Sockets of this network namespace that serve IPv4 (native-bindings/src/sock_diag.h). Negative results are errnos. */
export interface NativeSockDiag {
  /** Ports with sockets of the kinds `which`, each once, and their kinds, into arrays of 65,536 elements; returns how many. */
  dump(protocol: number, which: number, ports: Uint16Array, kinds: Uint8Array): number;
  /** Joins the destroy groups; the descriptor, for a Poll, stays the object's. */
  subscribe(): number;
  /** `protocol << 16 | port` of sockets that have gone; full: call again. -ENOBUFS: some were lost. */
  readDestroyed(out: Uint32Array): number;
  close(): void;
}

export const READABLE = 1;
export const WRITABLE = 2;

/** Readiness of a borrowed descriptor, on this thread's loop (native-bindings/src/poll_binding.cc). */
export interface NativePoll {
  /** READABLE and WRITABLE, 0 for none. */
  watch(events: number): number;
  close(): void;
}

/** What a BPF program is for; the same numbers as `enum ProgramUse` in native-bindings/src/bpf.h. */
export const SOCKET_FILTER = 0;
export const AT_INGRESS = 1;

export interface Addon {
  SockDiag: new () => NativeSockDiag;
  /** Tells this network namespace from every other one until the machine restarts. */
  netnsCookie(): number;
  /** `onReady` gets what is ready, or a negative errno. */
  Poll: new (fd: number, onReady: (events: number) => void) => NativePoll;
  Ports: new (
    offset: Uint32Array,
    length: Uint32Array,
    wireLength: Uint32Array,
    seconds: Uint32Array,
    nanoseconds: Uint32Array,
    verdict: Int32Array,
    ready: Int32Array,
    maxPorts: number,
  ) => NativePorts;
  openPacket(ifindex: number): number;
  /** Takes only frames of `shortest` … `longest` bytes. */
  openRing(ifindex: number, promiscuous: boolean, slotBytes: number, blockBytes: number, blocks: number, shortest: number, longest: number): number;
  takeDrops(fd: number): number;
  /** 0 where there is none of that name in the namespace of this thread. */
  interfaceIndex(name: string): number;
  /** IFF_… bits; netdevice(7). */
  interfaceFlags(name: string): number;
  openTap(name: string, netnsFd: number, offloads: boolean): number;
  setTapPersistent(fd: number, persistent: boolean): number;
  openEvent(): number;
  signalEvent(fd: number): number;
  closeFd(fd: number): number;
  openSender(ifindex: number): number;
  sendFrame(fd: number, frames: Uint8Array, offset: number, length: number): number;
  reservePorts(address: number, protocol: number, first: number, last: number, fds: Int32Array): number;
  raiseFileLimit(count: number): number;
  /** `type` and `flags` as in linux/bpf.h. */
  bpfCreateMap(type: number, keyBytes: number, valueBytes: number, entries: number, flags: number): number;
  bpfUpdateMap(map: number, key: Uint32Array, value: Uint32Array): number;
  bpfDeleteFromMap(map: number, key: Uint32Array): number;
  /** Returns when every program that was running in the kernel has ended: some ms. */
  waitForPrograms(): number;
  /** A map's values, in memory that the kernel sees too, for as long as the ArrayBuffer lives. */
  bpfMapMemory(map: number, bytes: number): ArrayBuffer | number;
  /** `use`: SOCKET_FILTER or AT_INGRESS; only under a GPL-compatible license may a program call the kernel's functions. */
  bpfLoad(use: number, instructions: Uint8Array, license: string): number;
  bpfAttach(socket: number, program: number): number;
  /** Puts a program at an interface's ingress for as long as the descriptor it returns is open. */
  bpfAttachIngress(ifindex: number, program: number): number;
  /** What the program returns for a frame. */
  bpfRun(use: number, program: number, frame: Uint8Array): number;
}

const require = createRequire(import.meta.url);
let loaded: Addon | undefined;

/** The addon of this thread. ERR_NO_ADDON where it has not been built (Linux only). */
export function addon(): Addon {
  try {
    loaded ??= require('../../native-bindings/build/Release/berth.node') as Addon;
  } catch (cause) {
    throw new BerthError('ERR_NO_ADDON', `the native addon cannot be loaded (${messageOf(cause).split('\n')[0]}); live traffic needs Linux and \`npm run setup\``, { cause });
  }
  return loaded;
}

/** A result that is a negative errno becomes an error with the system's name for it (`ERR_NATIVE`, `errno` kept in the cause). */
export function check(result: number, what: string): number {
  if (result >= 0) return result;
  const name = errnoName(result);
  throw new BerthError('ERR_NATIVE', `${what}: ${name}`, { cause: { errno: -result, name } });
}

/** `EADDRINUSE` for 98 or -98. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-Math.abs(errno));
  } catch {
    return `errno ${Math.abs(errno)}`;
  }
}
