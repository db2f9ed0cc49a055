/**
 * Room for LMDB's files: taken from the disk before LMDB needs it, so that it never meets a full one.
 *
 *     data.mdb   pages 0 … last │ zeros, which the file system has taken: what the next transaction may need
 *
 * Why          where a page cannot be written, lmdb (3.5.6, mdb_page_flush) puts a message of up to 120 bytes into 100 of its heap, and
 *              the process dies of it at once or much later; where a page of the mapped lock file cannot be had it gets SIGBUS.
 *              Pages written over zeros that are there need no new room.
 * How much     a transaction copies at most every page of the trees, each copy may be split in two, and of what it adds pages may be
 *              half full. Twice that is taken, so that small changes go on for a while when the disk is full; only this once if not.
 * Cost         a file of about three times the pages in use, 1 MiB for a thousand records; 10 µs a commit to look.
 * Not here     file systems that put elsewhere what is written over (btrfs, ZFS) promise nothing; errors of the disk itself, which
 *              come with fdatasync, LMDB reports well.
 */
import { closeSync, ftruncateSync, fstatSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { StoredChange } from './store.js';

/** Added or made longer by a change, in pages: up to two records of 200 bytes, in pages half full. */
const PAGES_A_CHANGE = 1 / 4;
/** The lists of free pages, and the first splits of small trees. */
const PAGES_BESIDE = 32;
/** As long as LMDB makes it for 126 readers, and a little more. */
const LOCK_BYTES = 12 * 1024;
const CHUNK = Buffer.alloc(64 * 1024);

interface Tree {
  treeBranchPageCount: number;
  treeLeafPageCount: number;
  overflowPages: number;
}
/** What lmdb says of its pages. */
export interface PageStats {
  pageSize: number;
  lastPageNumber: number;
  root: Tree;
  free: Tree;
}

/** For the lock file, before LMDB opens it; what is in it LMDB makes anew. Throws what the file system does. */
export function makeLockRoom(folder: string): void {
  withFile(join(folder, 'lock.mdb'), 'a', (file, size) => {
    if (size < LOCK_BYTES) extend(file, size, LOCK_BYTES);
  });
}

/** For the changes, in a data file that is open. Throws what the file system does, with the file as it was. */
export function makeRoom(folder: string, { pageSize, lastPageNumber, root, free }: PageStats, changes: readonly StoredChange[]): void {
  let pages = PAGES_BESIDE + 2 * (pagesOf(root) + pagesOf(free)) + changes.length * PAGES_A_CHANGE;
  for (const change of changes) {
    const kept = change.type === 'guest' ? change.setting : change.type === 'maps' ? change.maps : null;
    if (kept !== null) pages += (2 * JSON.stringify(kept).length) / pageSize;
  }
  const needed = Math.ceil(lastPageNumber + 1 + pages) * pageSize;
  const wanted = Math.ceil(lastPageNumber + 1 + 2 * pages) * pageSize;
  withFile(join(folder, 'data.mdb'), 'r+', (file, size) => {
    if (size >= needed) return;
    try {
      extend(file, size, wanted);
    } catch {
      extend(file, size, needed);
    }
  });
}

function withFile(path: string, flags: string, action: (file: number, size: number) => void): void {
  const file = openSync(path, flags, 0o600);
  try {
    action(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
}

function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: Tree): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

/** With zeros that are written, and not a hole; all of it or nothing. */
function extend(file: number, from: number, to: number): void {
  try {
    for (let at = from; at < to; ) at += writeSync(file, CHUNK, 0, Math.min(CHUNK.length, to - at), at);
  } catch (error) {
    ftruncateSync(file, from);
    throw error;
  }
}
