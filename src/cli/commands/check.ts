/** `berth check FILE`: is the configuration valid, and what does it mean. */
import { Command } from 'commander';

const HELP = `
Example:
  $ berth check berth.yaml

  with berth.yaml:
    nic: eth0
    addresses: [192.0.2.10]
    guests:
      web:
        link: { tap: tap-web }
        lease: { tcp: "80,443,8000-8999", udp: 53 }
        use: { tcp: "80,8000-8010" }
        agent: { socket: /run/berth/web.sock }
        policy: { maxPorts: 4096, allow: { tcp: "8443" } }
    pool: { ports: "20000-59999", quarantine: 60s }
`;

export function checkCommand(): Command {
  return new Command('check')
    .summary('validate a configuration and say what it means')
    .description('Validates a configuration and says in words what it means. Changes nothing and needs no privileges.')
    .argument('<file>', 'the configuration, a YAML file')
    .addHelpText('after', HELP)
    .action(async (file: string) => {
      const { checkConfig } = await import('../describe-config.js');
      process.stdout.write(checkConfig(file));
    });
}
