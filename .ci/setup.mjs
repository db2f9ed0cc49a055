/**
 * Set-up: makes a fresh clone runnable, and does nothing when it already is.
 *
 * Called by    npm's prestart, pretest, prebench and the like, as `node .ci/setup.mjs start|test|guard|bench`. Runs before anything is
 *              installed: Node 20 and npm are all it needs.
 * Steps        Debian packages → npm packages → native addons → TypeScript.
 * Up to date   a step leaves a stamp, a hash of everything it was made from, inside what it made. The stamp is removed
 *              first and written last, so an interrupted step is done again. Contents are hashed, never times of change.
 * Concurrency  one set-up a tree at a time (setup-lock.mjs); when there is nothing to do the lock is not taken.
 * Output       one line on stderr for each step that does something. A failure: one line, the ends of the
 *              tool's output, exit code 1.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { takeLock } from './setup-lock.mjs';

const MODES = ['start', 'test', 'guard', 'bench'];
/** What is shown of a failed tool's output: npm names the cause first, compilers last. */
const HEAD_LINES = 8;
const TAIL_LINES = 20;
/** A native module fits one ABI and one processor: part of the stamps of everything compiled. */
const TARGET = `${process.platform}-${process.arch}-${process.versions.modules}`;

/** Debian package → what shows that it is there when dpkg does not know it: a command, or a header below an include folder. */
const BUILD_PACKAGES = { python3: 'python3', make: 'make', 'g++': 'g++', 'libpcap-dev': 'pcap.h' };
const LIVE_PACKAGES = { iproute2: 'ip', nftables: 'nft', ethtool: 'ethtool' };
/** For the guests of journey/vm.test.ts, which runs as root on x86-64 only, and skips without them. */
const VM_PACKAGES = { 'qemu-system-x86': 'qemu-system-x86_64', 'busybox-static': 'busybox', cpio: 'cpio' };
const TEST_PACKAGES = { tcpdump: 'tcpdump', tshark: 'tshark', 'xz-utils': 'xz', curl: 'curl', 'iputils-ping': 'ping', udhcpc: 'udhcpc', 'isc-dhcp-client': 'dhclient' };
/** For bench:guard, and what bench:peers compares with: without one of these a part is left out, and says so. */
const GUARD_PACKAGES = { strace: 'strace' };
const PEER_PACKAGES = { passt: 'pasta', slirp4netns: 'slirp4netns' };

const say = (line) => process.stderr.write(`berth setup: ${line}\n`);

function fail(line, output = '') {
  say(line);
  const lines = output.trim().split('\n');
  const shown = lines.length <= HEAD_LINES + TAIL_LINES ? lines : [...lines.slice(0, HEAD_LINES), '…', ...lines.slice(-TAIL_LINES)];
  if (output !== '') process.stderr.write(`${shown.join('\n')}\n`);
  process.exit(1);
}

/** The text of a file, or undefined when there is none. */
function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** Runs a tool and collects what it prints. Its process group dies with this process. */
function run(file, args, env = process.env) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const stop = (signal) => {
      try {
        process.kill(-child.pid, 'SIGTERM');
      } catch {
        // it has just ended by itself
      }
      fail(`interrupted by ${signal}`);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, stop);
    const done = (ok) => {
      for (const signal of signals) process.off(signal, stop);
      resolve({ ok, output });
    };
    const collect = (chunk) => (output = (output + chunk).slice(-65536));
    child.stdout.setEncoding('utf8').on('data', collect);
    child.stderr.setEncoding('utf8').on('data', collect);
    child.on('error', (error) => {
      output += `${error.message}\n`;
      done(false);
    });
    child.on('close', (status) => done(status === 0));
  });
}

// ---- Debian packages

/** Those of `packages` that neither dpkg nor a look at the usual places finds. */
function missingPackages(packages) {
  const names = Object.keys(packages);
  const dpkg = spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n', ...names], { encoding: 'utf8' });
  const installed = new Set((dpkg.stdout ?? '').split('\n').filter((line) => line.startsWith('installed ')).map((line) => line.slice(10)));
  const folders = (process.env.PATH ?? '').split(':').concat('/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/include', '/usr/include');
  return names.filter((name) => !installed.has(name) && !folders.some((folder) => folder !== '' && fs.existsSync(path.join(folder, packages[name]))));
}

/** `compiling`: something will be compiled, so the run cannot go on without compiler and headers. */
async function debianPackages(mode, compiling) {
  if (process.platform !== 'linux') return;
  const missing = missingPackages({
    ...BUILD_PACKAGES,
    ...LIVE_PACKAGES,
    ...(mode === 'start' ? {} : TEST_PACKAGES),
    ...(mode === 'guard' || mode === 'bench' ? GUARD_PACKAGES : {}),
    ...(mode === 'bench' ? PEER_PACKAGES : {}),
    ...(mode === 'test' && process.arch === 'x64' && process.getuid() === 0 ? VM_PACKAGES : {}),
  });
  const wanted = compiling ? missing : missing.filter((name) => !(name in BUILD_PACKAGES));
  if (wanted.length === 0) return;
  const blocked = wanted.some((name) => name in BUILD_PACKAGES);
  const report = blocked ? fail : say;
  if (!fs.existsSync('/usr/bin/apt-get')) return report(`missing (Debian's names): ${wanted.join(' ')}; install them with this system's package manager`);
  if (process.getuid() !== 0) return report(`missing packages; type: sudo apt-get install -y --no-install-recommends ${wanted.join(' ')}`);

  say(`installing Debian packages: ${wanted.join(' ')} …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const aptGet = (...args) => run('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=300', ...args], env);
  // A third-party source that cannot be read must not stop us: only the installation itself decides.
  const update = await aptGet('update');
  const spared = { ...GUARD_PACKAGES, ...PEER_PACKAGES, ...VM_PACKAGES, ...(mode === 'start' ? LIVE_PACKAGES : {}) };
  const needed = wanted.filter((name) => !(name in spared));
  // Apart: of packages installed together one that cannot be had stops all.
  for (const names of [needed, wanted.filter((name) => name in spared)]) {
    if (names.length === 0) continue;
    const install = await aptGet('install', '-y', '--no-install-recommends', ...names);
    if (install.ok) continue;
    if (names === needed) fail(`apt-get could not install ${names.join(' ')}`, update.output + install.output);
    say(`apt-get could not install ${names.join(' ')}: going on, what needs them will lack them`);
  }
}

// ---- What the other steps are made from

/** Every file at or below the given places, sorted; without what builds leave behind and without prose. */
function filesBelow(places) {
  return places.filter((place) => fs.existsSync(place)).flatMap((place) => {
    if (!fs.statSync(place).isDirectory()) return [place];
    const inside = fs.readdirSync(place).filter((name) => name !== 'build' && name !== 'node_modules' && !name.endsWith('.md'));
    return filesBelow(inside.sort().map((name) => path.join(place, name)));
  });
}

function hashOf(places, ...more) {
  const hash = createHash('sha256').update(more.join('\n'));
  for (const file of filesBelow(places)) {
    const content = fs.readFileSync(file);
    hash.update(`\n${file} ${content.length}\n`).update(content);
  }
  return `${TARGET} ${hash.digest('hex')}\n`;
}

/** The environment for node-gyp: says where Node's headers are, if they are on this machine, so that nothing is downloaded. */
function gypEnvironment() {
  if (process.env.npm_config_nodedir) return process.env;
  const fits = (prefix) => {
    if (!fs.existsSync(path.join(prefix, 'include/node/node_api.h'))) return false;
    const version = read(path.join(prefix, 'include/node/node_version.h')) ?? '';
    return new RegExp(`^#define NODE_MODULE_VERSION ${process.versions.modules}$`, 'm').test(version);
  };
  const nodedir = ['/usr', path.resolve(process.execPath, '../..')].find(fits);
  return nodedir === undefined ? process.env : { ...process.env, npm_config_nodedir: nodedir };
}

// ---- The steps: { stamp: file, wanted(): its content when up to date, make(): does the work, ends the process on failure }

/** True if node_modules is what the lock file asks for though we did not install it (`npm install` by hand). */
function installedByHand(stamp) {
  const [own, lock, have] = ['package.json', 'package-lock.json', 'node_modules/.package-lock.json'].map((file) => JSON.parse(read(file) ?? '{}'));
  if (have.packages === undefined || !(stamp ?? TARGET).startsWith(TARGET)) return false;
  const locked = lock.packages[''];
  if (['dependencies', 'devDependencies'].some((kind) => JSON.stringify(own[kind]) !== JSON.stringify(locked[kind]))) return false;
  return Object.entries(lock.packages).every(([where, wanted]) => {
    if (where === '') return true;
    if (have.packages[where] === undefined) return wanted.optional === true;
    if (have.packages[where].version !== wanted.version) return false;
    if (!fs.existsSync(path.join(where, 'binding.gyp'))) return fs.existsSync(where);
    const release = path.join(where, 'build/Release');
    return fs.existsSync(release) && fs.readdirSync(release).some((name) => name.endsWith('.node'));
  });
}

const npmStep = {
  stamp: 'node_modules/.berth-stamp',
  compiles: true,
  wanted: () => hashOf(['package.json', 'package-lock.json']),
  async make(oldStamp) {
    if (installedByHand(oldStamp)) return;
    say('installing npm packages …');
    const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    const cli = process.env.npm_execpath ?? '';
    const viaNode = path.basename(cli) === 'npm-cli.js' && fs.existsSync(cli);
    const { ok, output } = await (viaNode ? run(process.execPath, [cli, ...args], gypEnvironment()) : run('npm', args, gypEnvironment()));
    if (!ok) fail('npm ci failed', output);
  },
};

const addonStep = (folder, name) => ({
  stamp: `${folder}/build/.berth-stamp`,
  compiles: true,
  wanted: () => hashOf([folder, 'node_modules/node-addon-api/package.json'], process.version),
  async make() {
    say(`building ${name} …`);
    const args = ['node_modules/node-gyp/bin/node-gyp.js', 'rebuild', '-C', folder, '-j', 'max', '--loglevel=error'];
    const { ok, output } = await run(process.execPath, args, gypEnvironment());
    if (!ok) fail(`${name} does not build (${folder})`, output);
  },
});

const typescriptStep = {
  stamp: 'dist/.berth-stamp',
  compiles: false,
  wanted: () => hashOf(['src', 'tsconfig.json', 'package-lock.json']),
  async make() {
    say('compiling TypeScript …');
    fs.rmSync('dist', { recursive: true, force: true });
    const { ok, output } = await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']);
    if (!ok) fail('TypeScript does not compile', output);
    if (fs.existsSync('dist/cli/main.js')) fs.chmodSync('dist/cli/main.js', 0o755);
  },
};

function stepsFor(mode) {
  const addons = [addonStep('native-bindings', 'the native addon')];
  if (mode === 'guard' || mode === 'bench') {
    addons.push(addonStep('bench/support/reference', "the bench's reference addon"), addonStep('bench/support/load', "the bench's load program"));
  }
  const present = addons.filter((step) => fs.existsSync(path.resolve(step.stamp, '../../binding.gyp')));
  if (process.platform !== 'linux' && present.length > 0) say('the native addon is for Linux only: skipped');
  return [npmStep, ...(process.platform === 'linux' ? present : []), typescriptStep];
}

const isCurrent = (step) => read(step.stamp) === step.wanted();

async function bringUpToDate(step) {
  const old = read(step.stamp);
  const wanted = step.wanted(); // before the work: what changes meanwhile must be seen the next time
  if (old === wanted) return;
  fs.rmSync(step.stamp, { force: true });
  await step.make(old);
  fs.mkdirSync(path.dirname(step.stamp), { recursive: true });
  fs.writeFileSync(step.stamp, wanted);
}

// ----

const mode = process.argv[2];
if (!MODES.includes(mode)) fail(`usage: node .ci/setup.mjs ${MODES.join('|')}`);
if (Number(process.versions.node.split('.')[0]) < 20) fail(`Node ${process.version} is too old: 20.20 or later is needed`);
process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const steps = stepsFor(mode);
const stale = steps.filter((step) => !isCurrent(step));
await debianPackages(mode, stale.some((step) => step.compiles));
if (stale.length > 0) {
  if (!(await takeLock('.setup-lock', say))) fail('another set-up has held .setup-lock for too long; if none is running, remove that folder');
  for (const step of steps) await bringUpToDate(step);
}
