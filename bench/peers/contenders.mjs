/**
 * The contenders: each gets the same namespaces and makes the guest's ports reachable at the host's address, its own way.
 *
 *     outside 192.0.2.1 ── veth ── 192.0.2.10 host ── (the contender) ── guest, load server
 *
 * MTU          1500 on the outside, and between forwarder and guest too, but for `pasta`: its own default there is 65520, with which
 *              it is faster; `pasta 1500` is the same at everybody's MTU.
 * Defaults     as each comes: offloads on, no tuning. dnat and tc: what an administrator would type.
 * `set`        prepares host and guest of a site and returns { pids, at, address }: the forwarder's processes (none: the
 *              kernel does it), the namespace that the server is to run in, and where it is reached, if not at the host's address.
 * `isBerth`    keeps processors awake for a while after its traffic.
 * `needs`      the command, and Debian's package that has it.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DIST } from '../support/dist.mjs';
import { FIRST_PORT, LAST_PORT, runLoad } from '../support/load.mjs';

const HOST = '192.0.2.10';
const OUTSIDE = '192.0.2.1';
const DEDICATED = '192.0.2.20';
const PORTS = `${FIRST_PORT}-${LAST_PORT}`;
/** A block, so that the guest has some for what it sends itself (bench:guard). */
const BERTH_PORTS = `${FIRST_PORT}-${FIRST_PORT + 999}`;
/** Covers FIRST_PORT … LAST_PORT. */
const PORT_MASK = '0xfff8';

export const CONTENDERS = {
  none: { what: 'no forwarder: a veth straight to the server', set: (lab) => ({ pids: [], at: lab.host }) },
  dnat: { what: 'nftables DNAT into a guest on a veth', needs: ['nft', 'nftables'], set: setDnat },
  tc: { what: 'tc redirect (u32, mirred) into a guest on a veth, same address and MAC', needs: ['tc', 'iproute2'], set: setTc },
  berth: { isBerth: true, what: 'Berth, static leases', set: (lab, guest) => setBerth(lab, guest, 'auto') },
  engine: { isBerth: true, what: 'Berth with `fastPath: off`: every frame through the engine, the guest on a tap', set: (lab, guest) => setBerth(lab, guest, 'off') },
  dedicated: { isBerth: true, what: 'Berth, a dedicated address of a pool, answered for by proxy ARP', set: setDedicated },
  mapped: { isBerth: true, what: 'Berth with `mode: map`: a guest with a private address, readdressed by the engine', set: setMapped },
  pasta: { what: 'pasta -t -u, its default MTU of 65520 towards the guest', needs: ['pasta', 'passt'], set: (lab, guest) => setPasta(lab, guest) },
  'pasta 1500': { what: 'pasta with an MTU of 1500 towards the guest; bulk only', needs: ['pasta', 'passt'], bulkOnly: true, set: (lab, guest) => setPasta(lab, guest, 1500) },
  slirp4netns: { what: 'slirp4netns with add_hostfwd, its default MTU of 1500', needs: ['slirp4netns', 'slirp4netns'], set: setSlirp },
};

const macOf = (lab, namespace, name) => JSON.parse(lab.run(namespace, ['ip', '-json', 'link', 'show', 'dev', name]))[0].address;

/** A veth from the host (`guest0`) to the guest's eth0. */
function joinByVeth(lab, guest) {
  lab.run(lab.host, ['ip', 'link', 'add', 'guest0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', guest]);
  lab.run(lab.host, ['ip', 'link', 'set', 'guest0', 'up']);
}

function setDnat(lab, guest) {
  joinByVeth(lab, guest);
  lab.run(lab.host, ['ip', 'address', 'add', '10.0.0.1/24', 'dev', 'guest0']);
  lab.configure(guest, 'eth0', '10.0.0.2', '10.0.0.1');
  lab.run(lab.host, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
  const rules = ['tcp', 'udp'].map((protocol) => `iifname eth0 ${protocol} dport ${PORTS} dnat to 10.0.0.2;`).join(' ');
  lab.run(lab.host, ['nft', `table ip nat { chain in { type nat hook prerouting priority dstnat; ${rules} }; }`]);
  return { pids: [], at: guest };
}

function setTc(lab, guest) {
  joinByVeth(lab, guest);
  lab.run(guest, ['ip', 'link', 'set', 'eth0', 'address', macOf(lab, lab.host, 'eth0')]);
  lab.configure(guest, 'eth0', HOST, OUTSIDE);
  lab.run(guest, ['ip', 'neighbour', 'add', OUTSIDE, 'lladdr', macOf(lab, lab.outside, 'eth0'), 'dev', 'eth0']);
  const redirect = (from, to, ...match) => {
    lab.run(lab.host, ['tc', 'qdisc', 'add', 'dev', from, 'clsact']);
    lab.run(lab.host, ['tc', 'filter', 'add', 'dev', from, 'ingress', 'protocol', 'ip', 'u32', ...match, 'action', 'mirred', 'egress', 'redirect', 'dev', to]);
  };
  redirect('eth0', 'guest0', 'match', 'ip', 'dst', HOST, 'match', 'ip', 'dport', String(FIRST_PORT), PORT_MASK);
  redirect('guest0', 'eth0', 'match', 'u32', '0', '0');
  return { pids: [], at: guest };
}

async function setBerth(lab, guest, fastPath) {
  const daemon = await startBerth(lab, fastPath, { link: { netns: guest }, lease: { tcp: BERTH_PORTS, udp: BERTH_PORTS }, use: 'all' });
  lab.configure(guest, 'eth0', HOST, OUTSIDE);
  return { pids: [daemon.pid], at: guest };
}

async function setDedicated(lab, guest) {
  const daemon = await startBerth(lab, 'auto', { link: { netns: guest }, pool: {}, use: 'all' }, { pools: { floating: { addresses: DEDICATED } } });
  lab.configure(guest, 'eth0', DEDICATED, OUTSIDE);
  return { pids: [daemon.pid], at: guest, address: DEDICATED };
}

/** The same addresses as dnat's. */
async function setMapped(lab, guest) {
  const daemon = await startBerth(lab, 'auto', { link: { netns: guest }, mode: 'map', inside: '10.0.0.2', map: [{ tcp: PORTS }, { udp: PORTS }] });
  lab.configure(guest, 'eth0', '10.0.0.2', '10.0.0.1');
  return { pids: [daemon.pid], at: guest };
}

/** A daemon with one guest, ready. */
async function startBerth(lab, fastPath, guest, more = {}) {
  const config = path.join(lab.folder, 'berth.yaml');
  const setting = { nic: 'eth0', fastPath, admin: { socket: path.join(lab.folder, 'admin.sock') }, store: { path: path.join(lab.folder, 'store') }, ...more, guests: { bench: guest } };
  fs.writeFileSync(config, JSON.stringify(setting)); // JSON is YAML
  const daemon = lab.spawn(lab.host, [process.execPath, path.join(DIST, 'cli/main.js'), 'run', '--config', config]);
  let said = '';
  daemon.stderr.on('data', (data) => (said += data));
  await new Promise((resolve, reject) => {
    daemon.stdout.on('data', (data) => {
      said += data;
      if (/"msg":"ready"/.test(said)) resolve();
    });
    daemon.once('exit', () => reject(new Error(`berth ended: ${said}`)));
  });
  return daemon;
}

/**
 * pasta gives the guest the host's address and routes by itself (--config-net). As nobody, its default, it cannot enter root's
 * namespaces. It learns the guest's MAC from the guest's first frame, so the guest sends one (IPv6, which is off here, would).
 */
async function setPasta(lab, guest, mtu) {
  const command = ['pasta', '--foreground', '--quiet', '--runas', '0', '--config-net', '--netns', `/run/netns/${guest}`, '-t', PORTS, '-u', PORTS];
  const child = lab.spawn(lab.host, mtu === undefined ? command : [...command, '--mtu', String(mtu)]);
  for (let tries = 0; lab.run(guest, ['ip', 'route', 'show', 'default']) === '' && tries < 100; tries++) await sleep(20);
  runLoad(lab, guest, 'burst', { address: OUTSIDE }, 1, 1);
  return { pids: [child.pid], at: guest };
}

async function setSlirp(lab, guest) {
  const socket = path.join(lab.folder, 'slirp.sock');
  const child = lab.spawn(lab.host, ['slirp4netns', '--configure', '--api-socket', socket, '--netns-type=path', `/run/netns/${guest}`, 'eth0']);
  for (let tries = 0; !fs.existsSync(socket) && tries < 200; tries++) await sleep(10);
  const ports = Array.from({ length: LAST_PORT - FIRST_PORT + 1 }, (_, n) => FIRST_PORT + n);
  for (const proto of ['tcp', 'udp']) {
    for (const port of ports) {
      const client = net.connect(socket);
      client.end(JSON.stringify({ execute: 'add_hostfwd', arguments: { proto, host_addr: '0.0.0.0', host_port: port, guest_addr: '10.0.2.100', guest_port: port } }));
      const [answer] = await once(client, 'data');
      if (/error/.test(String(answer))) throw new Error(`slirp4netns: ${answer}`);
    }
  }
  return { pids: [child.pid], at: guest };
}
