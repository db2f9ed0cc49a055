/**
 * Logs, on standard output: one JSON object a line, or coloured text where a person reads them. The only import of pino
 * and pino-pretty.
 *
 * Synchronous  each line is written before the call returns, so that none is lost at exit: pino-pretty is used as a
 *              function on the line, not as a stream or a worker, which would still hold some.
 * Loaded       pino-pretty, only where it is needed: a daemon that is started again has guests that wait.
 * Unwritable   a line that standard output does not take (a full disk, a reader that is gone) is lost: no log line is worth
 *              ending the daemon for, or its memory.
 * Not here     the data path: it has counters, and no log in its loop.
 */
import { createRequire } from 'node:module';
import { pino, stdTimeFunctions, type DestinationStream, type Level, type Logger } from 'pino';
import type pretty from 'pino-pretty';

/** Lines that could not be written are held for the next attempt, up to so many bytes; further ones are dropped. */
const HELD_BYTES = 64 * 1024;

export type Log = Logger;
export type LogLevel = Level | 'silent';

export interface LogOptions {
  /** the least severe level written; default info */
  readonly level?: LogLevel;
  /** text for people instead of JSON; default: whether standard output is a terminal */
  readonly pretty?: boolean;
  /** takes each line, its end included; default: standard output */
  readonly destination?: DestinationStream;
}

/** A log that is ready to use. `NO_COLOR` in the environment takes the colour out of pretty output. */
export function createLog(options: LogOptions = {}): Log {
  const destination = options.destination ?? standardOutput();
  const isPretty = options.pretty ?? process.stdout.isTTY === true;
  return pino(
    {
      level: options.level ?? 'info',
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    isPretty ? prettyInto(destination) : destination,
  );
}

function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true, maxLength: HELD_BYTES });
  output.on('error', () => undefined);
  return output;
}

function prettyInto(destination: DestinationStream): DestinationStream {
  const { prettyFactory } = createRequire(import.meta.url)('pino-pretty') as typeof pretty;
  const format = prettyFactory({
    colorize: process.stdout.hasColors?.() === true && process.env['NO_COLOR'] === undefined,
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
    ignore: 'counters',
  });
  return { write: (line) => destination.write(format(line)) };
}
