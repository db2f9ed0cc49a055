/** Wrong usage and unwritable outputs, through the built program: one line that says what, where and what to do, and its exit code. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'berth-usage-'));
afterAll(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'c.yaml'), 'addresses: 192.0.2.10\nguests: { a: { lease: { tcp: 80 } } }\n');
mkdirSync(join(folder, 'directory'));
// An empty capture: magic, 2.4, no offset, no accuracy, 64 KiB, Ethernet.
writeFileSync(join(folder, 'empty.pcap'), Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex'));

describe('the command line', { timeout: 60_000 }, () => {
  it.each([
    ['stauts', 2, "unknown command 'stauts' (did you mean status?); berth --help shows what there is"],
    ['start', 2, "unknown command 'start'; berth --help shows what there is"],
    ['lease gran', 2, "unknown command 'gran' (did you mean grant?); berth lease --help shows an example"],
    ['run --confg c.yaml', 2, "unknown option '--confg' (did you mean --config?); berth run --help shows an example"],
    ['replay x --zzz', 2, "unknown option '--zzz'; berth replay --help shows an example"],
    ['run', 2, 'option --config <file> is missing; berth run --help shows an example'],
    ['replay x', 2, 'option --config <file> is missing; berth replay --help shows an example'],
    ['replay', 2, "missing required argument 'file'; berth replay --help shows an example"],
    ['guest add', 2, "missing required argument 'name'; berth guest add --help shows an example"],
    ['guest add x --polic a=1', 2, "unknown option '--polic' (did you mean --policy?); berth guest add --help shows an example"],
    ['replay none -c c.yaml', 1, 'none: cannot be opened (no such file); name a capture that this user may read'],
    ['replay directory -c c.yaml', 1, 'directory: is a directory: name a capture file or a pipe'],
    ['replay empty.pcap -c c.yaml --verdicts directory', 1, 'directory: cannot be created (it is a directory); name a file that this user may write, or - for standard output'],
    ['replay empty.pcap -c c.yaml --verdicts none/v', 1, 'none/v: cannot be created (its folder is not there); name a file that this user may write, or - for standard output'],
    ['replay empty.pcap -c c.yaml --split c.yaml/in', 1, /^c\.yaml\/in: no folder to write captures into \(\S*c\.yaml is a file\); name another$/],
  ])('berth %s', (line, code, says) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...line.split(' ')], { cwd: folder, encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: code, stdout: '' });
    expect(stderr.replace(/^berth: /, '').replace(/\n$/, '')).toEqual(typeof says === 'string' ? says : expect.stringMatching(says));
  });
});
