/** Where a live demo plays: a lab that is removed at the end, also after a failure or a signal. */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../base/errors.js';
import { Lab } from '../lab.js';

/** A signal that has ended a tool has been taken by then. */
const SIGNAL_MS = 50;

/** Plays in a new lab. Ends at SIGINT, SIGTERM and SIGHUP, with all removed. `otherwise`: there are no namespaces to be had, and why. */
export async function onStage(play: (lab: Lab) => Promise<void>, otherwise: (why: string) => Promise<void>): Promise<void> {
  let lab: Lab | null = null;
  let interrupted = false;
  const onSignal = (): void => {
    if (interrupted) return;
    interrupted = true;
    void (lab?.close() ?? Promise.resolve()).then(() => {
      process.stderr.write('berth: interrupted\n');
      process.exit(1);
    });
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  try {
    lab = new Lab('demo');
  } catch (error) {
    await sleep(SIGNAL_MS);
    if (!interrupted) await otherwise(`No network namespaces can be made here (${messageOf(error)})`);
    return;
  }
  try {
    await play(lab);
  } catch (error) {
    await sleep(SIGNAL_MS);
    if (!interrupted) throw error;
  } finally {
    await lab.close();
  }
  if (!interrupted) process.stdout.write('\nEverything the demo made has been removed.\n');
}
