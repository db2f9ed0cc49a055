/** `berth pool ls`: the addresses of a daemon's pools. */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import type { PoolLine } from '../../control/admin-api.js';

export function poolCommand(): Command {
  return new Command('pool')
    .summary('list the addresses of the pools')
    .description('Shows the addresses of the pools of a daemon that runs.')
    .addHelpText('after', '\nExample:\n  $ berth pool ls\n')
    .addCommand(list());
}

function list(): Command {
  return withAdminOptions(new Command('ls'))
    .summary('list addresses')
    .description('Lists every address of every pool, and every block of ports of one: unused, leased, in use or quarantined, whose it is and since when. `berth explain ADDRESS` says why it was chosen.')
    .addHelpText('after', '\nExample:\n  $ berth pool ls --json\n')
    .action(async (options: AdminOptions) => {
      const [{ askAdmin }, { poolTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      print(options, await askAdmin<PoolLine[]>(options.admin, { path: '/pools' }), poolTable);
    });
}
