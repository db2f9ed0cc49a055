/** Logs: one JSON object a line or text for people, and nothing lost at exit. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { describe, expect, it } from 'vitest';
import { createLog, type LogOptions } from '../../src/base/log.js';

/** src/base/log.ts as JavaScript, for a process of its own. */
const LOG_MODULE = transpileModule(readFileSync(new URL('../../src/base/log.ts', import.meta.url), 'utf8'), {
  compilerOptions: { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 },
}).outputText;

function lines(options: LogOptions, write: (log: ReturnType<typeof createLog>) => void): string[] {
  const written: string[] = [];
  write(createLog({ ...options, destination: { write: (line) => void written.push(line) } }));
  return written;
}

describe('log', () => {
  it('is one JSON object a line, with the level as a word and the time in ISO form', () => {
    const written = lines({ pretty: false }, (log) => log.info({ guest: 'web', port: 80 }, 'leased'));
    expect(written).toHaveLength(1);
    const { time, ...rest } = JSON.parse(written[0]) as Record<string, unknown>;
    expect(rest).toEqual({ level: 'info', guest: 'web', port: 80, msg: 'leased' });
    expect(new Date(time as string).toISOString()).toBe(time);
    expect(written[0].endsWith('}\n')).toBe(true);
  });

  it('is text for people when asked', () => {
    const written = lines({ pretty: true }, (log) => log.warn({ guest: 'web' }, 'link is gone'));
    expect(written).toHaveLength(1);
    expect(written[0]).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] WARN: link is gone \{"guest":"web"\}\n$/);
  });

  it('leaves out what is less severe than its level', () => {
    expect(lines({ pretty: false, level: 'warn' }, (log) => log.info('no'))).toEqual([]);
    expect(lines({ pretty: false, level: 'debug' }, (log) => log.debug('yes'))).toHaveLength(1);
    expect(lines({ pretty: false, level: 'silent' }, (log) => log.fatal('no'))).toEqual([]);
  });

  it.each([true, false])('loses nothing when the process ends at once (pretty: %s)', (pretty) => {
    const input = `${LOG_MODULE}
      const log = createLog({ pretty: ${pretty} });
      for (let i = 0; i < 5000; i++) log.info({ i }, 'a line');
      process.exit(0);`;
    const output = execFileSync(process.execPath, ['--input-type=module'], { input, encoding: 'utf8' });
    expect(output.split('\n')).toHaveLength(5001);
    expect(output.trimEnd().split('\n').at(-1)).toContain('4999');
  });

  it.each([true, false])('does not end the process when it cannot be written, nor fill its memory (pretty: %s)', (pretty) => {
    const input = `${LOG_MODULE}
      const log = createLog({ pretty: ${pretty} });
      const text = 'x'.repeat(10_000);
      for (let i = 0; i < 10_000; i++) log.info({ text }, 'a line');
      setTimeout(() => process.stderr.write(process.memoryUsage().rss < 250e6 ? 'alive' : 'fat'), 100);`;
    const { stderr } = spawnSync('sh', ['-c', '"$0" --input-type=module > /dev/full', process.execPath], { input, encoding: 'utf8' });
    expect(stderr).toBe('alive');
  });

  it('leaves counters out of text for people', () => {
    expect(lines({ pretty: true }, (log) => log.info({ counters: { frames: 1 } }, 'stopped'))[0]).toMatch(/INFO: stopped\n$/);
    expect(lines({ pretty: false }, (log) => log.info({ counters: { frames: 1 } }, 'stopped'))[0]).toContain('"counters":{"frames":1}');
  });

  it('does not end the process when nobody reads it any more', () => {
    const input = `${LOG_MODULE}
      const log = createLog({ pretty: false });
      for (let i = 0; i < 5000; i++) log.info({ i }, 'a line');
      setTimeout(() => process.stderr.write('alive'), 100);`;
    const { stderr } = spawnSync('sh', ['-c', '"$0" --input-type=module | head -n 1', process.execPath], { input, encoding: 'utf8' });
    expect(stderr).toBe('alive');
  });
});
