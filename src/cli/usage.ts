/**
 * How wrong usage is told: commander's own errors as one line in Berth's form, with the nearest option or command and where
 * an example is; for a command and all below it.
 *
 * Not mandatory  an option that must be given is asked for by `need`: commander looks for those before it looks for unknown
 *                ones, and would name the option that is missing where it is the misspelt one that matters.
 */
import type { Command } from 'commander';
import { BerthError } from '../base/errors.js';
import { nearest } from '../base/nearest.js';

/** `path`: the words that lead to the command, as `berth lease`. */
export function tellUsage(command: Command, path = command.name()): void {
  command
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({ outputError: (text, write) => write(`berth: ${inOneLine(command, text)}; ${path} --help ${path === 'berth' ? 'shows what there is' : 'shows an example'}\n`) });
  for (const inner of command.commands) tellUsage(inner, `${path} ${inner.name()}`);
}

/** The value of an option that a command cannot do without. @throws BerthError ERR_USAGE */
export function need(value: string | undefined, option: string, command: string): string {
  if (value !== undefined) return value;
  throw new BerthError('ERR_USAGE', `option ${option} is missing; berth ${command} --help shows an example`, { exitCode: 2 });
}

function inOneLine(command: Command, text: string): string {
  const said = text.trim().replace(/^error: /, '').replace(/\.$/, '').replaceAll(/\s*\n\s*/g, ' ');
  const [, what, given] = /^unknown (option|command) '(.*)'$/.exec(said) ?? [];
  if (given === undefined) return said;
  const known = what === 'command' ? command.commands.map((one) => one.name()) : [...command.options.flatMap(({ long }) => long ?? []), '--help'];
  const { best, isClose } = nearest(given.replace(/=.*/, ''), known);
  return isClose ? `${said} (did you mean ${best}?)` : said;
}
