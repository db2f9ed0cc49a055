/**
 * The outside of the control benches: how a port looks from there, attempt after attempt, each a connection of its own begun
 * EVERY_MS after the one before. One JSON object a line in, one out; times in ms of the monotonic clock.
 *
 *     {op: 'reach', port}     when the first attempt succeeded                begins before the server listens
 *     {op: 'silence', port}   when the first unanswered attempt began         ends SURE_MS later
 *     {op: 'gap', port}       a download; {op: 'gap'}: the longest time in which nothing came since the last question
 */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const EVERY_MS = 2;
/** No answer for as long is none: two hundred round trips. */
const SURE_MS = 60;
const GIVE_UP_MS = 5000;
const [, , HOST] = process.argv;
const now = () => Number(process.hrtime.bigint()) / 1e6;

let download = null;
let longest = 0;
let last = 0;

const operations = {
  async reach({ port }) {
    const attempts = [];
    const at = await new Promise((resolve) => {
      const attempt = () => {
        const socket = connect(port, HOST, () => resolve(now()));
        socket.on('error', () => undefined);
        attempts.push(socket);
        if (attempts.length > 30) end(attempts.shift());
      };
      attempt();
      const timer = setInterval(attempt, EVERY_MS);
      setTimeout(() => resolve(null), GIVE_UP_MS).unref();
      attempts.stop = () => clearInterval(timer);
    });
    attempts.stop();
    attempts.forEach(end);
    return { at };
  },

  async silence({ port }) {
    const attempts = [];
    const begun = now();
    while (now() - begun < GIVE_UP_MS) {
      const one = { at: now(), answered: false };
      one.socket = connect(port, HOST, () => (one.answered = true));
      one.socket.on('error', () => (one.answered = true));
      attempts.push(one);
      await sleep(EVERY_MS);
      // The first of a row without an answer, the oldest of which has waited long enough.
      const first = attempts[attempts.findLastIndex(({ answered }) => answered) + 1];
      if (first !== undefined && now() - first.at > SURE_MS) {
        for (const { socket } of attempts) socket.destroy();
        return { at: first.at };
      }
    }
    for (const { socket } of attempts) socket.destroy();
    return { at: null };
  },

  async gap({ port }) {
    if (download === null) {
      download = connect(port, HOST);
      download.on('error', () => (last = -Infinity)).on('data', () => note());
      last = now();
    }
    note();
    const was = longest;
    longest = 0;
    return { ms: was };
  },
};

/** Without a FIN where there is a connection; resetAndDestroy() alone would wait for one, and its SYNs go on. */
function end(socket) {
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

function note() {
  const at = now();
  longest = Math.max(longest, at - last);
  last = at;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...given } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await operations[op](given))}\n`);
}
process.exit(0);
