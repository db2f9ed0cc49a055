/**
 * Rules of design §2 for single frames, live and on both of a frame's ways: by the kernel (fast path auto) and by the engine (off).
 *
 * Markers      carry IP options, so that the engine steers them with either setting: they come after what it decided before,
 *              and what the kernel steers has come by then. What is not there when a marker is, does not come.
 */
import { describe, expect, it } from 'vitest';
import { type FrameBuilder, eth } from '../../src/wire/frame-builder.js';
import { TCP_ACK } from '../../src/wire/tcp.js';
import { bytesOf, Capture } from '../support/capture.js';
import { type ControlWorld, FIRST_PORT, freshControl, timeUntil } from '../support/control.js';
import { HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS } from '../support/live.js';

const PORT = FIRST_PORT + 7;
const MARKED = FIRST_PORT + 8;
const SILENT_MS = 250;
const MARKER = { options: [1, 1, 1, 1] };
/** By which a capture tells the test's frames from all others. */
const ID = 0xbe27;

const hex = (frame: Uint8Array): string => Buffer.from(frame).toString('hex');

describe.skipIf(!liveTests('control-paths', 'tcpdump')).each(['auto', 'off'] as const)('rules of a frame, fast path %s', (fastPath) => {
  function inward(world: ControlWorld, ip: object = {}): FrameBuilder {
    return eth({ src: world.outsideMac(), dst: world.nicMac() }).ipv4({ src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS, id: ID, ...ip });
  }

  function outward(world: ControlWorld, ip: object = {}): FrameBuilder {
    return eth({ src: world.nicMac(), dst: world.outsideMac() }).ipv4({ src: HOST_ADDRESS, dst: OUTSIDE_ADDRESS, id: ID, ...ip });
  }

  it('R2, R10: what arrives is what was sent, byte for byte, into the guest and out of it', { timeout: 30_000 }, async () => {
    const world = freshControl('bytes', { a: {} }, { fastPath });
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const { channel } = await world.session('a', 1);
    const guest = world.enter('a');
    expect(await channel.outcome('use', { tcp: `${PORT}`, udp: `${PORT},${MARKED}` })).toBe('ok');
    const ours = `ip[4:2] = ${ID}`;
    const [inside, beyond] = [await Capture.start(world.lab, world.guest('a'), ours, { bytes: true }), await Capture.start(world.lab, world.lab.outside, ours, { bytes: true })];
    // A router would change the first, a stack all of them.
    const header = { ttl: 1, tos: 0xb8, dontFragment: true };
    const given = [inward(world, header).tcp(40_000, PORT, { seq: 7, window: 99, payload: 'to the guest' }), inward(world, header).udp(40_000, PORT, { payload: 'to the guest' }), inward(world, MARKER).udp(40_000, MARKED)].map((frame) => frame.build());
    await outside.frames(given);
    await inside.seen(new RegExp(`> ${HOST_ADDRESS}\\.${MARKED}: `));
    expect(inside.lines.map(bytesOf).sort()).toEqual(given.map(hex).sort());

    const sent = beyond.lines.length;
    const taken = [outward(world, header).tcp(PORT, 40_000, { seq: 7, flags: TCP_ACK, payload: 'from the guest' }), outward(world, header).udp(PORT, 40_000, { payload: 'from the guest' }), outward(world, MARKER).udp(MARKED, 40_000)].map((frame) => frame.build());
    await guest.frames(taken);
    await beyond.seen(new RegExp(`${HOST_ADDRESS}\\.${MARKED} > `));
    expect(beyond.lines.slice(sent).map(bytesOf).sort()).toEqual(taken.map(hex).sort());
  });

  it('R4, R6: a frame reaches its guest because of the indication, and neither before nor after it; another guest it never reaches', { timeout: 30_000 }, async () => {
    const world = freshControl('because', { a: {}, b: {} }, { fastPath });
    const daemon = await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const [{ channel }, { channel: other }] = [await world.session('a', 1), await world.session('b', 1)];
    world.enter('a');
    world.enter('b');
    const [at, atOther] = [await Capture.start(world.lab, world.guest('a'), `ip[4:2] = ${ID}`), await Capture.start(world.lab, world.guest('b'), `ip[4:2] = ${ID}`)];
    await channel.outcome('use', { udp: `${MARKED}` });
    // Not of the first block: what a session begins with ends uses that nobody indicated.
    const port = (await channel.ask('request', { block: true })).result!.blocks.at(-1)!.first;
    let markers = 0;
    /** Which of the frames for the port arrive. */
    const arriving = async (): Promise<string[]> => {
      const from = at.lines.length;
      const marker = 50_000 + markers++;
      await outside.frames([
        inward(world).tcp(40_001, port).build(),
        inward(world).tcp(40_002, port, { flags: TCP_ACK, payload: 'data' }).build(),
        inward(world).udp(40_003, port, { payload: 'data' }).build(),
        inward(world, MARKER).udp(40_004, port, { payload: 'data' }).build(),
        inward(world, MARKER).udp(marker, MARKED).build(),
      ]);
      await at.seen(new RegExp(`\\.${marker} > `));
      return at.lines.slice(from).flatMap((line) => /\.(\d+) > [\d.]+\.(\d+): /.exec(line)?.slice(1).join('>') ?? line).filter((line) => !line.startsWith(`${marker}>`)).sort();
    };
    const [tcp, udp] = [[`40001>${port}`, `40002>${port}`], [`40003>${port}`, `40004>${port}`]];
    // Ended by the guest's word, and by its word of what is in use.
    for (const end of ['end-use', 'use'] as const) {
      expect(await arriving()).toEqual([]);
      expect(await other.outcome('use', { tcp: `${port}`, udp: `${port}` })).toBe('ERR_NOT_LEASED');
      expect(await arriving()).toEqual([]);
      expect(await channel.outcome('use', { tcp: `${port}` })).toBe('ok');
      expect(await arriving()).toEqual(tcp);
      expect(await channel.outcome('use', { udp: `${port}` })).toBe('ok');
      expect(await arriving()).toEqual([...tcp, ...udp]);
      expect(await channel.outcome(end, end === 'end-use' ? { tcp: `${port}` } : { udp: `${port},${MARKED}`, all: true })).toBe('ok');
      expect(await arriving()).toEqual(udp);
      expect(await channel.outcome(end, end === 'end-use' ? { udp: `${port}` } : { udp: `${MARKED}`, all: true })).toBe('ok');
    }
    expect(await arriving()).toEqual([]);
    expect(atOther.lines).toEqual([]);
    const { ingress } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBe(2 * (4 + 4 + 2 + 2) + 4);
  });

  it('D6: what a guest sends from an endpoint that is not leased to it does not go out, and is counted', { timeout: 30_000 }, async () => {
    const world = freshControl('foreign', { a: {}, b: {} }, { fastPath });
    const daemon = await world.startDaemon();
    const [{ channel: victim }, { channel, welcome }] = [await world.session('a', 1), await world.session('b', 1)];
    const own = welcome.blocks[0].first;
    const guest = world.enter('b');
    await victim.outcome('use', { tcp: `${PORT}`, udp: `${PORT}` });
    await channel.outcome('use', { tcp: `${own}`, udp: `${own},${own + 1}` });
    expect(await channel.outcome('release', { tcp: `${own + 2}`, udp: `${own + 2}` })).toBe('ok');
    const capture = await Capture.start(world.lab, world.lab.outside, `ip[4:2] = ${ID}`);
    // Another's, in use and leased; its own, released; the host's; nobody's; and under another protocol or address or MAC than it has.
    const foreign = [PORT, PORT + 1, own + 2, 22, 40_000].flatMap((port) => [outward(world).tcp(port, 7777), outward(world).udp(port, 7777), outward(world, MARKER).udp(port, 7777)]);
    foreign.push(outward(world, { src: '192.0.2.66' }).udp(own, 7777), eth({ src: '02:00:5e:10:00:66', dst: world.outsideMac() }).ipv4({ src: HOST_ADDRESS, dst: OUTSIDE_ADDRESS, id: ID }).udp(own, 7777));
    await guest.frames([...foreign, outward(world).tcp(own, 8888), outward(world).udp(own, 8888), outward(world, MARKER).udp(own + 1, 8888)].map((frame) => frame.build()));
    await capture.seen(new RegExp(`\\.${own + 1} > `));
    expect(capture.matching(/\.7777: /)).toEqual([]);
    expect(capture.matching(/\.8888: /)).toHaveLength(3);
    const { egress, guests } = await daemon.counters();
    expect(egress.discarded.spoofed).toMatchObject({ frames: foreign.length });
    expect(guests.b.refused).toBe(foreign.length);
  });

  it.each([true, false])('D7: an outbound connection from a leased port indicates its use, policy implicit: %s', { timeout: 30_000 }, async (implicit) => {
    const world = freshControl('implicit', { a: { policy: { implicit } } }, { fastPath });
    const daemon = await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const guest = world.enter('a');
    await Promise.all([outside.http(80, 'outside'), outside.udpEcho(7)]);
    const { channel } = await world.session('a', 1);
    expect(await guest.connect(OUTSIDE_ADDRESS, 80, { localPort: PORT, timeoutMs: 400 })).toMatchObject({ outcome: implicit ? 'connected' : 'timeout' });
    expect(await guest.udp(OUTSIDE_ADDRESS, 7, [10, 10], { localPort: PORT, timeoutMs: 400 })).toEqual(implicit ? ['equal', 'equal'] : ['timeout', 'timeout']);
    await channel.outcome('use', { tcp: String(PORT + 1) });
    expect(await guest.connect(OUTSIDE_ADDRESS, 80, { localPort: PORT + 1, timeoutMs: 400 })).toMatchObject({ outcome: 'connected' });
    // D6: a port that it does not hold, and one that it gave back, begin no use.
    expect(await guest.connect(OUTSIDE_ADDRESS, 80, { localPort: 40_000, timeoutMs: 200 })).toMatchObject({ outcome: 'timeout' });
    await channel.outcome('release', { tcp: String(PORT + 2) });
    expect(await guest.connect(OUTSIDE_ADDRESS, 80, { localPort: PORT + 2, timeoutMs: 200 })).toMatchObject({ outcome: 'timeout' });
    const { egress } = await daemon.counters();
    expect(egress.discarded.spoofed!.frames).toBeGreaterThanOrEqual(2);
  });

  it('D7: what the guest\'s own frame began ends with the agent\'s word', { timeout: 30_000 }, async () => {
    const world = freshControl('implied', { a: {} }, { fastPath });
    await world.startDaemon();
    const outside = world.peer(world.lab.outside);
    const guest = world.enter('a');
    await outside.http(80, 'outside');
    const { channel } = await world.session('a', 1);
    await guest.get(OUTSIDE_ADDRESS, 80, PORT);
    // In use: delivered, and refused by the guest, where nothing listens.
    await timeUntil(outside, PORT, 'ECONNREFUSED', 500);
    expect(await channel.outcome('end-use', { tcp: String(PORT) })).toBe('ok');
    expect(await outside.connect(HOST_ADDRESS, PORT, { timeoutMs: SILENT_MS })).toMatchObject({ outcome: 'timeout' });
  });
});
