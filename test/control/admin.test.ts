/** The admin interface over a real socket: a lease book, a steering table and a plan behind it, the host and the links played. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { createLog } from '../../src/base/log.js';
import { askAdmin } from '../../src/cli/admin-client.js';
import { AdminServer } from '../../src/control/admin.js';
import type { Explanation, Health, LeaseAnswer, LeaseLine, Status } from '../../src/control/admin-api.js';
import { AdminDesk } from '../../src/control/admin-desk.js';
import type { Control } from '../../src/control/control.js';
import type { GuestLinks } from '../../src/control/guest-links.js';
import type { Guests } from '../../src/control/guests.js';
import type { HostStack } from '../../src/control/host-stack.js';
import { PortSet } from '../../src/wire/port-set.js';
import { NO_PORTS, type Ports } from '../../src/control/lease-state.js';
import type { PoolDesk } from '../../src/control/pools/pool-desk.js';
import { ControlPlane } from '../../src/control/plane.js';
import { Publisher } from '../../src/control/publisher.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import type { Store } from '../../src/control/store.js';
import type { Interface } from '../../src/io/interfaces.js';
import { ports, tcp } from '../support/lease-book.js';

const SHARED = 0xc000020a;
const NO_POOLS = { list: () => [], explain: () => null } as unknown as PoolDesk;
const CONFIG = `
nic: eth0
addresses: [192.0.2.10]
guests:
  web:
    link: { tap: tap-web }
    lease: { tcp: "80", udp: "53" }
    use: { tcp: "80" }
    agent: { socket: /run/berth/web.sock }
    policy: { block: 16, maxPorts: 32, allow: { tcp: "8000-8009" } }
  plain:
    link: { tap: tap-plain }
    lease: { tcp: "7000" }
  whole:
    link: { tap: tap-whole }
    lease: { address: 192.0.2.11 }
    use: all
pool: { ports: "20000-20100", reserve: 0 }
`;

interface Desk {
  path: string;
  plane: ControlPlane | null;
  told: [string, Ports, string][];
  /** Guests whose agents were told of a grant. */
  announced: string[];
  ask: <T>(path: string, query?: Record<string, string>) => Promise<T>;
}

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'berth-admin-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** `agents`: whether there is a control plane. */
async function open({ agents = true, extra = '' } = {}): Promise<Desk> {
  const path = join(folder(), 'admin.sock');
  const config = parseConfig(`${CONFIG}admin: { socket: ${path} }\n${extra}`, 'berth.yaml');
  const plan = resolveLeases(config, { nicAddresses: [SHARED] });
  const log = createLog();
  const publisher = new Publisher(plan);
  const told: Desk['told'] = [];
  const announced: string[] = [];
  let control: Control | null = null;
  if (agents) {
    const host = { reserve: () => null, reserved: () => PortSet.EMPTY, unreserve: () => undefined, setGranted: async () => undefined } as unknown as HostStack;
    const store: Store = { load: () => ({ tcp: [], udp: [], epochs: {} }), guests: () => new Map(), maps: () => new Map(), commit: async () => undefined, close: async () => undefined };
    const bookOptions = { pool: plan.pool.ports!, reserve: 0, quarantineMs: 60_000, reservedByHost: NO_PORTS };
    const plane = await ControlPlane.start({ plan, bookOptions, store, publisher, host, log });
    onTestFinished(() => plane.close());
    const server = { counters: { bad: 3, closed: 1 }, isConnected: () => true, revoked: (...all: [string, Ports, string]) => told.push(all), granted: (guest: string) => announced.push(guest) };
    control = { plane, server } as unknown as Control;
  }
  const links = { stateOf: (name: string) => ({ description: `tap tap-${name}`, attached: name !== 'plain' }) } as unknown as GuestLinks;
  const nic = { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500 } as Interface;
  const desk = new AdminDesk({ plan, nic, backend: 'packet', notInUse: config.notInUse, links, publisher, control, guests: {} as Guests, latency: () => ({ isHeld: true, heldMs: 1500 }), counters: () => ({ kernelDrops: 7, guests: { web: { lost: 1 } } }) });
  const admin = await AdminServer.start(config, desk, NO_POOLS, log);
  onTestFinished(() => admin.close());
  return { path, plane: control?.plane ?? null, told, announced, ask: (asked, query = {}) => askAdmin(path, { path: asked, query }) };
}

const grant = (path: string, body: object): Promise<LeaseAnswer> => askAdmin(path, { method: 'POST', path: '/leases', body });
const revoke = (path: string, query: Record<string, string>): Promise<LeaseAnswer> => askAdmin(path, { method: 'DELETE', path: '/leases', query });
const outcome = (asked: Promise<unknown>): Promise<unknown> => asked.then(() => 'ok', (error: { code: string; exitCode: number }) => `${error.code} ${error.exitCode}`);

describe('admin interface', () => {
  it('says what the daemon has and does', async () => {
    const { ask, plane } = await open();
    await plane!.grantBlock('web');
    await plane!.use('web', tcp('20000'));
    const { guests, agents, cpuLatency, counters, addresses, nic } = await ask<Status>('/status');
    expect({ agents, cpuLatency, counters, addresses, nic }).toEqual({
      agents: { bad: 3, closed: 1 },
      cpuLatency: { isHeld: true, heldMs: 1500 },
      counters: { kernelDrops: 7, guests: { web: { lost: 1 } } },
      addresses: ['192.0.2.10', '192.0.2.11'],
      nic: { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500, backend: 'packet' },
    });
    expect(guests.map(({ name, agent, whole, leased, used, count }) => ({ name, agent, whole, leased, used, count }))).toEqual([
      { name: 'web', agent: 'connected', whole: null, leased: { tcp: '80,20000-20015', udp: '53,20000-20015' }, used: { tcp: '80,20000', udp: '' }, count: 16 },
      { name: 'plain', agent: 'none', whole: null, leased: { tcp: '7000', udp: '' }, used: { tcp: '', udp: '' }, count: 0 },
      { name: 'whole', agent: 'none', whole: '192.0.2.11', leased: { tcp: '', udp: '' }, used: { tcp: '', udp: '' }, count: 0 },
    ]);
    expect(guests[0].blocks).toMatchObject([{ first: 20000, last: 20015 }]);
    expect(await ask<Health>('/health')).toMatchObject({ status: 'degraded', pid: process.pid, problems: ['guest plain: tap tap-plain is not there'] });
    expect(await ask('/counters')).toEqual({ kernelDrops: 7, guests: { web: { lost: 1 } } });
  });

  it('describes itself: every route, each with what it takes and answers', async () => {
    const { ask } = await open();
    const document = await ask<{ openapi: string; paths: Record<string, Record<string, { summary?: string; responses: object }>> }>('/openapi.json');
    expect(document.openapi).toBe('3.1.0');
    const routes = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
    expect(routes.sort()).toEqual([
      ...['delete /guests/{name}', 'delete /leases', 'delete /maps', 'get /counters', 'get /explain', 'get /guests', 'get /health', 'get /leases', 'get /maps', 'get /openapi.json'],
      ...['get /pools', 'get /pools/addresses/{address}', 'get /status', 'post /guests', 'post /leases', 'post /leases/renew', 'post /maps'],
    ]);
    for (const methods of Object.values(document.paths)) for (const one of Object.values(methods)) expect(one.summary).toBeTruthy();
  });

  it('grants, lists, renews and takes back; the agent is told of what it lost', async () => {
    const { path, ask, told, announced, plane } = await open();
    expect((await grant(path, { guest: 'web', tcp: '8000-8003' })).changed).toEqual({ tcp: '8000-8003', udp: '' });
    expect((await grant(path, { guest: 'web', tcp: '8003-8004' })).changed).toEqual({ tcp: '8004', udp: '' });
    const { changed, blocks, until } = await grant(path, { guest: 'web', block: true });
    expect(announced).toEqual(['web', 'web', 'web']);
    expect({ changed, blocks: blocks.length }).toEqual({ changed: { tcp: '20000-20015', udp: '20000-20015' }, blocks: 1 });
    expect(Date.parse(until!)).toBeGreaterThan(Date.now());
    const renewed = await askAdmin<LeaseAnswer>(path, { method: 'POST', path: '/leases/renew', body: { guest: 'web' } });
    expect(renewed.changed).toEqual({ tcp: '8000-8004,20000-20015', udp: '20000-20015' });
    expect(renewed.until! >= until!).toBe(true);

    expect((await revoke(path, { guest: 'web', tcp: '8001,20000-20003' })).leased.tcp).toBe('80,8000,8002-8004,20004-20015');
    expect(told.map(([guest, lost]) => [guest, lost.tcp.format(), lost.udp.format()])).toEqual([['web', '8001,20000-20003', '']]);
    expect(plane!.book.holding('web').leased.tcp.has(8001)).toBe(false);
    const lines = await ask<LeaseLine[]>('/leases');
    expect(lines.map(({ guest, addresses, proto, ports: text, state, source }) => `${guest} ${addresses.join()} ${proto} ${text} ${state} ${source}`)).toEqual([
      'whole 192.0.2.11 any all leased configuration',
      'web 192.0.2.10 tcp 80 leased configuration',
      'plain 192.0.2.10 tcp 7000 leased configuration',
      'web 192.0.2.10 tcp 8000 leased granted',
      'web 192.0.2.10 tcp 8001 quarantined granted',
      'web 192.0.2.10 tcp 8002-8003 leased granted',
      'web 192.0.2.10 tcp 8004 leased granted',
      'web 192.0.2.10 tcp 20000-20003 quarantined granted',
      'web 192.0.2.10 tcp 20004-20015 leased granted',
      'web 192.0.2.10 udp 53 leased configuration',
      'web 192.0.2.10 udp 20000-20015 leased granted',
    ]);
  });

  it('refuses with the code of what is wrong, and changes nothing', async () => {
    const { path, told, plane } = await open();
    await plane!.grantPorts('web', { tcp: ports('8000'), udp: ports('') });
    const before = plane!.book.snapshot();
    const rows: [Promise<unknown>, string][] = [
      [grant(path, { guest: 'nobody', block: true }), 'ERR_UNKNOWN_GUEST 1'],
      [grant(path, { guest: 'plain', block: true }), 'ERR_NO_AGENT 1'],
      [grant(path, { guest: 'web', tcp: '443' }), 'ERR_NOT_ALLOWED 1'],
      [grant(path, { guest: 'web', tcp: '99999' }), 'ERR_PORT_SET 2'],
      [grant(path, { guest: 'web', tcp: '8000', block: true }), 'ERR_REQUEST 2'],
      [grant(path, { guest: 'web' }), 'ERR_REQUEST 2'],
      [grant(path, { guest: 'web', tpc: '8000' }), 'ERR_REQUEST 2'],
      [grant(path, {}), 'ERR_REQUEST 2'],
      [revoke(path, { guest: 'web', tcp: '80' }), 'ERR_CONFIGURED 1'],
      [revoke(path, { guest: 'web', tcp: '8000-8001' }), 'ERR_NOT_LEASED 1'],
      [revoke(path, { guest: 'web' }), 'ERR_REQUEST 2'],
      [askAdmin(path, { path: '/explain', query: { port: '0', proto: 'tcp' } }), 'ERR_REQUEST 2'],
      [askAdmin(path, { path: '/explain', query: { port: '80', proto: 'sctp' } }), 'ERR_REQUEST 2'],
      [askAdmin(path, { path: '/nothing' }), 'ERR_ROUTE 1'],
      [askAdmin(path, { path: '/leases', query: { guest: 'nobody' } }), 'ERR_UNKNOWN_GUEST 1'],
    ];
    for (const [index, [asked, expected]] of rows.entries()) expect([index, await outcome(asked)]).toEqual([index, expected]);
    expect(plane!.book.snapshot()).toEqual(before);
    expect(told).toEqual([]);
  });

  it('without agents the leases are the configuration\'s, and nothing can be granted', async () => {
    const { path, ask } = await open({ agents: false });
    const lines = await ask<LeaseLine[]>('/leases');
    expect(lines.map(({ guest, proto, ports: text, until }) => `${guest} ${proto} ${text} ${until}`)).toEqual([
      ...['web tcp 80 null', 'web udp 53 null', 'plain tcp 7000 null', 'whole any all null'],
    ]);
    expect(await outcome(grant(path, { guest: 'plain', block: true }))).toBe('ERR_NO_AGENT 1');
    expect((await ask<LeaseLine[]>('/leases', { guest: 'plain' })).map(({ guest, ports: text }) => `${guest} ${text}`)).toEqual(['plain 7000']);
    expect((await ask<Status>('/status')).guests[0].used).toEqual({ tcp: '80', udp: '' });
  });

  it('explains an endpoint in every state it can have', async () => {
    const { ask, plane, path } = await open({ extra: 'notInUse: reject\n' });
    const explain = async (port: number, proto = 'tcp'): Promise<string> => {
      const { places, words } = await ask<Explanation>('/explain', { port: String(port), proto });
      const [{ state, guest, verdict, reason, source }] = places;
      return `${state} ${guest} ${verdict} ${reason} ${source}: ${words.join(' ').replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'T')}`;
    };
    await grant(path, { guest: 'web', tcp: '8000-8001' });
    await plane!.use('web', tcp('8000'));
    expect(await explain(8000)).toMatch(/^in use web forward null granted: .* leased to guest web since T, until T, and in use: its agent says so\. A frame for it goes to guest web: tap tap-web\./);
    expect(await explain(80)).toMatch(/^in use web forward null configuration: .* by the configuration, and in use: the configuration says so\./);
    expect(await explain(8001)).toMatch(/^leased web reject not-in-use granted: .*not in use: its agent has not said .* answered with a reset \(not-in-use\); a frame of the guest from it begins a use\./);
    expect(await explain(53, 'udp')).toContain('port unreachable');
    await revoke(path, { guest: 'web', tcp: '8001' });
    expect(await explain(8001)).toMatch(/^quarantined web discard quarantined granted: .* was released by guest web at T; another guest may have it from T on\./);
    expect(await explain(20001)).toMatch(/^free null pass not-leased null: .* leased to nobody\. .* It may be granted as part of a block\./);
    expect(await explain(30000)).toContain('not among the ports that blocks are cut from');
    const { places } = await ask<Explanation>('/explain', { port: '9', proto: 'udp' });
    expect(places[1]).toMatchObject({ address: '192.0.2.11', state: 'in use', guest: 'whole', verdict: 'forward' });
  });

  it.skipIf(spawnSync('which', ['ss']).status !== 0)('names what the host itself has on the port, and leaves the daemon\'s own sockets out', async () => {
    const { ask } = await open();
    const own = createServer().listen(0, '127.0.0.1');
    await once(own, 'listening');
    onTestFinished(() => void own.close());
    const hosts = async (port: number): Promise<Explanation> => ask('/explain', { port: String(port), proto: 'tcp' });
    expect((await hosts((own.address() as { port: number }).port)).host).toEqual([]);

    const child = spawn(process.execPath, ['-e', "const s = require('node:net').createServer().listen(0, '127.0.0.1', () => console.log(s.address().port))"]);
    onTestFinished(() => void child.kill());
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    const { host, words } = await hosts(Number(said));
    expect(host).toMatchObject([{ state: 'LISTEN', local: `127.0.0.1:${Number(said)}`, owner: expect.stringContaining(`pid ${child.pid}`) }]);
    expect(words.at(-1)).toContain(`pid ${child.pid}`);
  });
});

describe('admin socket', () => {
  it('is for its owner alone, and gone when the daemon stops', async () => {
    const path = join(folder(), 'sub', 'admin.sock');
    const admin = await AdminServer.start(parseConfig(`nic: eth0\nadmin: { socket: ${path} }\n`, 'x.yaml'), {} as AdminDesk, NO_POOLS, createLog());
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await admin.close();
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
    expect(await outcome(askAdmin(path, { path: '/health' }))).toBe('ERR_NO_DAEMON 1');
  });

  it.skipIf(process.getuid?.() !== 0)('may be given to a group, by number or by a name that the host knows', async () => {
    const path = join(folder(), 'admin.sock');
    for (const [group, gid] of [['daemon', Number(execFileSync('getent', ['group', 'daemon'], { encoding: 'utf8' }).split(':')[2])], [1234, 1234]] as const) {
      const admin = await AdminServer.start(parseConfig(`nic: eth0\nadmin: { socket: ${path}, group: ${group} }\n`, 'x.yaml'), {} as AdminDesk, NO_POOLS, createLog());
      expect([statSync(path).mode & 0o777, statSync(path).gid]).toEqual([0o660, gid]);
      await admin.close();
    }
    const wrong = parseConfig(`nic: eth0\nadmin: { socket: ${path}, group: no-such-group }\n`, 'x.yaml');
    await expect(AdminServer.start(wrong, {} as AdminDesk, NO_POOLS, createLog())).rejects.toMatchObject({ code: 'ERR_ADMIN_GROUP', exitCode: 2, message: expect.stringContaining('x.yaml:2') });
  });

  it('is told from the socket of an agent', async () => {
    const path = join(folder(), 'agent.sock');
    const server = createServer((socket) => socket.end('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the line is not JSON"}}\n')).listen(path);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    await expect(askAdmin(path, { path: '/status' })).rejects.toMatchObject({ code: 'ERR_ADMIN_ANSWER', message: `what answers at ${path} is not a berth daemon's admin socket; name that with --admin PATH` });
  });

  it('replaces a socket that nobody answers on; refuses one that somebody does, and a file that is no socket', async () => {
    const path = join(folder(), 'admin.sock');
    const config = parseConfig(`nic: eth0\nadmin: { socket: ${path} }\n`, 'x.yaml');
    spawnSync(process.execPath, ['-e', `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`]);
    expect(statSync(path).isSocket()).toBe(true);
    const first = await AdminServer.start(config, {} as AdminDesk, NO_POOLS, createLog());
    await expect(AdminServer.start(config, {} as AdminDesk, NO_POOLS, createLog())).rejects.toMatchObject({ code: 'ERR_ADMIN_SOCKET', message: expect.stringContaining('a program that runs has it') });
    expect(await askAdmin(path, { path: '/openapi.json' })).toMatchObject({ openapi: '3.1.0' });
    await first.close();
    writeFileSync(path, 'precious');
    await expect(AdminServer.start(config, {} as AdminDesk, NO_POOLS, createLog())).rejects.toMatchObject({ code: 'ERR_ADMIN_SOCKET', message: expect.stringContaining('no socket') });
    expect(statSync(path).size).toBe(8);
  });
});
