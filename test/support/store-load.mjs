/**
 * A daemon's grant path without the daemon, for store.test.ts to kill: it loads the store, asks the lease book for leases and
 * releases without pause, commits, and only then prints what was granted.
 *
 *   node store-load.mjs MODULES STORE SEED      MODULES: the compiled src; begins when a line comes on its input
 *   ready                                       it has loaded its modules, and waits
 *   r GUEST PROTO FIRST LAST NOW                a release is asked for, not yet committed
 *   R GUEST PROTO FIRST LAST UNTIL              its quarantine is committed
 *   G GUEST PROTO FIRST LAST SINCE              a lease is committed: an agent would have its answer now
 */
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, path, seedText] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(modules, name)).href);
const [{ LmdbStore }, { LeaseBook }, { NO_PORTS }, { PortSet }] = await Promise.all(['control/store-lmdb.js', 'control/leases.js', 'control/lease-state.js', 'wire/port-set.js'].map(load));

const GUESTS = 12;
const QUARANTINE_MS = 200;
const NAMED = PortSet.parse('1-1000');

let seed = Math.imul(Number(seedText) + 1, 0x9e3779b1) >>> 0;
const random = (below) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const say = (...words) => writeSync(1, `${words.join(' ')}\n`);

say('ready');
await once(process.stdin, 'data');
const store = new LmdbStore(path);
const book = new LeaseBook({ pool: PortSet.parse('1024-2047'), reserve: 32, quarantineMs: QUARANTINE_MS, reservedByHost: NO_PORTS, restored: store.load() });
for (let i = 0; i < GUESTS; i++) {
  book.addGuest(`g${i}`, { block: 16, maxPorts: 160, threshold: 'strict', allow: { tcp: NAMED, udp: NAMED }, deny: NO_PORTS, implicit: true, leaseTimeMs: 3_600_000 });
}

/** Commits, then prints: a grant is answered when it is durable. */
async function answer({ changes }) {
  await store.commit(changes);
  for (const { type, guest, proto, first, last, since, until } of changes) {
    if (type === 'lease') say('G', guest, proto, first, last, since);
    if (type === 'quarantine') say('R', guest, proto, first, last, until);
  }
}

function release(guest, now) {
  const { leased } = book.holding(guest);
  const runs = [...leased.tcp.ranges()];
  if (runs.length === 0) return book.renew(guest, now);
  const { first, last } = runs[random(runs.length)];
  const from = first + random(last - first + 1);
  const range = { first: random(2) === 0 ? first : from, last };
  for (const proto of ['tcp', 'udp']) say('r', guest, proto, range.first, range.last, now);
  const ports = PortSet.fromRanges([range]);
  return book.release(guest, { tcp: ports, udp: ports.intersect(leased.udp) }, now);
}

async function serve() {
  for (;;) {
    const guest = `g${random(GUESTS)}`;
    const now = Date.now();
    const what = random(10);
    if (what < 4) await answer(book.grantBlock(guest, now));
    else if (what < 6) await answer(book.grantPorts(guest, { tcp: PortSet.parse(1 + random(1000)) }, now));
    else if (what < 9) await answer(release(guest, now));
    else await answer(book.renew(guest, now));
  }
}
await Promise.all([serve(), serve(), serve(), serve()]);
