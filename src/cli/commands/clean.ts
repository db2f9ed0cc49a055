/**
 * `berth clean`: undoes what a daemon that was killed left in this network namespace: mute, reserved ports, guest links.
 */
import { Command } from 'commander';
import { BerthError } from '../../base/errors.js';

const HELP = `
Example (as root):
  $ berth clean
`;

export function cleanCommand(): Command {
  return new Command('clean')
    .summary('undo what a killed daemon left')
    .description('Removes the nftables tables, reserved ports and guest links that a daemon left when it was killed. A daemon that runs is left alone. Needs root.')
    .addHelpText('after', HELP)
    .action(clean);
}

async function clean(): Promise<void> {
  if (process.getuid?.() !== 0) throw new BerthError('ERR_NOT_ROOT', 'clean needs root; start it with sudo');
  const [{ isOfThisNamespace, forget, leftStates, removeInterfaces, undoState }, { Lock, removeDeadLocks, leaveRunFolder }, { plural }] = await Promise.all([
    import('../../control/host-stack.js'),
    import('../../io/lock.js'),
    import('../text-table.js'),
  ]);
  await removeDeadLocks();
  const left = leftStates();
  for (const { file, state } of left) {
    const lock = await Lock.take('NIC', state.nic).catch((error: unknown) => {
      if (error instanceof BerthError && error.code === 'ERR_LINK_TAKEN') return null;
      throw error;
    });
    if (lock === null) {
      process.stdout.write(`${state.nic}: a daemon runs, nothing removed\n`);
      continue;
    }
    try {
      if (isOfThisNamespace(state)) {
        const links = undoState(file, state);
        process.stdout.write(`${state.nic}: removed ${plural(state.tables.length, 'nftables table')} and ${plural(links, 'guest link')}, reserved ports restored\n`);
      } else {
        const links = removeInterfaces(state);
        forget(file);
        process.stdout.write(`${state.nic}: left in another network namespace, which is gone: removed ${plural(links, 'guest link')}\n`);
      }
    } finally {
      lock.release();
    }
  }
  leaveRunFolder();
  if (left.length === 0) process.stdout.write('Nothing was left behind.\n');
}
