/**
 * `berth guest add | rm | ls`: the guests of a daemon that runs.
 *
 * Settings     as KEY=VALUE,KEY=VALUE, where a part without a key goes on with the value before it: `tcp=80,443,udp=53`.
 *              What they may be is the daemon's to say.
 * --policy     both of what the guest may have (KEY=VALUE) and of how its address is chosen (a name, or NAME=WEIGHT).
 */
import { Command } from 'commander';
import { type AdminOptions, print, withAdminOptions } from '../admin-options.js';
import { BerthError } from '../../base/errors.js';
import type { GuestRemoval, GuestStatus } from '../../control/admin-api.js';

type Settings = Record<string, unknown>;

interface AddOptions extends AdminOptions {
  config?: string;
  link?: Settings;
  lease?: Settings;
  use?: Settings | 'all';
  agent?: Settings;
  policy?: Policies;
  pool?: Settings;
  allow?: Settings;
  deny?: Settings;
  map?: Settings;
}

/** What --policy says: of the lease, of the choice of an address. */
interface Policies {
  limits?: Settings;
  choice?: string | Settings;
}

const ADD_HELP = `
Examples:
  $ berth guest add web --link netns=web,name=eth0 --agent /run/berth/web.sock
  $ berth guest add vm --link tap=tap-vm --lease tcp=2222,8000-8999,udp=53 --use all
  $ berth guest add db --config db.yaml --policy maxPorts=2048
  $ berth guest add www --link netns=www --pool any --policy least-load
  $ berth guest add legacy --link tap=tap-legacy --map inside=10.0.7.2
  $ berth guest add job --link netns=job --pool name=any,ports=1024 --policy least-load

  with db.yaml:
    link: { netns: db }
    lease: { address: 192.0.2.11 }
    use: all
`;

export function guestCommand(): Command {
  const guest = new Command('guest')
    .summary('add, remove and list guests')
    .description('Adds guests to a daemon that runs, removes and lists them. A guest that is added is there again after a restart of the daemon.')
    .addHelpText('after', '\nExample:\n  $ berth guest add web --link netns=web --agent /run/berth/web.sock\n');
  for (const command of [add(), remove(), list()]) guest.addCommand(command);
  return guest;
}

function add(): Command {
  return withAdminOptions(new Command('add'))
    .summary('add a guest')
    .description('Adds a guest. Its settings are those of a guest in the configuration, from a file, from options, or from both: an option stands in place of the same key in the file.')
    .argument('<name>', 'the guest\'s name')
    .option('-c, --config <file>', 'its settings as YAML: link, lease, use, agent, policy, pool; or link, mode, inside, gateway, map, block')
    .option('--link <setting>', 'tap=NAME, or netns=NAME,name=eth0; and configure=dhcp', settings)
    .option('--lease <setting>', 'tcp=PORTS,udp=PORTS,address=ADDRESS', settings)
    .option('--use <setting>', 'all, or tcp=PORTS,udp=PORTS', (text) => (text === 'all' ? 'all' : settings(text)))
    .option('--agent <path>', 'the socket of its agent; or socket=PATH,connect=true', (text) => (text.includes('=') ? settings(text) : { socket: text }))
    .option('--pool <setting>', 'a dedicated address of this pool, or of any; or name=any,class=web,rule=apart; with ports=1024 only so many ports of one; with --lease only these', (text) => (text.includes('=') ? settings(text) : { name: text }))
    .option('--policy <setting>', 'block=1024,maxPorts=4096,threshold=strict,implicit=true,leaseTime=1h; with --pool also how the address is chosen: least-load, or least-load=2,lowest-occupancy=1', policies)
    .option('--allow <setting>', 'what it may ask for by name: tcp=PORTS,udp=PORTS', settings)
    .option('--deny <setting>', 'what it never gets: tcp=PORTS,udp=PORTS', settings)
    .option('--map <setting>', 'a guest with an address of its own: inside=ADDRESS,gateway=ADDRESS,block=1024', settings)
    .addHelpText('after', ADD_HELP)
    .action(async (name: string, { admin, json, ...given }: AddOptions) => {
      const [{ askAdmin }, { guestTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      const answer = await askAdmin<GuestStatus>(admin, { method: 'POST', path: '/guests', body: { ...(await settingOf(given)), name } });
      print({ admin, ...(json === true ? { json } : {}) }, answer, (guest) => `added:\n${guestTable([guest])}`);
    });
}

function remove(): Command {
  return withAdminOptions(new Command('rm'))
    .summary('remove a guest')
    .description('Removes a guest: nothing is delivered to it any more, its leases are quarantined, its agent\'s session ends, its link is given back.')
    .argument('<name>', 'the guest')
    .addHelpText('after', '\nExample:\n  $ berth guest rm web\n')
    .action(async (name: string, options: AdminOptions) => {
      const { askAdmin } = await import('../admin-client.js');
      const answer = await askAdmin<GuestRemoval>(options.admin, { method: 'DELETE', path: `/guests/${encodeURIComponent(name)}` });
      print(options, answer, ({ message }) => (message === '' ? `removed: ${name}` : `removed: ${name}\n${message}`));
    });
}

function list(): Command {
  return withAdminOptions(new Command('ls'))
    .summary('list guests')
    .description('Lists every guest with what it holds and uses.')
    .addHelpText('after', '\nExample:\n  $ berth guest ls --json\n')
    .action(async (options: AdminOptions) => {
      const [{ askAdmin }, { guestTable }] = await Promise.all([import('../admin-client.js'), import('../admin-text.js')]);
      print(options, await askAdmin<GuestStatus[]>(options.admin, { path: '/guests' }), guestTable);
    });
}

async function settingOf({ config, policy, allow, deny, pool, map, ...rest }: Omit<AddOptions, 'admin' | 'json'>): Promise<object> {
  const file = config === undefined ? {} : (await import('../../base/config.js')).loadGuestFile(config);
  const limits = { ...policy?.limits, ...(allow === undefined ? {} : { allow }), ...(deny === undefined ? {} : { deny }) };
  const wish = { ...pool, ...(policy?.choice === undefined ? {} : { policy: policy.choice }) };
  const mapped = map === undefined ? {} : { mode: 'map', ...map };
  return { ...file, ...rest, ...mapped, ...(Object.keys(limits).length === 0 ? {} : { policy: limits }), ...(Object.keys(wish).length === 0 ? {} : { pool: wish }) };
}

/** Given again it adds to what was given before. */
function policies(text: string, before: Policies = {}): Policies {
  if (!text.includes('=')) return { ...before, choice: text };
  const given = settings(text);
  // What a guest may have is said in keys of one word, the ways of choosing in names of several.
  if (!Object.keys(given).some((key) => key.includes('-'))) return { ...before, limits: { ...before.limits, ...given } };
  return { ...before, choice: Object.fromEntries(Object.entries(given).map(([key, weight]) => [key, /^\d+(\.\d+)?$/.test(String(weight)) ? Number(weight) : weight])) };
}

/** `tcp=80,443,udp=53` → { tcp: "80,443", udp: "53" }; numbers and truth values where the configuration has them. */
function settings(text: string): Settings {
  const found: Record<string, string> = {};
  let key = '';
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    if (at > 0) {
      key = part.slice(0, at);
      found[key] = part.slice(at + 1);
    } else if (key !== '') {
      found[key] += `,${part}`;
    } else {
      throw new BerthError('ERR_USAGE', `not a setting: "${text}"; write KEY=VALUE, as tcp=80,443`, { exitCode: 2 });
    }
  }
  return Object.fromEntries(Object.entries(found).map(([name, value]) => [name, name === 'connect' || name === 'implicit' ? truth(value) : name === 'block' || name === 'maxPorts' || name === 'ports' ? number(value) : value]));
}

function truth(text: string): unknown {
  return text === 'true' || (text === 'false' ? false : text);
}

function number(text: string): unknown {
  return /^\d+$/.test(text) ? Number(text) : text;
}
