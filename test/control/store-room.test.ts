/**
 * Room for the store's data file: taken from the disk before LMDB needs it, and enough. What LMDB itself does on a full disk is not
 * for a test: the process may die of it.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROTOS } from '../../src/control/lease-state.js';
import { LmdbStore } from '../../src/control/store-lmdb.js';
import type { StoredChange } from '../../src/control/store.js';
import { freshFolder } from '../support/control-core.js';
import { hasSmallDisks, smallDisk } from '../support/small-disk.js';

const GUEST = 'g'.repeat(64);

/** The last page that LMDB has used, of the newer of its two meta pages; the pages that the disk has given. */
function pages(folder: string): { last: number; given: number } {
  const path = join(folder, 'data.mdb');
  const file = openSync(path, 'r');
  const metas = [0, 4096].map((at) => {
    const meta = Buffer.alloc(168);
    readSync(file, meta, 0, meta.length, at);
    return { last: Number(meta.readBigUInt64LE(144)), transaction: Number(meta.readBigUInt64LE(152)) };
  });
  closeSync(file);
  const { blocks, size } = statSync(path);
  expect(512 * blocks).toBeGreaterThanOrEqual(size); // no holes
  return { last: metas.sort((a, b) => b.transaction - a.transaction)[0].last, given: size / 4096 };
}

function lease(first: number, last = first): StoredChange {
  return { type: 'lease', guest: GUEST, proto: first % 4 === 1 ? 'tcp' : 'udp', first, last, since: Date.now(), until: Date.now() + 1e9, block: 65_000 };
}

describe('room on the disk', () => {
  it('is taken before LMDB needs it, and more than it comes to need, whatever is committed', async () => {
    const folder = freshFolder();
    const store = new LmdbStore(folder);
    let most = 0;
    const commit = async (changes: StoredChange[]): Promise<void> => {
      const { last, given } = pages(folder);
      await store.commit(changes);
      const now = pages(folder);
      // LMDB itself makes the file exactly as long as its last page.
      expect(now.given).toBeGreaterThan(now.last + 1);
      const needed = (now.given - last - 1) / (now.given === given ? 1 : 2);
      most = Math.max(most, (now.last - last) / needed);
    };
    const any = (below: number): number => 1 + Math.floor(Math.random() * below);
    for (let i = 0; i < 30; i++) await commit([lease(2 * i + 1)]);
    for (const count of [50, 500, 5000]) for (let i = 0; i < 3; i++) await commit(Array.from({ length: count }, () => lease(1 + 2 * any(32_000))));
    for (let i = 0; i < 5; i++) {
      await commit([lease(1 + 4 * any(10), 60_001), lease(3 + 4 * any(10), 60_003)]);
      await commit(Array.from({ length: 1000 }, (_, n) => lease(1 + 60 * n, 1 + 60 * n + any(50))));
      await commit(Array.from({ length: 20 }, (_, n) => ({ type: 'guest', guest: `g${n}`, setting: { text: 'x'.repeat(any(20_000)) } })));
    }
    await commit(PROTOS.map((proto) => ({ type: 'free', guest: GUEST, proto, first: 1, last: 65_535 })));
    await store.close();
    process.stderr.write(`of the room that was to be there a commit has used at most ${(100 * most).toFixed(0)} %\n`);
    expect(most).toBeLessThan(0.8);
  });

  it.skipIf(!hasSmallDisks('store-room'))('where there is none a commit fails, keeps nothing and takes nothing; a new store is not opened', async () => {
    const disk = await smallDisk(1024);
    const folder = join(disk.folder, 'store');
    const store = new LmdbStore(folder);
    disk.fill();
    const many = Array.from({ length: 2000 }, (_, n) => lease(2 * n + 1));
    const before = pages(folder);
    await expect(store.commit(many)).rejects.toMatchObject({ code: 'ERR_STORE_WRITE', message: expect.stringContaining('no space left') });
    expect([store.load().tcp, pages(folder)]).toEqual([[], before]);
    expect(() => new LmdbStore(join(disk.folder, 'new'))).toThrow(expect.objectContaining({ code: 'ERR_STORE_OPEN' }));
    disk.empty();
    await store.commit(many.slice(0, 500));
    expect(store.load().tcp).toHaveLength(250);
    await store.close();
  });
});
