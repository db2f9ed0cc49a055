/**
 * What the demo shows: the configuration, the three servers and the requests. Shared by the live demo and its fallback.
 */
import { HOST_ADDRESS } from '../lab.js';

export interface DemoGuest {
  name: string;
  /** Leased tcp ports, and the one in use. */
  lease: string;
  port: number;
}

export const GUESTS: readonly DemoGuest[] = [
  { name: 'blue', lease: '8000-8999', port: 8080 },
  { name: 'green', lease: '9000-9999', port: 9090 },
];
export const HOST_PORT = 80;
/** Leased to blue, but blue does not use it. */
export const UNUSED_PORT = 8081;

/** Ports in a block, and the most that a guest may hold: small, so that the demo outgrows them. */
export const BLOCK = 16;
const MAX_PORTS = 2 * BLOCK;

/** The configuration as YAML. For a live network each guest has a link and an agent, and `folder` is where sockets and store lie. */
export function demoConfig(live: { nic: string; folder: string; link: (guest: string) => string } | null): string {
  const guests = GUESTS.map(({ name, lease, port }) => {
    const agent =
      live === null
        ? ''
        : `    link: ${live.link(name)}
    agent: { socket: ${agentSocket(live.folder, name)} }
    policy: { block: ${BLOCK}, maxPorts: ${MAX_PORTS}, allow: { tcp: "${GUESTS[0].port}" } }
`;
    return `  ${name}:\n${agent}    lease: { tcp: "${lease}" }\n    use: { tcp: ${port} }\n`;
  });
  const host =
    live === null
      ? ''
      : `nic: ${live.nic}
admin: { socket: ${live.folder}/admin.sock }
store: { path: ${live.folder}/store }
pool: { ports: "20000-20999", reserve: ${BLOCK} }
`;
  return `${host}addresses: [${HOST_ADDRESS}]\nguests:\n${guests.join('')}`;
}

export function agentSocket(folder: string, guest: string): string {
  return `${folder}/${guest}.sock`;
}

/** A web server that says who it is and which client it sees; prints the time when it listens. For `node -e`. */
export function serverProgram(who: string, port: number): string {
  return `require('node:http').createServer((request, response) => {
    response.setHeader('connection', 'close');
    response.end(JSON.stringify({ who: ${JSON.stringify(who)}, client: request.socket.remoteAddress.replace('::ffff:', '') }));
  }).listen(${port}, () => console.log(Date.now()));`;
}

/** Fetches each port in turn and prints one JSON array of answers (null: silence for \`silentMs\`). For `node -e`. */
export function clientProgram(ports: readonly number[], silentMs: number, address = HOST_ADDRESS): string {
  return `(async () => {
    const answers = [];
    for (const port of ${JSON.stringify(ports)}) {
      try {
        const response = await fetch('http://${address}:' + port + '/', { signal: AbortSignal.timeout(${silentMs}) });
        answers.push(await response.json());
      } catch (error) {
        answers.push(null);
      }
    }
    // Not waiting for the connection that nobody answers.
    process.stdout.write(JSON.stringify(answers), () => process.exit(0));
  })();`;
}

/** A connection attempt from a local port that is not leased. For `node -e`. */
export function strayProgram(address: string, localPort: number, forMs: number): string {
  return `const socket = require('node:net').connect({ host: '${address}', port: 7, localPort: ${localPort} });
    socket.on('error', () => process.exit(0));
    setTimeout(() => process.exit(0), ${forMs});`;
}

/**
 * Connects to a port again and again; prints "up TIME" at the first answer, and "down TIME" with the beginning of the first
 * attempt after it that met silence. For `node -e`.
 */
export function probeProgram(port: number): string {
  return `const net = require('node:net');
    let up = false;
    const attempt = () => new Promise((resolve) => {
      const socket = net.connect({ host: '${HOST_ADDRESS}', port: ${port} });
      // Short while it waits for the first answer: an attempt that came too early hears nothing.
      const timer = setTimeout(() => { socket.destroy(); resolve('silence'); }, up ? 100 : 10);
      const end = (how) => { clearTimeout(timer); socket.destroy(); resolve(how); };
      socket.once('connect', () => end('open')).once('error', () => end('refused'));
    });
    (async () => {
      for (const give = Date.now() + 10000; Date.now() < give; ) {
        const at = Date.now();
        const how = await attempt();
        if (how === 'open' && !up) { up = true; console.log('up ' + Date.now()); }
        if (how === 'silence' && up) { console.log('down ' + at); return; }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();`;
}

/** Opens so many datagram sockets on ports that the kernel chooses; again for each line on standard input. For `node -e`. */
export function hoarderProgram(count: number): string {
  return `const open = () => { for (let i = 0; i < ${count}; i++) require('node:dgram').createSocket('udp4').bind(0); };
    open();
    process.stdin.on('data', open);`;
}
