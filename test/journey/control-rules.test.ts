/**
 * Rules of design §2 that only show live, spoken by the test itself on the guest's channel: what is delivered when.
 * Those that hold frame by frame, on both ways of a frame: control-paths.test.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FIRST_PORT, freshControl } from '../support/control.js';
import { HOST_ADDRESS, liveTests, until } from '../support/live.js';

const PORT = FIRST_PORT + 7;
const SILENT_MS = 250;

describe.skipIf(!liveTests('control-rules'))('rules of the control journey', () => {
  it('R3, R4, R5, R6, R7, R8, R9: a guest that speaks the protocol by hand', { timeout: 40_000 }, async () => {
    const world = freshControl('rules', { a: { policy: { maxPorts: 2048, allow: { tcp: '443,8000-8003', udp: '53' } } }, b: { policy: { maxPorts: 2048, allow: { tcp: '8001' } } } });
    const daemon = await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const guest = world.enter('a');
    await Promise.all([guest.http(PORT, 'a'), guest.udpEcho(PORT)]);
    expect(await outside.connect(HOST_ADDRESS, PORT, { timeoutMs: SILENT_MS })).not.toMatchObject({ outcome: 'connected' });

    // R7: several at once, TCP and UDP alike.
    const { channel, welcome } = await world.session('a', 1);
    expect(welcome.leases).toEqual({ tcp: `${FIRST_PORT}-${FIRST_PORT + 1023}`, udp: `${FIRST_PORT}-${FIRST_PORT + 1023}` });

    // R3, R4: leased, listening, and nothing is delivered.
    expect(await outside.connect(HOST_ADDRESS, PORT, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.udp(HOST_ADDRESS, PORT, [10], { timeoutMs: SILENT_MS })).toEqual(['timeout']);
    expect(await guest.httpLog(PORT)).toEqual([]);
    expect(await guest.datagramLog(PORT)).toEqual([]);
    // A protocol at a time: TCP's indication is not UDP's.
    expect(await channel.outcome('use', { tcp: String(PORT) })).toBe('ok');
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    expect(await outside.udp(HOST_ADDRESS, PORT, [10], { timeoutMs: SILENT_MS })).toEqual(['timeout']);
    expect(await channel.outcome('use', { udp: String(PORT) })).toBe('ok');
    expect(await outside.udp(HOST_ADDRESS, PORT, [10])).toEqual(['equal']);

    // R6: the server is there still, and hears nothing more.
    expect(await channel.outcome('end-use', { tcp: String(PORT), udp: String(PORT) })).toBe('ok');
    const heard = (await guest.datagramLog(PORT)).length;
    expect(await outside.connect(HOST_ADDRESS, PORT, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.udp(HOST_ADDRESS, PORT, [10], { timeoutMs: SILENT_MS })).toEqual(['timeout']);
    expect((await guest.datagramLog(PORT)).length).toBe(heard);

    // R5: picked from the list.
    const free = await channel.ask('list-free', { proto: 'tcp' });
    expect(free.result).toMatchObject({ tcp: '443,8000-8003', udp: '' });
    expect((await channel.ask('list-free')).result).toMatchObject({ tcp: '443,8000-8003', udp: '53' });
    expect(await channel.outcome('request', { tcp: '8000' })).toBe('ok');
    expect((await channel.ask('list-free')).result).toMatchObject({ tcp: '443,8001-8003', udp: '53' });
    expect(await channel.outcome('release', { tcp: '8000' })).toBe('ok');
    // R8: a second set; R9: not a third.
    const second = await channel.ask('request', { block: true });
    expect(second.result!.blocks.map(({ first }) => first)).toEqual([FIRST_PORT, FIRST_PORT + 1024]);
    const third = await channel.ask('request', { block: true });
    expect(third.error).toMatchObject({ data: { code: 'ERR_OVER_THRESHOLD' }, message: expect.stringContaining('2048') });
    expect(await channel.outcome('request', { tcp: '8000' })).toBe('ERR_OVER_THRESHOLD');

    const { ingress } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThanOrEqual(5);
  });

  it('D3: a released port is kept from another guest for the quarantine; its own guest has it at once', { timeout: 30_000 }, async () => {
    const allow = { tcp: '8080' };
    const world = freshControl('quarantine', { a: { policy: { allow } }, b: { policy: { allow } } }, { pool: { ports: '20480-29999', reserve: 0, quarantine: '1500ms' } });
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const guest = world.enter('a');
    await guest.http(8080, 'a');
    const [{ channel: a }, { channel: b }] = [await world.session('a', 1), await world.session('b', 1)];
    expect(await a.outcome('request', { tcp: '8080' })).toBe('ok');
    expect(await a.outcome('use', { tcp: '8080' })).toBe('ok');
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^a /);
    expect(await a.outcome('release', { tcp: '8080' })).toBe('ok');
    // Its use has ended with it, and the host does not answer in its place while others may think of the guest.
    expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
    expect((await b.ask('request', { tcp: '8080' })).error).toMatchObject({ data: { code: 'ERR_PORT_TAKEN' }, message: expect.stringContaining('quarantine') });
    expect(await a.outcome('request', { tcp: '8080' })).toBe('ok');
    expect(await outside.connect(HOST_ADDRESS, 8080, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' }); // leased, not in use
    expect(await a.outcome('release', { tcp: '8080' })).toBe('ok');
    const released = performance.now();
    while ((await b.outcome('request', { tcp: '8080' })) !== 'ok') await sleep(20);
    expect(performance.now() - released).toBeGreaterThan(1400);
    expect(performance.now() - released).toBeLessThan(2500);
  });

  it('D3: when the quarantine is over the host may have the port again', { timeout: 30_000 }, async () => {
    const world = freshControl('freed', { a: { policy: { allow: { tcp: '8080' } } } }, { pool: { ports: '20480-29999', reserve: 0, quarantine: '500ms' } });
    await world.startDaemon();
    const [host, outside] = [world.peer(world.lab.host), world.peer(world.lab.outside)];
    const { channel } = await world.session('a', 1);
    await channel.outcome('request', { tcp: '8080' });
    expect(await host.bind('tcp', HOST_ADDRESS, 8080)).toBe('EADDRINUSE');
    await until(() => world.reservedPorts().includes('8080'), 5000, () => 'port 8080 to be reserved');
    await channel.outcome('release', { tcp: '8080' });
    expect(await host.bind('tcp', HOST_ADDRESS, 8080)).toBe('EADDRINUSE');
    await until(() => !world.reservedPorts().includes('8080'), 5000, () => 'port 8080 to be free');
    await host.http(8080, 'host', HOST_ADDRESS);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^host /);
    // And now it is the host's.
    expect((await channel.ask('request', { tcp: '8080' })).error).toMatchObject({ data: { code: 'ERR_PORT_TAKEN' }, message: expect.stringContaining('used by the host itself') });
  });

  it('D4: a late message of an old session changes nothing', { timeout: 30_000 }, async () => {
    const world = freshControl('epochs', { a: {} });
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    await world.enter('a').http(PORT, 'a');
    const { channel: old } = await world.session('a', 5, { tcp: String(PORT) });
    const { channel } = await world.session('a', 6, { tcp: String(PORT) });
    old.write(`${JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'end-use', params: { tcp: String(PORT) } })}\n`);
    await old.ends();
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    const late = await world.channel('a');
    const { error } = await late.ask('hello', { version: 1, epoch: 5, used: {} });
    expect(error).toMatchObject({ data: { code: 'ERR_OLD_EPOCH', epoch: 6 } });
    expect(await outside.get(HOST_ADDRESS, PORT)).toMatch(/^a /);
    // The session of today has not been ended by the one of yesterday.
    expect(channel.closed).toBe(false);
    expect(await channel.outcome('renew')).toBe('ok');
  });

  it('two sessions at once of a guest that has nothing yet: one first block', { timeout: 30_000 }, async () => {
    const world = freshControl('twice', { a: {} });
    await world.startDaemon();
    for (let epoch = 1; epoch <= 5; epoch++) {
      const channel = await world.channel('a');
      channel.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'hello', params: { version: 1, epoch } })}\n`);
      await sleep(epoch % 3);
    }
    await sleep(200);
    expect((await world.session('a', 10)).welcome.blocks).toHaveLength(1);
  });
});
