/**
 * Ports that are leased and not in use: silence by default, a refusal under `notInUse: reject` (D2); and how a guest's
 * own frames turn them into used ones (D7).
 */
import { describe, expect, it } from 'vitest';
import { eth } from '../../src/wire/frame-builder.js';
import { TCP_ACK, TCP_RST } from '../../src/wire/tcp.js';
import { Capture } from '../support/capture.js';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type Setting, type World } from '../support/live.js';
import type { Peer } from '../support/peer.js';

const UNUSED = 8081;
/** Out of the host's stack or the daemon's raw socket: anything that answers for the port. */
const RESET = /Flags \[R/;

describe.skipIf(!liveTests('not-in-use', 'tcpdump'))('a port leased and not in use', () => {
  async function build(setting: Partial<Setting> = {}): Promise<{ world: World; daemon: RunningDaemon; outside: Peer; guest: Peer; capture: Capture }> {
    const world = freshWorld('unused');
    const outside = world.peer(world.lab.outside);
    const daemon = await world.start({
      ...setting,
      guests: {
        web: { link: { netns: world.addGuest('web') }, lease: { tcp: '8080-8089,20000-20099', udp: '8080-8089,20000-20099' }, use: { tcp: '8080', udp: '8080' } },
      },
    });
    const guest = world.enter('web');
    await Promise.all([guest.http(8080, 'web'), guest.http(UNUSED, 'web'), guest.udpEcho(8080), guest.udpEcho(UNUSED), outside.udpEcho(7), outside.http(80, 'outside')]);
    const capture = await Capture.start(world.lab, world.lab.outside);
    return { world, daemon, outside, guest, capture };
  }

  it('D2: is silent: a connection runs into its time-out though a server listens in the guest', async () => {
    const { daemon, outside, guest, capture } = await build();
    const { outcome } = await outside.connect(HOST_ADDRESS, UNUSED, { timeoutMs: 1500 });
    expect(outcome).toBe('timeout');
    expect(await outside.udp(HOST_ADDRESS, UNUSED, [100], { timeoutMs: 500 })).toEqual(['timeout']);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    await capture.seen(new RegExp(`${HOST_ADDRESS}\\.8080 > `));

    expect(capture.matching(new RegExp(`${HOST_ADDRESS}\\.${UNUSED}: Flags \\[S`)).length).toBeGreaterThanOrEqual(1);
    expect(capture.matching(new RegExp(`${HOST_ADDRESS}\\.${UNUSED} > `))).toEqual([]);
    expect(capture.matching(/ICMP/)).toEqual([]);
    expect(await guest.httpLog(UNUSED)).toEqual([]);
    expect(await guest.datagramLog(UNUSED)).toEqual([]);
    const { ingress, answers } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThanOrEqual(3); // two SYNs and a datagram
    expect(answers).toBe(0);
  });

  it('discards a long datagram whole, all its fragments', async () => {
    const { daemon, outside } = await build();
    expect(await outside.udp(HOST_ADDRESS, UNUSED, [4000], { timeoutMs: 300 })).toEqual(['timeout']);
    const { ingress } = await daemon.counters();
    expect(ingress.discarded).toEqual({ 'not-in-use': { frames: 3, bytes: expect.any(Number) } });
    expect(ingress.passed['orphan-fragment']).toBeUndefined();
  });

  it('D2: reject: refuses a connection at once, with sequence numbers that the client accepts', async () => {
    const { daemon, outside, capture } = await build({ notInUse: 'reject' });
    const { outcome, ms } = await outside.connect(HOST_ADDRESS, UNUSED, { timeoutMs: 3000 });
    expect(outcome).toBe('ECONNREFUSED');
    expect(ms).toBeLessThan(500);
    const reset = await capture.seen(RESET);
    const syn = capture.matching(new RegExp(`${HOST_ADDRESS}\\.${UNUSED}: Flags \\[S`))[0];
    // RFC 9293 §3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
    expect(reset).toMatch(/Flags \[R\.\], .*seq 0, ack \d+/);
    expect(Number(/ack (\d+)/.exec(reset)![1])).toBe((Number(/seq (\d+)/.exec(syn)![1]) + 1) % 2 ** 32);
    expect(reset).not.toContain('incorrect');
    const { ingress, answers } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBe(1);
    expect(answers).toBe(1);
  });

  it('reject: refuses a datagram by ICMP port unreachable, a fragmented one too, and leaves used ports alone', async () => {
    const { daemon, outside } = await build({ notInUse: 'reject' });
    expect(await outside.udp(HOST_ADDRESS, UNUSED, [100])).toEqual(['ECONNREFUSED']);
    expect(await outside.udp(HOST_ADDRESS, UNUSED, [4000])).toEqual(['ECONNREFUSED']);
    expect(await outside.udp(HOST_ADDRESS, 8080, [100, 4000])).toEqual(['equal', 'equal']);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    expect((await daemon.counters()).answers).toBe(2);
  });

  it('reject: answers at most rejectRate a second under a flood', async () => {
    const rate = 20;
    const { world, daemon, outside, capture } = await build({ notInUse: 'reject', rejectRate: rate });
    const frames = Array.from({ length: 50 }, (_, n) => toHost(world).tcp(40000 + n, UNUSED, { seq: 1000 + n }).build());
    await outside.frames(frames, { repeat: 50, pauseMs: 50 }); // 2,500 in about 2.5 s
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
    await capture.seen(new RegExp(`${HOST_ADDRESS}\\.8080 > `));
    const times = capture.matching(RESET).filter((line) => line.includes(`${HOST_ADDRESS}.${UNUSED} > `)).map((line) => Number.parseFloat(line));
    expect(times.length).toBeGreaterThan(rate);
    const { ingress, answers } = await daemon.counters();
    expect(answers).toBe(times.length);
    expect(ingress.discarded['not-in-use']!.frames).toBe(2500);
    // Counted in every window of a second; a tenth of tolerance for the way to the capture.
    const most = Math.max(...times.map((start) => times.filter((time) => time >= start && time < start + 1).length));
    expect(most).toBeLessThanOrEqual(rate * 1.1);
  });

  it('reject: never answers a reset, an ICMP error, or what was sent to all', async () => {
    const { world, daemon, outside, capture } = await build({ notInUse: 'reject' });
    const unreachable = eth().ipv4({ src: HOST_ADDRESS, dst: OUTSIDE_ADDRESS }).udp(UNUSED, 7).packet();
    await outside.frames([
      toHost(world).tcp(40000, UNUSED, { flags: TCP_RST, seq: 7 }).build(),
      toHost(world).tcp(40000, UNUSED, { flags: TCP_RST | TCP_ACK, seq: 7, ack: 9 }).build(),
      toHost(world).icmpError(3, 3, unreachable).build(),
      eth({ src: world.outsideMac(), dst: 'ff:ff:ff:ff:ff:ff' }).ipv4(toHostAddress).udp(40000, UNUSED).build(),
      eth({ src: world.outsideMac(), dst: 'ff:ff:ff:ff:ff:ff' }).ipv4(toHostAddress).tcp(40000, UNUSED).build(),
      eth({ src: world.outsideMac(), dst: '01:00:5e:00:00:01' }).ipv4(toHostAddress).udp(40000, UNUSED).build(),
      toHost(world).udp(40000, 8080, { payload: 'marker' }).build(),
    ]);
    await capture.seen(new RegExp(`${HOST_ADDRESS}\\.8080 > ${OUTSIDE_ADDRESS}\\.40000`));
    expect(capture.matching(new RegExp(`${HOST_ADDRESS}\\.${UNUSED} > `))).toEqual([]);
    expect(capture.matching(new RegExp(`${HOST_ADDRESS} > .*ICMP`))).toEqual([]);
    expect((await daemon.counters()).answers).toBe(0);
  });

  it('becomes used by the guest\'s own frame: connections and requests from a leased port work without a message', async () => {
    const { daemon, outside, guest } = await build();
    expect(await guest.get(OUTSIDE_ADDRESS, 80, 20000)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
    expect(await guest.udp(OUTSIDE_ADDRESS, 7, [100, 4000], { localPort: 20000 })).toEqual(['equal', 'equal']);
    expect(await outside.httpLog(80)).toEqual([HOST_ADDRESS]);
    expect(await outside.datagramLog(7)).toEqual([`${HOST_ADDRESS}:20000`, `${HOST_ADDRESS}:20000`]);
    expect((await daemon.counters()).egress.discarded).toEqual({});
  });

  it('and only by the guest\'s: from a port that is not leased nothing goes out', async () => {
    const { daemon, outside, guest, capture } = await build();
    expect(await guest.connect(OUTSIDE_ADDRESS, 80, { localPort: 25000, timeoutMs: 1200 })).toMatchObject({ outcome: 'timeout' });
    expect(await guest.udp(OUTSIDE_ADDRESS, 7, [100], { localPort: 25000, timeoutMs: 300 })).toEqual(['timeout']);
    expect(await guest.get(OUTSIDE_ADDRESS, 80, 20001)).toMatch(/^outside /);
    expect(capture.matching(/\.25000 > /)).toEqual([]);
    expect(await outside.datagramLog(7)).toEqual([]);
    expect((await daemon.counters()).egress.discarded['spoofed']!.frames).toBeGreaterThanOrEqual(3);
  });
});

const toHostAddress = { src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS };

function toHost(world: World): ReturnType<ReturnType<typeof eth>['ipv4']> {
  return eth({ src: world.outsideMac(), dst: world.nicMac() }).ipv4(toHostAddress);
}
