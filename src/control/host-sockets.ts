/** What the host itself has on a port, as ss(8) knows it; the daemon's own reservations left out. */
import { execFile } from 'node:child_process';
import type { HostSocket } from './admin-api.js';
import type { ProtoName } from './lease-state.js';
import { runTool } from '../base/command.js';
import { PortSet } from '../wire/port-set.js';

/** Not waited for longer: ss reads every descriptor of every process. */
const TIMEOUT_MS = 5000;
const MOST = 20;

/** At most 20 sockets with this local port; null when it cannot be found out. Does not block the event loop. */
export function hostSockets(proto: ProtoName, port: number): Promise<HostSocket[] | null> {
  return new Promise((resolve) => {
    execFile('ss', ['-Hanp', `--${proto}`, 'sport', '=', `:${port}`], { timeout: TIMEOUT_MS, encoding: 'utf8' }, (error, output) => {
      resolve(error === null ? readSockets(output) : null);
    });
  });
}

/** Every local port that some socket of the host has now, the daemon's own reservations too. */
export function hostPorts(): PortSet {
  const ports = [...runTool('ss', ['-Hantu']).matchAll(/^\S+\s+\S+\s+\d+\s+\d+\s+\S+:(\d+)\s/gm)].map(([, port]) => Number(port));
  return PortSet.fromRanges(ports.filter((port) => port > 0).map((port) => ({ first: port, last: port })));
}

function readSockets(text: string): HostSocket[] {
  const sockets: HostSocket[] = [];
  for (const line of text.split('\n')) {
    const [state = '', , , local = ''] = line.trim().split(/\s+/);
    const owner = /users:\(\("([^"]*)",pid=(\d+)/.exec(line);
    if (local === '' || owner?.[2] === String(process.pid)) continue;
    sockets.push({ state, local, owner: owner === null ? null : `${owner[1]}, pid ${owner[2]}` });
  }
  return sockets.slice(0, MOST);
}
