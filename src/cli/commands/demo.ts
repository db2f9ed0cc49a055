/** `berth demo`: see it work, on a private network in namespaces of this machine; a replay where that is not possible. */
import { Argument, Command } from 'commander';
import { BerthError } from '../../base/errors.js';

const HELP = `
Examples (as root, for the live network):
  $ berth demo
  $ berth demo map
`;

export function demoCommand(): Command {
  return new Command('demo')
    .summary('see it work on a private network in namespaces')
    .description('Makes an outside client, a host and two guests in network namespaces, runs three web servers at one address, fetches each, and removes everything. `map`: guests with private addresses behind the host\'s.')
    .addArgument(new Argument('[what]', 'what it shows').choices(['map']))
    .addHelpText('after', HELP)
    .action(async (what: 'map' | undefined) => {
      const { onStage } = await import('../demo/stage.js');
      const otherwise = async (why: string): Promise<void> => {
        if (what === 'map') throw new BerthError('ERR_DEMO', `${why}: port mapping is shown on a live network only; run it as root on Linux`);
        await (await import('../demo/fallback.js')).fallbackDemo(why);
      };
      if (process.platform !== 'linux') await otherwise('This is not Linux');
      else if (process.getuid?.() !== 0) await otherwise('Not root, so no network namespaces');
      else await onStage(what === 'map' ? (await import('../demo/map.js')).playMap : (await import('../demo/live.js')).play, otherwise);
    });
}
