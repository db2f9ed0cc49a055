/** `berth run --config FILE`: the daemon in the foreground. */
import { Command } from 'commander';
import type { RunOptions } from '../foreground.js';
import { need } from '../usage.js';

const HELP = `
Example (as root):
  $ berth run --config berth.yaml --stats
`;

export function runCommand(): Command {
  return new Command('run')
    .summary('run the daemon in the foreground')
    .description('Steers frames between the NIC and the guests of the configuration until it is interrupted. Needs root.')
    .usage('--config <file> [options]')
    .option('-c, --config <file>', 'the configuration, a YAML file')
    .option('--stats', 'log one line a second of rates')
    .addHelpText('after', HELP)
    .action(async (options: Partial<RunOptions>) => {
      const config = need(options.config, '--config <file>', 'run');
      const { EngineThread } = await import('../../dataplane/thread.js');
      EngineThread.prepare();
      const { run } = await import('../foreground.js');
      await run({ ...options, config });
    });
}
