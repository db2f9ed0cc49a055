/** The configuration file as a file: missing, too large, no text, or made to do harm. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig, type Config } from '../../src/base/config.js';
import { failure } from '../support/config.js';

describe('a configuration that means harm', () => {
  it('is refused when its aliases multiply', () => {
    const bomb = Array.from({ length: 9 }, (_, i) => `k${i + 1}: &k${i + 1} [${Array(9).fill(`*k${i}`).join(', ')}]`);
    expect(failure(['k0: &k0 [a, b, c]', ...bomb].join('\n'))).toMatchObject({
      code: 'ERR_CONFIG_SYNTAX',
      message: expect.stringMatching(/^f\.yaml:\d+: aliases stand for too much \(more than 100000 values\); write them out$/) as string,
    });
  });

  it.each([
    ['[', 300_000],
    ['{ a: ', 150_000],
    ['- ', 300_000],
    ['? ', 300_000],
    ['- ? [', 150_000],
  ])('is refused when it nests %j %i times, before the parser calls itself as often', (text, times) => {
    expect(failure(text.repeat(times))).toEqual({ code: 'ERR_CONFIG_SYNTAX', exitCode: 2, message: 'f.yaml:1: nested too deeply (more than 32 levels); no configuration needs that' });
  });

  it.each([
    ['lines', (depth: number) => Array.from({ length: depth }, (_, i) => `${' '.repeat(i)}a:\n`).join('')],
    ['brackets', (depth: number) => 'a: ' + '['.repeat(depth - 1) + ']'.repeat(depth - 1)],
    ['dashes', (depth: number) => '- '.repeat(depth) + 'a'],
  ])('may nest %s as deep as any configuration does, and no deeper', (_name, nested) => {
    const deep = expect.stringContaining('nested too deeply') as string;
    for (const depth of [33, 60, 70, 1000]) expect(failure(nested(depth + 1)).message).toEqual(deep);
    expect(failure(nested(20)).message).not.toEqual(deep);
  });

  it('is refused in good time when it has very many keys', { timeout: 120_000 }, () => {
    // Ten times as many keys may take ten times as long and some more, not a hundred times: a busy machine is slow for both.
    const took = (keys: number): number => {
      const started = performance.now();
      const text = Array.from({ length: keys }, (_, i) => `k${i}: 1`).join('\n');
      expect(failure(text)).toMatchObject({ code: 'ERR_CONFIG_UNKNOWN_KEY' });
      return performance.now() - started;
    };
    took(8000);
    expect(took(80_000)).toBeLessThan(40 * Math.max(took(8000), took(8000)));
  });
});

describe('the file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-config-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (name: string, content: string | Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  const load = (path: string) => (): Config => loadConfig(path);

  it('is read', () => {
    expect(loadConfig(write('good.yaml', 'nic: eth0\n'))).toMatchObject({ nic: 'eth0', file: join(folder, 'good.yaml') });
  });

  it('may be a device', () => {
    expect(load('/dev/null')).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_SYNTAX', message: expect.stringContaining('/dev/null:1: the file is empty') as string }));
    expect(load('/dev/zero')).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_FILE', message: expect.stringContaining('too large') as string }));
  });

  it('is refused by its path when it is not there', () => {
    const path = join(folder, 'none.yaml');
    const message = `${path}: cannot read the configuration (no such file); name a YAML file that this user may read`;
    expect(load(path)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_FILE', exitCode: 2, message }));
  });

  it('is refused when it is a folder', () => {
    expect(load(folder)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_FILE', message: expect.stringContaining('it is a directory') as string }));
  });

  it('is refused over 1 MiB, and not before', () => {
    const comment = (length: number): string => `#${' '.repeat(length - 12)}\nnic: eth0\n`;
    expect(loadConfig(write('fits.yaml', comment(1024 * 1024)))).toMatchObject({ nic: 'eth0' });
    expect(load(write('large.yaml', comment(1024 * 1024 + 1)))).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_FILE', message: expect.stringContaining('more than 1 MiB') as string }));
  });

  it('is refused when it is not a text', () => {
    expect(load(write('binary.yaml', Uint8Array.of(0x6e, 0xff, 0xfe)))).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_FILE', message: expect.stringContaining('not a text in UTF-8') as string }));
  });
});
