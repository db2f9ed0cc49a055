/** `berth demo`: see it work, on a private network in namespaces of this machine; a replay where that is not possible. */
import { Argument, Command } from 'commander';

const HELP = `
Examples (as root, for the live network):
  $ berth demo
  $ berth demo pools
  $ berth demo map
`;

export function demoCommand(): Command {
  return new Command('demo')
    .summary('see it work on a private network in namespaces')
    .description('Makes an outside client, a host and two guests in network namespaces, runs three web servers at one address, fetches each, and removes everything. `pools`: floating addresses on two networks, one chosen by load. `map`: guests with private addresses behind the host\'s.')
    .addArgument(new Argument('[what]', 'another demo').choices(['pools', 'map']))
    .addHelpText('after', HELP)
    .action(async (what?: string) => {
      if (what === 'pools') return (await import('../demo/pools.js')).poolsDemo();
      if (what === 'map') return (await import('../demo/map.js')).mapDemo();
      const [{ fallbackDemo }, { liveDemo }] = await Promise.all([import('../demo/fallback.js'), import('../demo/live.js')]);
      if (process.platform !== 'linux') await fallbackDemo('This is not Linux');
      else if (process.getuid?.() !== 0) await fallbackDemo('Not root, so no network namespaces');
      else await liveDemo();
    });
}
