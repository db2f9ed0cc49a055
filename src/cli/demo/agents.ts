/**
 * The demo's second half: what agents bring. A server in a guest is reachable without any configuration as soon as it
 * listens, and silent as soon as it ends; who asks for another's port is told why; who outgrows a block gets one more, up
 * to the limit.
 */
import { agentSocket, BLOCK, GUESTS, hoarderProgram, probeProgram, serverProgram } from './script.js';
import { Output } from './output.js';
import type { Lab } from '../lab.js';
import { plainTable } from '../text-table.js';

/** So many of a block's ports make the agent ask for the next. */
const NEARLY_ALL = Math.ceil(BLOCK * 0.8);

export type Agents = Map<string, Output>;

/** Starts an agent in each guest and waits until it has set the guest's network. */
export async function startAgents(lab: Lab, namespaces: ReadonlyMap<string, string>): Promise<Agents> {
  const agents: Agents = new Map();
  for (const [name, namespace] of namespaces) {
    const agent = lab.spawn(namespace, [process.execPath, process.argv[1], 'agent', '--socket', agentSocket(lab.folder, name), '--interface', 'eth0']);
    agents.set(name, new Output(agent, `the agent of ${name}`));
  }
  for (const agent of agents.values()) await agent.match(/welcomed as/);
  return agents;
}

export async function showAgents(lab: Lab, namespaces: ReadonlyMap<string, string>, agents: Agents): Promise<string> {
  const [blue, green] = GUESTS.map(({ name }) => ({ name, namespace: namespaces.get(name) ?? '', agent: agents.get(name) as Output }));
  const rows: string[][] = [];

  const port = lab.portRange(blue.namespace).first + 1;
  const probe = new Output(lab.spawn(lab.outside, [process.execPath, '-e', probeProgram(port)]), 'the probe');
  const server = lab.spawn(blue.namespace, [process.execPath, '-e', serverProgram(blue.name, port)]);
  const listening = Number((await new Output(server, 'the server').match(/^\d+/))[0]);
  const up = Number((await probe.match(/up (\d+)/))[1]);
  rows.push([`${blue.name} starts a server at port ${port} of its block`, `reachable from outside after ${Math.max(0, up - listening)} ms`]);
  const killed = Date.now();
  server.kill('SIGKILL');
  const down = Number((await probe.match(/down (\d+)/))[1]);
  rows.push(['the server is killed', `silence after ${Math.max(0, down - killed)} ms`]);

  const rival = lab.spawn(green.namespace, [process.execPath, '-e', serverProgram(green.name, GUESTS[0].port)]);
  const refused = await green.agent.match(/the host refuses: ([^"]*?); it cannot/);
  rows.push([`${green.name} starts a server at ${blue.name}'s port ${GUESTS[0].port}`, refused[1]]);
  rival.kill('SIGKILL');

  const hoarder = lab.spawn(green.namespace, [process.execPath, '-e', hoarderProgram(NEARLY_ALL)], 'pipe');
  const second = await green.agent.match(/(\d+ of \d+ ports in use): (another block, now [\d,-]+)/);
  rows.push([`${green.name} has ${second[1]}`, second[2]]);
  hoarder.stdin?.write('more\n');
  const last = await green.agent.match(/(\d+ of \d+ ports in use), and (no other block: [^"]*)"/);
  rows.push([`${green.name} has ${last[1]}`, last[2]]);
  hoarder.kill('SIGKILL');
  return plainTable(['with an agent in each guest', 'what happened'], rows);
}
