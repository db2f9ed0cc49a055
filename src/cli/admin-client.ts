/**
 * Admin client: one request over the daemon's Unix socket, its answer, or an error in one line.
 *
 * Errors   what the daemon refuses keeps its code and words; exit code 2 where the request itself was wrong (400), else 1.
 */
import { request } from 'node:http';
import type { AdminFailure } from '../control/admin-api.js';
import { BerthError } from '../base/errors.js';

/** Longer than ss(8) may take for `explain`. */
const TIMEOUT_MS = 15_000;

export interface AdminRequest {
  method?: 'GET' | 'POST' | 'DELETE';
  path: string;
  query?: Record<string, string | undefined>;
  body?: object;
}

/** Asks the daemon at the socket; the answer's type is the caller's knowledge of the route. */
export async function askAdmin<T>(socketPath: string, { method = 'GET', path, query = {}, body }: AdminRequest): Promise<T> {
  const given = Object.entries(query).filter((one): one is [string, string] => one[1] !== undefined);
  const search = given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
  const { status, text } = await exchange(socketPath, method, path + search, body === undefined ? null : JSON.stringify(body));
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (cause) {
    throw notAdmin(socketPath, cause);
  }
  if (status < 300) return answer as T;
  const { error, message } = answer as AdminFailure;
  throw new BerthError(error, message, { exitCode: status === 400 ? 2 : 1 });
}

function exchange(socketPath: string, method: string, path: string, body: string | null): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = body === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const asked = request({ socketPath, method, path, headers, agent: false, timeout: TIMEOUT_MS }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part));
      answer.once('error', (error) => reject(unreachable(socketPath, error)));
      answer.once('end', () => resolve({ status: answer.statusCode ?? 500, text }));
    });
    asked.once('timeout', () => asked.destroy(new BerthError('ERR_ADMIN_TIMEOUT', `the daemon at ${socketPath} did not answer in ${TIMEOUT_MS / 1000} s`)));
    asked.once('error', (error) => reject(unreachable(socketPath, error)));
    asked.end(body ?? undefined);
  });
}

function unreachable(path: string, error: NodeJS.ErrnoException): BerthError {
  if (error instanceof BerthError) return error;
  const cause = { cause: error };
  if (error.code === 'EACCES' || error.code === 'EPERM') return new BerthError('ERR_ADMIN_ACCESS', `${path} may not be used by this user; use root, or set admin.group in the configuration`, cause);
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTSOCK' || error.code === 'ENOTDIR') {
    return new BerthError('ERR_NO_DAEMON', `no daemon answers at ${path}; start one (berth run --config FILE), or name its admin socket with --admin PATH`, cause);
  }
  if (error.code?.startsWith('HPE_') === true) return notAdmin(path, error); // no HTTP
  return new BerthError('ERR_ADMIN', `${path}: ${error.message}`, cause);
}

function notAdmin(path: string, cause: unknown): BerthError {
  return new BerthError('ERR_ADMIN_ANSWER', `what answers at ${path} is not a berth daemon's admin socket; name that with --admin PATH`, { cause });
}
