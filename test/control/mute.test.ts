/**
 * Mute against the kernel: what nftables holds is compared with what was asked for. Live: a host namespace each.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { PortSet } from '../../src/wire/port-set.js';
import { freshWorld, liveTests, until, type World } from '../support/live.js';

const PROGRAM = fileURLToPath(new URL('../support/mute.mjs', import.meta.url));
const A = '192.0.2.10';
const B = '192.0.2.11';

type State = Record<string, string | string[]>;
interface Answer {
  pid: number | null;
  errors: string[];
  log: string[];
}

describe.skipIf(!liveTests('mute'))('mute', () => {
  function begin(label: string): { world: World; ask: (question: { start?: State; set?: State[]; stop?: true }) => Promise<Answer> } {
    const world = freshWorld(label);
    const child = world.lab.spawn(world.lab.host, [process.execPath, PROGRAM], 'pipe');
    child.stderr?.on('data', (data: Buffer) => process.stderr.write(data));
    const ended = once(child, 'exit').then(() => Promise.reject(new Error('the process of the mute has ended')));
    ended.catch(() => undefined);
    const lines = createInterface({ input: child.stdout! });
    return {
      world,
      ask: async (question) => {
        const answered = once(lines, 'line') as Promise<[string]>;
        child.stdin?.write(`${JSON.stringify(question)}\n`);
        return JSON.parse((await Promise.race([answered, ended]))[0]) as Answer;
      },
    };
  }

  /** What the kernel has, of both sets, in the form of a State. */
  function held(world: World): State {
    const { nftables } = JSON.parse(world.lab.run(world.lab.host, ['nft', '-j', 'list', 'table', 'netdev', 'berth-nic-eth0'])) as {
      nftables: { set?: { name: string; elem?: unknown[] } }[];
    };
    const ports: Record<string, { first: number; last: number }[]> = {};
    const state: State = {};
    for (const { set } of nftables) {
      if (set?.name === 'addresses' && set.elem !== undefined) state['whole'] = set.elem as string[];
      else for (const { concat } of (set?.elem ?? []) as { concat: [string, string, number | { range: [number, number] }] }[]) {
        const [first, last] = typeof concat[2] === 'number' ? [concat[2], concat[2]] : concat[2].range;
        (ports[concat[0]] ??= []).push({ first, last });
      }
    }
    for (const [address, ranges] of Object.entries(ports)) state[address] = PortSet.fromRanges(ranges).format();
    return state;
  }

  const random = (n: number): number => Math.floor(Math.random() * n);

  it('holds what was asked for last, through random grants and releases, some at once', { timeout: 60_000 }, async () => {
    const { world, ask } = begin('mute');
    const model: Record<string, PortSet> = { [A]: PortSet.parse('1000-1999'), [B]: PortSet.EMPTY };
    const state = (): State => Object.fromEntries(Object.entries(model).map(([address, ports]) => [address, ports.format()]).filter(([, ports]) => ports !== ''));
    await ask({ start: state() });
    expect(held(world)).toEqual(state());
    for (let step = 0; step < 150; step++) {
      const states: State[] = [];
      for (let n = 1 + random(4); n > 0; n--) {
        const address = random(3) === 0 ? B : A;
        const first = 1000 + random(1500);
        // Around the length from which neighbours are one interval, and far from it; often touching or overlapping others.
        const range = PortSet.fromRanges([{ first, last: first + [0, 0, 3, 30, 31, 32, 200, 700][random(8)] }]);
        model[address] = random(2) === 0 ? model[address].union(range) : model[address].subtract(range);
        states.push(state());
      }
      expect(await ask({ set: states })).toMatchObject({ errors: [], log: [] });
      expect(held(world)).toEqual(state());
    }
  });

  it('many intervals that go at once, whole addresses, and addresses that come and go', { timeout: 30_000 }, async () => {
    const { world, ask } = begin('mute-many');
    const many = Array.from({ length: 400 }, (_, i) => `${1000 + 100 * i}-${1050 + 100 * i}`).join(',');
    await ask({ start: { [A]: many, whole: ['192.0.2.20'] } });
    for (const next of [{ [A]: '1000-1050', whole: ['192.0.2.20', '192.0.2.21'] }, { [B]: many }, { [A]: '5', [B]: '5-50' }, {}] as State[]) {
      expect(await ask({ set: [next] })).toMatchObject({ errors: [], log: [] });
      expect(held(world)).toEqual(next);
    }
  });

  it('goes on when its nft is killed, and when another program removes the table', { timeout: 30_000 }, async () => {
    const { world, ask } = begin('mute-killed');
    await ask({ start: { [A]: '80' } });
    const { pid: first } = await ask({ set: [{ [A]: '80,443' }] });
    for (let i = 0; i < 20; i++) {
      const { pid } = await ask({ set: [{ [A]: `80,${1000 + i}` }] });
      process.kill(pid!, 'SIGKILL');
      const { errors } = await ask({ set: [{ [A]: `80,${2000 + i}` }] });
      expect(errors).toEqual([]);
      expect(held(world)).toEqual({ [A]: `80,${2000 + i}` });
    }
    await ask({ set: [{ [A]: '81' }] });
    world.lab.run(world.lab.host, ['nft', 'flush', 'ruleset']);
    const { errors, log, pid } = await ask({ set: [{ [A]: '82' }] });
    expect(errors).toEqual([]);
    expect(log).toEqual([expect.stringMatching(/^table berth-nic-eth0 could not be changed \(nft: Error: .*\); it is replaced$/)]);
    expect(held(world)).toEqual({ [A]: '82' });
    expect(pid).not.toBe(first);
  });

  it('says when it cannot be done, and does it when it can', { timeout: 30_000 }, async () => {
    const { world, ask } = begin('mute-hindered');
    await ask({ start: { [A]: '80' } });
    world.lab.run(world.lab.host, ['nft', 'flush', 'ruleset']);
    // The table of a process that owns it is nobody else's to replace; it goes with its owner.
    const owner = world.lab.spawn(world.lab.host, ['env', 'HOME=/dev/null', 'nft', '-i'], 'pipe');
    owner.stdin?.write('add table netdev berth-nic-eth0 { flags owner; }\n');
    const ruleset = (): string => world.lab.run(world.lab.host, ['nft', 'list', 'ruleset']);
    await until(() => ruleset().includes('owner'), 2000, () => 'the owner');
    expect(await ask({ set: [{ [A]: '81' }] })).toMatchObject({ errors: [expect.stringContaining('nft')] });
    owner.stdin?.end();
    await until(() => ruleset() === '', 2000, () => 'the table to go');
    expect(await ask({ set: [{ [A]: '82' }] })).toMatchObject({ errors: [], log: [] });
    expect(held(world)).toEqual({ [A]: '82' });
  });

  it('takes over a table without a gap in it, and stops with the process gone, the table there and no history written', { timeout: 30_000 }, async () => {
    const { world, ask } = begin('mute-stop');
    world.lab.run(world.lab.host, ['nft', 'add table netdev berth-nic-eth0; add set netdev berth-nic-eth0 old { type ipv4_addr; }']);
    await ask({ start: { [A]: '80' } });
    expect(world.lab.run(world.lab.host, ['nft', 'list', 'ruleset'])).not.toContain('old');
    const before = existsSync(`${process.env['HOME']}/.nft.history`);
    const { pid } = await ask({ set: [{ [A]: '81' }] });
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    expect(await ask({ stop: true })).toMatchObject({ pid: null });
    await until(() => !existsSync(`/proc/${pid}`), 100, () => 'nft to be gone');
    expect(held(world)).toEqual({ [A]: '81' });
    expect(existsSync(`${process.env['HOME']}/.nft.history`)).toBe(before);
  });

  it('leaves no nft behind a daemon that is killed', { timeout: 30_000 }, async () => {
    const { world, ask } = begin('mute-orphan');
    await ask({ start: { [A]: '80' } });
    const { pid } = await ask({ set: [{ [A]: '81' }] });
    for (const one of world.processes(world.lab.host)) if (one !== pid) process.kill(one, 'SIGKILL');
    await until(() => !existsSync(`/proc/${pid}`), 2000, () => 'nft to be gone');
    expect(held(world)).toEqual({ [A]: '81' });
  });
});
