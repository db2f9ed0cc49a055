/**
 * The daemon in the foreground: until SIGINT, SIGTERM or a failure; whatever happens, the host is left as it was found.
 *
 * Logs         on standard output; the last line carries every counter, on a terminal the one before it says what they come
 *              to. With `stats` one line a second of rates.
 */
import { interruption } from './interruption.js';
import { inWords, namedCounters, ratesBetween } from './stats.js';
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
  const asked = interruption(log);
  const daemon = await Daemon.start(loadConfig(options.config), log);
  const guests = (): string[] => daemon.guestNames;
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
    const counters = daemon.readCounters();
    log.info(inWords(counters));
    log.info({ counters: namedCounters(counters, guests()) }, 'stopped');
  }
}
