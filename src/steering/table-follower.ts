/**
 * What follows the steering table: the kernel's copy of it (io/kernel-table.ts), which the data plane meets before the table itself.
 */
/**
 * Is told what the table is about to hold, and holds no more, so that what is before it (io/kernel-table.ts) never says more than it.
 * A key may be that of a wildcard.
 */
export interface TableFollower {
  /** The address is ours from now on; `index` is its part of a key (table-layout.ts). */
  address(address: number, index: number): void;
  /** The address is not ours any more, and has no entry: its index may be another's later. */
  addressLeft(address: number): void;
  /** The endpoint has an entry from now on that may say anything. */
  taken(key: number): void;
  /** The entry says: in use on this link, until the next call for the key. `watched`: its frames are to be noted for takeActive. */
  steered(key: number, link: number, watched: boolean): void;
  /** Whether a frame of the watched endpoint was seen since the last call. */
  takeActive(key: number): boolean;
  /** The endpoint has no entry any more. */
  freed(key: number): void;
}
