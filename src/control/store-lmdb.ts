/**
 * The local store: an LMDB database in a folder of its own. The only importer of lmdb.
 *
 *   ['format']                   → 1
 *   ['run', proto, first port]   → { last, guest, state, since, until, block }     disjoint; times are wall clock, ms
 *   ['epoch', guest]             → epoch
 *   ['guest', guest]             → { link, agent, … }              of a guest added while the daemon ran
 *   ['maps', guest]              → [{ tcp, to }, …]                added to a mapped guest of the configuration
 *   ['address', address]         → { guest, state, since, … }      of an address of a pool, as a number
 *
 * Commit       one synchronous transaction with its fdatasync (0.3 ms where measured), no overlapping sync. Commits of one
 *              turn of the event loop share one: a thousand changes a second do not cost a thousand syncs.
 * Crash        LMDB never writes over pages of the last two transactions: a kill at any instant leaves the one or the other.
 * Full disk    a commit fails before LMDB has begun with it (store-room.ts).
 * Damage       LMDB maps the file and a truncated one ends the process: store-data-file.ts looks at it first. Records are checked
 *              when they are loaded. A page damaged inside is found only as far as its records make no sense.
 */
import { mkdirSync } from 'node:fs';
import { open, type RootDatabase } from 'lmdb';
import { BerthError, messageOf } from '../base/errors.js';
import { asRun, type BookState, type ProtoName } from './lease-state.js';
import { cut, type Run } from './lease-ranges.js';
import type { PortRange } from '../wire/port-set.js';
import { checkDataFile } from './store-data-file.js';
import { checkRun, checkRuns } from './store-records.js';
import { makeLockRoom, makeRoom, type PageStats } from './store-room.js';
import { type AddressRecords, isStored, type Store, type StoredChange } from './store.js';

const FORMAT = 1;
const FORMAT_KEY = ['format'];

interface Waiting {
  readonly changes: readonly StoredChange[];
  readonly resolve: () => void;
  readonly reject: (error: BerthError) => void;
}

export class LmdbStore implements Store, AddressRecords {
  readonly #path: string;
  readonly #db: RootDatabase;
  #waiting: Waiting[] = [];

  /** Opens the store in the folder `path`, or makes it. */
  constructor(path: string) {
    this.#path = path;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      checkDataFile(path);
      makeLockRoom(path);
      this.#db = open({ path, encoding: 'json', overlappingSync: false, noSubdir: false });
    } catch (cause) {
      if (cause instanceof BerthError) throw cause;
      throw cannotBeOpened(path, cause);
    }
    this.#checkFormat();
  }

  load(): BookState {
    const runs: Record<ProtoName, Run[]> = { tcp: [], udp: [] };
    const epochs: Record<string, number> = {};
    try {
      for (const { key, value } of this.#db.getRange({})) {
        const [kind, name, first] = Array.isArray(key) ? key : [key];
        if (kind === 'run' && (name === 'tcp' || name === 'udp')) runs[name].push(checkRun(first, value));
        else if (kind === 'epoch' && typeof name === 'string' && typeof value === 'number') epochs[name] = value;
        else if (kind !== 'format' && kind !== 'guest' && kind !== 'maps' && kind !== 'address') throw new Error(`unknown record ${JSON.stringify(key)}`);
      }
      checkRuns(runs.tcp);
      checkRuns(runs.udp);
    } catch (cause) {
      throw damaged(this.#path, cause);
    }
    return { ...runs, epochs };
  }

  guests(): Map<string, unknown> {
    return this.#byName('guest');
  }

  maps(): Map<string, unknown> {
    return this.#byName('maps');
  }

  addresses(): Map<number, unknown> {
    try {
      return new Map(Array.from(this.#db.getRange({ start: ['address'], end: ['address', Infinity] }), ({ key, value }) => [(key as [string, number])[1], value as unknown]));
    } catch (cause) {
      throw damaged(this.#path, cause);
    }
  }

  putAddress(address: number, record: object): void {
    this.#setAddress(address, record);
  }

  removeAddress(address: number): void {
    this.#setAddress(address, null);
  }

  commit(changes: readonly StoredChange[]): Promise<void> {
    const stored = changes.filter(isStored);
    if (stored.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) setImmediate(() => this.#flush());
      this.#waiting.push({ changes: stored, resolve, reject });
    });
  }

  async close(): Promise<void> {
    this.#flush();
    await this.#db.close();
  }

  /** null: removes it. */
  #setAddress(address: number, record: object | null): void {
    try {
      makeRoom(this.#path, this.#db.getStats() as PageStats, [{ type: 'guest', guest: '', setting: record }]); // as much as a guest's settings
      this.#db.transactionSync(() => {
        this.#put(['address', address], record);
      });
    } catch (cause) {
      throw notWritten(this.#path, cause);
    }
  }

  #byName(kind: 'guest' | 'maps'): Map<string, unknown> {
    try {
      return new Map(Array.from(this.#db.getRange({ start: [kind], end: [kind, '\uffff'] }), ({ key, value }) => [(key as [string, string])[1], value as unknown]));
    } catch (cause) {
      throw damaged(this.#path, cause);
    }
  }

  /** One transaction for all that waits. */
  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (waiting.length === 0) return;
    try {
      const changes = waiting.flatMap((one) => one.changes);
      makeRoom(this.#path, this.#db.getStats() as PageStats, changes);
      this.#db.transactionSync(() => {
        for (const change of changes) this.#write(change);
      });
    } catch (cause) {
      const error = notWritten(this.#path, cause);
      for (const { reject } of waiting) reject(error);
      return;
    }
    for (const { resolve } of waiting) resolve();
  }

  #write(change: StoredChange): void {
    if (change.type === 'guest') this.#put(['guest', change.guest], change.setting);
    else if (change.type === 'maps') this.#put(['maps', change.guest], change.maps.length === 0 ? null : change.maps);
    else if (change.type === 'epoch') this.#put(['epoch', change.guest], change.epoch);
    else if (change.type === 'forget') this.#put(['epoch', change.guest], null);
    else this.#replace(change.proto, change, asRun(change));
  }

  /** null: removes it. */
  #put(key: [string, string | number], value: object | number | null): void {
    if (value === null) this.#db.removeSync(key);
    else this.#db.putSync(key, value);
  }

  /** As Runs does in memory: what the range covers makes room, the rest of it stays. */
  #replace(proto: ProtoName, range: PortRange, run: Run | null): void {
    const covered = [...this.#endingIn(proto, range.first), ...this.#from(proto, range)];
    for (const { first } of covered) this.#db.removeSync(['run', proto, first]);
    for (const { first, ...rest } of cut(covered, range, run)) this.#db.putSync(['run', proto, first], rest);
  }

  /** The run that begins before `port` and has it. */
  #endingIn(proto: ProtoName, port: number): Run[] {
    const before = this.#db.getRange({ start: ['run', proto, port - 1], end: ['run', proto, 0], reverse: true, limit: 1 });
    return Array.from(before, ({ key, value }) => checkRun((key as unknown[])[2], value)).filter(({ last }) => last >= port);
  }

  #from(proto: ProtoName, { first, last }: PortRange): Run[] {
    const inside = this.#db.getRange({ start: ['run', proto, first], end: ['run', proto, last + 1] });
    return Array.from(inside, ({ key, value }) => checkRun((key as unknown[])[2], value));
  }

  /** A new store. */
  #begin(): void {
    try {
      makeRoom(this.#path, this.#db.getStats() as PageStats, []);
      this.#db.putSync(FORMAT_KEY, FORMAT);
    } catch (cause) {
      void this.#db.close();
      throw cannotBeOpened(this.#path, cause);
    }
  }

  #checkFormat(): void {
    let found: unknown;
    try {
      found = this.#db.get(FORMAT_KEY);
    } catch (cause) {
      throw damaged(this.#path, cause);
    }
    if (found === undefined) this.#begin();
    if (found === undefined || found === FORMAT) return;
    void this.#db.close();
    const text = `the store ${this.#path} has another format (got ${JSON.stringify(found)}, expected ${FORMAT})`;
    throw new BerthError('ERR_STORE_FORMAT', `${text}; run the version that wrote it, or name another folder in store.path`);
  }
}

function cannotBeOpened(path: string, cause: unknown): BerthError {
  return new BerthError('ERR_STORE_OPEN', `the store ${path} cannot be opened (${messageOf(cause)}); check store.path and its owner, and the disk's room`, { cause });
}

function notWritten(path: string, cause: unknown): BerthError {
  return new BerthError('ERR_STORE_WRITE', `the store ${path} cannot be written (${messageOf(cause)}); nothing has changed: check the disk, and its room`, { cause });
}

function damaged(path: string, cause: unknown): BerthError {
  const text = `the store ${path} is damaged (${messageOf(cause)}); put a copy back, or move it away: its leases are then lost`;
  return new BerthError('ERR_STORE_DAMAGED', text, { cause });
}
