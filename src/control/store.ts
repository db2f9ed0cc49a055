/**
 * Store: where leases, quarantines, epochs and the guests and maps added at run time outlive the daemon. An interface of five calls, so that a
 * store shared by several hosts can take the place of the local one (store-lmdb.ts).
 *
 * Durable      what commit() was given is on the disk when it resolves: only then is a grant answered or published.
 * Atomic       the changes of one commit are there all together or not at all, after any crash.
 * Order        commits take effect in the order in which they were called.
 * Not stored   indications (`use`, `end-use`): agents state them again.
 * Errors       BerthError: ERR_STORE_OPEN (cannot be opened), ERR_STORE_FORMAT (written by another version),
 *              ERR_STORE_DAMAGED (not what was written), ERR_STORE_WRITE (nothing of that commit was kept; a later one may succeed).
 */
import type { BookState, Change } from './lease-state.js';
import { BerthError } from '../base/errors.js';

/** A guest that the operator added while the daemon ran: its settings, as of a guest in the configuration; null: it is removed. */
export interface GuestRecord {
  readonly type: 'guest';
  readonly guest: string;
  readonly setting: object | null;
}

/** What the operator has mapped to a guest of the configuration besides what that says; none: nothing. */
interface MapsRecord {
  readonly type: 'maps';
  readonly guest: string;
  readonly maps: readonly object[];
}

/** What is kept of a guest beside its leases. */
export type SettingRecord = GuestRecord | MapsRecord;

/** Addresses of pools that are not unused, by their number: who has them, or had. */
export interface AddressRecords {
  addresses(): ReadonlyMap<number, unknown>;
  /** Durable when it returns. */
  putAddress(address: number, record: object): void;
  removeAddress(address: number): void;
}

export type StoredChange = Change | SettingRecord;

export interface Store {
  /** What was committed, in the form that the lease book takes as `restored`. */
  load(): BookState;
  /** Guests added while the daemon ran, by name: their settings. */
  guests(): ReadonlyMap<string, unknown>;
  /** What was mapped to guests of the configuration while the daemon ran, by guest. */
  maps(): ReadonlyMap<string, unknown>;
  commit(changes: readonly StoredChange[]): Promise<void>;
  /** Commits what is still waiting, then closes. */
  close(): Promise<void>;
}

/** Whether the store keeps the change, or leaves it to be stated again. */
export function isStored({ type }: StoredChange): boolean {
  return type !== 'use' && type !== 'end-use';
}

/** Whether a commit has failed, for want of room or a fault of the disk: what was asked may be asked again. */
export function isStoreFailure(error: unknown): boolean {
  return error instanceof BerthError && error.code === 'ERR_STORE_WRITE';
}
