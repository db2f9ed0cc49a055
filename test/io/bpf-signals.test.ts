/**
 * Programs are loaded although signals come in: the kernel's verifier gives up at one (EAGAIN), and a daemon gets one for every child that ends.
 * Here they are those of V8's own profiler, one every five milliseconds.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { withoutKernelSteering } from '../support/kernel-steering.js';

const LOAD = `
  import { hostFilterProgram } from './dist/io/host-filter-program.js';
  import { KernelTable } from './dist/io/kernel-table.js';
  import { addon, SOCKET_FILTER } from './dist/native/binding.js';
  const table = new KernelTable(1);
  const program = hostFilterProgram(table.maps, new Uint8Array(6), { shortest: 0, longest: 70000 });
  const failed = [];
  for (let n = 0; n < 300; n++) {
    const fd = addon().bpfLoad(SOCKET_FILTER, program, 'GPL');
    if (fd < 0) failed.push(fd);
    else addon().closeFd(fd);
  }
  table.close();
  console.log(JSON.stringify(failed));`;

describe.skipIf(withoutKernelSteering('io/bpf-signals'))('loading programs', () => {
  it('goes on where a signal comes in', () => {
    const folder = mkdtempSync(join(tmpdir(), 'berth-signals-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const options = ['--cpu-prof', '--cpu-prof-interval', '5000', '--cpu-prof-dir', folder];
    const { stdout, stderr } = spawnSync(process.execPath, [...options, '--input-type=module', '-e', LOAD], { encoding: 'utf8', timeout: 25_000 });
    expect([stdout.trim(), stderr.trim()]).toEqual(['[]', '']);
  });
});
