/** What every command that talks to a daemon has in common. */
import type { Command } from 'commander';
import { toAdmin } from '../base/config-control.js';

export interface AdminOptions {
  admin: string;
  json?: true;
}

export function withAdminOptions(command: Command): Command {
  return command.option('--admin <path>', 'the daemon\'s admin socket', toAdmin(undefined).socket).option('--json', 'print the answer as JSON');
}

/** Prints the answer: as JSON where asked, else in words. */
export function print<T>(options: AdminOptions, answer: T, inWords: (answer: T) => string): void {
  process.stdout.write(`${options.json === true ? JSON.stringify(answer, null, 2) : inWords(answer)}\n`);
}
