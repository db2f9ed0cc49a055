/**
 * RawSocketOut, live: packets with a foreign source address leave an interface byte for byte, and the process ends.
 *
 * Where        a network namespace of its own: berth0 — berth1, a veth pair; a raw socket sends into berth0's subnet,
 *              tcpdump listens on berth1. The neighbour is static, so nothing waits for ARP.
 * How          Node cannot change its namespace: the module and what it imports are compiled to a folder, and a child
 *              node runs them there.
 * Needs        root, ip, tcpdump; elsewhere it skips and prints why.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RawSocketOut } from '../../src/io/raw-socket-out.js';
import { eth, ipv4 } from '../../src/wire/frame-builder.js';
import { rejection } from '../../src/wire/reject.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** Steps of the child's program; what they use is defined in `run`. */
const SEND_ALL = 'for (const packet of packets) out.send(packet); await settled();';
const PRINT = 'console.log(JSON.stringify(counts()));';
const namespace = `berth-raw-${process.pid}-${Date.now().toString(36)}`;

function mayRun(): boolean {
  const missing = ['ip', 'tcpdump'].filter((tool) => spawnSync('which', [tool]).status !== 0);
  if (process.getuid?.() !== 0) missing.unshift('root');
  if (missing.length > 0) console.warn(`skipped: raw-socket-out needs ${missing.join(', ')}`);
  return missing.length === 0;
}

/** The answer to a frame from 198.51.100.7, a host behind berth0, to 192.0.2.10, an address that is not configured. */
function answerTo(bytes: Uint8Array): Uint8Array {
  const totalLength = bytes.length - 14;
  return rejection({ bytes, frameOffset: 0, packetOffset: 14, captured: totalLength, totalLength })!;
}

it('does not load the addon before it is used', () => {
  const loaded = Object.keys(createRequire(import.meta.url).cache);
  expect(RawSocketOut).toBeTypeOf('function');
  expect(loaded.filter((path) => path.includes('raw-socket'))).toEqual([]);
});

describe.skipIf(!mayRun())('RawSocketOut in a namespace', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-raw-'));
  const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let captures = 0;

  beforeAll(() => {
    compile(folder);
    ip('netns', 'add', namespace);
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    ip('-n', namespace, 'link', 'add', 'berth0', 'type', 'veth', 'peer', 'name', 'berth1');
    ip('-n', namespace, 'addr', 'add', '198.51.100.1/24', 'dev', 'berth0');
    for (const link of ['berth0', 'berth1']) ip('-n', namespace, 'link', 'set', link, 'up');
    ip('-n', namespace, 'neigh', 'add', '198.51.100.7', 'lladdr', '02:00:5e:10:00:07', 'dev', 'berth0');
  }, 60_000);

  afterAll(() => {
    spawnSync('ip', ['netns', 'del', namespace]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs `body` in the namespace with `out`, a RawSocketOut, and `errors`; returns what it prints as JSON. */
  async function run(body: string, packets: readonly Uint8Array[] = []): Promise<unknown> {
    const program = `
      import { RawSocketOut } from './io/raw-socket-out.js';
      const errors = [];
      const packets = ${JSON.stringify(packets.map((packet) => Array.from(packet)))}.map((list) => Uint8Array.from(list));
      const out = new RawSocketOut((error) => errors.push(error.code));
      const counts = () => ({ sent: out.sent, failed: out.failed, dropped: out.dropped, errors });
      const settled = async () => {
        while (out.sent + out.failed + out.dropped < packets.length) await new Promise(setImmediate);
      };
      ${body}`;
    const args = ['netns', 'exec', namespace, process.execPath, '--expose-gc', '--input-type=module', '-e', program];
    const child = spawn('ip', args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    const text = collect(child);
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    clearTimeout(timer);
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    return JSON.parse(text());
  }

  /** IPv4 packets that reach berth1 from 192.0.2.10 while `during` runs; at least `count` are waited for. */
  async function capture(count: number, during: () => Promise<void>): Promise<Uint8Array[]> {
    const file = join(folder, `capture-${captures++}.pcap`);
    const filter = ['-Q', 'in', '-c', String(count), 'ip and src host 192.0.2.10'];
    const args = ['tcpdump', '-i', 'berth1', '-n', '-Z', 'root', '-U', '-w', file, ...filter];
    const tcpdump = spawn('ip', ['netns', 'exec', namespace, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    const closed = once(tcpdump, 'close');
    await new Promise<void>((resolve, reject) => {
      tcpdump.stderr.on('data', (text: Buffer) => {
        if (text.includes('listening on')) resolve();
      });
      tcpdump.on('exit', () => reject(new Error('tcpdump ended early')));
    });
    const timer = setTimeout(() => tcpdump.kill('SIGINT'), 5000);
    await during();
    await closed;
    clearTimeout(timer);
    return readPackets(readFileSync(file));
  }

  it('sends a reset and an unreachable from an address that is not its own, byte for byte', async () => {
    const reset = answerTo(eth().ipv4().tcp(40000, 8080, { seq: 7 }).build());
    const unreachable = answerTo(eth().ipv4().udp(40000, 8080, { payload: new Uint8Array(900) }).build());
    const seen = await capture(2, async () => {
      const result = await run(SEND_ALL + PRINT, [reset, unreachable]);
      expect(result).toEqual({ sent: 2, failed: 0, dropped: 0, errors: [] });
    });
    expect(seen).toEqual([reset, unreachable]);
  });

  it('sends a burst in order', async () => {
    const packets = Array.from({ length: 300 }, (_, port) => answerTo(eth().ipv4().tcp(port, 80).build()));
    const seen = await capture(300, async () => {
      await run(`${SEND_ALL} out.close(); ${PRINT}`, packets);
    });
    expect(seen).toEqual(packets);
  });

  it('counts what cannot be sent, reports each kind once and goes on', async () => {
    const start = ipv4({ src: '192.0.2.10', dst: '198.51.100.7' });
    const good = start.udp(1, 2).packet();
    const tooLong = start.udp(1, 2).payload(new Uint8Array(2000)).packet();
    const noRoute = ipv4({ src: '192.0.2.10', dst: '203.0.113.1' }).udp(1, 2).packet();
    const packets = [noRoute, noRoute, tooLong, new Uint8Array(19), new Uint8Array(0), good];
    const result = await run(SEND_ALL + PRINT, packets);
    const errors = ['ERR_RAW_SOCKET_SEND', 'ERR_RAW_SOCKET_SEND'];
    expect(result).toEqual({ sent: 1, failed: 5, dropped: 0, errors });
  });

  it('holds a bounded number of packets and drops the rest', async () => {
    const packet = answerTo(eth().ipv4().tcp(1, 80).build());
    const result = await run(`for (let i = 0; i < 2000; i++) out.send(packets[0]); out.close(); ${PRINT}`, [packet]);
    expect(result).toEqual({ sent: 0, failed: 0, dropped: 2000, errors: [] });
  });

  it('lets the process end while open and idle, and keeps the socket through garbage collection', async () => {
    const packet = answerTo(eth().ipv4().tcp(1, 80).build());
    const wait = 'for (let i = 0; i < 20; i++) { gc(); await new Promise(setImmediate); }';
    const result = await run(`${wait} ${SEND_ALL} ${wait} ${PRINT}`, [packet]);
    expect(result).toMatchObject({ sent: 1, failed: 0 });
  });

  it('ends after close, which may be repeated; later packets count as failed', async () => {
    const packet = answerTo(eth().ipv4().tcp(1, 80).build());
    const result = await run(`out.close(); out.close(); out.send(packets[0]); ${PRINT}`, [packet]);
    expect(result).toEqual({ sent: 0, failed: 1, dropped: 0, errors: [] });
  });

  it('refuses a worker, and a process without CAP_NET_RAW, with a code', async () => {
    const worker = `
      import { Worker } from 'node:worker_threads';
      const source = "import('./io/raw-socket-out.js').then((m) => new m.RawSocketOut(() => {}))" +
        ".catch((error) => require('node:worker_threads').parentPort.postMessage(error.code))";
      const worker = new Worker(source, { eval: true, execArgv: [] });
      worker.once('message', (code) => console.log(JSON.stringify(code)));`;
    expect(await run(worker)).toBe('ERR_RAW_SOCKET_THREAD');
    const unprivileged = `
      process.setuid(65534);
      try { new RawSocketOut(() => {}); } catch (error) { console.log(JSON.stringify(error.code)); }`;
    expect(await run(unprivileged)).toBe('ERR_RAW_SOCKET_OPEN');
  });
});

/** Compiles raw-socket-out.ts and its imports into `folder`, where node_modules is the repository's. */
function compile(folder: string): void {
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: { rootDir: join(root, 'src'), outDir: folder, typeRoots: [join(root, 'node_modules/@types')] },
    files: ['raw-socket-out.ts', 'raw-socket-types.d.ts'].map((name) => join(root, 'src/io', name)),
    include: [],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], { stdio: 'inherit' });
}

function collect(child: ChildProcess): () => string {
  let text = '';
  child.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return () => text;
}

/** The IPv4 packets of a little-endian pcap file of Ethernet frames, cut to their total length. */
function readPackets(file: Buffer): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let at = 24; at < file.length; ) {
    const length = file.readUInt32LE(at + 8);
    const packet = file.subarray(at + 16 + 14, at + 16 + length);
    packets.push(Uint8Array.from(packet.subarray(0, packet.readUInt16BE(2))));
    at += 16 + length;
  }
  return packets;
}
