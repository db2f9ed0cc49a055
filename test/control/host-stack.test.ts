/**
 * Host stack: what a daemon leaves when it is killed, refused or hindered, and who removes it. Live: a host namespace each.
 */
import { existsSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLog } from '../../src/base/log.js';
import { HostStack, undoState } from '../../src/control/host-stack.js';
import { Daemon } from '../../src/daemon.js';
import { Lock } from '../../src/io/lock.js';
import { freshWorld, HOST_ADDRESS, liveTests, RunningDaemon, type Setting, type World } from '../support/live.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MAC = '02:00:5e:10:00:01';

/** A folder of this test's own. */
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'berth-host-stack-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

it('a daemon undoes the rest when one thing cannot be undone, and says what failed first', async () => {
  const done: string[] = [];
  const undo = ['a', 'b', 'c'].map((name) => () => {
    done.push(name);
    if (name !== 'a') throw new Error(name);
  });
  const daemon = Object.assign(Object.create(Daemon.prototype) as object, { timers: [], undo, stopped: null }) as unknown as Daemon;
  await expect(daemon.stop()).rejects.toThrow('c');
  expect(done).toEqual(['c', 'b', 'a']);
});

describe.skipIf(!liveTests('host-stack'))('host stack', () => {
  const own = String(statSync('/proc/self/ns/net').ino);

  function build(): { world: World; setting: Setting } {
    const world = freshWorld('left');
    const setting: Setting = {
      guests: {
        web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080-8089' }, use: 'all' },
        db: { link: { netns: world.addGuest('db') }, lease: { tcp: '5432' }, use: 'all' },
      },
    };
    return { world, setting };
  }

  const taps = (world: World): boolean[] => ['web', 'db'].map((name) => world.link(world.guest(name), 'eth0') !== null);

  it('replaces the state file whole', () => {
    const host = new HostStack('bt-none', MAC, createLog({ level: 'silent' }));
    host.rememberImplicit([]);
    const file = `/run/berth/${own}-bt-none.json`;
    const before = readFileSync(file, 'utf8');
    const link = join('/run/berth', `${own}-bt-link`);
    linkSync(file, link);
    onTestFinished(() => {
      for (const one of [file, link]) rmSync(one, { force: true });
    });
    host.rememberInterface({ netns: 'web', name: 'eth0' });
    expect(readFileSync(link, 'utf8')).toBe(before);
    expect(readFileSync(file, 'utf8')).not.toBe(before);
    expect(readdirSync('/run/berth').filter((name) => name.endsWith('.new'))).toEqual([]);
  });

  it('undoes the rest when one undoing fails, and then keeps the state file', () => {
    const path = folder();
    writeFileSync(`${path}/sysctl`, '1');
    writeFileSync(`${path}/state`, '{}');
    const state = { nic: 'bt-none', mac: MAC, reserved: '', tables: ['not a table'], guestTaps: [], sysctls: { [`${path}/sysctl`]: '0' }, implicit: [] };
    expect(() => undoState(`${path}/state`, state)).toThrow(expect.objectContaining({ code: 'ERR_TOOL' }));
    expect(readFileSync(`${path}/sysctl`, 'utf8')).toBe('0');
    expect(existsSync(`${path}/state`)).toBe(true);
  });

  it('a start that is refused leaves what a killed daemon left, for the next one', async () => {
    const { world, setting } = build();
    const clean = world.hostState();
    await (await world.start(setting)).stop('SIGKILL');
    const before = world.hostState();
    const obstacle = world.peer(world.lab.host);
    await obstacle.hold('tcp', '0.0.0.0', 8085);
    const { code } = await world.berth('run', '--config', world.write(setting));
    expect(code).toBe(2);
    expect({ ...world.hostState(), sockets: '' }).toEqual({ ...before, stateFiles: ['eth0.json'], sockets: '' });
    expect(taps(world)).toEqual([true, true]);
    expect((await world.berth('clean')).output).toContain('removed 3 nftables tables and 2 guest links');
    expect({ ...world.hostState(), sockets: '' }).toEqual({ ...clean, sockets: '' });
    expect(taps(world)).toEqual([false, false]);
  });

  it('a start that fails later removes the taps that a killed daemon left, but none that is not ours any more', async () => {
    const { world, setting } = build();
    setting.fastPath = 'off';
    const clean = world.hostState();
    await (await world.start(setting)).stop('SIGKILL');
    world.lab.run(world.guest('web'), ['ip', 'link', 'set', 'eth0', 'address', '02:00:5e:10:00:66']);
    expect((await world.berth('run', '--config', world.write(setting))).code).toBe(2);
    expect(world.hostState()).toEqual(clean);
    expect(taps(world)).toEqual([true, false]);
  });

  it('so with veths, which are ours by their other end', async () => {
    const { world, setting } = build();
    const clean = world.hostState();
    await (await world.start(setting)).stop('SIGKILL');
    world.lab.run(world.guest('web'), ['ip', 'link', 'set', 'eth0', 'address', '02:00:5e:10:00:66']);
    expect((await world.berth('run', '--config', world.write(setting))).code).toBe(2);
    expect(world.hostState()).toEqual(clean);
    expect(taps(world)).toEqual([false, false]);
  });

  it('a namespace that has gone does not hinder the clean-up', async () => {
    const { world, setting } = build();
    const clean = world.hostState();
    await (await world.start(setting)).stop('SIGKILL');
    world.lab.removeNamespace(world.guest('db'));
    expect((await world.berth('clean')).code).toBe(0);
    expect(world.hostState()).toEqual(clean);
  });

  it('two daemons in one namespace keep the ports of each reserved, whichever stops first', async () => {
    for (const firstStops of [true, false]) {
      const { world, setting } = build();
      addSecondNic(world);
      world.setReservedPorts('9000');
      const { web, db } = setting.guests;
      const first = await world.start({ guests: { web } });
      const second = await world.start({ nic: 'eth1', admin: { socket: `${world.lab.folder}/admin1.sock` }, guests: { db: { ...db, lease: { tcp: '8085-8095' } } } });
      expect(world.reservedPorts()).toBe('8080-8095,9000');
      await (firstStops ? first : second).stop();
      expect(world.reservedPorts()).toBe(firstStops ? '8085-8095,9000' : '8080-8089,9000');
      await (firstStops ? second : first).stop();
      expect(world.reservedPorts()).toBe('9000');
    }
  });

  it('berth clean goes on with other NICs while a daemon runs', async () => {
    const { world, setting } = build();
    addSecondNic(world);
    const { web, db } = setting.guests;
    const runs = await world.start({ guests: { web } });
    const during = world.hostState();
    await (await world.start({ nic: 'eth1', admin: { socket: `${world.lab.folder}/admin1.sock` }, guests: { db } })).stop('SIGKILL');
    const { code, output } = await world.berth('clean');
    expect(code).toBe(0);
    expect(output).toMatch(/^eth0: a daemon runs/m);
    expect(output).toMatch(/^eth1: removed/m);
    expect({ ...world.hostState(), sockets: '' }).toEqual({ ...during, sockets: '' });
    expect(taps(world)).toEqual([true, false]);
    expect((await runs.stop()).code).toBe(0);
  });

  it('berth clean leaves the ports of a later namespace with the same inode alone', async () => {
    const { world, setting } = build();
    await (await world.start(setting)).stop('SIGKILL');
    world.lab.run(world.lab.host, ['nft', 'flush', 'ruleset']);
    world.lab.run(world.lab.host, ['ip', 'link', 'set', 'eth0', 'address', '02:00:5e:10:00:77']);
    world.setReservedPorts('8080,9000');
    expect((await world.berth('clean')).code).toBe(0);
    expect(world.hostState()).toMatchObject({ reserved: '8080,9000', stateFiles: [] });
    expect(taps(world)).toEqual([false, false]);
  });

  it('berth clean removes everything also when the NIC has gone', async () => {
    const { world, setting } = build();
    await (await world.start(setting)).stop('SIGKILL');
    world.lab.run(world.lab.host, ['ip', 'link', 'del', 'eth0']);
    expect((await world.berth('clean')).code).toBe(0);
    expect(world.reservedPorts()).toBe('');
    expect(world.lab.run(world.lab.host, ['nft', 'list', 'ruleset']).trim()).toBe('');
    expect(taps(world)).toEqual([false, false]);
  });

  it('errors that nobody caught while it starts end it with everything undone', async () => {
    const { world, setting } = build();
    const before = world.hostState();
    const file = `${folder()}/thrower.mjs`;
    const state = `/run/berth/${statSync(`/run/netns/${world.lab.host}`).ino}-eth0.json`;
    writeFileSync(
      file,
      `import { existsSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
if (isMainThread) setInterval(() => { if (existsSync('${state}')) throw new Error('thrown by the test'); }, 1).unref();
`,
    );
    const daemon = new RunningDaemon(world.lab.spawn(world.lab.host, [process.execPath, '--import', file, PROGRAM, 'run', '--config', world.write(setting)]));
    while (daemon.isRunning) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(daemon.child.exitCode).toBe(1);
    expect(daemon.errors.trim()).toBe('berth: thrown by the test');
    expect(world.hostState()).toEqual(before);
    expect(taps(world)).toEqual([false, false]);
  });

  it('a lock is a socket file that only root can open, and goes when it is released', async () => {
    const lock = await Lock.take('tap', 'bt-none');
    const file = `/run/berth/${own}-tap-bt-none.lock`;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await expect(Lock.take('tap', 'bt-none')).rejects.toMatchObject({ code: 'ERR_LINK_TAKEN' });
    lock.release();
    expect(existsSync(file)).toBe(false);
  });

  it('a lock is not hindered by an abstract socket, which anybody can have', async () => {
    const { world, setting } = build();
    const holder = world.lab.spawn(world.lab.host, [process.execPath, '-e', `require('net').createServer().listen('\\0berth/NIC/eth0', () => console.log('up'))`]);
    await new Promise((resolve) => holder.stdout?.once('data', resolve));
    expect((await (await world.start(setting)).stop()).code).toBe(0);
  });

  /** The host's other NIC, eth1. */
  function addSecondNic(world: World): void {
    const { lab } = world;
    lab.run(lab.host, ['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', lab.outside]);
    lab.configure(lab.host, 'eth1', HOST_ADDRESS.replace('192.0.2', '198.51.100'));
  }
});
