/**
 * 64 guests whose leases churn while traffic runs, and what the leases cost the daemon in memory.
 *
 * The guests' agents are protocol clients on the 64 sockets (churner.mjs), not agents: 64 of those would measure their own start-up on
 * a small machine. What the guests receive is seen on the wire (receiver.py).
 */
import path from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchWorld, HOST_ADDRESS } from './world.mjs';

const GUESTS = 64;
/** 64 blocks of 512 ports, TCP and UDP: 65,536 endpoints. */
const BLOCK = 512;
const RATE = 1000;
/** Grants are given back a while later: those of the end are not in the count. */
const PACE = 1.1;
/** Asked for by name, and outside the pool. */
const NAMED = [30_000, 35_999];
const file = (name) => path.join(import.meta.dirname, name);

export async function run({ seconds, guests = GUESTS, rate = RATE }, report) {
  // After one second another guest may have what was released.
  const policy = { block: BLOCK, maxPorts: 8192, allow: { udp: NAMED.join('-') } };
  const world = await BenchWorld.make('bench-churn', guests, policy, { ports: '1024-29695,36864-49151', reserve: 0, quarantine: '1s' });
  try {
    await world.startDaemon();
    await sleep(2000);
    const idle = world.residentBytes();
    for (const namespace of world.namespaces) world.lab.run(namespace, ['ip', 'link', 'set', 'eth0', 'up']);
    const receiver = world.actor(world.lab.host, ['python3', file('receiver.py'), ...NAMED.map(String), ...world.namespaces]);
    const sockets = world.names.map((_, i) => world.socketOf(i));
    const churner = world.lab.spawn(world.lab.outside, [process.execPath, file('churner.mjs'), HOST_ADDRESS, String(PACE * rate), String(seconds), ...NAMED.map(String), ...sockets]);
    churner.stderr.on('data', (data) => process.stderr.write(data));
    const ended = await Promise.race([once(createInterface({ input: churner.stdout }), 'line'), once(churner, 'exit').then(() => Promise.reject(new Error('the churner has ended')))]);
    const { failure, changesPerSecond, changes, slowestMs, refused, sent, datagrams } = JSON.parse(ended[0]);
    if (failure !== null) throw new Error(failure);
    const { wrong, late, changing, stable, examples } = await receiver.ask({ op: 'counts' });
    for (const example of examples) console.log(`      ${example}`);
    const lost = sent.reduce((all, count, guest) => all + Math.abs(count - stable[guest]), 0);
    console.log(`      ${changes} changes, the slowest ${slowestMs.toFixed(0)} ms, refused ${JSON.stringify(refused)}; ${datagrams} datagrams, ${stable.reduce((a, b) => a + b, 0)} on ports that did not change`);
    report({ what: `${guests} guests: changes of leases a second`, value: changesPerSecond, unit: '/s', goal: rate, atLeast: true });
    report({ what: 'frames delivered while leases churned', value: changing, unit: 'frames', goal: 100, atLeast: true });
    report({ what: 'frames delivered to a wrong guest', value: wrong, unit: 'frames', goal: 0 });
    report({ what: 'frames delivered after the release was answered', value: late, unit: 'frames', goal: 0 });
    report({ what: 'frames lost on endpoints that did not change', value: lost, unit: 'frames', goal: 0 });
    report({ what: `memory with ${2 * BLOCK * guests} leased endpoints over idle`, value: (world.residentBytes() - idle) / 2 ** 20, unit: 'MiB', goal: 150 });
  } finally {
    await world.close();
  }
}
