/**
 * Steering table, several threads: one writer that leases, ends, quarantines, releases, grows and rebuilds without pause, with
 * addresses that come and leave; two readers that look up twenty million times each and indicate (D7). Not one wrong answer. What is checked: support/table-stress.mjs.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';

const THREAD = new URL('../support/table-stress.mjs', import.meta.url);
const DIST = new URL('../../dist', import.meta.url);
const ENDPOINTS = 2 ** 17;
/** Words that the threads share besides a stamp an endpoint: their own, and a stamp a visitor. */
const MORE_WORDS = 16 + 1024;
const READERS = 2;
const LOOKUPS = 20_000_000;

interface Reader {
  role: string;
  lookups: number;
  exact: number;
  stable: number;
  never: number;
  implied: number;
  visited: number;
  adopted: number;
  late: number;
  wrong: number;
  examples: unknown[];
}
interface Writer {
  rebuilds: number;
  changes: number;
  visits: number;
  reused: number;
  highest: number;
}

function start<T>(role: string, ports: MessagePort[], shared: SharedArrayBuffer, seed: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(THREAD, { workerData: { dist: DIST.href, role, ports, shared, lookups: LOOKUPS, seed }, transferList: ports });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

it('gives no wrong answer in forty million look-ups under churn', { timeout: 120_000 }, async () => {
  expect(existsSync(fileURLToPath(new URL('./dist/steering/table-writer.js', new URL('../../', import.meta.url)))), 'dist/ is not built: npm run setup').toBe(true);
  const shared = new SharedArrayBuffer((ENDPOINTS + MORE_WORDS) * 4);
  const control = new Int32Array(shared);
  const channels = Array.from({ length: READERS }, () => new MessageChannel());
  const writing = start<Writer>('writer', channels.map(({ port1 }) => port1), shared, 12345);
  const reading = channels.map(({ port2 }, n) => start<Reader>('reader', [port2], shared, 777 + n));
  const readers = await Promise.race([Promise.all(reading), writing.then(() => expect.unreachable('the writer ended first'))]);
  Atomics.store(control, ENDPOINTS + 2, 1);
  const { rebuilds, changes, visits, reused, highest } = await writing;
  console.info(JSON.stringify({ rebuilds, changes, visits, reused, highest, readers }));

  expect(readers.flatMap(({ examples }) => examples)).toEqual([]);
  expect(readers.map(({ wrong }) => wrong)).toEqual(readers.map(() => 0));
  const sum = (of: keyof Reader): number => readers.reduce((total, reader) => total + (reader[of] as number), 0);
  expect(sum('lookups')).toBeGreaterThanOrEqual(READERS * LOOKUPS);
  // It was a stress: much changed under the readers' eyes, and nearly all of it was checked to the bit.
  expect(changes).toBeGreaterThan(200_000);
  expect(rebuilds).toBeGreaterThan(10);
  expect(sum('adopted')).toBeGreaterThan(5);
  expect(sum('implied')).toBeGreaterThan(100);
  expect(sum('exact')).toBeGreaterThan(5_000_000);
  expect(reused).toBeGreaterThan(100);
  expect(sum('visited')).toBeGreaterThan(100_000);
  // As few indices as the readers' lateness allows.
  expect(highest).toBeLessThan(visits / 4);
});
