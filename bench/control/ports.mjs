/**
 * One guest with its agent; a server in it comes and goes, and an outside process looks. Then the daemon is killed and
 * started again under a download.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchWorld, HOST_ADDRESS } from './world.mjs';

const FIRST = 20_480;
const PORTS = 1000;
/** What the last event left behind, connections and looks, has gone. */
const SETTLE_MS = 60;
const file = (name) => path.join(import.meta.dirname, name);

export async function run({ events, restarts }, report) {
  const world = await BenchWorld.make('bench-ports', 1, { block: 1024 }, { ports: '20480-29999', reserve: 0, quarantine: '1s' });
  try {
    await world.startDaemon();
    await world.startAgent(0);
    const guest = world.actor(world.namespaces[0], ['python3', file('guest.py')]);
    const prober = world.actor(world.lab.outside, [process.execPath, file('prober.mjs'), HOST_ADDRESS]);
    const times = { reach: [], close: [], kill: [] };
    for (let i = 0; i < 2 * events; i++) {
      const port = FIRST + (i % PORTS);
      const [begin, end] = i % 2 === 0 ? ['listen', 'close'] : ['fork', 'kill'];
      const reached = prober.ask({ op: 'reach', port });
      // Anywhere in the agent's interval, not in step with it.
      await sleep(10 + Math.random() * 40);
      const begun = (await guest.ask({ op: begin, port })).at;
      note(times.reach, begun, (await reached).at, `port ${port} was not reached`);
      await sleep(SETTLE_MS);
      const silent = prober.ask({ op: 'silence', port });
      await sleep(20);
      const ended = (await guest.ask({ op: end })).at;
      note(times[end], ended, (await silent).at, `port ${port} was not silent`);
    }
    report({ what: 'listen() in the guest to the first connect from outside', times: times.reach, goal: 50 });
    report({ what: 'close() of the server to frames discarded', times: times.close, goal: 50 });
    report({ what: 'kill -9 of the server to frames discarded', times: times.kill, goal: 50 });

    await guest.ask({ op: 'stream', port: FIRST + PORTS });
    await sleep(300);
    await prober.ask({ op: 'gap', port: FIRST + PORTS });
    const gaps = [];
    for (let i = 0; i < restarts; i++) {
      await sleep(500);
      await prober.ask({ op: 'gap' });
      await world.stopDaemon('SIGKILL');
      await world.startDaemon();
      await sleep(1000);
      gaps.push((await prober.ask({ op: 'gap' })).ms);
    }
    report({ what: 'download: longest pause over kill -9 and start of the daemon', times: gaps, goal: 2000, at: 1 });
  } finally {
    await world.close();
  }
}

function note(times, from, to, missing) {
  if (to === null) throw new Error(missing);
  times.push(Math.max(0, to - from));
}
