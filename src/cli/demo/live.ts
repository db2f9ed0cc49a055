/**
 * The live demo: an outside client, a host and two guests in private network namespaces; a web server in each guest and
 * one on the host, all three at one IP address.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { showAgents, startAgents } from './agents.js';
import { fallbackDemo } from './fallback.js';
import { inLab } from './in-lab.js';
import { Output } from './output.js';
import { clientProgram, demoConfig, GUESTS, HOST_PORT, strayProgram, UNUSED_PORT } from './script.js';
import { startServer } from './servers.js';
import { BerthError } from '../../base/errors.js';
import { endProcess, HOST_ADDRESS, type Lab, OUTSIDE_ADDRESS } from '../lab.js';
import { count, plainTable } from '../text-table.js';
import type { NamedCounters } from '../stats.js';

const SILENT_MS = 1000;
/** A local port that no guest leases. */
const STRAY_PORT = 40000;

type Answer = { who: string; client: string } | null;

export function liveDemo(): Promise<void> {
  return inLab(picture(), play, fallbackDemo);
}

async function play(lab: Lab): Promise<void> {
  const namespaces = new Map(GUESTS.map(({ name }) => [name, lab.addGuest(name)]));
  const file = join(lab.folder, 'berth.yaml');
  writeFileSync(file, demoConfig({ nic: 'eth0', folder: lab.folder, link: (guest) => `{ netns: ${namespaces.get(guest) ?? ''}, name: eth0 }` }));

  const daemon = lab.spawn(lab.host, [process.execPath, process.argv[1], 'run', '--config', file]);
  const log = new Output(daemon, 'the daemon');
  await log.match(/"msg":"ready"/);
  const agents = await startAgents(lab, namespaces);

  await startServer(lab, lab.host, 'the host', HOST_PORT);
  for (const { name, port } of GUESTS) await startServer(lab, namespaces.get(name) ?? '', `guest ${name}`, port);

  const ports = [HOST_PORT, ...GUESTS.map((guest) => guest.port), UNUSED_PORT];
  const answers = JSON.parse(lab.run(lab.outside, [process.execPath, '-e', clientProgram(ports, SILENT_MS)])) as Answer[];
  process.stdout.write(`${answerTable(ports, answers)}\n\n`);
  lab.run(namespaces.get('green') ?? '', [process.execPath, '-e', strayProgram(OUTSIDE_ADDRESS, STRAY_PORT, 300)]);
  process.stdout.write(`${await showAgents(lab, namespaces, agents)}\n\n`);

  await endProcess(daemon);
  const stopped = await log.match(/"counters":(\{.*\}),"msg":"stopped"/);
  const counters = JSON.parse(stopped[1]) as NamedCounters;
  process.stdout.write(`${guestTable(counters)}\n\n${discardTable(counters)}\n`);
  const expected = ['the host', ...GUESTS.map(({ name }) => `guest ${name}`), undefined];
  if (!answers.every((answer, n) => answer?.who === expected[n])) {
    throw new BerthError('ERR_DEMO', `a request was not answered by whom it should have been; the daemon said:\n${log.text}`);
  }
}

function picture(): string {
  return `Berth demo: three web servers at one address.

  outside ${OUTSIDE_ADDRESS} ──── eth0 ${HOST_ADDRESS} host ─┬─ guest blue   ${HOST_ADDRESS}
                                               └─ guest green  ${HOST_ADDRESS}

`;
}

function answerTable(ports: readonly number[], answers: readonly Answer[]): string {
  const rows = ports.map((port, n) => {
    const answer = answers[n];
    return [`http://${HOST_ADDRESS}:${port}/`, answer?.who ?? `nobody, ${SILENT_MS / 1000} s of silence`, answer?.client ?? ''];
  });
  return plainTable(['request from outside', 'answered by', 'client the server saw'], rows);
}

function guestTable(counters: NamedCounters): string {
  const rows = Object.entries(counters.guests).map(([name, { ingress, egress }]) => [
    `guest ${name}`,
    ...[ingress.frames, ingress.bytes, egress.frames, egress.bytes].map(count),
  ]);
  return plainTable(['frames steered', 'to it', 'bytes', 'from it', 'bytes'], rows, [1, 2, 3, 4]);
}

const WHY: Record<string, string> = {
  'not-in-use': `leased to a guest that does not use it (port ${UNUSED_PORT}, and the server that was killed)`,
  spoofed: `sent by a guest from a port that is not its own (port ${STRAY_PORT})`,
};

function discardTable(counters: NamedCounters): string {
  const rows = [counters.ingress.discarded, counters.egress.discarded].flatMap((discarded) =>
    Object.entries(discarded).map(([reason, tally]) => [reason, count(tally.frames), WHY[reason] ?? '']),
  );
  return plainTable(['discarded', 'frames', 'why'], rows, [1]);
}
