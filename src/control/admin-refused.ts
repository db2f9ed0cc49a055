/** Refusals of the admin interface: errors with a status of HTTP. */
import { isStoreFailure } from './store.js';
import { BerthError } from '../base/errors.js';

/** What cannot be done, with the status that HTTP has for it. */
export class Refused extends BerthError {
  readonly status: 400 | 404 | 409;

  constructor(status: 400 | 404 | 409, code: string, message: string) {
    super(code, message);
    this.status = status;
  }
}

const BAD_SETTINGS = new Set(['ERR_CONFIG_VALUE', 'ERR_CONFIG_UNKNOWN_KEY', 'ERR_USE_NOT_LEASED', 'ERR_GUEST_MAC', 'ERR_NO_POOL']);

/** What is wrong in itself is a bad request, what does not fit what is there a conflict; anything else is a failure. */
export function refuse(error: unknown): never {
  if (!(error instanceof BerthError) || isStoreFailure(error)) throw error;
  const { code, message } = error;
  throw new Refused(code === 'ERR_UNKNOWN_GUEST' ? 404 : BAD_SETTINGS.has(code) ? 400 : 409, code, message);
}
