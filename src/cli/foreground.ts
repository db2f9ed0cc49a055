/**
 * The daemon in the foreground: until SIGINT, SIGTERM or a failure; whatever happens, the host is left as it was found.
 *
 * Logs         on standard output; the last line carries every counter. With `stats` one line a second of rates.
 */
import { namedCounters, ratesBetween } from './stats.js';
import { loadConfig } from '../base/config.js';
import { createLog } from '../base/log.js';
import { Daemon } from '../daemon.js';
import { formatIpv4 } from '../wire/address.js';

export interface RunOptions {
  config: string;
  stats?: true;
}

export async function run(options: RunOptions): Promise<void> {
  const log = createLog();
  const asked = new Promise<string>((resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, resolve);
    // Whatever happens, and however often, the host is left as it was found.
    process.on('uncaughtException', reject);
  });
  asked.catch(() => undefined); // it is waited for when the start is over; until then it is no unhandled error
  const daemon = await Daemon.start(loadConfig(options.config), log);
  const guests = (): string[] => daemon.plan.guests.map((guest) => guest.name);
  log.info({ nic: daemon.nic.name, mac: daemon.nic.mac, addresses: daemon.plan.addresses.map(formatIpv4), guests: guests() }, 'ready');

  let before = daemon.readCounters();
  const ticker = setInterval(() => {
    if (options.stats === undefined) return;
    const now = daemon.readCounters();
    const { text, ...numbers } = ratesBetween(before, now, 1);
    log.info(numbers, text);
    before = now;
  }, 1000);

  try {
    const signal = await Promise.race([asked, daemon.failure]);
    log.info(`${signal}: stopping`);
  } finally {
    clearInterval(ticker);
    await daemon.stop();
    log.info({ counters: namedCounters(daemon.readCounters(), guests()) }, 'stopped');
  }
}
