/**
 * A mute of the built Berth in the namespace where this runs; the test says what it is to do. One JSON object a line:
 * {start | set: [{address: "80,90-99", …} as TCP ports, …]} or {stop: true} in; {pid, errors, log} out when the last is in effect.
 * Several states of `set` are asked for at once.
 */
import { createInterface } from 'node:readline';
import { createLog } from '../../dist/base/log.js';
import { messageOf } from '../../dist/base/errors.js';
import { Mute } from '../../dist/control/mute.js';
import { PortSet } from '../../dist/wire/port-set.js';

const log = [];
const mute = new Mute('eth0', createLog({ pretty: false, destination: { write: (line) => log.push(JSON.parse(line).msg) } }));

for await (const line of createInterface({ input: process.stdin })) {
  const { start, set, stop } = JSON.parse(line);
  const asked = [start ?? set ?? []].flat().map(state);
  const answers = await Promise.allSettled(start !== undefined ? [mute.start(asked[0])] : stop ? [mute.stop()] : asked.map((muted) => mute.set(muted)));
  const errors = answers.filter(({ status }) => status === 'rejected').map(({ reason }) => messageOf(reason));
  process.stdout.write(`${JSON.stringify({ pid: mute.pid, errors, log: log.splice(0) })}\n`);
}

function state({ whole = [], ...addresses }) {
  const set = (ports) => (ports === '' ? PortSet.EMPTY : PortSet.parse(ports));
  const number = (address) => address.split('.').reduce((all, part) => all * 256 + Number(part), 0);
  return { whole: new Set(whole.map(number)), ports: new Map(Object.entries(addresses).map(([address, ports]) => [number(address), { tcp: set(ports), udp: PortSet.EMPTY }])) };
}
