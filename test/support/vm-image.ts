/**
 * What a guest VM boots: Debian's cloud kernel, and an initramfs of busybox, Node, `ip` and the built Berth.
 *
 * Kernel       from the package that linux-image-cloud-amd64 depends on, whose name changes with security updates; what is needed of it
 *              is kept below the system's temporary folder. Without a package archive what was kept before will do.
 * Initramfs    made from this machine's own programs in half a second: 121 MB, of which Node is 99. Compressed (lz4 -1, half of it)
 *              it takes longer to make and no less to boot.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../src/base/errors.js';

const CACHE = join(tmpdir(), 'berth-test-kernels');
/** For a tool to end; a download too. */
const TOOL_MS = 60_000;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** In the order in which they can be loaded. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'],
  ...['failover', 'net_failover', 'virtio_net', 'virtio_console', 'inet_diag', 'tcp_diag', 'udp_diag'],
];
/** What `berth agent` imports; with what these depend on. */
const AGENT_PACKAGES = ['cli-table3', 'commander', 'fastest-levenshtein', 'ipaddr.js', 'pino', 'pino-pretty', 'zod'];

/** The folder with `vmlinuz` and the modules; null, having printed why, where there is none. */
export function guestKernel(): string | null {
  if (process.arch !== 'x64') {
    console.warn('skipped: journey/vm needs an x86-64 machine, whose programs its guest runs');
    return null;
  }
  const kept = existsSync(CACHE) ? readdirSync(CACHE).filter((name) => name.startsWith('linux-image-')) : [];
  try {
    const name = newestKernel();
    return kept.includes(name) ? join(CACHE, name) : downloadKernel(name);
  } catch (error) {
    const last = kept.sort().at(-1);
    if (last !== undefined) return join(CACHE, last);
    console.warn(`skipped: journey/vm needs a kernel for the guest: ${messageOf(error).trim().split('\n').at(-1)}`);
    return null;
  }
}

function newestKernel(): string {
  const name = /^ +Depends: (linux-image-\S+)$/m.exec(run('apt-cache', ['depends', 'linux-image-cloud-amd64']))?.[1];
  if (name === undefined) throw new Error('linux-image-cloud-amd64 is not among the packages that apt knows');
  return name;
}

function downloadKernel(name: string): string {
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, 'new-'));
  try {
    run('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', name], work);
    const [archive] = readdirSync(work);
    run('dpkg-deb', ['-x', archive, 'files'], work);
    const files = readdirSync(join(work, 'files'), { recursive: true, encoding: 'utf8' });
    mkdirSync(join(work, name));
    const take = (is: (base: string) => boolean, as: string): void => {
      const found = files.find((file) => is(basename(file)));
      if (found === undefined) throw new Error(`${archive} has no ${as}`);
      renameSync(join(work, 'files', found), join(work, name, as));
    };
    take((base) => base.startsWith('vmlinuz-'), 'vmlinuz');
    for (const one of MODULES) take((base) => base === `${one}.ko`, `${one}.ko`);
    // Complete when it appears. Another run may have been faster.
    if (!existsSync(join(CACHE, name))) renameSync(join(work, name), join(CACHE, name));
    return join(CACHE, name);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Writes an initramfs to `file`; `init` is a script for its shell. */
export function makeInitramfs(file: string, kernel: string, init: string): void {
  const tree = mkdtempSync(`${file}-`);
  // Links: cpio follows them.
  const add = (from: string, to: string): void => {
    const target = join(tree, to);
    mkdirSync(dirname(target), { recursive: true });
    if (!existsSync(target)) symlinkSync(from, target);
  };
  try {
    for (const folder of ['dev', 'proc', 'run', 'sys', 'tmp']) mkdirSync(join(tree, folder));
    add(init, 'init');
    MODULES.forEach((name, at) => add(join(kernel, `${name}.ko`), `modules/${String(at).padStart(2, '0')}-${name}.ko`));
    const programs = { busybox: which('busybox'), sh: which('busybox'), ip: which('ip'), node: realpathSync(process.execPath) };
    for (const [name, from] of Object.entries(programs)) add(from, `bin/${name}`);
    const addon = 'native-bindings/build/Release/berth.node';
    for (const library of librariesOf([...Object.values(programs), join(ROOT, addon)])) add(realpathSync(library), library);
    const packages = withDependencies(AGENT_PACKAGES).map((name) => `node_modules/${name}`);
    for (const part of ['dist', 'package.json', addon, 'test/support/peer.mjs', ...packages]) add(join(ROOT, part), `berth/${part}`);
    run('sh', ['-c', `find -L . | cpio --quiet -o -L -H newc > '${file}'`], tree);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function librariesOf(programs: readonly string[]): Set<string> {
  // A program without libraries is an error for ldd, and none here.
  return new Set(programs.flatMap((program) => spawnSync('ldd', [program], { encoding: 'utf8' }).stdout.match(/\/\S+(?= \()/g) ?? []));
}

function withDependencies(names: readonly string[]): string[] {
  const all = new Set(names);
  for (const name of all) {
    const { dependencies = {} } = JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as { dependencies?: Record<string, string> };
    for (const one of Object.keys(dependencies)) all.add(one);
  }
  return [...all];
}

function which(name: string): string {
  return realpathSync(run('which', [name]).trim());
}

function run(tool: string, args: readonly string[], cwd?: string): string {
  return execFileSync(tool, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: TOOL_MS });
}
