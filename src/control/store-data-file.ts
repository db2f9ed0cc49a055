/**
 * A look at LMDB's data file before it is mapped: what is no LMDB file, or is cut short, would end the process (SIGBUS,
 * SIGSEGV) where an error is due.
 *
 *   page 0, 1    meta pages: 24 bytes of header, then magic, version, …, page size, …, root pages of both trees
 *
 * Found        no magic number; another version; a page size that is none; roots of the trees outside the file.
 * Not found    the file may rightly end before its last numbered page, so a cut that leaves the roots is not seen; nor
 *              is damage inside a page.
 * Source       MDB_meta of lmdb's own copy of LMDB, data version 2, 64 bit, little endian.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { BerthError } from '../base/errors.js';

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const AT_MAGIC = 24;
const AT_VERSION = 28;
const AT_PAGE_SIZE = 48;
const AT_ROOTS = [88, 136];
const META_BYTES = 168;
const NO_ROOT = 0xffff_ffff_ffff_ffffn;

/** Throws BerthError `ERR_STORE_DAMAGED`. A file that is missing or empty is a new store. */
export function checkDataFile(folder: string): void {
  const file = join(folder, 'data.mdb');
  if (!existsSync(file)) return;
  const fd = openSync(file, 'r');
  try {
    const size = fstatSync(fd).size;
    const problem = size === 0 ? null : findProblem(fd, size);
    if (problem === null) return;
    throw new BerthError('ERR_STORE_DAMAGED', `the store ${file} is damaged (${problem}); put a copy back, or move it away: its leases are then lost`);
  } finally {
    closeSync(fd);
  }
}

function findProblem(fd: number, size: number): string | null {
  const meta = Buffer.alloc(META_BYTES);
  let pageSize = 0;
  for (const page of [0, 1]) {
    if (readSync(fd, meta, 0, META_BYTES, page * pageSize) < META_BYTES) return `it ends inside meta page ${page}`;
    if (meta.readUInt32LE(AT_MAGIC) !== MAGIC) return `meta page ${page} is not LMDB's`;
    const version = meta.readUInt32LE(AT_VERSION);
    if (version !== DATA_VERSION) return `LMDB data version ${version}, expected ${DATA_VERSION}`;
    if (page === 0) pageSize = meta.readUInt32LE(AT_PAGE_SIZE);
    if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) return `a page size of ${pageSize}`;
    for (const at of AT_ROOTS) {
      const root = meta.readBigUInt64LE(at);
      if (root !== NO_ROOT && (root + 1n) * BigInt(pageSize) > BigInt(size)) return `it is cut short: ${size} bytes, and a tree begins on page ${root}`;
    }
  }
  return null;
}
