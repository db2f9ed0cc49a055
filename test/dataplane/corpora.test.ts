/**
 * Captures nobody here made (../shared/corpora), through reader and engine: every frame without a crash, what was read and
 * what was decided compared with what tshark reads and the reference decides; and, by ports, with tcpdump's filter.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { hasTool, readAll, temporaryDirectory } from '../io/capture-files.js';
import { type Entry, fillTable, ip, RecordingSink } from '../support/dataplane-harness.js';
import { type Seen, seenByTshark } from '../support/dataplane-oracle.js';
import { type Outcome, Reference } from '../support/dataplane-reference.js';
import { KernelSteering, LONGEST_TRIAL, withoutKernelSteering } from '../support/kernel-steering.js';
import { Counters } from '../../src/dataplane/counters.js';
import { Engine } from '../../src/dataplane/engine.js';
import { FIRST_FRAGMENT, KIND_ARP, KIND_MALFORMED, KIND_NOT_IPV4, KIND_TCP, KIND_UDP, PASS, REASONS } from '../../src/dataplane/frame-batch.js';
import { ANY_STATION } from '../../src/dataplane/parse.js';
import { openCapture } from '../../src/io/capture-reader.js';
import { FrameSlots } from '../../src/io/frame-io.js';
import type { TableFollower } from '../../src/steering/table-follower.js';
import { TableWriter } from '../../src/steering/table-writer.js';
import { SteeringTable } from '../../src/steering/table.js';
import { formatIpv4 } from '../../src/wire/address.js';

const CORPORA = fileURLToPath(new URL('../../../shared/corpora/', import.meta.url));
const ORACLE = `${CORPORA}oracle.sh`;
const FILES = [
  { name: 'public-pcapplusplus.pcap', frames: 404 },
  { name: 'tcpdump-tests.pcap', frames: 6421 },
];
const missing = ['xz', 'tshark', 'tcpdump'].filter((tool) => !hasTool(tool));
if (!existsSync(ORACLE)) missing.push('../shared/corpora');
if (missing.length > 0) console.warn(`skipped: corpora test needs ${missing.join(', ')}`);

const temporary = temporaryDirectory();
afterAll(temporary.remove);

function unpack(name: string): string {
  const path = temporary.path(name);
  if (!existsSync(path)) writeFileSync(path, execFileSync('xz', ['-dc', `${CORPORA}${name}.xz`], { maxBuffer: 1 << 28 }));
  return path;
}

interface Found {
  kind: number;
  src?: string;
  dst?: string;
  ports?: { src: number; dst: number };
  verdict: string;
  guest?: number;
  reason: string;
  copies: number[];
  bytes: Buffer;
}

/** Reads the capture through the engine; `batch` frames a turn. */
async function steer(path: string, entries: readonly Entry[], addresses: readonly string[], batch = 100, follower?: TableFollower): Promise<Found[]> {
  const writer = new TableWriter({ follower });
  fillTable(writer, entries, addresses);
  const slots = new FrameSlots(batch);
  const engine = new Engine({ slots, table: new SteeringTable(writer.buffer), counters: new Counters(8), station: ANY_STATION, rejecting: false });
  const sharing: number[][] = [];
  for (const { address, guest } of entries) {
    const list = (sharing[writer.addAddress(ip(address))] ??= []);
    if (!list.includes(guest)) list.push(guest);
  }
  engine.memory.guests = sharing;
  const reader = await openCapture(path);
  const found: Found[] = [];
  while (await reader.read(slots)) {
    const sink = new RecordingSink();
    engine.ingress(sink);
    const { kind, source, destination, ports, reason } = engine.batch;
    for (let i = 0; i < slots.count; i++) {
      const verdict = sink.verdicts[i];
      const isRead = kind[i] !== KIND_MALFORMED && kind[i] !== KIND_NOT_IPV4 && kind[i] !== KIND_ARP;
      found.push({
        kind: kind[i],
        ...(isRead ? { src: formatIpv4(source[i]), dst: formatIpv4(destination[i]) } : {}),
        ...(kind[i] <= KIND_UDP + FIRST_FRAGMENT ? { ports: { src: ports[i] >>> 16, dst: ports[i] & 0xffff } } : {}),
        verdict: verdict >= 0 ? 'forward' : verdict === PASS ? 'pass' : 'discard',
        ...(verdict >= 0 ? { guest: verdict - 1 } : {}),
        reason: REASONS[reason[i]],
        copies: sink.copies.filter(({ frame }) => frame === i).map(({ port }) => port - 1),
        bytes: Buffer.from(slots.bytes.subarray(slots.offset[i], slots.offset[i] + slots.length[i])),
      });
    }
  }
  expect(reader.error).toBeNull();
  await reader.close();
  return found;
}

/**
 * Leases so that much is ours: the most frequent destinations; one of them dedicated and in use, one dedicated and leased;
 * on the others their endpoints are, in turn, two guests' in use, leased, quarantined, not leased.
 */
function plan(seen: readonly Seen[]): { entries: Entry[]; addresses: string[] } {
  const frames = new Map<string, number>();
  const endpoints = new Set<string>();
  for (const { frame: { body }, dst, ports } of seen) {
    const address = dst ?? (body.is === 'arp' ? body.target : undefined);
    if (address === undefined) continue;
    frames.set(address, (frames.get(address) ?? 0) + 1);
    if (ports !== undefined && body.is === 'ipv4') endpoints.add(`${dst} ${body.protocol === 6 ? 'tcp' : 'udp'} ${ports.dst}`);
  }
  const addresses = [...frames].sort((a, b) => b[1] - a[1]).slice(0, 60).map(([address]) => address);
  const entries: Entry[] = [
    { address: addresses[2], proto: 'any', port: 'all', guest: 4, state: 'in use' },
    { address: addresses[3], proto: 'any', port: 'all', guest: 5, state: 'leased' },
  ];
  [...endpoints].sort().forEach((endpoint, n) => {
    const [address, proto, port] = endpoint.split(' ');
    if (!addresses.includes(address) || n % 5 === 4 || Number(port) === 0) return;
    const state = n % 5 === 2 ? 'leased' : n % 5 === 3 ? 'quarantined' : 'in use';
    entries.push({ address, proto: proto as 'tcp' | 'udp', port: Number(port), guest: n % 4, state });
  });
  return { entries, addresses };
}

describe.skipIf(missing.length > 0).each(FILES)('corpus $name', ({ name, frames }) => {
  it('is read and steered as tshark and the reference say', { timeout: 120_000 }, async () => {
    const path = unpack(name);
    const seen = seenByTshark(path, ORACLE);
    expect(seen.length).toBe(frames);
    const { entries, addresses } = plan(seen);
    const found = await steer(path, entries, addresses);
    expect(found.length).toBe(frames);

    const reference = new Reference();
    for (const address of addresses) reference.ours.add(address);
    for (const { address, proto, port, guest, state } of entries) reference.hold(address, proto, port, { guest, state, mayImply: true });
    const tally = new Map<string, number>();
    const count = (what: string): unknown => tally.set(what, (tally.get(what) ?? 0) + 1);
    const differences: unknown[] = [];
    seen.forEach(({ frame, seconds, skip, src, dst, ports }, n) => {
      const { bytes, kind, ...got } = found[n];
      if (skip !== undefined) {
        count(`skipped: ${skip}`);
        // Addresses can be compared all the same, but for source routes.
        if (skip !== 'source route' && (got.src !== src || got.dst !== dst)) differences.push({ n: n + 1, got, expected: { src, dst } });
        return;
      }
      const { rejected, proxied, ...outcome }: Outcome = reference.ingress(frame, seconds);
      const isRead = src !== undefined;
      const expected = { ...(isRead ? { src, dst } : {}), ...(ports === undefined ? {} : { ports }), ...outcome };
      count(`${outcome.verdict} ${outcome.reason}`.trim());
      expect([rejected, proxied]).toEqual([false, false]);
      try {
        expect(got).toEqual(expected);
      } catch {
        differences.push({ n: n + 1, kind, got, expected, frame: bytes.subarray(0, 60).toString('hex') });
      }
    });
    console.info(`${name}: ${frames} frames; ${[...tally].sort().map(([what, times]) => `${what} ${times}`).join(', ')}`);
    expect(differences).toEqual([]);
    // It must have been a comparison: nearly all frames, and all verdicts.
    const skipped = [...tally].filter(([what]) => what.startsWith('skipped')).reduce((sum, [, times]) => sum + times, 0);
    expect(skipped).toBeLessThan(frames / 50);
    for (const what of ['forward', 'discard not-in-use', 'discard quarantined', 'pass not-leased', 'pass not-ours', 'pass not-ipv4', 'pass malformed']) {
      expect(tally.get(what) ?? 0, what).toBeGreaterThan(0);
    }
  });

  it('gets the same verdicts whatever the size of a batch', async () => {
    const path = unpack(name);
    const { entries, addresses } = plan(seenByTshark(path, ORACLE));
    const lines = async (batch: number): Promise<string[]> => (await steer(path, entries, addresses, batch)).map(({ bytes, ...found }) => JSON.stringify({ ...found, length: bytes.length }));
    const byHundred = await lines(100);
    expect(await lines(1)).toEqual(byHundred);
    expect(await lines(1024)).toEqual(byHundred);
  });

  it.skipIf(withoutKernelSteering('corpora'))('leaves nothing to the host in the kernel that the engine would not pass for the same reason', async () => {
    const path = unpack(name);
    const { entries, addresses } = plan(seenByTshark(path, ORACLE));
    const kernel = new KernelSteering(null, 64);
    try {
      const found = (await steer(path, entries, addresses, 100, kernel.table)).filter(({ bytes }) => bytes.length > 0 && bytes.length < LONGEST_TRIAL);
      const left = found.map(({ bytes }) => kernel.fromNic(bytes));
      const differences = found.map((frame, n) => ({ n, left: left[n], frame })).filter(({ left: reason, frame }) => reason !== 'engine' && (frame.verdict !== 'pass' || frame.reason !== reason || frame.copies.length > 0));
      expect(differences).toEqual([]);
      for (const reason of ['not-leased', 'not-ours', 'not-ipv4', 'other-protocol']) expect(left.filter((one) => one === reason).length, reason).toBeGreaterThan(0);
    } finally {
      kernel.close();
    }
  });

  const filters = [
    ['udp', 53],
    ['udp', 67],
    ['udp', 4789],
    ['udp', 2152],
    ['tcp', 22],
    ['tcp', 80],
    ['tcp', 6633],
    ['tcp', 179],
  ] as const;
  it.each(filters)('has the frames that tcpdump finds by "ip and %s dst port %i"', async (proto, port) => {
    const path = unpack(name);
    const out = temporary.path(`${proto}${port}.pcap`);
    execFileSync('tcpdump', ['-n', '-r', path, '-w', out, `ip and ${proto} dst port ${port}`], { stdio: 'ignore' });
    const matched = (await readAll(out)).frames.map(({ bytes }) => bytes.toString('hex'));
    const kinds = proto === 'tcp' ? [KIND_TCP, KIND_TCP + FIRST_FRAGMENT] : [KIND_UDP, KIND_UDP + FIRST_FRAGMENT];
    const all = await steer(path, [], []);
    // tcpdump looks at nothing but the bytes it needs: frames that Berth calls malformed, it may match; "ip" is untagged.
    const malformed = new Set(all.filter(({ kind }) => kind === KIND_MALFORMED).map(({ bytes }) => bytes.toString('hex')));
    const ours = all.filter(({ kind, ports, bytes }) => kinds.includes(kind) && ports?.dst === port && bytes.readUInt16BE(12) === 0x0800).map(({ bytes }) => bytes.toString('hex'));
    expect(ours).toEqual(matched.filter((bytes) => !malformed.has(bytes)));
    console.info(`${name}: ${proto} dst port ${port}: tcpdump ${matched.length}, of which malformed ${matched.length - ours.length}`);
  });
});
