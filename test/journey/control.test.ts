/**
 * The control journey as an operator meets it: guests with agents, nothing configured but their names; what listens in a guest
 * is reachable, what ends is silent, and whoever cannot have a port is told why.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Capture } from '../support/capture.js';
import { FIRST_PORT, freshControl, measured, timeUntil } from '../support/control.js';
import { HOST_ADDRESS, liveTests, until } from '../support/live.js';

const BOUND_MS = 500;
const said = (log: { msg: string }[], pattern: RegExp): string[] => log.map(({ msg }) => msg).filter((msg) => pattern.test(msg));

describe.skipIf(!liveTests('control', 'tcpdump', 'python3'))('two guests with agents', () => {
  it('R1, R2, R4, R6, R10: a server is reachable while it is there, at its own port, and silent afterwards', { timeout: 40_000 }, async () => {
    const world = freshControl('control', { a: {}, b: {} });
    const daemon = await world.startDaemon();
    await world.startAgent('a'); // first come, first block
    await world.startAgent('b');
    const outside = world.peer(world.lab.outside);
    const guest = world.sockets(world.guest('a'));
    const capture = await Capture.start(world.lab, world.lab.outside, 'tcp or icmp');
    await outside.connect(HOST_ADDRESS, FIRST_PORT + 999, { timeoutMs: 50 }); // peer and ARP are warm
    const reached: number[] = [];
    const ended: number[] = [];
    for (let port = FIRST_PORT; port < FIRST_PORT + 10; port++) {
      await guest.do('listen', `s${port}`, { port, backlog: 100 });
      reached.push(await timeUntil(outside, port, 'connected', BOUND_MS));
      // Connections that were accepted keep the port (D8): their ends go first.
      await sleep(20);
      await guest.do('close', `s${port}`);
      ended.push(await timeUntil(outside, port, 'timeout', BOUND_MS));
    }
    measured('listen() to the first connect from outside, worst of 10', Math.max(...reached));
    measured('close() to silence, worst of 10', Math.max(...ended));
    expect(Math.max(...reached, ...ended)).toBeLessThanOrEqual(BOUND_MS);

    await sleep(200);
    const from = capture.lines.length;
    expect(await outside.connect(HOST_ADDRESS, FIRST_PORT, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(await outside.connect(HOST_ADDRESS, FIRST_PORT + 9, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    expect(capture.lines.slice(from).filter((line) => line.includes(`${HOST_ADDRESS}.`) && /\[R|ICMP/.test(line.split(`> ${HOST_ADDRESS}`)[0]))).toEqual([]);

    // R10: the guest sees its own port and the client's own address; killed, it is as good as closed.
    const web = world.peer(world.guest('a'));
    await web.http(FIRST_PORT + 20, 'a');
    await web.udpEcho(FIRST_PORT + 20);
    await timeUntil(outside, FIRST_PORT + 20, 'connected', BOUND_MS);
    expect(await outside.get(HOST_ADDRESS, FIRST_PORT + 20)).toMatch(/^a \/ 192\.0\.2\.1 /);
    expect(await outside.udp(HOST_ADDRESS, FIRST_PORT + 20, [10, 1400])).toEqual(['equal', 'equal']);
    web.child.kill('SIGKILL');
    measured('kill -9 of the server to silence', await timeUntil(outside, FIRST_PORT + 20, 'timeout', BOUND_MS));
    expect(await outside.udp(HOST_ADDRESS, FIRST_PORT + 20, [10], { timeoutMs: 300 })).toEqual(['timeout']);
    const { ingress } = await daemon.counters();
    expect(ingress.discarded['not-in-use']!.frames).toBeGreaterThanOrEqual(4);
  });

  it('two guests ask for one port: the second is told why, once; by name only what the policy allows', { timeout: 40_000 }, async () => {
    const world = freshControl('names', { a: { policy: { allow: { tcp: '80,8080' } } }, b: { policy: { allow: { tcp: '8080' } } } });
    await world.startDaemon();
    const [a, b] = [await world.startAgent('a'), await world.startAgent('b')];
    const outside = world.peer(world.lab.outside);
    const [one, two] = [world.peer(world.guest('a')), world.peer(world.guest('b'))];
    await one.http(8080, 'a');
    measured('a server outside the lease, asked for by name, to the first connect', await timeUntil(outside, 8080, 'connected', 1000));
    await Promise.all([two.http(8080, 'b'), two.http(80, 'b')]);
    await b.says(/tcp port 8080, which the host refuses: .*another guest.*ERR_PORT_TAKEN/);
    await b.says(/tcp port 80, which the host refuses: .*not allowed.*ERR_NOT_ALLOWED/);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^a /);
    await one.http(80, 'a');
    await timeUntil(outside, 80, 'connected', 1000);
    await sleep(300);
    expect(said(b.log, /refuses/)).toHaveLength(2);
    expect(said(a.log, /refuses/)).toEqual([]);
    expect(await two.httpLog(8080)).toEqual([]);
  });

  it('R8, R9: a guest that outgrows its block gets a second one, and past its threshold it is refused with the reason', { timeout: 40_000 }, async () => {
    const world = freshControl('grow', { a: { policy: { block: 16, maxPorts: 32 } } }, { pool: { ports: '20480-20999', reserve: 16, quarantine: '5s' } });
    await world.startDaemon();
    const agent = await world.startAgent('a');
    const outside = world.peer(world.lab.outside);
    const guest = world.sockets(world.guest('a'));
    for (let i = 0; i < 13; i++) await guest.do('listen', `s${i}`, { port: FIRST_PORT + i });
    await agent.says(/another block/);
    expect(world.lab.run(world.guest('a'), ['cat', '/proc/sys/net/ipv4/ip_local_port_range']).trim()).toMatch(/^20480\s+20511$/);
    for (let i = 14; i <= 20; i++) await guest.do('listen', `s${i}`, { port: FIRST_PORT + i });
    await timeUntil(outside, FIRST_PORT + 20, 'connected', BOUND_MS);
    for (let i = 21; i < 34; i++) if (i !== 32) await guest.do('listen', `s${i}`, { port: FIRST_PORT + i });
    await agent.says(/no other block: .*ERR_OVER_THRESHOLD/);
    await sleep(200);
    expect(said(agent.log, /no other block/)).toHaveLength(1);
    // In the block that it does not have: nothing is delivered.
    expect(await outside.connect(HOST_ADDRESS, FIRST_PORT + 33, { timeoutMs: 300 })).not.toMatchObject({ outcome: 'connected' });
  });

  it('D8: an accepted connection keeps the port after its listener has closed, and the last socket gives it up', { timeout: 30_000 }, async () => {
    const world = freshControl('accepted', { a: {} });
    await world.startDaemon();
    await world.startAgent('a');
    const [guest, client] = [world.sockets(world.guest('a')), world.sockets(world.lab.outside)];
    const outside = world.peer(world.lab.outside);
    await guest.do('listen', 'server', { port: FIRST_PORT + 1 });
    await sleep(200);
    await client.do('connect', 'client', { address: HOST_ADDRESS, port: FIRST_PORT + 1 });
    await guest.do('accept', 'accepted', { to: 'server' });
    await guest.do('close', 'server');
    await sleep(300);
    // Delivered, and refused by the guest's own kernel: the port is in use still.
    expect(await outside.connect(HOST_ADDRESS, FIRST_PORT + 1, { timeoutMs: 500 })).toMatchObject({ outcome: 'ECONNREFUSED' });
    await client.do('close', 'client');
    await sleep(20);
    await guest.do('close', 'accepted');
    measured('the last socket closed to silence', await timeUntil(outside, FIRST_PORT + 1, 'timeout', BOUND_MS));
  });

  it('D5: the host cannot bind a leased port, explicitly or by chance, and what it holds is never leased', { timeout: 40_000 }, async () => {
    const world = freshControl('hosts', { a: { policy: { allow: { tcp: '8080,8443' } } } }, { pool: { ports: '20480-24575', reserve: 0, quarantine: '5s' } });
    const host = world.peer(world.lab.host);
    const outside = world.peer(world.lab.outside);
    await Promise.all([host.http(8080, 'host'), host.http(FIRST_PORT + 3, 'host'), outside.http(80, 'outside')]);
    const daemon = await world.startDaemon();
    const agent = await world.startAgent('a');
    const welcome = said(agent.log, /^welcomed /)[0];
    const [first] = /leased tcp (\d+)/.exec(welcome)!.slice(1).map(Number) as [number];
    expect(first).toBe(21_504); // the next block: one port of the first is the host's
    const guest = world.peer(world.guest('a'));
    await guest.http(8080, 'a');
    await agent.says(/tcp port 8080, which the host refuses: .*used by the host itself \(.*pid \d+\)/);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^host /);
    expect(await outside.get(HOST_ADDRESS, FIRST_PORT + 3)).toMatch(/^host /);

    await guest.http(8443, 'a');
    await timeUntil(outside, 8443, 'connected', 1000);
    for (const port of [first, first + 1023, 8443]) expect([port, await host.bind('tcp', HOST_ADDRESS, port), await host.bind('tcp', '0.0.0.0', port)]).toEqual([port, 'EADDRINUSE', 'EADDRINUSE']);
    expect(await host.bind('udp', HOST_ADDRESS, first)).toBe('EADDRINUSE');
    // Besides the sockets, which not every limit of open files has room for.
    await until(() => world.reservedPorts().includes(`${first}-${first + 1023}`), 1000, () => 'the block to be in the list of reserved ports');
    world.sysctl(world.lab.host, 'net/ipv4/ip_local_port_range', `${first} ${first + 1223}`);
    const { tcp, udp } = await host.automaticPorts(OUTSIDE, 80, 60);
    for (const port of [...tcp, ...udp]) expect(port).toBeGreaterThan(first + 1023);
    await until(() => daemon.isRunning, 10, () => 'the daemon to run');
  });
});

const OUTSIDE = '192.0.2.1';
