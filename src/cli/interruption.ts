/** Waits until a program in the foreground is to end: for SIGINT or SIGTERM, or for an error that nobody caught. */
import { messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';

/**
 * Resolves with the signal's name; rejects with the first uncaught error. From the call on neither ends the process by
 * itself: what was changed is to be undone first. Further uncaught errors are logged, also while it stops.
 */
export function interruption(log: Log): Promise<string> {
  const asked = new Promise<string>((resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, resolve);
    let isFirst = true;
    process.on('uncaughtException', (error) => {
      if (!isFirst) log.error(`one more uncaught error: ${messageOf(error)}`);
      isFirst = false;
      reject(error);
    });
  });
  asked.catch(() => undefined); // it is waited for when the start is over; until then it is no unhandled error
  return asked;
}
