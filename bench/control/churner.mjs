/**
 * The guests' agents of the churn, and the traffic: sessions of the guest protocol on the sockets named in the arguments, one a guest,
 * and datagrams from outside to endpoints that are granted or have just been given back. One process, so that a datagram's tag is what
 * the answers said when it was sent: a port is its guest's from the grant's answer, and nobody's from the request to release on until
 * the answer, when it is marked as released.
 *
 * A datagram may wait: in sockets, in the NIC's ring, for a processor. Nothing is sent any more AFTER_MS after a release, and no other
 * guest can have the port before its quarantine has ended, so what comes to a wrong guest is a fault, or was on its way for the rest of
 * the quarantine: its age is shown. That is what the quarantine is for (D3).
 *
 *     arguments: HOST, quarantine in ms, first and last port to ask for, sockets. One JSON object a line in, one out:
 *     {op: 'churn', rate, seconds}    changes a second; what was done and sent
 *     {op: 'history', port}           what became of the port, and when, in ms of the monotonic clock
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [HOST, quarantine, firstNamed, lastNamed, ...sockets] = process.argv.slice(2);
const quarantineMs = Number(quarantine);
/** Ports that the guests ask for by name. */
const FIRST = Number(firstNamed);
const PORTS = Number(lastNamed) - FIRST + 1;
/** Datagrams a tick to ports that change, and ticks. */
const AT_ONCE = 12;
const TICK_MS = 5;

/** For as long is sent to a port that was given back; its quarantine is longer. */
const AFTER_MS = 300;
/** What the clocks and their roundings may differ by. */
const CLOCKS_MS = 2;
const now = () => Number(process.hrtime.bigint()) / 1e6;

/**
 * By port from FIRST: whose tag a datagram to it carries, -1: none is sent; whether it has been given back; who had it last, and
 * when that guest asked to release it.
 */
const owners = new Int16Array(PORTS).fill(-1);
const released = new Uint8Array(PORTS);
const last = new Int16Array(PORTS).fill(-1);
const left = new Float64Array(PORTS).fill(-Infinity);
const history = Array.from({ length: PORTS }, () => []);
/** Those that datagrams are sent to. */
const targets = [];
const busy = new Set();
const counts = { changes: 0, refused: {}, slowestMs: 0, early: 0 };
let asked = 0;

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
    const at = Math.floor(Math.random() * PORTS);
    const named = { udp: String(FIRST + at) };
    // Not what it had last itself: it could have it at once, while datagrams are on their way that were sent after its release.
    if (busy.has(at) || last[at] === this.guest) {
      asked--;
      return;
    }
    busy.add(at);
    const events = history[at];
    events.push([now(), this.guest, 'asks']);
    if (await this.change('request', named)) {
      events.push([now(), this.guest, 'was granted']);
      if (now() - left[at] < quarantineMs - CLOCKS_MS) counts.early++;
      last[at] = owners[at] = this.guest;
      released[at] = 0;
      targets.push(at);
      await this.ask('use', named);
      await sleep(50 + Math.random() * 100);
      owners[at] = -1;
      left[at] = now();
      events.push([left[at], this.guest, 'releases']);
      if (!(await this.change('release', named))) throw new Error(`port ${FIRST + at} could not be released`);
      events.push([now(), this.guest, 'has released']);
      released[at] = 1;
      owners[at] = this.guest;
      send(FIRST + at, this.guest, 1);
      setTimeout(() => {
        owners[at] = -1;
        targets.splice(targets.indexOf(at), 1);
      }, AFTER_MS);
    } else {
      asked--; // in quarantine, as it should be
      events.push([now(), this.guest, 'was refused']);
    }
    busy.delete(at);
  }

  async change(method, params) {
    const begun = now();
    const { error } = await this.ask(method, params);
    counts.slowestMs = Math.max(counts.slowestMs, now() - begun);
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
  const payload = Buffer.alloc(16);
  payload.writeUInt16BE(guest, 0);
  payload.writeUInt16BE(isReleased, 2);
  payload.writeUInt32BE(serial++, 4);
  payload.writeDoubleBE(now(), 8);
  out.send(payload, port, HOST);
}

async function churn({ rate, seconds }) {
  const begun = now();
  let failure = null;
  let next = 0;
  const under = new Set();
  while (now() - begun < seconds * 1000 && failure === null) {
    // Two changes each; as many as are due, by guests in turn.
    for (const due = ((now() - begun) / 1000) * (rate / 2); asked < due && under.size < 2000; asked++) {
      const one = sessions[asked % sessions.length].churn().catch((error) => (failure = error));
      under.add(one);
      void one.finally(() => under.delete(one));
    }
    for (let i = 0; i < 4; i++) {
      const guest = next++ % sessions.length;
      send(stable[guest], guest, 0);
      sent[guest]++;
    }
    for (let i = 0; i < AT_ONCE && targets.length > 0; i++) {
      const at = targets[Math.floor(Math.random() * targets.length)];
      if (owners[at] >= 0) send(FIRST + at, owners[at], released[at]);
    }
    await sleep(TICK_MS);
  }
  const changesPerSecond = (counts.changes / (now() - begun)) * 1000;
  await Promise.all(under);
  await sleep(500);
  return { failure: failure?.message ?? null, ...counts, changesPerSecond, sent, datagrams: serial };
}

const operations = { churn, history: ({ port }) => history[port - FIRST] };
for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...given } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await operations[op](given))}\n`);
}
process.exit(0);
