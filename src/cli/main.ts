#!/usr/bin/env node
/**
 * The command line: `berth <command>`. Errors end in one line on standard error and an exit code: 1 a failure, 2 wrong
 * usage or configuration; never a stack, unless BERTH_DEBUG is set. Each command loads what it needs when it is called:
 * a short replay must not wait for the daemon's modules.
 */
import { Command, CommanderError } from 'commander';
import { agentCommand } from './commands/agent.js';
import { checkCommand } from './commands/check.js';
import { cleanCommand } from './commands/clean.js';
import { demoCommand } from './commands/demo.js';
import { explainCommand } from './commands/explain.js';
import { guestCommand } from './commands/guest.js';
import { leaseCommand } from './commands/lease.js';
import { mapCommand } from './commands/map.js';
import { poolCommand } from './commands/pool.js';
import { replayCommand } from './commands/replay.js';
import { runCommand } from './commands/run.js';
import { statusCommand } from './commands/status.js';
import { tellUsage } from './usage.js';
import { BerthError, messageOf } from '../base/errors.js';

const program = new Command('berth')
  .description('Steers frames to virtual machines and sandboxes that use their host\'s own addresses: same IP, same port, no NAT.')
  .version('0.1.0');

const commands = [demoCommand(), runCommand(), replayCommand(), checkCommand(), cleanCommand(), agentCommand(), statusCommand(), guestCommand(), leaseCommand(), mapCommand(), poolCommand(), explainCommand()];
for (const command of commands) program.addCommand(command);
tellUsage(program);

/** `npm start` without arguments is the demo; `berth` without arguments shows the help. */
function argumentsGiven(): string[] {
  const given = process.argv.slice(2);
  return given.length === 0 && process.env['npm_lifecycle_event'] === 'start' ? ['demo'] : given;
}

async function main(): Promise<number> {
  const given = argumentsGiven();
  if (given.length === 0) {
    process.stdout.write(program.helpInformation());
    return 0;
  }
  try {
    await program.parseAsync(given, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has printed it
    if (process.env['BERTH_DEBUG'] !== undefined) process.stderr.write(`${(error as Error).stack}\n`);
    process.stderr.write(`berth: ${messageOf(error)}\n`);
    return error instanceof BerthError ? error.exitCode : 1;
  }
}

// A reader that goes away (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`berth: standard output cannot be written: ${error.message}\n`);
  process.exit(1);
});
process.exitCode = await main();
