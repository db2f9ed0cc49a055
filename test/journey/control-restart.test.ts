/**
 * What outlives what: connections and leases the daemon, indications the agent for a grace period, and nothing a clean stop but
 * the store.
 */
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Capture } from '../support/capture.js';
import { FIRST_PORT, freshControl, measured, timeUntil } from '../support/control.js';
import { HOST_ADDRESS, liveTests, type RunningDaemon } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const PORT = FIRST_PORT + 11;
/** About four seconds: 64 KiB, a pause, and again. */
const BYTES = 32e6;
const PAUSE_MS = 6;
/** Silence for as long is none of the guest's doing. */
const ATTEMPT_MS = 20;

const leasesOf = (agent: RunningDaemon, word: string): string | undefined => /leased .*/.exec(agent.log.findLast(({ msg }) => msg.startsWith(word))?.msg ?? '')?.[0];

/** Attempts at the port that ended neither in a connection nor in silence, until one connects. */
async function refusalsUntilConnected(outside: Peer, port: number): Promise<string[]> {
  const refusals: string[] = [];
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
    const { outcome } = await outside.connect(HOST_ADDRESS, port, { timeoutMs: ATTEMPT_MS });
    if (outcome === 'connected') return refusals;
    if (outcome !== 'timeout') refusals.push(outcome);
  }
  throw new Error(`port ${port} was not reached`);
}

describe.skipIf(!liveTests('control-restart', 'tcpdump', 'python3'))('leases, agents and restarts', () => {
  it.each(['SIGKILL', 'SIGTERM'] as const)('the daemon ends by %s and is started again under a long download', { timeout: 60_000 }, async (signal) => {
    const world = freshControl('again', { a: { policy: { allow: { tcp: '8080' } } }, b: {} });
    const first = await world.startDaemon();
    const agent = await world.startAgent('a');
    await world.startAgent('b');
    const [outside, guest] = [world.peer(world.lab.outside), world.peer(world.guest('a'))];
    await Promise.all([guest.source(PORT, BYTES, PAUSE_MS), guest.http(PORT + 1, 'a'), guest.http(8080, 'by name')]);
    await agent.says(/tcp port 8080: leased by name/);
    await timeUntil(outside, PORT + 1, 'connected', 5000);
    const resets = await Capture.start(world.lab, world.lab.outside, `src host ${HOST_ADDRESS} and tcp[tcpflags] & tcp-rst != 0`);
    const before = leasesOf(agent, 'welcomed');
    const download = signal === 'SIGKILL' ? outside.timedDownload(HOST_ADDRESS, PORT) : null;
    await sleep(700);
    await first.stop(signal);
    const stopped = performance.now();
    const starting = world.startDaemon();
    // Somebody asks all the time: until the guest answers, there is silence.
    const refused = signal === 'SIGKILL' ? await refusalsUntilConnected(outside, PORT + 1) : [];
    const second = await starting;
    measured(`${signal} to ready`, performance.now() - stopped);
    measured(`${signal}: ready to the first connect`, await timeUntil(outside, PORT + 1, 'connected', 3000));
    await agent.says(/back in session/);
    expect(before).toBeDefined();
    expect(leasesOf(agent, 'back in session')).toBe(before!.replace('tcp ', 'tcp 8080,'));
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^by name /);
    expect(refused).toEqual([]);
    if (download !== null) {
      const { bytes, received, longestPauseMs } = await download;
      measured('the longest pause of the download over the kill', longestPauseMs);
      expect({ bytes, received }).toEqual({ bytes: BYTES, received: await guest.sourceHash(PORT) });
      expect(longestPauseMs).toBeLessThan(2000);
      expect(resets.lines).toEqual([]);
    }
    expect((await second.stop()).code).toBe(0);
  });

  it('after SIGINT nothing is left but the store, and a daemon that is started again finds the leases and the quarantine', { timeout: 40_000 }, async () => {
    const allow = { tcp: '8080,8081' };
    const world = freshControl('nothing-left', { a: { policy: { allow } }, b: { policy: { allow } } }, { pool: { ports: '20480-29999', reserve: 0, quarantine: '60s' } });
    world.setReservedPorts('9999');
    const before = world.hostState();
    const first = await world.startDaemon();
    const { channel, welcome } = await world.session('a', 7);
    await channel.outcome('request', { tcp: '8080,8081' });
    await channel.outcome('release', { tcp: '8081' });
    expect(world.hostState().ruleset).not.toBe('');
    expect((await first.stop('SIGINT')).code).toBe(0);
    expect(world.hostState()).toEqual(before);
    for (const name of ['a', 'b']) {
      expect(existsSync(world.socketOf(name))).toBe(false);
      expect(world.link(world.guest(name), 'eth0')).toBeNull();
    }
    expect(readdirSync(`${world.lab.folder}/store`)).not.toEqual([]);

    const second = await world.startDaemon();
    const { channel: b } = await world.session('b', 1);
    expect((await b.ask('request', { tcp: '8080' })).error).toMatchObject({ data: { code: 'ERR_PORT_TAKEN' }, message: expect.stringContaining('another guest') });
    expect((await b.ask('request', { tcp: '8081' })).error).toMatchObject({ data: { code: 'ERR_PORT_TAKEN' }, message: expect.stringContaining('quarantine') });
    const again = await world.channel('a');
    expect(await again.outcome('hello', { version: 1, epoch: 6 })).toBe('ERR_OLD_EPOCH');
    const { welcome: back } = await world.session('a', 8);
    expect(back.leases).toEqual({ tcp: `8080,${welcome.leases.tcp}`, udp: welcome.leases.udp });
    expect(back.blocks.map(({ first }) => first)).toEqual([FIRST_PORT]);
    expect((await second.stop('SIGINT')).code).toBe(0);
    expect(world.hostState()).toEqual(before);
  });

  it('D4: an agent that is killed: its guest is served for the grace period, then nothing is delivered; its lease stays; back, all is well', { timeout: 40_000 }, async () => {
    const world = freshControl('grace', { a: { policy: { allow: { tcp: '8080' } } }, b: { policy: { allow: { tcp: '8080' } } } });
    await world.startDaemon();
    const agent = await world.startAgent('a');
    const [outside, guest] = [world.peer(world.lab.outside), world.peer(world.guest('a'))];
    await Promise.all([guest.http(PORT, 'a'), guest.http(8080, 'a')]);
    await timeUntil(outside, 8080, 'connected', 2000);
    await agent.stop('SIGKILL');
    const killed = performance.now();
    await sleep(5000);
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    // By names that no frame of the guest keeps in use: what it sent is an indication too, and ends with the rest.
    await timeUntil(outside, PORT, 'timeout', 8000);
    measured('kill -9 of the agent to silence', performance.now() - killed);
    expect(performance.now() - killed).toBeGreaterThan(9000);
    expect(performance.now() - killed).toBeLessThan(12_000);
    const { channel: b } = await world.session('b', 1);
    expect((await b.ask('request', { tcp: '8080' })).error).toMatchObject({ data: { code: 'ERR_PORT_TAKEN' } });
    const again = await world.startAgent('a');
    measured('a new agent to the first connect', await timeUntil(outside, PORT, 'connected', 2000));
    expect(leasesOf(again, 'welcomed')).toContain('8080,');
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^a /);
  });

  it('D5: a host process that took a leased port while the daemon was away keeps it, and only it', { timeout: 30_000 }, async () => {
    const world = freshControl('meanwhile', { a: {} }, { pool: { ports: '20480-29999', reserve: 0, quarantine: '1s' } });
    const first = await world.startDaemon();
    await world.session('a', 1);
    await first.stop('SIGKILL');
    const [host, outside] = [world.peer(world.lab.host), world.peer(world.lab.outside)];
    await host.http(FIRST_PORT + 3, 'host', HOST_ADDRESS);
    await world.startDaemon();
    const { welcome } = await world.session('a', 2);
    expect(welcome.leases.tcp).toBe(`${FIRST_PORT}-${FIRST_PORT + 2},${FIRST_PORT + 4}-${FIRST_PORT + 1023}`);
    await timeUntil(outside, FIRST_PORT + 3, 'connected', 3000);
    expect(await outside.get(HOST_ADDRESS, FIRST_PORT + 3)).toMatch(/^host /);
    for (const port of [FIRST_PORT, FIRST_PORT + 4, FIRST_PORT + 1023]) expect([port, await host.bind('tcp', HOST_ADDRESS, port)]).toEqual([port, 'EADDRINUSE']);
  });

  it('a lease that is not renewed ends: nothing is delivered, and the guest is told', { timeout: 30_000 }, async () => {
    const world = freshControl('expiry', { a: { policy: { leaseTime: '1s' } } });
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    await world.enter('a').http(PORT, 'a');
    const { channel } = await world.session('a', 1, { tcp: String(PORT) });
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    await sleep(600);
    expect(await channel.outcome('renew')).toBe('ok');
    await sleep(700);
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    await sleep(600);
    expect(await outside.connect(HOST_ADDRESS, PORT, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(await channel.outcome('use', { tcp: String(PORT) })).toBe('ERR_NOT_LEASED');
    expect(channel.lines.find(({ method }) => method === 'revoked')?.params).toMatchObject({ tcp: `${FIRST_PORT}-${FIRST_PORT + 1023}`, udp: `${FIRST_PORT}-${FIRST_PORT + 1023}` });
  });
});
