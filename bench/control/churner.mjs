/**
 * The guests' agents of the churn, and the traffic: sessions of the guest protocol on the sockets named in the arguments, one a guest,
 * and datagrams from outside to every endpoint that was ever granted. One process, so that a datagram's tag is what the
 * answers said when it was sent: a port is its guest's from the grant's answer, and nobody's from the request to release on until
 * the answer, when it is marked as released.
 *
 *     arguments: HOST, changes a second, seconds, first and last port to ask for, sockets      out: one JSON object at the end
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [HOST, rate, seconds, firstNamed, lastNamed, ...sockets] = process.argv.slice(2);
/** Ports that the guests ask for by name. */
const FIRST = Number(firstNamed);
const PORTS = Number(lastNamed) - FIRST + 1;
/** Datagrams a tick to ports that change, and ticks. */
const AT_ONCE = 12;
const TICK_MS = 5;

/** Who was given the port last, and whether it has been given back; by port from FIRST. */
const owners = new Int16Array(PORTS).fill(-1);
const released = new Uint8Array(PORTS);
const used = [];
const busy = new Set();
const counts = { changes: 0, refused: {}, slowestMs: 0 };

class Session {
  constructor(guest, socket) {
    this.guest = guest;
    this.socket = socket;
    this.waiting = new Map();
    this.nextId = 1;
    createInterface({ input: socket }).on('line', (line) => {
      const { id, result, error } = JSON.parse(line);
      this.waiting.get(id)?.({ result, error });
      this.waiting.delete(id);
    });
    socket.on('close', () => this.waiting.forEach((settle) => settle({ error: { message: 'the session has ended' } })));
  }

  ask(method, params) {
    const id = this.nextId++;
    this.socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    return new Promise((resolve) => this.waiting.set(id, resolve));
  }

  /** One port: asked for, used, a while later given back. Two changes of leases. */
  async churn() {
    const port = FIRST + Math.floor(Math.random() * PORTS);
    const at = port - FIRST;
    const named = { udp: String(port) };
    if (busy.has(port)) {
      asked--;
      return;
    }
    busy.add(port);
    if (await this.change('request', named)) {
      owners[at] = this.guest;
      released[at] = 0;
      if (!used.includes(at)) used.push(at);
      await this.ask('use', named);
      await sleep(50 + Math.random() * 100);
      owners[at] = -1;
      if (!(await this.change('release', named))) throw new Error(`port ${port} could not be released`);
      owners[at] = this.guest;
      released[at] = 1;
    } else {
      asked--; // in quarantine, as it should be
    }
    busy.delete(port);
  }

  async change(method, params) {
    const begun = performance.now();
    const { error } = await this.ask(method, params);
    counts.slowestMs = Math.max(counts.slowestMs, performance.now() - begun);
    if (error === undefined) counts.changes++;
    else counts.refused[error.data?.code ?? error.message] = (counts.refused[error.data?.code ?? error.message] ?? 0) + 1;
    return error === undefined;
  }
}

const sessions = [];
const stable = [];
for (const [guest, path] of sockets.entries()) {
  const socket = connect(path);
  await once(socket, 'connect');
  const session = new Session(guest, socket);
  const { result, error } = await session.ask('hello', { version: 1, epoch: 1, used: {} });
  if (error !== undefined) throw new Error(`hello of ${path}: ${error.message}`);
  stable.push(result.blocks[0].first);
  await session.ask('use', { udp: String(result.blocks[0].first) });
  sessions.push(session);
}

const out = createSocket({ type: 'udp4', sendBufferSize: 1 << 20 });
out.bind(0);
await once(out, 'listening');
// The datagram that asks for the address is lost on a cold neighbour cache.
out.send('warm', 9, HOST);
await sleep(300);
const sent = new Array(sessions.length).fill(0);
let serial = 0;
function send(port, guest, isReleased) {
  const payload = Buffer.alloc(8);
  payload.writeUInt16BE(guest, 0);
  payload.writeUInt16BE(isReleased, 2);
  payload.writeUInt32BE(serial++, 4);
  out.send(payload, port, HOST);
}

const begun = performance.now();
let failure = null;
let asked = 0;
let next = 0;
const under = new Set();
while (performance.now() - begun < Number(seconds) * 1000 && failure === null) {
  // Two changes each; as many as are due, by guests in turn.
  for (const due = ((performance.now() - begun) / 1000) * (Number(rate) / 2); asked < due && under.size < 2000; asked++) {
    const one = sessions[asked % sessions.length].churn().catch((error) => (failure = error));
    under.add(one);
    void one.finally(() => under.delete(one));
  }
  for (let i = 0; i < 4; i++) {
    const guest = next++ % sessions.length;
    send(stable[guest], guest, 0);
    sent[guest]++;
  }
  for (let i = 0; i < AT_ONCE && used.length > 0; i++) {
    const at = used[Math.floor(Math.random() * used.length)];
    if (owners[at] >= 0) send(FIRST + at, owners[at], released[at]);
  }
  await sleep(TICK_MS);
}
const changesPerSecond = (counts.changes / (performance.now() - begun)) * 1000;
await Promise.all(under);
await sleep(500);
process.stdout.write(`${JSON.stringify({ op: 'end', failure: failure?.message ?? null, ...counts, changesPerSecond, sent, datagrams: serial })}\n`);
process.exit(0);
