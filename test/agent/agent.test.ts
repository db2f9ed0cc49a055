/** The whole agent, as built, in a namespace of its own, against a fake host. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FakeHost, type FakeSettings } from '../support/fake-host.js';
import { freshGuest, type Guest, guestTests } from '../support/guest.js';
import { until } from '../support/live.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const NETWORK = { addresses: [{ address: '192.0.2.10', prefix: 24 }], gateway: '192.0.2.1', mtu: 1400, mac: '02:00:5e:10:00:01' };

class RunningAgent {
  readonly child: ChildProcess;
  readonly log: string[] = [];

  static start(guest: Guest, host: FakeHost, ...options: string[]): RunningAgent {
    return new RunningAgent(guest.spawn(process.execPath, PROGRAM, 'agent', '--socket', host.path, ...options));
  }

  constructor(child: ChildProcess) {
    this.child = child;
    createInterface({ input: this.child.stdout! }).on('line', (line) => this.log.push((JSON.parse(line) as { msg: string }).msg));
  }

  async says(pattern: RegExp, times = 1): Promise<void> {
    await until(() => this.log.filter((line) => pattern.test(line)).length >= times, 5000, () => `the agent to say ${pattern}:\n${this.log.join('\n')}`);
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    await ended;
    return this.child.exitCode;
  }
}

/** `before`: shell commands that make the guest's network as it was. */
async function world(settings: Partial<FakeSettings>, options: string[] = ['--no-configure'], before = ''): Promise<{ guest: Guest; host: FakeHost; agent: RunningAgent }> {
  const guest = freshGuest();
  guest.run('sh', '-ec', `ip link add eth0 type veth peer name far; ip link set far up; ${before}`);
  const host = new FakeHost(`${guest.folder}/agent.sock`, settings);
  await host.listen();
  onTestFinished(() => host.close());
  const agent = RunningAgent.start(guest, host, ...options);
  await agent.says(/^welcomed/);
  return { guest, host, agent };
}

/** Everything of the guest's network that an agent sets. */
function networkOf(guest: Guest): Record<string, unknown> {
  const [link] = JSON.parse(guest.run('ip', '-json', 'address', 'show', 'dev', 'eth0')) as { address: string; mtu: number; flags: string[]; addr_info: { family: string; local: string; prefixlen: number }[] }[];
  return {
    mac: link.address,
    mtu: link.mtu,
    up: link.flags.includes('UP'),
    addresses: link.addr_info.filter(({ family }) => family === 'inet').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    routes: guest.run('ip', '-4', 'route', 'show').split('\n').map((line) => line.trim()).sort(),
    range: guest.run('cat', '/proc/sys/net/ipv4/ip_local_port_range'),
    reserved: guest.run('cat', '/proc/sys/net/ipv4/ip_local_reserved_ports'),
  };
}

const BEFORE = 'ip link set eth0 mtu 1450; ip address add 10.1.1.5/24 dev eth0; ip link set eth0 up; ip route add default via 10.1.1.1 dev eth0; echo 8080 > /proc/sys/net/ipv4/ip_local_reserved_ports';

describe.runIf(guestTests('agent'))('agent', () => {
  it('says what is used within its leases, and its end', async () => {
    const { guest, host } = await world({ blockSize: 16 });
    const sockets = guest.sockets();
    await sockets.do('listen', 'a', { port: 20001 });
    await sockets.do('bind', 'b', { port: 20002, proto: 'udp' });
    await until(() => host.inUse.tcp.format() === '20001' && host.inUse.udp.format() === '20002', 1000, () => 'use');
    await sockets.kill();
    await until(() => host.inUse.tcp.isEmpty && host.inUse.udp.isEmpty, 1000, () => 'end of use');
    expect(host.said.filter(({ method }) => method === 'request')).toEqual([]);
  });

  it('states what is used when it starts, and when the host is back', async () => {
    const { guest, host, agent } = await world({ blockSize: 16 });
    const sockets = guest.sockets();
    await sockets.do('listen', 'a', { port: 20001 });
    await until(() => host.inUse.tcp.format() === '20001', 1000, () => 'use');
    await agent.end('SIGKILL');
    await sockets.do('listen', 'b', { port: 20003 });
    const next = RunningAgent.start(guest, host, '--no-configure');
    await next.says(/^welcomed/);
    expect(host.hellos.at(-1)!.used.tcp.format()).toBe('20001,20003');
    await sleep(200);
    expect(host.said.at(-1)!.method).toBe('hello'); // which has said all
    await sockets.do('close', 'a');
    await until(() => host.inUse.tcp.format() === '20003', 1000, () => 'end of use');
    host.cut();
    await next.says(/^back in session/);
    expect(host.hellos.at(-1)!.used.tcp.format()).toBe('20003');
  });

  it('asks for another block at 80 %', async () => {
    const { guest, host, agent } = await world({ blocks: [20000, 20032], blockSize: 16 });
    const sockets = guest.sockets();
    for (let i = 0; i < 12; i++) await sockets.do('bind', `u${i}`, { proto: 'udp', port: 20000 + i });
    await sleep(200);
    expect(host.said.some(({ method }) => method === 'request')).toBe(false);
    await sockets.do('bind', 'last', { proto: 'udp', port: 20012 });
    await agent.says(/another block, now 20000-20015,20032-20047/);
    await sockets.do('listen', 'new', { port: 20040 });
    await until(() => host.inUse.tcp.format() === '20040', 1000, () => 'use in the second block');
    for (let i = 0; i < 14; i++) await sockets.do('bind', `v${i}`, { proto: 'udp', port: 20032 + i });
    await agent.says(/no other block: the pool is empty \(ERR_POOL_EMPTY\)/);
  });

  it('asks by name for a port outside the lease, and says in one line when it is refused', async () => {
    const { guest, host, agent } = await world({ allow: '443' });
    const sockets = guest.sockets();
    await sockets.do('listen', 'a', { port: 443 });
    await until(() => host.inUse.tcp.format() === '443', 1000, () => 'use of 443');
    await sockets.do('listen', 'b', { port: 25 });
    await agent.says(/tcp port 25, which the host refuses: tcp port 25 is not allowed to this guest \(ERR_NOT_ALLOWED\)/);
    host.cut();
    await agent.says(/^back in session/);
    await sleep(200);
    expect(agent.log.filter((line) => /port 25,/.test(line))).toHaveLength(1);
    expect(host.inUse.tcp.format()).toBe('443');
  });

  it('does not ask for ports at loopback', async () => {
    const { guest, host } = await world({ allow: '1-65535' });
    const sockets = guest.sockets();
    await sockets.do('bind', 'resolver', { proto: 'udp', port: 53, address: '127.0.0.53' });
    await sockets.do('listen', 'a', { port: 20001 });
    await until(() => host.inUse.tcp.format() === '20001', 1000, () => 'use');
    expect(host.said.filter(({ method }) => method === 'request')).toEqual([]);
  });

  it('renews every third of the lease time', async () => {
    const { host } = await world({ welcome: { policy: { leaseTimeMs: 300 } } });
    await until(() => host.said.filter(({ method }) => method === 'renew').length >= 3, 2000, () => 'three renewals');
  });

  it('stops using what is revoked', async () => {
    const { guest, host, agent } = await world({ blockSize: 16 });
    const sockets = guest.sockets();
    await sockets.do('listen', 'a', { port: 20001 });
    await until(() => host.inUse.tcp.format() === '20001', 1000, () => 'use');
    host.notify('revoked', { tcp: '20000-20015', udp: '20000-20015', reason: 'by the operator' });
    await agent.says(/takes back tcp 20000-20015 and udp 20000-20015: by the operator/);
    const before = host.said.filter(({ method }) => method === 'use').length;
    await sockets.do('close', 'a');
    await sockets.do('listen', 'b', { port: 20002 });
    await sleep(200);
    expect(host.said.filter(({ method }) => method === 'use')).toHaveLength(before);
  });

  it('obeys at once what the operator has granted', async () => {
    const { guest, host, agent } = await world({ blockSize: 16, welcome: NETWORK }, ['--interface', 'eth0'], BEFORE);
    await guest.sockets().do('listen', 'a', { port: 443 });
    await agent.says(/tcp port 443, which the host refuses/);
    host.notify('granted', { leases: { tcp: '443,20000-20015,20032-20047', udp: '20000-20015,20032-20047' }, blocks: [{ first: 20000, last: 20015 }, { first: 20032, last: 20047 }] });
    await agent.says(/the host has granted more; leased tcp 443,20000-20015,20032-20047 and udp/);
    await until(() => host.inUse.tcp.format() === '443', 500, () => 'use of 443');
    expect(networkOf(guest)).toMatchObject({ range: '20000\t20047', reserved: '8080,20016-20031' });
  });

  it('sets the network, and restores the network on exit', async () => {
    const guest = freshGuest();
    guest.run('sh', '-ec', `ip link add eth0 type veth peer name far; ip link set far up; ${BEFORE}; ip route add 10.9.0.0/16 via 10.1.1.2 dev eth0`);
    const before = networkOf(guest);
    const host = new FakeHost(`${guest.folder}/agent.sock`, { blocks: [20000, 20032], blockSize: 16, welcome: NETWORK });
    await host.listen();
    onTestFinished(() => host.close());
    const agent = RunningAgent.start(guest, host, '--interface', 'eth0');
    await agent.says(/^welcomed/);
    expect(networkOf(guest)).toEqual({
      mac: '02:00:5e:10:00:01',
      mtu: 1400,
      up: true,
      addresses: ['192.0.2.10/24'],
      routes: expect.arrayContaining(['192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.10', 'default via 192.0.2.1 dev eth0 onlink']),
      range: '20000\t20015',
      reserved: '8080',
    });
    const sockets = guest.sockets();
    for (let i = 0; i < 13; i++) await sockets.do('bind', `u${i}`, { proto: 'udp' });
    await agent.says(/another block/);
    expect([guest.run('cat', '/proc/sys/net/ipv4/ip_local_port_range'), guest.run('cat', '/proc/sys/net/ipv4/ip_local_reserved_ports')]).toEqual(['20000\t20047', '8080,20016-20031']);
    expect(await agent.end()).toBe(0);
    expect(host.inUse.udp.isEmpty).toBe(true);
    expect(networkOf(guest)).toEqual(before);
  });

  it('keeps the network right', async () => {
    const { guest, agent } = await world({ welcome: NETWORK }, ['--interface', 'eth0'], BEFORE);
    const right = networkOf(guest);
    for (const [index, change] of [
      'ip address flush dev eth0',
      'ip address add 10.3.3.3/24 dev eth0',
      'ip route delete default',
      'ip link set eth0 mtu 1500',
      'ip link set eth0 address 02:00:5e:10:00:99',
      'ip link set eth0 down',
      'echo 40000 50000 > /proc/sys/net/ipv4/ip_local_port_range; echo 1-2 > /proc/sys/net/ipv4/ip_local_reserved_ports',
    ].entries()) {
      guest.run('sh', '-ec', change);
      await agent.says(/was changed by something else; set right/, index + 1);
      expect(networkOf(guest), change).toEqual(right);
    }
  });

  it('an agent that was killed leaves the network, and the next one restores what was before the first', async () => {
    const guest = freshGuest();
    guest.run('sh', '-ec', `ip link add eth0 type veth peer name far; ip link set far up; ${BEFORE}`);
    const before = networkOf(guest);
    const host = new FakeHost(`${guest.folder}/agent.sock`, { welcome: NETWORK });
    await host.listen();
    onTestFinished(() => host.close());
    const first = RunningAgent.start(guest, host, '--interface', 'eth0');
    await first.says(/^welcomed/);
    const set = networkOf(guest);
    await first.end('SIGKILL');
    expect(networkOf(guest)).toEqual(set);
    const second = RunningAgent.start(guest, host, '--interface', 'eth0');
    await second.says(/^welcomed/);
    expect(await second.end()).toBe(0);
    expect(networkOf(guest)).toEqual(before);
  });

  it('follows a change of the host\'s network', async () => {
    const { guest, host, agent } = await world({ welcome: NETWORK }, ['--interface', 'eth0'], BEFORE);
    host.notify('changed', { addresses: [{ address: '198.51.100.7', prefix: 25 }], gateway: '198.51.100.1' });
    await agent.says(/the host's network has changed/);
    expect(networkOf(guest)).toMatchObject({ addresses: ['198.51.100.7/25'], mtu: 1400, routes: ['198.51.100.0/25 dev eth0 proto kernel scope link src 198.51.100.7', 'default via 198.51.100.1 dev eth0 onlink'].sort() });
    // The new addresses are what is kept now: several of them, and also when something else takes one away.
    host.notify('changed', { addresses: [{ address: '198.51.100.7', prefix: 25 }, { address: '198.51.100.8', prefix: 25 }] });
    await agent.says(/the host's network has changed: 198\.51\.100\.7\/25, 198\.51\.100\.8\/25 via 198\.51\.100\.1/);
    guest.run('ip', 'address', 'delete', '198.51.100.8/25', 'dev', 'eth0');
    await agent.says(/was changed by something else; set right: addresses/);
    expect(networkOf(guest)).toMatchObject({ addresses: ['198.51.100.7/25', '198.51.100.8/25'], range: '20000\t21023' });
  });

  it('has the host\'s name servers in the file that is named, follows them, and puts back what was there', async () => {
    const guest = freshGuest();
    const path = `${guest.folder}/resolv.conf`;
    const own = 'search example.net\nnameserver 9.9.9.9\n';
    writeFileSync(path, own);
    guest.run('sh', '-ec', 'ip link add eth0 type veth peer name far; ip link set far up');
    const host = new FakeHost(`${guest.folder}/agent.sock`, { welcome: { ...NETWORK, dns: ['192.0.2.53', '192.0.2.54'] } });
    await host.listen();
    onTestFinished(() => host.close());
    const servers = (): string[] => [...readFileSync(path, 'utf8').matchAll(/^nameserver (.*)$/gm)].map(([, server]) => server);

    const first = RunningAgent.start(guest, host, '--interface', 'eth0', '--resolv-conf', path);
    await first.says(/^welcomed/);
    expect(servers()).toEqual(['192.0.2.53', '192.0.2.54']);
    host.notify('changed', { dns: ['198.51.100.53'] });
    await first.says(/the host's network has changed/);
    expect(servers()).toEqual(['198.51.100.53']);
    host.notify('changed', { dns: [] });
    await first.says(/the host's network has changed/, 2);
    expect(readFileSync(path, 'utf8')).toBe(own);
    host.notify('changed', { dns: ['192.0.2.53'] });
    await first.says(/the host's network has changed/, 3);
    await first.end('SIGKILL');
    expect(servers()).toEqual(['192.0.2.53']);

    const second = RunningAgent.start(guest, host, '--interface', 'eth0', '--resolv-conf', path);
    await second.says(/^welcomed/);
    expect(await second.end()).toBe(0);
    expect(readFileSync(path, 'utf8')).toBe(own);
    expect(readdirSync(guest.folder).sort()).toEqual(['agent.sock', 'resolv.conf']);

    // Off by default.
    const third = RunningAgent.start(guest, host, '--interface', 'eth0');
    await third.says(/^welcomed/);
    expect(readFileSync(path, 'utf8')).toBe(own);
  });

  it('says in one line that a resolv.conf which is mounted by itself cannot be replaced, and serves on', async () => {
    const guest = freshGuest();
    const path = `${guest.folder}/resolv.conf`;
    writeFileSync(path, 'nameserver 9.9.9.9\n');
    guest.run('sh', '-ec', 'ip link add eth0 type veth peer name far; ip link set far up');
    const host = new FakeHost(`${guest.folder}/agent.sock`, { welcome: { ...NETWORK, dns: ['192.0.2.53'] } });
    await host.listen();
    onTestFinished(() => host.close());
    // `ip netns exec` has made a mount namespace for it.
    const command = `mount --bind ${path} ${path}; exec ${process.execPath} ${PROGRAM} agent --socket ${host.path} --interface eth0 --resolv-conf ${path}`;
    const agent = new RunningAgent(guest.spawn('sh', '-ec', command));
    await agent.says(/^welcomed/);
    host.notify('changed', { mtu: 1300 });
    await agent.says(/the host's network has changed/);
    expect(agent.log.filter((line) => line.includes(path))).toEqual([`the name servers of the host are not set: ${path} cannot be replaced (it is mounted there by itself); name another path, or leave --resolv-conf out`]);
    expect(networkOf(guest)).toMatchObject({ mtu: 1300, addresses: ['192.0.2.10/24'] });
    expect(await agent.end()).toBe(0);
    expect([readFileSync(path, 'utf8'), readdirSync(guest.folder).sort()]).toEqual(['nameserver 9.9.9.9\n', ['agent.sock', 'resolv.conf']]);
  });

  it('ends with one line and code 2 without a host named, and says how', async () => {
    const guest = freshGuest();
    const child = guest.spawn(process.execPath, PROGRAM, 'agent');
    const [code] = await once(child, 'exit');
    expect(code).toBe(2);
  });
});
