/**
 * The demo of port mapping: two guests with private addresses and nothing of Berth in them, reached at the host's address, reaching the
 * outside and each other; a mapping added while the daemon runs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inLab } from './in-lab.js';
import { Output } from './output.js';
import { fetchProgram } from './script.js';
import { startServer } from './servers.js';
import { BerthError } from '../../base/errors.js';
import { endProcess, HOST_ADDRESS, type Lab, OUTSIDE_ADDRESS } from '../lab.js';
import { plainTable } from '../text-table.js';

const SILENT_MS = 1000;
const GATEWAY = '10.0.7.1';
const LEGACY = { name: 'legacy', inside: '10.0.7.2', outsidePort: 8443, port: 443 };
const OTHER = { name: 'other', inside: '10.0.7.3', outsidePort: 9443, port: 443 };
const OUTSIDE_PORT = 80;

const PICTURE = `Berth demo: guests that know nothing of it, behind the host's address.

  outside ${OUTSIDE_ADDRESS} ──── eth0 ${HOST_ADDRESS} host ─┬─ guest legacy  ${LEGACY.inside}   tcp ${LEGACY.outsidePort} → ${LEGACY.port}
                                               └─ guest other   ${OTHER.inside}

`;

interface Request {
  from: string;
  namespace: string;
  address: string;
  port: number;
  /** Who should answer, and the client that the server should see; or `nobody`. */
  expected: string;
}

export function mapDemo(): Promise<void> {
  return inLab(PICTURE, play, (why) => Promise.reject(new BerthError('ERR_DEMO', `${why}; this demo needs Linux and root`)));
}

async function play(lab: Lab): Promise<void> {
  const [legacy, other] = [lab.addGuest(LEGACY.name), lab.addGuest(OTHER.name)];
  const socket = join(lab.folder, 'admin.sock');
  const file = join(lab.folder, 'berth.yaml');
  writeFileSync(file, configOf(lab, socket, legacy, other));
  const daemon = lab.spawn(lab.host, [process.execPath, process.argv[1], 'run', '--config', file]);
  await new Output(daemon, 'the daemon').match(/"msg":"ready"/);
  lab.configure(legacy, 'eth0', LEGACY.inside, GATEWAY);
  lab.configure(other, 'eth0', OTHER.inside, GATEWAY);
  await startServer(lab, legacy, 'guest legacy', LEGACY.port);
  await startServer(lab, other, 'guest other', OTHER.port);
  await startServer(lab, lab.outside, 'the outside', OUTSIDE_PORT);

  ask(lab, [
    { from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: LEGACY.outsidePort, expected: `guest legacy, which saw client ${OUTSIDE_ADDRESS}` },
    { from: 'guest legacy', namespace: legacy, address: OUTSIDE_ADDRESS, port: OUTSIDE_PORT, expected: `the outside, which saw client ${HOST_ADDRESS}` },
    { from: 'guest other', namespace: other, address: HOST_ADDRESS, port: LEGACY.outsidePort, expected: `guest legacy, which saw client ${HOST_ADDRESS}` },
    { from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: OTHER.outsidePort, expected: 'nobody' },
  ]);
  const command = ['map', 'add', OTHER.name, '--tcp', String(OTHER.outsidePort), '--to', String(OTHER.port)];
  const said = lab.run(lab.host, [process.execPath, process.argv[1], ...command, '--admin', socket]);
  process.stdout.write(`\nberth ${command.join(' ')}\n${said}\n`);
  ask(lab, [{ from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: OTHER.outsidePort, expected: `guest other, which saw client ${OUTSIDE_ADDRESS}` }]);
  await endProcess(daemon);
}

/** Makes the requests and shows who answered; throws where it was not whom it should have been. */
function ask(lab: Lab, requests: readonly Request[]): void {
  const rows = requests.map(({ from, namespace, address, port, expected }) => {
    const url = `http://${address}:${port}/`;
    const answer = lab.run(namespace, [process.execPath, '-e', fetchProgram(url, SILENT_MS)]).trim();
    if (answer !== expected) throw new BerthError('ERR_DEMO', `${url} was answered to ${from} by ${answer}; expected: ${expected}`);
    return [from, url, answer];
  });
  process.stdout.write(`${plainTable(['request from', 'to', 'answered by'], rows)}\n`);
}

function configOf(lab: Lab, socket: string, legacy: string, other: string): string {
  return `nic: eth0
addresses: [${HOST_ADDRESS}]
admin: { socket: ${socket} }
store: { path: ${lab.folder}/store }
guests:
  ${LEGACY.name}: { link: { netns: ${legacy} }, mode: map, inside: ${LEGACY.inside}, map: [ { tcp: ${LEGACY.outsidePort}, to: ${LEGACY.port} } ] }
  ${OTHER.name}: { link: { netns: ${other} }, mode: map, inside: ${OTHER.inside} }
`;
}
