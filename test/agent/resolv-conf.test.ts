/** The guest's resolv.conf, with real files: what is written, what is kept, and what is there at the end. */
import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ResolvConf } from '../../src/agent/resolv-conf.js';

/** Reads the file until it is over; the lengths that it had, -1 where it was not there. */
const READER = `
  const { readFileSync } = require('node:fs');
  const { parentPort, workerData: { path, over } } = require('node:worker_threads');
  const lengths = new Set();
  const read = () => { try { return readFileSync(path).length; } catch { return -1; } };
  parentPort.postMessage('begun');
  while (Atomics.load(over, 0) === 0) lengths.add(read());
  parentPort.postMessage([...lengths]);
`;
const OWN = 'nameserver 9.9.9.9\noptions edns0\n';

interface Place {
  folder: string;
  path: string;
  file: ResolvConf;
  /** Its name servers; null: there is no such file. */
  servers: () => string[] | null;
}

function place(before?: string): Place {
  const folder = mkdtempSync(join(tmpdir(), 'berth-resolv-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'resolv.conf');
  if (before !== undefined) writeFileSync(path, before);
  const servers = (): string[] | null => (existsSync(path) ? [...readFileSync(path, 'utf8').matchAll(/^nameserver (.*)$/gm)].map(([, server]) => server) : null);
  return { folder, path, file: new ResolvConf(path), servers };
}

describe('resolv.conf', () => {
  it('has the host\'s name servers, and at the end what it had before, with its mode', () => {
    const { folder, path, file, servers } = place(OWN);
    chmodSync(path, 0o640);
    const inode = statSync(path).ino;
    file.set(['192.0.2.53', '2001:db8::53']);
    expect(servers()).toEqual(['192.0.2.53', '2001:db8::53']);
    expect(readFileSync(path, 'utf8')).toMatch(/^# .*berth agent.*\nnameserver 192\.0\.2\.53\nnameserver 2001:db8::53\n$/);
    expect(statSync(path).mode & 0o777).toBe(0o644);
    file.set(['192.0.2.54']);
    expect(servers()).toEqual(['192.0.2.54']);
    file.restore();
    expect([readFileSync(path, 'utf8'), statSync(path).ino, statSync(path).mode & 0o777]).toEqual([OWN, inode, 0o640]);
    expect(readdirSync(folder)).toEqual(['resolv.conf']);
  });

  it('is readable by all under any umask', () => {
    const { path, file } = place();
    const umask = process.umask(0o077);
    onTestFinished(() => void process.umask(umask));
    file.set(['192.0.2.53']);
    expect(statSync(path).mode & 0o777).toBe(0o644);
  });

  it('goes where there was none, or a link that leads nowhere comes back', () => {
    const { folder, path, file, servers } = place();
    file.set(['192.0.2.53']);
    expect(servers()).toEqual(['192.0.2.53']);
    file.restore();
    expect(readdirSync(folder)).toEqual([]);
    symlinkSync('../run/systemd/resolve/stub-resolv.conf', path);
    file.set(['192.0.2.53']);
    expect([lstatSync(path).isFile(), servers()]).toEqual([true, ['192.0.2.53']]);
    file.restore();
    expect(readlinkSync(path)).toBe('../run/systemd/resolve/stub-resolv.conf');
  });

  it('leaves the file alone that a link leads to', () => {
    const { folder, path, file } = place();
    const target = join(folder, 'stub.conf');
    writeFileSync(target, OWN);
    symlinkSync('stub.conf', path);
    file.set(['192.0.2.53']);
    expect(readFileSync(target, 'utf8')).toBe(OWN);
    file.restore();
    expect([readlinkSync(path), readFileSync(path, 'utf8')]).toEqual(['stub.conf', OWN]);
  });

  it('of an agent that was killed: the next one puts back what the first has kept', () => {
    for (const before of [OWN, undefined]) {
      const { folder, path, file, servers } = place(before);
      file.set(['192.0.2.53']);
      const next = new ResolvConf(path);
      next.set(['192.0.2.54']);
      expect(servers()).toEqual(['192.0.2.54']);
      next.restore();
      expect(existsSync(path) ? readFileSync(path, 'utf8') : undefined).toBe(before);
      expect(readdirSync(folder)).toEqual(before === undefined ? [] : ['resolv.conf']);
    }
  });

  it('of an agent that was killed between keeping and replacing: nothing is lost', () => {
    const { folder, path, file } = place(OWN);
    writeFileSync(`${path}.before-berth`, OWN);
    writeFileSync(`${path}.berth`, 'half');
    file.set(['192.0.2.53']);
    file.restore();
    expect([readFileSync(path, 'utf8'), readdirSync(folder)]).toEqual([OWN, ['resolv.conf']]);
  });

  it('that another program writes meanwhile: it stays at the end, or is what comes back', () => {
    const { folder, path, file, servers } = place(OWN);
    const another = (text: string): void => {
      writeFileSync(`${path}.dhcp`, text);
      renameSync(`${path}.dhcp`, path);
    };
    file.set(['192.0.2.53']);
    another('nameserver 10.0.0.1\n');
    file.set(['192.0.2.53']);
    expect(servers()).toEqual(['192.0.2.53']);
    file.restore();
    expect(servers()).toEqual(['10.0.0.1']);
    file.set(['192.0.2.53']);
    another('nameserver 10.0.0.2\n');
    file.restore();
    expect([servers(), readdirSync(folder)]).toEqual([['10.0.0.2'], ['resolv.conf']]);
    // Removed: there is nothing to come back.
    file.set(['192.0.2.53']);
    rmSync(path);
    file.set(['192.0.2.53']);
    file.restore();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is what it was where the host has no name server that a guest can use, or says what is none', () => {
    const { path, file, servers } = place(OWN);
    file.set([]);
    expect(readFileSync(path, 'utf8')).toBe(OWN);
    file.set(['192.0.2.53', 'evil\noptions rotate', '']);
    expect(servers()).toEqual(['192.0.2.53']);
    file.set([]);
    expect(readFileSync(path, 'utf8')).toBe(OWN);
  });

  it('is not written again where it is right already', () => {
    const { path, file } = place();
    file.set(['192.0.2.53']);
    const { ino } = statSync(path);
    file.set(['192.0.2.53']);
    expect(statSync(path).ino).toBe(ino);
  });

  it('is there and whole whenever another reads it', { timeout: 20_000 }, async () => {
    const { path, file } = place(OWN);
    const [short, long] = [['192.0.2.53'], Array.from({ length: 3000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`)];
    const lengths = [OWN.length, ...[short, long].map((servers) => (file.set(servers), statSync(path).size))];
    const over = new Int32Array(new SharedArrayBuffer(4));
    const reader = new Worker(READER, { eval: true, workerData: { path, over } });
    await once(reader, 'message');
    for (let n = 0; n < 2000; n++) {
      file.set(n % 2 === 0 ? short : long);
      if (n % 10 === 0) file.restore();
    }
    Atomics.store(over, 0, 1);
    const [found] = (await once(reader, 'message')) as [number[]];
    expect(found.filter((length) => !lengths.includes(length))).toEqual([]);
    expect(found.length).toBeGreaterThan(1);
  });

  it('whose folder is not there is refused in one line that says what to do, and nothing is made', () => {
    const { folder, path } = place();
    expect(() => new ResolvConf(join(path, 'none')).set(['192.0.2.53'])).toThrow(
      expect.objectContaining({ code: 'ERR_RESOLV_CONF', message: `${join(path, 'none')} cannot be replaced (its folder is not there); name another path, or leave --resolv-conf out` }),
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});
