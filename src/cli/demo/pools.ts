/**
 * The demo of floating addresses: a host with two networks, a pool of addresses on each. With load on the first, a guest's address is chosen on
 * the second; it is answered for by proxy while it is in use, and silent once its guest is gone. Two guests have ports of one address.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inLab } from './in-lab.js';
import { Output } from './output.js';
import { fetchProgram, loadProgram } from './script.js';
import { startServer } from './servers.js';
import { BerthError } from '../../base/errors.js';
import { runTool } from '../../base/command.js';
import { endProcess, HOST_ADDRESS, type Lab, OUTSIDE_ADDRESS } from '../lab.js';
import { plainTable } from '../text-table.js';

const SECOND_OUTSIDE = '198.51.100.1';
const DB_ADDRESS = '198.51.100.100';
const PORT = 8080;
/** Of two guests that ask for 1,024 ports each: one of each. */
const SHARED_ADDRESS = '192.0.2.100';
const SHARED_PORTS = { web: 1080, api: 2080 };
/** As long as a load needs to be most of the average. */
const LOAD_MS = 3000;

const PICTURE = `Berth demo: floating addresses on two networks.

  outside ─┬─ eth0 ${HOST_ADDRESS}  host, network uplink1: pool one 192.0.2.100-192.0.2.101
           └─ eth1              host, network uplink2: pool two 198.51.100.100-198.51.100.101

`;

export function poolsDemo(): Promise<void> {
  return inLab(PICTURE, play, (why) => Promise.reject(new BerthError('ERR_DEMO', `${why}; this demo needs Linux and root`)));
}

async function play(lab: Lab): Promise<void> {
  runTool('ip', ['-n', lab.host, 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', lab.outside]);
  runTool('ip', ['-n', lab.host, 'link', 'set', 'eth1', 'up']);
  lab.configure(lab.outside, 'eth1', SECOND_OUTSIDE);
  const db = lab.addGuest('db');
  const socket = join(lab.folder, 'admin.sock');
  const file = join(lab.folder, 'berth.yaml');
  writeFileSync(file, configOf(lab, socket));
  const berth = (...args: string[]): string => lab.run(lab.host, [process.execPath, process.argv[1], ...args, '--admin', socket]).trim();
  const daemon = lab.spawn(lab.host, [process.execPath, process.argv[1], 'run', '--config', file]);
  await new Output(daemon, 'the daemon').match(/"msg":"ready"/);

  const load = lab.spawn(lab.outside, [process.execPath, '-e', loadProgram(HOST_ADDRESS)]);
  await sleep(LOAD_MS);
  berth('guest', 'add', 'db', '--link', `netns=${db},name=eth0`, '--pool', 'any', '--policy', 'least-load');
  process.stdout.write(`With load on uplink1: berth guest add db --pool any --policy least-load\n\n${berth('pool', 'ls')}\n\n${berth('explain', DB_ADDRESS)}\n\n`);
  await endProcess(load);

  const rows: string[][] = [];
  rows.push(['leased, not in use: nobody answers ARP', fetch(lab)]);
  await serve(lab, db, 'db', DB_ADDRESS, SECOND_OUTSIDE, PORT);
  lab.run(db, [process.execPath, '-e', `require('node:net').connect(9, '${SECOND_OUTSIDE}').on('error', () => process.exit(0))`]);
  const served = fetch(lab);
  rows.push(['db has connected to somebody, so it uses the address', served]);
  berth('guest', 'rm', 'db');
  rows.push(['db is removed: the address is quarantined', fetch(lab)]);
  process.stdout.write(`${plainTable([`http://${DB_ADDRESS}:${PORT}/ from outside`, 'answered by'], rows)}\n\n`);

  const shared: string[][] = [];
  for (const [name, port] of Object.entries(SHARED_PORTS)) {
    const netns = lab.addGuest(name);
    berth('guest', 'add', name, '--link', `netns=${netns},name=eth0`, '--pool', 'name=one,ports=1024', '--use', 'all');
    await serve(lab, netns, name, SHARED_ADDRESS, OUTSIDE_ADDRESS, port);
    shared.push([`http://${SHARED_ADDRESS}:${port}/`, fetch(lab, SHARED_ADDRESS, port)]);
  }
  process.stdout.write(`Two guests ask for 1,024 ports of the best address of pool one: berth guest add web --pool name=one,ports=1024 --use all\n\n${plainTable(['from outside', 'answered by'], shared)}\n\n${berth('pool', 'ls')}\n`);
  await endProcess(daemon);
  if (!served.startsWith('guest db') || shared.some(([, answer], at) => !answer.startsWith(`guest ${Object.keys(SHARED_PORTS)[at]}`))) throw new BerthError('ERR_DEMO', 'the request was not answered by whom it should have been');
}

/** The guest's own side: its address, and a web server. */
async function serve(lab: Lab, netns: string, name: string, address: string, gateway: string, port: number): Promise<void> {
  lab.configure(netns, 'eth0', address, gateway);
  await startServer(lab, netns, `guest ${name}`, port);
}

/** Who answers, from a fresh neighbour cache. */
function fetch(lab: Lab, address = DB_ADDRESS, port = PORT): string {
  runTool('ip', ['-n', lab.outside, 'neigh', 'flush', 'all']);
  return lab.run(lab.outside, [process.execPath, '-e', fetchProgram(`http://${address}:${port}/`, 1000)]).trim();
}

function configOf(lab: Lab, socket: string): string {
  return `networks: { uplink1: { nic: eth0 }, uplink2: { nic: eth1 } }
pools:
  one: { network: uplink1, addresses: "192.0.2.100-192.0.2.101", speed: 100Mbit }
  two: { network: uplink2, addresses: "198.51.100.100-198.51.100.101", speed: 100Mbit }
admin: { socket: ${socket} }
store: { path: ${lab.folder}/store }
guests: {}
`;
}
