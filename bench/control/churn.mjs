/**
 * 64 guests whose leases churn while traffic runs, and what the leases cost the daemon in memory.
 *
 * The guests' agents are protocol clients on the 64 sockets (churner.mjs), not agents: 64 of those would measure their own start-up on
 * a small machine. What the guests receive is seen on the wire (receiver.py).
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchWorld, HOST_ADDRESS } from './world.mjs';

const GUESTS = 64;
/** 64 blocks of 512 ports, TCP and UDP: 65,536 endpoints. */
const BLOCK = 512;
const RATE = 1000;
/** Grants are given back a while later: those of the end are not in the count. */
const PACE = 1.1;
/** Longer than anything is on its way (churner.mjs), and short enough for ports to change hands. */
const QUARANTINE_MS = 1000;
/** Asked for by name, from here on, and outside the pool; three for each change a second: half of them have been given back lately. */
const NAMED = 30_000;
const NAMED_A_CHANGE = 3;
const file = (name) => path.join(import.meta.dirname, name);

export async function run({ seconds, guests = GUESTS, rate = RATE }, report) {
  const named = [String(NAMED), String(NAMED + NAMED_A_CHANGE * rate - 1)];
  const policy = { block: BLOCK, maxPorts: 8192, allow: { udp: named.join('-') } };
  const world = await BenchWorld.make('bench-churn', guests, policy, { ports: '1024-29695,36864-49151', reserve: 0, quarantine: `${QUARANTINE_MS / 1000}s` });
  try {
    await world.startDaemon();
    await sleep(2000);
    const idle = world.residentBytes();
    for (const namespace of world.namespaces) world.lab.run(namespace, ['ip', 'link', 'set', 'eth0', 'up']);
    const receiver = world.actor(world.lab.host, ['python3', file('receiver.py'), ...named, ...world.namespaces]);
    const sockets = world.names.map((_, i) => world.socketOf(i));
    const churner = world.actor(world.lab.outside, [process.execPath, file('churner.mjs'), HOST_ADDRESS, String(QUARANTINE_MS), ...named, ...sockets]);
    const { failure, changesPerSecond, changes, slowestMs, early, refused, sent, datagrams } = await churner.ask({ op: 'churn', rate: PACE * rate, seconds });
    if (failure !== null) throw new Error(failure);
    const { wrong, late, changing, stable, oldest, examples } = await receiver.ask({ op: 'counts' });
    for (const example of examples) console.log(describe(example, await churner.ask({ op: 'history', port: example.port })));
    const lost = sent.reduce((all, count, guest) => all + Math.abs(count - stable[guest]), 0);
    console.log(`      ${changes} changes, the slowest ${slowestMs.toFixed(0)} ms, refused ${JSON.stringify(refused)}; ${datagrams} datagrams, ${stable.reduce((a, b) => a + b, 0)} on ports that did not change; the longest on its way ${oldest.toFixed(0)} ms`);
    report({ what: `${guests} guests: changes of leases a second`, value: changesPerSecond, unit: '/s', goal: rate, atLeast: true });
    report({ what: 'frames delivered while leases churned', value: changing, unit: 'frames', goal: 100, atLeast: true });
    report({ what: 'frames delivered to a wrong guest', value: wrong, unit: 'frames', goal: 0 });
    report({ what: 'frames delivered after the release was answered', value: late, unit: 'frames', goal: 0 });
    report({ what: 'ports granted to another guest within their quarantine', value: early, unit: 'ports', goal: 0 });
    report({ what: 'frames lost on endpoints that did not change', value: lost, unit: 'frames', goal: 0 });
    report({ what: `memory with ${2 * BLOCK * guests} leased endpoints over idle`, value: (world.residentBytes() - idle) / 2 ** 20, unit: 'MiB', goal: 150 });
  } finally {
    await world.close();
  }
}

/** A datagram that should not have come, and what became of its port, in ms from when it was sent. */
function describe({ port, of, to, released, sent, came }, history) {
  const events = history.filter(([at]) => Math.abs(at - sent) < 5000).map(([at, guest, what]) => `        ${(at - sent).toFixed(1).padStart(8)} ms: guest ${guest} ${what}`);
  return [`      port ${port}, sent for guest ${of}${released ? ' after its release' : ''}, came to guest ${to} ${(came - sent).toFixed(1)} ms later`, ...events].join('\n');
}
