/**
 * A peer: one process in a namespace of a live test that serves and asks as the test says (peer.ts is its other side).
 *
 * Protocol     one JSON object a line: {id, operation, given} in on standard input; {id, result} or {id, error} out.
 * Checked      bulk data by SHA-256 at both ends, every 64 KiB stamped with its number; datagrams byte for byte.
 * Ends         when its standard input does.
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, createServer as createHttpServer, request } from 'node:http';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const CHUNK_BYTES = 64 * 1024;
/** A flood is sent in turns of so long, each far smaller than a ring of frames. */
const FLOOD_TURN_MS = 4;
/** Answers carry this many random bytes at most, so that a whole exchange is checked and not only its first segment. */
const BODY_BYTES = 2000;

const template = new Uint32Array(CHUNK_BYTES / 4);
for (let i = 0, seed = 0x2545f491; i < template.length; i++) {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  template[i] = seed;
}

/** Data that differs everywhere: the template under a running number. */
function chunk(number, length) {
  const bytes = Buffer.from(template.buffer.slice(0));
  bytes.writeUInt32LE(number, 0);
  return bytes.subarray(0, length);
}

/** Writes `bytes` bytes and ends; returns their SHA-256. `pauseMs` after each chunk makes it last. */
async function pour(socket, bytes, pauseMs) {
  const hash = createHash('sha256');
  for (let left = bytes, number = 0; left > 0; number++) {
    const data = chunk(number, Math.min(left, CHUNK_BYTES));
    hash.update(data);
    left -= data.length;
    if (!socket.write(data)) await once(socket, 'drain');
    if (pauseMs > 0) await sleep(pauseMs);
  }
  socket.end();
  return hash.digest('hex');
}

async function listen(server, port, address) {
  server.listen({ port, host: address, backlog: 1024 });
  await once(server, 'listening');
}

function body(name, path, remote) {
  return `${name} ${path} ${remote} ${'x'.repeat(path.length % 2 === 0 ? BODY_BYTES : 10)}`;
}

/** One HTTP exchange on a connection of its own. */
function get({ host, port, path = '/', localPort, timeoutMs = 5000 }) {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: false });
    const asked = request({ host, port, path, agent, localPort, timeout: timeoutMs }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => (text += part));
      answer.on('end', () => resolve(text));
      answer.on('error', reject);
    });
    asked.on('timeout', () => asked.destroy(Object.assign(new Error(`no answer from port ${port} in ${timeoutMs} ms`), { code: 'timeout' })));
    asked.on('error', reject);
    asked.end();
  });
}

const httpLogs = new Map();
const poured = new Map();
const datagramLogs = new Map();
const polls = new Map();

const operations = {
  /** A web server that says its name, the path and the client's address. */
  async http({ port, name, address }) {
    const seen = [];
    httpLogs.set(port, seen);
    const server = createHttpServer((asked, answer) => {
      const remote = asked.socket.remoteAddress.replace('::ffff:', '');
      seen.push(remote);
      answer.end(body(name, asked.url, remote));
    });
    await listen(server, port, address);
  },

  httpLog: ({ port }) => [...new Set(httpLogs.get(port))],

  get: (given) => get(given),

  /** `count` exchanges spread over the targets, `atOnce` at a time; returns what went wrong. */
  async exchanges({ host, targets, count, atOnce, remote }) {
    const wrong = [];
    let next = 0;
    const worker = async () => {
      for (let n = next++; n < count; n = next++) {
        const { port, name } = targets[n % targets.length];
        const path = `/${n}`;
        try {
          const text = await get({ host, port, path, timeoutMs: 10_000 });
          if (text !== body(name, path, remote)) wrong.push(`${n}: got ${text.slice(0, 60)}, expected ${name} ${path} ${remote}`);
        } catch (error) {
          wrong.push(`${n}: ${error.message}`);
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    return wrong;
  },

  /** Asks again and again until `pollEnd`; an exchange slower than `slowMs` is a failure too (a lost SYN costs 1 s). */
  poll({ host, port, name, everyMs = 10, slowMs = 900 }) {
    const state = { running: true, count: 0, failures: [] };
    const loop = async () => {
      while (state.running) {
        const start = performance.now();
        try {
          const text = await get({ host, port, timeoutMs: 3000 });
          if (!text.startsWith(`${name} / `)) state.failures.push(`wrong answer: ${text.slice(0, 60)}`);
          const took = performance.now() - start;
          if (took > slowMs) state.failures.push(`slow: ${Math.round(took)} ms`);
        } catch (error) {
          state.failures.push(error.message);
        }
        state.count++;
        await sleep(everyMs);
      }
    };
    polls.set(port, { state, ended: loop() });
  },

  async pollEnd({ port }) {
    const { state, ended } = polls.get(port);
    state.running = false;
    await ended;
    return { count: state.count, failures: state.failures };
  },

  /** Takes everything that a client sends and answers with its SHA-256. */
  async sink({ port }) {
    const server = createServer({ allowHalfOpen: true }, async (socket) => {
      const hash = createHash('sha256');
      socket.on('error', () => undefined);
      socket.on('data', (data) => hash.update(data));
      socket.on('end', () => socket.end(hash.digest('hex')));
    });
    await listen(server, port);
  },

  /** Sends `bytes` to whoever connects. */
  async source({ port, bytes, pauseMs = 0 }) {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      poured.set(port, pour(socket, bytes, pauseMs));
    });
    await listen(server, port);
  },

  /** SHA-256 of what the source last sent. */
  sourceHash: ({ port }) => poured.get(port),

  /** Returns the SHA-256 of what was sent and the one that the sink answered. */
  async upload({ host, port, bytes, localPort }) {
    const socket = connect({ host, port, localPort, allowHalfOpen: true });
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (text) => (answer += text));
    await once(socket, 'connect');
    const ended = once(socket, 'end');
    const sent = await pour(socket, bytes, 0);
    await ended;
    return { sent, received: answer };
  },

  async download({ host, port, localPort }) {
    const socket = connect({ host, port, localPort });
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('data', (data) => {
      hash.update(data);
      bytes += data.length;
    });
    await once(socket, 'end');
    return { bytes, received: hash.digest('hex') };
  },

  async timedDownload({ host, port }) {
    const socket = connect({ host, port });
    const hash = createHash('sha256');
    let bytes = 0;
    let longestPauseMs = 0;
    await once(socket, 'connect');
    let last = performance.now();
    const pause = () => {
      const now = performance.now();
      longestPauseMs = Math.max(longestPauseMs, now - last);
      last = now;
    };
    socket.on('data', (data) => {
      pause();
      hash.update(data);
      bytes += data.length;
    });
    await once(socket, 'end');
    pause();
    return { bytes, received: hash.digest('hex'), longestPauseMs };
  },

  /** What becomes of a connection: `connected`, `timeout` or the error's code. */
  async connect({ host, port, localPort, timeoutMs = 1000 }) {
    const socket = connect({ host, port, localPort });
    const start = performance.now();
    const outcome = await Promise.race([
      once(socket, 'connect').then(() => 'connected', (error) => error.code),
      sleep(timeoutMs, 'timeout'),
    ]);
    const local = socket.localPort;
    socket.on('error', () => undefined);
    socket.destroy();
    return { outcome, ms: performance.now() - start, localPort: local };
  },

  async udpEcho({ port }) {
    const seen = [];
    datagramLogs.set(port, seen);
    const socket = createSocket('udp4');
    socket.on('message', (data, from) => {
      seen.push(`${from.address}:${from.port}`);
      socket.send(data, from.port, from.address);
    });
    socket.on('error', () => undefined);
    socket.bind(port);
    await once(socket, 'listening');
  },

  datagramLog: ({ port }) => datagramLogs.get(port),

  /** Sends datagrams one after another to an echo and compares; returns a word for each: `equal`, `different`, `timeout` or an error's code. */
  async udp({ host, port, localPort = 0, sizes, timeoutMs = 2000 }) {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20, sendBufferSize: 1 << 20 });
    socket.bind(localPort);
    await once(socket, 'listening');
    socket.connect(port, host);
    await once(socket, 'connect');
    const outcomes = [];
    for (const [number, size] of sizes.entries()) {
      const data = chunk(number, size);
      const answer = once(socket, 'message').then(
        ([got]) => (data.equals(got) ? 'equal' : 'different'),
        (error) => error.code,
      );
      socket.send(data);
      outcomes.push(await Promise.race([answer, sleep(timeoutMs, 'timeout')]));
      socket.removeAllListeners('message');
    }
    socket.on('error', () => undefined);
    socket.close();
    return outcomes;
  },

  /** Datagrams of `bytes` bytes that nobody need answer, `perSecond` of them: a sender that was held up does not make up for it. */
  async flood({ host, port, bytes, count, perSecond }) {
    const socket = createSocket({ type: 'udp4', sendBufferSize: 1 << 20 });
    socket.on('error', () => undefined);
    const perTurn = Math.max(1, Math.round((perSecond * FLOOD_TURN_MS) / 1000));
    for (let n = 0; n < count; ) {
      const due = performance.now() + FLOOD_TURN_MS;
      for (const end = Math.min(count, n + perTurn); n < end; n++) {
        await new Promise((resolve) => socket.send(chunk(n, bytes), port, host, resolve));
      }
      await sleep(Math.max(0, due - performance.now()));
    }
    socket.close();
  },

  /** `bound`, or the error's code. */
  async bind({ protocol, address, port }) {
    const [socket, event] = protocol === 'tcp' ? [createServer(), 'listening'] : [createSocket('udp4'), 'listening'];
    if (protocol === 'tcp') socket.listen(port, address);
    else socket.bind(port, address);
    const outcome = await once(socket, event).then(() => 'bound', (error) => error.code);
    if (outcome === 'bound') socket.close();
    return outcome;
  },

  /** Holds a socket until the process ends. */
  async hold({ protocol, address, port }) {
    if (protocol === 'tcp') return listen(createServer(), port, address);
    const socket = createSocket('udp4');
    socket.bind(port, address);
    await once(socket, 'listening');
  },

  /** The ports that the kernel chose for `count` sockets of each protocol, all open at once. */
  async automaticPorts({ host, port, count }) {
    const streams = Array.from({ length: count }, () => connect({ host, port }));
    await Promise.all(streams.map((socket) => once(socket, 'connect')));
    const datagrams = Array.from({ length: count }, () => createSocket('udp4').bind());
    await Promise.all(datagrams.map((socket) => once(socket, 'listening')));
    const result = { tcp: streams.map((socket) => socket.localPort), udp: datagrams.map((socket) => socket.address().port) };
    for (const socket of streams) socket.destroy();
    for (const socket of datagrams) socket.close();
    return result;
  },

  /** Complete frames, in base64, out of an interface of this namespace as they are; `repeat` times over. `headers`: a virtio-net header before each. */
  async frames({ name, frames, repeat = 1, pauseMs = 0, headers = false }) {
    const { addon, check } = await import('../../dist/native/binding.js');
    const ifindex = Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
    const fd = check(headers ? addon().openPacket(ifindex) : addon().openSender(ifindex), `opening a sender on ${name}`);
    try {
      for (let round = 0; round < repeat; round++) {
        for (const frame of frames) {
          const bytes = Buffer.from(frame, 'base64');
          check(addon().sendFrame(fd, bytes, 0, bytes.length), `sending on ${name}`);
        }
        if (pauseMs > 0) await sleep(pauseMs);
      }
    } finally {
      addon().closeFd(fd);
    }
  },
};

function answer(id, outcome) {
  process.stdout.write(`${JSON.stringify({ id, ...outcome })}\n`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, operation, given } = JSON.parse(line);
  Promise.resolve()
    .then(() => operations[operation](given))
    .then((result) => answer(id, { result: result ?? null }), (error) => answer(id, { error: `${operation}: ${error.message}` }));
}
process.exit(0);
