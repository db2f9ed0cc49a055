/**
 * Store: where leases, quarantines and epochs outlive the daemon. An interface of three calls, so that a store shared by
 * several hosts can take the place of the local one (store-lmdb.ts).
 *
 * Durable      what commit() was given is on the disk when it resolves: only then is a grant answered or published.
 * Atomic       the changes of one commit are there all together or not at all, after any crash.
 * Order        commits take effect in the order in which they were called.
 * Not stored   indications (`use`, `end-use`): agents state them again.
 * Errors       BerthError: ERR_STORE_OPEN (cannot be opened), ERR_STORE_FORMAT (written by another version),
 *              ERR_STORE_DAMAGED (not what was written), ERR_STORE_WRITE (nothing of that commit was kept).
 */
import type { BookState, Change } from './lease-state.js';

/** Guests that the operator added while the daemon ran, by name: their settings, as of a guest in the configuration. */
export interface GuestRecords {
  guests(): ReadonlyMap<string, unknown>;
  /** Durable when it returns. */
  putGuest(name: string, setting: object): void;
  removeGuest(name: string): void;
  /** Maps that were added to guests of the configuration, by guest; none for an empty list. */
  maps(): ReadonlyMap<string, unknown>;
  putMaps(name: string, entries: readonly object[]): void;
}

export interface Store {
  /** What was committed, in the form that the lease book takes as `restored`. */
  load(): BookState;
  commit(changes: readonly Change[]): Promise<void>;
  /** Commits what is still waiting, then closes. */
  close(): Promise<void>;
}
