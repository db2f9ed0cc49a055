/**
 * The guest's resolv.conf: the host's name servers while the agent runs, and what was there before when it ends.
 *
 *     PATH ──link──▶ PATH.before-berth             kept: the file itself, or the symbolic link
 *     PATH.berth ──rename──▶ PATH                  nobody reads half of it
 *     PATH.before-berth ──rename──▶ PATH           put back; where nothing was kept, PATH goes
 *
 * Off          unless a path is named. Who owns /etc/resolv.conf differs from guest to guest: a VM or a container has its own, but a
 *              bare network namespace shares /etc with the host, whose name servers it would change.
 * Ours         is a file that begins with HEADING. Anything else was put there by somebody, the agent's start or a minute ago, and is
 *              what is put back; where it is there at the end it stays.
 * Killed       an agent leaves both files; the next one knows its own, and puts back what the first has kept.
 */
import { chmodSync, linkSync, lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { BerthError, newFileReason } from '../base/errors.js';

const HEADING = '# The name servers of the host, by berth agent. What was here before is put back when it ends.';
const MODE = 0o644;
/** A file that is mounted by itself, as container engines do, is no name in its folder. */
const MOUNTED = ['EBUSY', 'EXDEV'];

export class ResolvConf {
  private readonly path: string;
  private readonly before: string;

  constructor(path: string) {
    this.path = path;
    this.before = `${path}.before-berth`;
  }

  /** Has these name servers in the file; with none, what was there before. ERR_RESOLV_CONF where it cannot: all is as it was. */
  set(servers: readonly string[]): void {
    const addresses = servers.filter((server) => isIP(server) !== 0);
    if (addresses.length === 0) return this.restore();
    const text = `${[HEADING, ...addresses.map((address) => `nameserver ${address}`)].join('\n')}\n`;
    this.attempt(() => {
      const there = this.read();
      if (there === text) return;
      const fresh = `${this.path}.berth`;
      rmSync(fresh, { force: true });
      writeFileSync(fresh, text, { flag: 'wx' });
      try {
        chmodSync(fresh, MODE); // whatever the umask
        if (there === null) this.keep();
        renameSync(fresh, this.path);
      } catch (error) {
        rmSync(fresh, { force: true });
        throw error;
      }
    });
  }

  /** Puts back what was there before, unless somebody has replaced it since. ERR_RESOLV_CONF where it cannot. */
  restore(): void {
    this.attempt(() => {
      if (this.read() === null) rmSync(this.before, { force: true });
      else if (isThere(this.before)) renameSync(this.before, this.path);
      else rmSync(this.path);
    });
  }

  /** What is in the file, if it is ours. */
  private read(): string | null {
    if (lstatSync(this.path, { throwIfNoEntry: false })?.isFile() !== true) return null;
    const text = readFileSync(this.path, 'utf8');
    return text.startsWith(HEADING) ? text : null;
  }

  private keep(): void {
    rmSync(this.before, { force: true });
    if (isThere(this.path)) linkSync(this.path, this.before);
  }

  private attempt(action: () => void): void {
    try {
      action();
    } catch (cause) {
      const why = MOUNTED.includes((cause as NodeJS.ErrnoException).code ?? '') ? 'it is mounted there by itself' : newFileReason(cause);
      throw new BerthError('ERR_RESOLV_CONF', `${this.path} cannot be replaced (${why}); name another path, or leave --resolv-conf out`, { cause });
    }
  }
}

/** Also a symbolic link that points nowhere. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
