/**
 * The demo of port mapping: two guests with private addresses and nothing of Berth in them, reached at the host's address, reaching the
 * outside and each other; a mapping added while the daemon runs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Output } from './output.js';
import { clientProgram, serverProgram } from './script.js';
import { BerthError } from '../../base/errors.js';
import { endProcess, HOST_ADDRESS, type Lab, OUTSIDE_ADDRESS } from '../lab.js';
import { plainTable } from '../text-table.js';

const SILENT_MS = 1000;
const GATEWAY = '10.0.7.1';
const LEGACY = { name: 'legacy', inside: '10.0.7.2', outsidePort: 8443, port: 443 };
const OTHER = { name: 'other', inside: '10.0.7.3', outsidePort: 9443, port: 443 };
const OUTSIDE_PORT = 80;

type Answer = { who: string; client: string } | null;

interface Request {
  from: string;
  namespace: string;
  address: string;
  port: number;
  /** Who should answer, and the client that the server should see. */
  who: string;
  client: string;
}

export async function playMap(lab: Lab): Promise<void> {
  process.stdout.write(picture());
  const [legacy, other] = [lab.addGuest(LEGACY.name), lab.addGuest(OTHER.name)];
  const file = join(lab.folder, 'berth.yaml');
  writeFileSync(file, configuration(lab, legacy, other));
  const daemon = lab.spawn(lab.host, [process.execPath, process.argv[1], 'run', '--config', file]);
  await new Output(daemon, 'the daemon').match(/"msg":"ready"/);
  lab.configure(legacy, 'eth0', LEGACY.inside, GATEWAY);
  lab.configure(other, 'eth0', OTHER.inside, GATEWAY);
  await serve(lab, legacy, 'guest legacy', LEGACY.port);
  await serve(lab, other, 'guest other', OTHER.port);
  await serve(lab, lab.outside, 'the outside', OUTSIDE_PORT);

  ask(lab, [
    { from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: LEGACY.outsidePort, who: 'guest legacy', client: OUTSIDE_ADDRESS },
    { from: 'guest legacy', namespace: legacy, address: OUTSIDE_ADDRESS, port: OUTSIDE_PORT, who: 'the outside', client: HOST_ADDRESS },
    { from: 'guest other', namespace: other, address: HOST_ADDRESS, port: LEGACY.outsidePort, who: 'guest legacy', client: HOST_ADDRESS },
    { from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: OTHER.outsidePort, who: '', client: '' },
  ]);
  const command = ['map', 'add', OTHER.name, '--tcp', String(OTHER.outsidePort), '--to', String(OTHER.port)];
  const said = lab.run(lab.host, [process.execPath, process.argv[1], ...command, '--admin', `${lab.folder}/admin.sock`]);
  process.stdout.write(`\nberth ${command.join(' ')}\n${said}\n`);
  ask(lab, [{ from: 'the outside', namespace: lab.outside, address: HOST_ADDRESS, port: OTHER.outsidePort, who: 'guest other', client: OUTSIDE_ADDRESS }]);
  await endProcess(daemon);
}

function configuration(lab: Lab, legacy: string, other: string): string {
  return `nic: eth0
addresses: [${HOST_ADDRESS}]
admin: { socket: ${lab.folder}/admin.sock }
store: { path: ${lab.folder}/store }
guests:
  ${LEGACY.name}: { link: { netns: ${legacy} }, mode: map, inside: ${LEGACY.inside}, map: [ { tcp: ${LEGACY.outsidePort}, to: ${LEGACY.port} } ] }
  ${OTHER.name}: { link: { netns: ${other} }, mode: map, inside: ${OTHER.inside} }
`;
}

async function serve(lab: Lab, namespace: string, who: string, port: number): Promise<void> {
  await new Output(lab.spawn(namespace, [process.execPath, '-e', serverProgram(who, port)]), `the web server of ${who}`).match(/^\d+/);
}

/** Makes the requests and shows who answered; throws where it was not whom it should have been. */
function ask(lab: Lab, requests: readonly Request[]): void {
  const rows = requests.map(({ from, namespace, address, port, who, client }) => {
    const [answer] = JSON.parse(lab.run(namespace, [process.execPath, '-e', clientProgram([port], SILENT_MS, address)])) as Answer[];
    if ((answer?.who ?? '') !== who || (answer?.client ?? '') !== client) throw new BerthError('ERR_DEMO', `http://${address}:${port}/ was answered by ${answer?.who ?? 'nobody'} to ${answer?.client ?? 'nobody'}, not by ${who} to ${client}`);
    return [from, `http://${address}:${port}/`, answer?.who ?? 'nobody', answer?.client ?? ''];
  });
  process.stdout.write(`${plainTable(['request from', 'to', 'answered by', 'client the server saw'], rows)}\n`);
}

function picture(): string {
  return `Berth demo: guests that know nothing of it, behind the host's address.

  outside ${OUTSIDE_ADDRESS} ──── eth0 ${HOST_ADDRESS} host ─┬─ guest legacy  ${LEGACY.inside}   tcp ${LEGACY.outsidePort} → ${LEGACY.port}
                                               └─ guest other   ${OTHER.inside}

`;
}
