/** What the tests of the configuration have in common. */
import { expect } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { ConfigError } from '../../src/base/errors.js';

/** A policy as it is when nothing of it is said. */
export const POLICY = {
  block: 1024,
  maxPorts: 4096,
  threshold: 'strict',
  allow: { tcp: null, udp: null },
  deny: { tcp: null, udp: null },
  implicit: true,
  leaseTimeMs: 3_600_000,
};

/** How the text `f.yaml` is refused. */
export function failure(text: string): { code: string; message: string; exitCode: number } {
  try {
    parseConfig(text, 'f.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { code, message, exitCode } = error as ConfigError;
    return { code, message, exitCode };
  }
  throw new Error('the configuration was accepted');
}
