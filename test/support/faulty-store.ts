/** The local store, some of whose commits wait or fail: for turns of events that a full disk does not bring about. */
import { setImmediate as turn } from 'node:timers/promises';
import { LmdbStore } from '../../src/control/store-lmdb.js';
import type { StoredChange } from '../../src/control/store.js';
import { BerthError } from '../../src/base/errors.js';

export class FaultyStore extends LmdbStore {
  /** Commits that are asked for fail. */
  fails = false;
  private held: Promise<void> | null = null;

  /** Commits that are asked for from now on wait, and then succeed or fail as they would have; until what is returned is called. */
  hold(): () => void {
    let release = (): void => undefined;
    this.held = new Promise((resolve) => (release = resolve));
    return () => {
      this.held = null;
      release();
    };
  }

  override async commit(changes: readonly StoredChange[]): Promise<void> {
    const { fails, held } = this;
    if (held !== null) await held;
    if (!fails) return super.commit(changes);
    await turn();
    throw new BerthError('ERR_STORE_WRITE', 'the store cannot be written (it is played)');
  }
}
