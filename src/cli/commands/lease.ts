/** `berth lease ls | grant | revoke | renew`: the leases of a daemon that runs. */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import type { LeaseAnswer, LeaseLine } from '../../control/admin-api.js';
import type { AdminRequest } from '../admin-client.js';
import { BerthError } from '../../base/errors.js';

interface PortOptions extends AdminOptions {
  tcp?: string;
  udp?: string;
}
interface GrantOptions extends PortOptions {
  block?: true;
}

export function leaseCommand(): Command {
  const lease = new Command('lease')
    .summary('list, grant, take back and renew leases')
    .description('Lists the leases of a daemon that runs, grants and renews them, and takes them back. A grant obeys the guest\'s policy.')
    .addHelpText('after', '\nExample:\n  $ berth lease ls\n');
  for (const command of [list(), grant(), revoke(), renew()]) lease.addCommand(command);
  return lease;
}

function list(): Command {
  return withAdminOptions(new Command('ls'))
    .summary('list leases and quarantines')
    .description('Lists every lease and quarantine, or those of one guest.')
    .argument('[guest]', 'only those of this guest')
    .addHelpText('after', '\nExample:\n  $ berth lease ls web --json\n')
    .action(async (guest: string | undefined, options: AdminOptions) => {
      const [{ askAdmin }, { leaseTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      print(options, await askAdmin<LeaseLine[]>(options.admin, { path: '/leases', query: { guest } }), leaseTable);
    });
}

function grant(): Command {
  return withPorts(new Command('grant'))
    .summary('grant a block, or ports by name')
    .description('Grants a guest a block, or ports by name, as if its agent had asked.')
    .option('--block', 'a block, in both protocols')
    .addHelpText('after', '\nExamples:\n  $ berth lease grant web --block\n  $ berth lease grant web --tcp 80,8000-8010\n')
    .action(async (guest: string, { block, tcp, udp, ...options }: GrantOptions) => {
      const named = tcp !== undefined || udp !== undefined;
      if (named === (block === true)) throw new BerthError('ERR_USAGE', 'what is to be granted? give either --block or --tcp and --udp', { exitCode: 2 });
      await change(options, 'granted', { method: 'POST', path: '/leases', body: { guest, block, tcp, udp } });
    });
}

function revoke(): Command {
  return withPorts(new Command('revoke'))
    .summary('take ports back')
    .description('Takes ports back from a guest at once: frames for them are discarded, and its agent is told. What its policy allows by name it may ask for again.')
    .addHelpText('after', '\nExample:\n  $ berth lease revoke web --tcp 8000-8010\n')
    .action(async (guest: string, { tcp, udp, ...options }: PortOptions) => {
      if (tcp === undefined && udp === undefined) throw new BerthError('ERR_USAGE', 'what is to be taken back? give --tcp or --udp', { exitCode: 2 });
      await change(options, 'taken back', { method: 'DELETE', path: '/leases', query: { guest, tcp, udp } });
    });
}

function renew(): Command {
  return withAdminOptions(new Command('renew'))
    .summary('let all leases of a guest last from now on')
    .description('Lets all granted leases of a guest last their full time from now on.')
    .argument('<guest>', 'the guest')
    .addHelpText('after', '\nExample:\n  $ berth lease renew web\n')
    .action((guest: string, options: AdminOptions) => change(options, 'renewed', { method: 'POST', path: '/leases/renew', body: { guest } }));
}

function withPorts(command: Command): Command {
  return withAdminOptions(command.argument('<guest>', 'the guest').option('--tcp <ports>', 'TCP ports, as 80,8000-8999').option('--udp <ports>', 'UDP ports'));
}

async function change(options: AdminOptions, verb: string, asked: AdminRequest): Promise<void> {
  const [{ askAdmin }, { leaseText }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
  print(options, await askAdmin<LeaseAnswer>(options.admin, asked), (answer) => leaseText(verb, answer));
}
