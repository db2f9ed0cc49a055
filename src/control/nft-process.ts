/**
 * One long-lived `nft -i`: a line in, one transaction, its outcome out. 0.3 ms each; a process of its own for each took 3 ms.
 *
 * Outcome      nft says nothing when all is well. So each script is followed by `describe`, which asks the kernel nothing and always
 *              answers one line; what comes before that line is an error. One pipe for both outputs keeps them in order.
 * History      it keeps every line that it was given, in memory, and on exit in $HOME/.nft.history: it gets no home, and another
 *              process takes its place after MOST_BYTES.
 * Ends         with its standard input, thus also when the daemon is killed. Not by the terminal's Ctrl-C: it leads its own session.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { BerthError } from '../base/errors.js';

const ANSWER_MS = 5000;
const END_MS = 1000;
const MOST_BYTES = 4 << 20;
const MARKER = 'describe ipv4_addr\n';
const MARKER_ANSWER = /^datatype ipv4_addr .*\n/m;

type Child = ChildProcessByStdio<Writable, Readable, null>;

export class NftProcess {
  private child: Child | null = null;
  private output = '';
  private written = 0;
  private settle: ((error: BerthError | null) => void) | null = null;

  /** Id of the process, null while there is none. */
  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  /**
   * Runs a script of one line, all of it or nothing; resolves when the kernel has taken it. One at a time. Rejects with ERR_TOOL
   * and nft's own first line, or how the process ended: then it is not known what was taken. The next call starts another.
   */
  async run(script: string): Promise<void> {
    if (this.written > MOST_BYTES) await this.close();
    const child = (this.child ??= this.start());
    const text = `${script}\n${MARKER}`;
    this.output = '';
    this.written += text.length;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        this.ended(child, `no answer in ${ANSWER_MS} ms`);
      }, ANSWER_MS);
      this.settle = (error) => {
        this.settle = null;
        clearTimeout(timer);
        if (error === null) resolve();
        else reject(error);
      };
      child.stdin.write(text);
    });
  }

  /** Ends the process and waits until it is gone. */
  async close(): Promise<void> {
    const { child } = this;
    if (child === null) return;
    this.child = null;
    const gone = new Promise((resolve) => child.once('close', resolve));
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    child.stdin.end();
    await gone;
    clearTimeout(timer);
  }

  private start(): Child {
    this.written = 0;
    const env = { ...process.env, HOME: '/dev/null', LC_ALL: 'C' };
    const child = spawn('sh', ['-c', 'exec nft -i 2>&1'], { stdio: ['pipe', 'pipe', 'ignore'], detached: true, env });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (this.child === child) this.take(text);
    });
    child.stdin.on('error', () => undefined); // 'close' follows
    child.once('error', (error) => this.ended(child, error.message));
    child.once('close', (code, signal) => this.ended(child, `it ended (${signal ?? `exit code ${code}`})`));
    return child;
  }

  private take(text: string): void {
    this.output += text;
    const marker = MARKER_ANSWER.exec(this.output);
    if (marker === null) return;
    const said = this.output.slice(0, marker.index).trim();
    this.settle?.(said === '' ? null : new BerthError('ERR_TOOL', `nft: ${said.split('\n')[0]}`));
  }

  private ended(child: Child, how: string): void {
    if (this.child !== child) return;
    this.child = null;
    this.settle?.(new BerthError('ERR_TOOL', `nft -i: ${how}`));
  }
}
