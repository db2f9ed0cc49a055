/** `berth demo`: see it work, on a private network in namespaces of this machine; a replay where that is not possible. */
import { Command } from 'commander';

const HELP = `
Example (as root, for the live network):
  $ berth demo
`;

export function demoCommand(): Command {
  return new Command('demo')
    .summary('see it work on a private network in namespaces')
    .description('Makes an outside client, a host and two guests in network namespaces, runs three web servers at one address, fetches each, and removes everything.')
    .addHelpText('after', HELP)
    .action(async () => {
      const [{ fallbackDemo }, { liveDemo }] = await Promise.all([import('../demo/fallback.js'), import('../demo/live.js')]);
      if (process.platform !== 'linux') await fallbackDemo('This is not Linux');
      else if (process.getuid?.() !== 0) await fallbackDemo('Not root, so no network namespaces');
      else await liveDemo();
    });
}
