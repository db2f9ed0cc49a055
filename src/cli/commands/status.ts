/** `berth status`: what a daemon that runs has and does. */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import type { Status } from '../../control/admin-api.js';

const HELP = `
Examples (as root, or as a member of admin.group):
  $ berth status
  $ berth status --admin /run/berth/admin.sock --json
`;

export function statusCommand(): Command {
  return withAdminOptions(new Command('status'))
    .summary('show a daemon\'s guests, leases in use and counters')
    .description('Shows the NIC, the addresses, each guest with its link, agent, leased and used ports, and the counters of a daemon that runs.')
    .addHelpText('after', HELP)
    .action(async (options: AdminOptions) => {
      const [{ askAdmin }, { statusText }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      print(options, await askAdmin<Status>(options.admin, { path: '/status' }), statusText);
    });
}
