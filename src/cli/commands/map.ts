/** `berth map add | rm | ls`: what is mapped to guests that have addresses of their own. */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import type { AdminRequest } from '../admin-client.js';
import { BerthError } from '../../base/errors.js';
import type { MapChange, MapStatus } from '../../control/admin-api.js';

interface MapOptions extends AdminOptions {
  tcp?: string;
  udp?: string;
  to?: string;
}

export function mapCommand(): Command {
  const map = new Command('map')
    .summary('map ports to guests with addresses of their own')
    .description('Maps outside ports to inside ports of a guest with `mode: map`, while the daemon runs. What is added is there again after a restart.')
    .addHelpText('after', '\nExample:\n  $ berth map add legacy --tcp 8443 --to 443\n');
  for (const command of [add(), remove(), list()]) map.addCommand(command);
  return map;
}

function add(): Command {
  return withPorts(new Command('add'))
    .summary('map ports')
    .description('Maps outside ports of one protocol, on every shared address, to as many inside ports.')
    .option('--to <port>', 'the inside port of the first one; default: the same ports')
    .addHelpText('after', '\nExamples:\n  $ berth map add legacy --tcp 8443 --to 443\n  $ berth map add legacy --udp 5000-5009 --to 6000\n')
    .action(async (guest: string, { tcp, udp, to, ...options }: MapOptions) => {
      if ((tcp === undefined) === (udp === undefined)) throw new BerthError('ERR_USAGE', 'what is to be mapped? give either --tcp or --udp', { exitCode: 2 });
      if (to !== undefined && !/^\d{1,5}$/.test(to)) throw new BerthError('ERR_USAGE', `--to ${to}: not a port; give one number, as 443`, { exitCode: 2 });
      await change(options, 'mapped', { method: 'POST', path: '/maps', body: { guest, tcp, udp, ...(to === undefined ? {} : { to: Number(to) }) } });
    });
}

function remove(): Command {
  return withPorts(new Command('rm'))
    .summary('map ports no more')
    .description('Maps outside ports no more: their flows end, frames for them are discarded, and they are quarantined.')
    .addHelpText('after', '\nExample:\n  $ berth map rm legacy --tcp 8443\n')
    .action(async (guest: string, { tcp, udp, ...options }: MapOptions) => {
      if (tcp === undefined && udp === undefined) throw new BerthError('ERR_USAGE', 'what is to be mapped no more? give --tcp or --udp', { exitCode: 2 });
      await change(options, 'removed', { method: 'DELETE', path: '/maps', query: { guest, tcp, udp } });
    });
}

function list(): Command {
  return withAdminOptions(new Command('ls'))
    .summary('list what is mapped')
    .description('Lists what is mapped to every mapped guest, or to one.')
    .argument('[guest]', 'only this guest')
    .addHelpText('after', '\nExample:\n  $ berth map ls --json\n')
    .action(async (guest: string | undefined, options: AdminOptions) => {
      const [{ askAdmin }, { mapTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      print(options, await askAdmin<MapStatus[]>(options.admin, { path: '/maps', query: { guest } }), mapTable);
    });
}

function withPorts(command: Command): Command {
  return withAdminOptions(command.argument('<guest>', 'the guest').option('--tcp <ports>', 'outside TCP ports, as 8443 or 9000-9009').option('--udp <ports>', 'outside UDP ports'));
}

async function change(options: AdminOptions, verb: string, asked: AdminRequest): Promise<void> {
  const [{ askAdmin }, { mapTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
  print(options, await askAdmin<MapChange>(options.admin, asked), (answer) => `${verb}; guest ${answer.guest} has now:\n${mapTable([answer])}${answer.message === '' ? '' : `\n${answer.message}`}`);
}
