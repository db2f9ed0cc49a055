/** Berth as a library: the public API. Re-exports only. */
export { Daemon } from './daemon.js';
export { loadConfig, parseConfig, type Config } from './base/config.js';
export { BerthError, ConfigError } from './base/errors.js';
export { createLog, type Log } from './base/log.js';
export type { CounterSnapshot } from './dataplane/counters.js';
