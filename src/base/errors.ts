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

/** What the file system says in words that need no table of codes (errno(3)). */
const FILE_REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
  ELOOP: 'its symbolic links go round in a circle',
  ENAMETOOLONG: 'the name is too long',
  ENOENT: 'no such file',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'no such file',
  EPERM: 'permission denied',
  EPIPE: 'its reader has gone',
  EROFS: 'the file system is read-only',
};

/** Why a file could not be opened, made, read or written: for a message that names the file and says what to do. */
export function fileReason(error: unknown): string {
  return FILE_REASONS[(error as NodeJS.ErrnoException | null)?.code ?? ''] ?? messageOf(error);
}

/** The same for a file that was to be made: what is missing then is its folder. */
export function newFileReason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR' ? 'its folder is not there' : fileReason(error);
}
