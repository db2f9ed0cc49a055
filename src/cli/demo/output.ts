/** The output of a program of the demo: its lines as they come, and waiting for one of them. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { BerthError } from '../../base/errors.js';

const WAIT_MS = 15_000;

export class Output {
  text = '';
  private readonly name: string;
  private readonly waiting = new Set<() => void>();
  private ended = false;

  constructor(child: ChildProcess, name: string) {
    this.name = name;
    child.stderr?.on('data', (chunk: Buffer) => (this.text += chunk.toString()));
    if (child.stdout !== null) {
      createInterface(child.stdout).on('line', (line) => {
        this.text += `${line}\n`;
        this.look();
      });
    }
    child.once('exit', () => {
      this.ended = true;
      this.look();
    });
  }

  /** The first match in all that was said so far, or will be said soon. */
  async match(pattern: RegExp): Promise<RegExpExecArray> {
    const giveUp = performance.now() + WAIT_MS;
    for (;;) {
      const found = pattern.exec(this.text);
      if (found !== null) return found;
      if (this.ended || performance.now() > giveUp) throw new BerthError('ERR_DEMO', `${this.name} did not say ${pattern.source}: ${this.text.trim()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 500);
        this.waiting.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  private look(): void {
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  }
}
