/**
 * The store: what it loads is what was committed, also after a kill -9 at any instant, and a damaged one is told.
 *
 * The kill test runs compiled modules in a child (test/support/store-load.mjs), made here from the sources as they are. The
 * machine stays up: what a power cut would do is the disk's and fdatasync's business, and is not tested.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { open } from 'lmdb';
import ts from 'typescript';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Run } from '../../src/control/lease-ranges.js';
import { PROTOS, type BookState, type ProtoName } from '../../src/control/lease-state.js';
import { LmdbStore } from '../../src/control/store-lmdb.js';
import { bookOf, ports, tcp } from '../support/lease-book.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LOAD = join(ROOT, 'test/support/store-load.mjs');
const KILLS = 200;

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'berth-store-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const both = (text: string): { tcp: ReturnType<typeof ports>; udp: ReturnType<typeof ports> } => ({ tcp: ports(text), udp: ports(text) });

async function reopened(): Promise<BookState> {
  const store = new LmdbStore(folder);
  const state = store.load();
  await store.close();
  return state;
}

/** One form for one state: records that say the same of neighbouring ports are joined by the book that takes them. */
const joined = (restored: BookState): BookState => bookOf([], { restored }).snapshot();

describe('store', () => {
  it('a new store is empty', async () => {
    expect(await reopened()).toEqual({ tcp: [], udp: [], epochs: {} });
  });

  it('loads what was committed: leases, quarantines and epochs, and no indications', async () => {
    const store = new LmdbStore(folder);
    const book = bookOf(['a', 'b']);
    const steps = [
      () => book.setFixed('b', tcp('8000-8009'), 0),
      () => book.hello('a', 4),
      () => book.grantBlock('a', 1),
      () => book.use('a', tcp('1024-1030')),
      () => book.grantBlock('b', 2),
      () => book.grantPorts('a', both('443'), 3),
      () => book.release('a', { tcp: ports('1026-1028,443'), udp: ports('1030-1039') }, 4),
      () => book.renew('a', 5),
      () => book.grantBlock('a', 6),
      () => book.setFixed('b', tcp('8002-8005'), 7),
      () => book.removeGuest('b', 8),
      () => book.expire(60_004),
    ];
    for (const step of steps) {
      await store.commit(step().changes);
      expect(joined(store.load())).toEqual(book.snapshot());
    }
    await store.close();
    expect(joined(await reopened())).toEqual(book.snapshot());
  });

  it('keeps what is mapped to guests, until it is nothing', async () => {
    const commit = async (maps: object[]): Promise<Map<string, unknown>> => {
      const store = new LmdbStore(folder);
      await store.commit([{ type: 'maps', guest: 'legacy', maps }]);
      await store.close();
      const again = new LmdbStore(folder);
      const found = again.maps();
      expect(again.load()).toEqual({ tcp: [], udp: [], epochs: {} });
      await again.close();
      return found;
    };
    expect(await commit([{ tcp: 8443, to: 443 }])).toEqual(new Map([['legacy', [{ tcp: 8443, to: 443 }]]]));
    expect(await commit([])).toEqual(new Map());
  });

  it('keeps the order of commits that share a transaction, and commits what waits before it closes', async () => {
    const store = new LmdbStore(folder);
    const book = bookOf(['a']);
    const commits = [book.grantBlock('a', 0), book.release('a', both('1024-1031'), 1), book.grantPorts('a', tcp('80'), 2)].map(({ changes }) => store.commit(changes));
    await store.close();
    await Promise.all(commits);
    expect(joined(await reopened())).toEqual(book.snapshot());
  });

  it('a commit of indications alone writes nothing', async () => {
    const store = new LmdbStore(folder);
    const before = readFileSync(join(folder, 'data.mdb'));
    await store.commit([{ type: 'use', guest: 'a', proto: 'tcp', first: 80, last: 80 }]);
    expect(readFileSync(join(folder, 'data.mdb')).equals(before)).toBe(true);
    await store.close();
  });

  it('a commit that fails says so, and keeps nothing of it', async () => {
    const store = new LmdbStore(folder);
    const { changes } = bookOf(['a']).grantBlock('a', 0);
    const bad = [...changes, { type: 'epoch' as const, guest: 'x'.repeat(5000), epoch: 1 }];
    await expect(store.commit(bad)).rejects.toMatchObject({ code: 'ERR_STORE_WRITE' });
    expect(store.load()).toEqual({ tcp: [], udp: [], epochs: {} });
    await store.commit(changes);
    expect(store.load().tcp).toHaveLength(1);
    await store.close();
  });
});

describe('a store that cannot be used is told, with what to do', () => {
  const run = { last: 90, guest: 'a', state: 'leased', since: 0, until: 5, block: 0 };
  const rows: { name: string; damage: () => Promise<void> | void; code: string }[] = [
    { name: 'a data file that is not LMDB\'s', damage: () => writeFileSync(join(folder, 'data.mdb'), Buffer.alloc(100_000, 0x5a)), code: 'ERR_STORE_DAMAGED' },
    { name: 'a data file of a few bytes', damage: () => writeFileSync(join(folder, 'data.mdb'), 'x'), code: 'ERR_STORE_DAMAGED' },
    { name: 'a data file cut short', damage: () => filled().then(() => truncateSync(join(folder, 'data.mdb'), 8192)), code: 'ERR_STORE_DAMAGED' },
    { name: 'another format', damage: () => put(['format'], 99), code: 'ERR_STORE_FORMAT' },
    { name: 'a record of an unknown kind', damage: () => put(['what'], 1), code: 'ERR_STORE_DAMAGED' },
    { name: 'a record that is no lease', damage: () => put(['run', 'tcp', 80], { ...run, last: 'x' }), code: 'ERR_STORE_DAMAGED' },
    { name: 'a port held twice', damage: () => put(['run', 'tcp', 80], run).then(() => put(['run', 'tcp', 90], { ...run, guest: 'b' })), code: 'ERR_STORE_DAMAGED' },
    { name: 'a file where the folder should be', damage: () => (rmSync(folder, { recursive: true }), writeFileSync(folder, '')), code: 'ERR_STORE_OPEN' },
  ];
  it.each(rows)('$name', async ({ damage, code }) => {
    await damage();
    await expect(reopened()).rejects.toMatchObject({ code, message: expect.stringContaining(folder) });
  });

  async function filled(): Promise<void> {
    const store = new LmdbStore(folder);
    for (let i = 0; i < 50; i++) await store.commit([{ type: 'epoch', guest: `guest-${i}`, epoch: i }]);
    await store.close();
  }
  async function put(key: (string | number)[], value: unknown): Promise<void> {
    await new LmdbStore(folder).close();
    const db = open({ path: folder, encoding: 'json', overlappingSync: false });
    db.putSync(key, value);
    await db.close();
  }
});

describe('kill -9', () => {
  it(`${KILLS} times in a row under load: no answered lease is lost, none is owned twice, quarantine is kept`, async () => {
    const modules = compile(join(folder, 'modules'));
    const path = join(folder, 'store');
    const witness = new Witness();
    let next = new Child(modules, path, 0);
    try {
      for (let kill = 0; kill < KILLS && witness.problems.length === 0; kill++) {
        const child = next;
        next = new Child(modules, path, kill + 1);
        await child.begin();
        // a third of the kills fall into opening and loading, the others anywhere in the work, however fast the machine is
        if (kill % 3 !== 0) await child.lines(Math.random() * 80);
        await sleep(Math.random() * (kill % 3 === 0 ? 30 : 4));
        for (const line of await child.kill()) witness.hear(line);
        const store = new LmdbStore(path);
        witness.compare(store.load(), Date.now());
        await store.close();
      }
    } finally {
      await next.kill();
    }
    expect(witness.problems).toEqual([]);
    expect(witness.answered).toBeGreaterThan(5 * KILLS);
    expect(witness.moved).toBeGreaterThan(KILLS);
  }, 120_000);
});

/** The child that is killed. It is started early, so that its start is not waited for. */
class Child {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  #output = '';

  constructor(modules: string, store: string, seed: number) {
    this.#process = spawn(process.execPath, [LOAD, modules, store, `${seed}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process.stdin.on('error', () => undefined);
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
  }

  async begin(): Promise<void> {
    while (!this.#output.startsWith('ready\n')) await once(this.#process.stdout, 'data');
    this.#process.stdin.write('go\n');
  }

  /** Until it has said so many lines. */
  async lines(count: number): Promise<void> {
    while (this.#output.split('\n').length < count) await once(this.#process.stdout, 'data');
  }

  /** Everything it said, a line that the kill cut off left out. */
  async kill(): Promise<string[]> {
    if (this.#process.exitCode !== null) throw new Error(`the child ended by itself with ${this.#process.exitCode}`);
    this.#process.kill('SIGKILL');
    await once(this.#process, 'close');
    return this.#output.split('\n').slice(1, -1);
  }
}

interface Told {
  readonly guest: string;
  readonly leased: boolean;
  /** end of its quarantine; 0: leased */
  readonly until: number;
}

/** What guests were told, a port, and what of it does not agree with what comes later. */
class Witness {
  readonly problems: string[] = [];
  answered = 0;
  /** leases of a port that another guest had had before */
  moved = 0;
  readonly #told: Record<ProtoName, Map<number, Told>> = { tcp: new Map(), udp: new Map() };
  /** releases asked for and not known to be committed, `tcp 80` → who asked */
  readonly #asked = new Map<string, string>();

  hear(line: string): void {
    const [what, guest, protoText, first, last, time] = line.split(' ');
    const proto = protoText as ProtoName;
    for (let port = Number(first); port <= Number(last); port++) {
      const before = this.#told[proto].get(port);
      if (what === 'r') this.#asked.set(`${proto} ${port}`, guest);
      else if (what === 'R') {
        this.#told[proto].set(port, { guest, leased: false, until: Number(time) });
        this.#asked.delete(`${proto} ${port}`);
      } else {
        this.#checkLease(proto, port, guest, Number(time), before);
        this.#told[proto].set(port, { guest, leased: true, until: 0 });
      }
    }
    if (what === 'G') this.answered++;
  }

  compare(state: BookState, now: number): void {
    for (const proto of PROTOS) {
      const stored = new Map<number, Run>();
      for (const run of state[proto]) for (let port = run.first; port <= run.last; port++) stored.set(port, run);
      for (const [port, told] of this.#told[proto]) {
        const run = stored.get(port);
        const isTold = run?.guest === told.guest && run.state === 'leased';
        const isReleased = run?.guest === told.guest && run.state === 'quarantined';
        if (told.leased && !isTold && !(isReleased && this.#asked.get(`${proto} ${port}`) === told.guest)) this.#wrong('an answered lease is lost', proto, port, told, run);
        if (!told.leased && told.until > now && !isTold && !(isReleased && run.until >= told.until)) this.#wrong('quarantine is lost', proto, port, told, run);
        if (!told.leased && run?.state === 'leased') this.#checkLease(proto, port, run.guest, run.since, told);
      }
      // what was committed and not answered counts from here on
      this.#told[proto].clear();
      for (const [port, { guest, state: how, until }] of stored) this.#told[proto].set(port, { guest, leased: how === 'leased', until: how === 'leased' ? 0 : until });
    }
    this.#asked.clear();
  }

  #checkLease(proto: ProtoName, port: number, guest: string, since: number, before: Told | undefined): void {
    if (before === undefined || before.guest === guest) return;
    this.moved++;
    if (before.leased) this.#wrong(`owned twice, by ${guest} too`, proto, port, before);
    else if (since < before.until) this.#wrong(`leased to ${guest} at ${since}, in its quarantine`, proto, port, before);
  }

  #wrong(what: string, proto: ProtoName, port: number, told: Told, run?: Run): void {
    if (this.problems.length < 5) this.problems.push(`${proto} ${port}: ${what}; told ${JSON.stringify(told)}, stored ${JSON.stringify(run ?? null)}`);
  }
}

/** The control plane's modules as JavaScript, beside the packages that they import. */
function compile(to: string): string {
  for (const part of ['base', 'control', 'wire']) {
    mkdirSync(join(to, part), { recursive: true });
    for (const file of readdirSync(join(ROOT, 'src', part)).filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))) {
      const { outputText } = ts.transpileModule(readFileSync(join(ROOT, 'src', part, file), 'utf8'), {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
      });
      writeFileSync(join(to, part, file.replace(/\.ts$/, '.js')), outputText);
    }
  }
  writeFileSync(join(to, 'package.json'), '{ "type": "module" }');
  symlinkSync(join(ROOT, 'node_modules'), join(to, 'node_modules'));
  return to;
}
