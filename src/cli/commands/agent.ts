/** `berth agent`: the program in the guest, in the foreground, until SIGINT or SIGTERM; then the guest's network is put back. */
import { Command, Option } from 'commander';
import type { AgentOptions } from '../../agent/agent.js';
import { BerthError } from '../../base/errors.js';

const HELP = `
Examples (as root, in the guest):
  $ berth agent --virtio-port berth.agent.0 --interface eth0
  $ berth agent --virtio-port berth.agent.0 --resolv-conf /etc/resolv.conf
  $ berth agent --socket /run/berth/web.sock --no-configure

Name a resolv.conf only where it is the guest's own, as in a VM or a container: a bare network namespace has the host's.
`;

interface AgentCommandOptions {
  socket?: string;
  virtioPort?: string;
  interface: string;
  resolvConf?: string;
  configure: boolean;
}

export function agentCommand(): Command {
  return new Command('agent')
    .summary('run in a guest: report which ports are used, set its network')
    .description('Runs in a guest until it is interrupted: tells the host which ports are used, asks for more, and sets the guest\'s network to what the host says.')
    .addOption(new Option('--socket <path>', 'the host\'s Unix socket for this guest').conflicts('virtioPort'))
    .option('--virtio-port <name>', 'the virtio port to the host: the name that the VMM gives it, or a path')
    .option('--interface <name>', 'the interface to the host', 'eth0')
    .addOption(new Option('--resolv-conf <path>', 'write the host\'s name servers to this file; what was there is put back at the end').conflicts('configure'))
    .option('--no-configure', 'report only; leave the guest\'s network alone')
    .addHelpText('after', HELP)
    .action(run);
}

async function run(options: AgentCommandOptions): Promise<void> {
  const open = await channelOf(options);
  const [{ Agent }, { createLog }, { interruption }] = await Promise.all([import('../../agent/agent.js'), import('../../base/log.js'), import('../interruption.js')]);
  const log = createLog();
  const asked = interruption(log);
  const agent = new Agent({ open, networkInterface: options.configure ? options.interface : null, resolvConf: options.resolvConf, log });
  try {
    agent.start();
    log.info('ready');
    log.info(`${await asked}: stopping`);
  } finally {
    await agent.stop();
  }
}

async function channelOf({ socket, virtioPort: port }: AgentCommandOptions): Promise<AgentOptions['open']> {
  const { unixSocket, virtioPort } = await import('../../agent/channel.js');
  if (socket !== undefined) return unixSocket(socket);
  if (port !== undefined) return virtioPort(port);
  throw new BerthError('ERR_USAGE', 'where is the host? give --socket PATH or --virtio-port NAME', { exitCode: 2 });
}
