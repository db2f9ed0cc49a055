/** `berth replay FILE --config FILE`: what the engine would do with the frames of a capture. */
import { Command, Option } from 'commander';
import { MAX_SPEED, parseSpeed } from '../replay/pace.js';
import type { ReplayOptions } from '../replay/replay.js';
import { need } from '../usage.js';

const HELP = `
Example:
  $ berth replay office.pcapng.gz --config berth.yaml --verdicts verdicts.ndjson --split guests/

The configuration needs \`addresses\`; \`nic\` and links are not used.
`;

export function replayCommand(): Command {
  return new Command('replay')
    .summary('steer the frames of a capture and say what became of each')
    .description('Runs a capture (pcap or pcapng, plain or gzip) through the engine as if its frames came to the NIC, and prints a summary.')
    .argument('<file>', 'the capture')
    .usage('<file> --config <file> [options]')
    .option('-c, --config <file>', 'the configuration, a YAML file')
    .option('--verdicts <out>', 'write one JSON object a frame to this file; - is standard output')
    .option('--split <folder>', 'write GUEST.pcap with the frames forwarded to each guest')
    .addOption(new Option('--speed <speed>', 'max, real, or a factor such as 10x').argParser(parseSpeed).default(MAX_SPEED, 'max'))
    .option('--onto <nic>', 'send the forwarded frames onto this interface (needs root)')
    .addHelpText('after', HELP)
    .action(async (file: string, options: ReplayOptions & { config?: string }) => {
      const config = need(options.config, '--config <file>', 'replay');
      const [{ loadConfig }, { replay }] = await Promise.all([import('../../base/config.js'), import('../replay/replay.js')]);
      await replay(file, loadConfig(config), options);
    });
}
