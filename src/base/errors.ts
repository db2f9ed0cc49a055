/**
 * Errors of the control path. The data path has none: it has verdicts and counters.
 *
 * `code` is permanent and what tests and callers match on; the message is one line that says what is wrong, where,
 * and what to do. `exitCode` is what the command line ends with: 1 a failure, 2 wrong usage or configuration.
 */
export class BerthError extends Error {
  override readonly name = 'BerthError';
  readonly code: string;
  readonly exitCode: 1 | 2;

  constructor(code: string, message: string, options: { cause?: unknown; exitCode?: 1 | 2 } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.exitCode = options.exitCode ?? 1;
  }
}

/** A configuration that is wrong in itself or does not fit this host: exit code 2. */
export class ConfigError extends BerthError {
  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(code, message, { ...options, exitCode: 2 });
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
