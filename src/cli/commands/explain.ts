/** `berth explain [ADDRESS:]PORT[/tcp|udp]`: an endpoint in words; `berth explain ADDRESS`: an address of a pool. */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import type { AddressExplanation, Explanation } from '../../control/admin-api.js';
import { BerthError } from '../../base/errors.js';
import { parseIpv4 } from '../../wire/address.js';

const HELP = `
Examples:
  $ berth explain 8080
  $ berth explain 53/udp --json
  $ berth explain 203.0.113.17
  $ berth explain 203.0.113.17:1024/tcp
`;
const LAST_PORT = 65535;

export function explainCommand(): Command {
  return withAdminOptions(new Command('explain'))
    .summary('say who has a port or an address, and where a frame for it goes')
    .description('Says in words who has the port, since when, in what state, why a frame for it goes where it goes, and what the host itself has there. Of an address of a pool: also why it was chosen over the others.')
    .argument('<port or address>', 'a port, or PORT/tcp or PORT/udp, without a protocol both, and ADDRESS: before it for that address alone; or an address of a pool')
    .addHelpText('after', HELP)
    .action(async (given: string, options: AdminOptions) => {
      const { askAdmin } = await import('../admin-client.js');
      if (parseIpv4(given) !== null) {
        print(options, await askAdmin<AddressExplanation>(options.admin, { path: `/pools/addresses/${given}` }), ({ words }) => words.join('\n'));
        return;
      }
      const asked = readEndpoints(given);
      const answers: Explanation[] = [];
      for (const query of asked) answers.push(await askAdmin<Explanation>(options.admin, { path: '/explain', query }));
      print(options, answers, (all) => all.map(({ words }) => words.join('\n')).join('\n\n'));
    });
}

function readEndpoints(text: string): Record<string, string>[] {
  const [, address, port = '', proto] = /^(?:([\d.]+):)?([1-9]\d{0,4})(?:\/(tcp|udp))?$/.exec(text) ?? [];
  if (port === '' || Number(port) > LAST_PORT || (address !== undefined && parseIpv4(address) === null)) {
    throw new BerthError('ERR_USAGE', `not a port (got ${JSON.stringify(text.slice(0, 40))}, expected 1 to ${LAST_PORT}, with /tcp or /udp if only one is meant, as ADDRESS:PORT if only one address is, or an address of a pool)`, { exitCode: 2 });
  }
  return (proto === undefined ? ['tcp', 'udp'] : [proto]).map((one) => ({ port, proto: one, ...(address === undefined ? {} : { address }) }));
}
