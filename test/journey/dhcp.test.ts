/**
 * Guests with no software of Berth's in them: real DHCP clients get the host's address, renew it, and their connections work both
 * ways; in a sandbox and on a VM's tap, with the fast path and without.
 */
import { describe, expect, it } from 'vitest';
import { DhcpClient } from '../support/dhcp-client.js';
import { freshWorld, type GuestSetting, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, type RunningDaemon, type Setting, until, type World } from '../support/live.js';
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from '../../src/wire/dhcp.js';
import { eth } from '../../src/wire/frame-builder.js';

const LEASE = { tcp: '8080,40960-45055', udp: '40960-45055' };
const USE = { tcp: '8080' };
const TOLD = `${HOST_ADDRESS}/24 via ${OUTSIDE_ADDRESS} mtu 1500 server 169.254.0.67 lease 300`;
const BOUND = /^(bound|BOUND|REBOOT) /;
const RENEWED = /^(renew|RENEW) /;

describe.skipIf(!liveTests('dhcp', 'udhcpc', 'dhclient', 'tcpdump', 'busybox'))('DHCP for a guest', () => {
  /** Guest `web` is configured by DHCP, guest `other` is not. The host has a way out. */
  async function build(kind: 'sandbox' | 'machine', setting: Partial<Setting> = {}, web: Partial<GuestSetting> = {}): Promise<{ world: World; daemon: RunningDaemon }> {
    const world = freshWorld('dhcp');
    const { lab } = world;
    lab.run(lab.host, ['ip', 'route', 'add', 'default', 'via', OUTSIDE_ADDRESS]);
    if (kind === 'machine') lab.run(lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-web', 'mode', 'tap', 'vnet_hdr']);
    const netns = world.addGuest('web');
    const link = kind === 'machine' ? { tap: 'tap-web', configure: 'dhcp' as const } : { netns, configure: 'dhcp' as const };
    const daemon = await world.start({ ...setting, guests: { web: { link, lease: LEASE, use: USE, ...web }, other: { link: { netns: world.addGuest('other') }, lease: { tcp: '9000' } } } });
    if (kind === 'machine') await world.startVm('tap-web', 'web');
    return { world, daemon };
  }

  /** Everything of DHCP that is seen on an interface, as tcpdump prints it. */
  async function watch(world: World, namespace: string): Promise<() => string> {
    const child = world.lab.spawn(namespace, ['tcpdump', '-l', '-n', '-i', 'eth0', 'udp port 67 or udp port 68 or arp host 169.254.0.67']);
    let [seen, said] = ['', ''];
    child.stdout?.on('data', (data: Buffer) => (seen += data.toString()));
    child.stderr?.on('data', (data: Buffer) => (said += data.toString()));
    await until(() => said.includes('listening on'), 5000, () => `tcpdump to listen: ${said}`);
    return () => seen;
  }

  const portRange = (world: World, ports: string): void => world.sysctl(world.guest('web'), 'net/ipv4/ip_local_port_range', ports);

  /** Connections of the guest's own choice go out and are answered; its server is reached. */
  async function worksBothWays(world: World): Promise<void> {
    const [outside, web] = [world.peer(world.lab.outside), world.peer(world.guest('web'))];
    await Promise.all([outside.http(7777, 'outside'), outside.udpEcho(7), web.http(8080, 'web')]);
    expect(await web.get(OUTSIDE_ADDRESS, 7777)).toMatch(new RegExp(`^outside / ${HOST_ADDRESS} `));
    expect(await web.udp(OUTSIDE_ADDRESS, 7, [100])).toEqual(['equal']);
    expect(await outside.get(HOST_ADDRESS, 8080)).toMatch(/^web /);
  }

  it.each([
    ['sandbox', 'auto'],
    ['sandbox', 'off'],
    ['machine', 'auto'],
    ['machine', 'off'],
  ] as const)('udhcpc in a %s, fast path %s: the address, ports it learns, connections both ways, renewals; nobody else hears of it', { timeout: 60_000 }, async (kind, fastPath) => {
    const { world, daemon } = await build(kind, { fastPath });
    const heard = await Promise.all([watch(world, world.lab.outside), watch(world, world.guest('other'))]);
    const client = new DhcpClient(world, 'web', 'udhcpc', ['-O', '159']);
    expect(await client.is(BOUND)).toBe(`bound ${TOLD}`);
    expect(world.addresses(world.guest('web'), 'eth0')).toEqual([`${HOST_ADDRESS}/24`]);
    expect(world.lab.portRange(world.guest('web'))).toEqual({ first: 40960, last: 45055 });
    await worksBothWays(world);
    for (const round of [1, 2]) {
      client.child.kill('SIGUSR1');
      expect(await client.is(RENEWED, round)).toBe(`renew ${TOLD}`);
    }
    // A guest that is not configured so gets nothing, though its neighbour does.
    const other = await world.run(world.guest('other'), ['udhcpc', '-n', '-q', '-i', 'eth0', '-s', '/bin/true', '-t', '2', '-T', '1']);
    expect([other.code, other.errors]).toEqual([1, expect.stringContaining('no lease')]);
    expect(heard[0]()).toBe('');
    expect(heard[1]().split('\n').filter((line) => line !== '' && !line.includes('0.0.0.0.68 >'))).toEqual([]);
    const { egress, guests, punts, dhcp } = await daemon.counters();
    // On a busy machine a client asks a second time.
    expect([dhcp!.offers >= 1, dhcp!.acks >= 3]).toEqual([true, true]);
    expect(dhcp).toMatchObject({ naks: 0, declines: 0, releases: 0, malformed: 0, foreign: 0, 'other-server': 0 });
    expect(egress.discarded['dhcp']?.frames).toBe(punts);
    expect(guests['other'].egress.frames).toBe(0);
  });

  it.each([
    ['sandbox', 'auto'],
    ['machine', 'off'],
  ] as const)('dhclient in a %s, fast path %s: the address, its renewals by itself; connections from ports that are set by hand', { timeout: 60_000 }, async (kind, fastPath) => {
    const { world, daemon } = await build(kind, { fastPath });
    const client = new DhcpClient(world, 'web', 'dhclient');
    expect(await client.is(BOUND)).toContain(TOLD);
    const [outside, web] = [world.peer(world.lab.outside), world.peer(world.guest('web'))];
    await outside.http(7778, 'outside');
    portRange(world, '30000 30999');
    expect(await web.connect(OUTSIDE_ADDRESS, 7778, { timeoutMs: 300 })).toMatchObject({ outcome: 'timeout' });
    portRange(world, '40960 45055');
    await worksBothWays(world);
    expect(await client.is(RENEWED, 2)).toContain(TOLD);
    const { egress, dhcp } = await daemon.counters();
    expect(egress.discarded['spoofed']?.frames).toBeGreaterThan(0);
    expect(dhcp!.acks).toBeGreaterThanOrEqual(3);
    expect(dhcp).toMatchObject({ naks: 0, malformed: 0, foreign: 0, 'other-server': 0 });
  });

  it('the host\'s address changes: the renewal is refused, and the guest goes on at the new one', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox');
    const client = new DhcpClient(world, 'web', 'udhcpc', ['-O', '159']);
    await client.is(BOUND);
    const inHost = 'ip addr del 192.0.2.10/24 dev eth0; ip addr add 192.0.2.11/25 dev eth0; ip route replace default via 192.0.2.1';
    world.lab.run(world.lab.host, ['sh', '-ec', inHost]);
    await daemon.says(/addresses are 192\.0\.2\.11 now/);
    await daemon.says(/network has changed/);
    client.child.kill('SIGUSR1');
    expect(await client.is(/^bound 192\.0\.2\.11/)).toContain('192.0.2.11/25 via 192.0.2.1');
    const [outside, web] = [world.peer(world.lab.outside), world.peer(world.guest('web'))];
    await Promise.all([outside.http(7777, 'outside'), web.http(8080, 'web')]);
    expect(await web.get(OUTSIDE_ADDRESS, 7777)).toContain('192.0.2.11');
    expect(await outside.get('192.0.2.11', 8080)).toMatch(/^web /);
    expect((await daemon.counters()).dhcp!.naks).toBeGreaterThanOrEqual(1);
  });

  it('a daemon that is killed and started again renews what the one before gave', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox');
    const client = new DhcpClient(world, 'web', 'udhcpc', ['-O', '159']);
    await client.is(BOUND);
    await daemon.stop('SIGKILL');
    const second = await world.start({ guests: { web: { link: { netns: world.guest('web'), configure: 'dhcp' }, lease: LEASE, use: USE } } });
    client.child.kill('SIGUSR1');
    expect(await client.is(RENEWED)).toBe(`renew ${TOLD}`);
    await worksBothWays(world);
    expect((await second.counters()).dhcp).toMatchObject({ offers: 0, naks: 0 });
  });

  it('a dedicated address is told, and its renewals do not leave the host', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox', {}, { lease: { address: '192.0.2.20' }, use: 'all' });
    const heard = await watch(world, world.lab.outside);
    const client = new DhcpClient(world, 'web', 'udhcpc');
    expect(await client.is(BOUND)).toContain('192.0.2.20/24 via 192.0.2.1');
    client.child.kill('SIGUSR1');
    expect(await client.is(RENEWED)).toContain('192.0.2.20/24');
    const [outside, web] = [world.peer(world.lab.outside), world.peer(world.guest('web'))];
    await Promise.all([outside.http(7777, 'outside'), web.http(8080, 'web')]);
    expect(await web.get(OUTSIDE_ADDRESS, 7777)).toContain('192.0.2.20');
    expect(await outside.get('192.0.2.20', 8080)).toMatch(/^web /);
    expect(heard()).toBe('');
    expect((await daemon.counters()).dhcp!.acks).toBeGreaterThanOrEqual(2);
  });

  it('a host without a gateway: the server cannot be reached but by broadcast, and so it is', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox');
    world.lab.run(world.lab.host, ['ip', 'route', 'del', 'default']);
    await daemon.says(/network has changed/);
    const client = new DhcpClient(world, 'web', 'dhclient');
    expect(await client.is(BOUND)).toContain(`${HOST_ADDRESS}/24 via  mtu`);
    expect(await client.is(RENEWED, 1, 20_000)).toContain(`${HOST_ADDRESS}/24`); // as dhclient calls it
  });

  it('a guest that takes all link-local addresses for its own network finds the server by ARP', { timeout: 60_000 }, async () => {
    const { world } = await build('sandbox');
    const client = new DhcpClient(world, 'web', 'udhcpc');
    await client.is(BOUND);
    world.lab.run(world.guest('web'), ['ip', 'route', 'add', '169.254.0.0/16', 'dev', 'eth0']);
    client.child.kill('SIGUSR1');
    expect(await client.is(RENEWED)).toBe(`renew ${TOLD}`);
    expect(world.lab.run(world.guest('web'), ['ip', 'neigh', 'show', '169.254.0.67'])).toMatch(/lladdr/);
  });

  it('the back end cap serves it too', { timeout: 60_000 }, async () => {
    const { world } = await build('sandbox', { backend: 'cap' });
    const client = new DhcpClient(world, 'web', 'udhcpc');
    expect(await client.is(BOUND)).toBe(`bound ${TOLD}`);
    client.child.kill('SIGUSR1');
    expect(await client.is(RENEWED)).toBe(`renew ${TOLD}`);
  });

  it('a guest that is added while the daemon runs is served, and not after it is removed', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox');
    const admin = ['--admin', `${world.lab.folder}/admin.sock`];
    const netns = world.addGuest('late');
    const added = await world.berth('guest', 'add', 'late', '--link', `netns=${netns},configure=dhcp`, '--lease', 'tcp=8090,50000-50015', '--use', 'tcp=8090', ...admin);
    expect(added).toMatchObject({ code: 0 });
    const client = new DhcpClient(world, 'late', 'udhcpc');
    expect(await client.is(BOUND)).toBe(`bound ${TOLD}`);
    await world.peer(netns).http(8090, 'late');
    expect(await world.peer(world.lab.outside).get(HOST_ADDRESS, 8090)).toMatch(/^late /);
    expect(await world.berth('guest', 'rm', 'late', ...admin)).toMatchObject({ code: 0 });
    expect((await daemon.stop()).code).toBe(0);
  });

  it('a guest that floods the server: it takes a few, and serves the others', { timeout: 60_000 }, async () => {
    const { world, daemon } = await build('sandbox');
    const mac = world.nicMac();
    const noise = eth({ src: mac, dst: 'ff:ff:ff:ff:ff:ff' }).ipv4({ src: '0.0.0.0', dst: '255.255.255.255' }).udp(DHCP_CLIENT_PORT, DHCP_SERVER_PORT, { payload: new Uint8Array(300) }).build();
    const web = world.peer(world.guest('web'));
    await web.frames([noise], { repeat: 5000 });
    const { egress, punts, dhcp } = await daemon.counters();
    expect(egress.discarded['dhcp']?.frames).toBe(5000);
    expect(punts).toBeGreaterThanOrEqual(20);
    expect(punts).toBeLessThan(100);
    expect(dhcp!.malformed).toBe(punts);
  });
});
