// A port watch of the built program, run in a guest's namespace: a line of JSON for each change, and for "counters" on standard input.
import { createInterface } from 'node:readline';
import { PortWatch } from '../../dist/agent/port-watch.js';

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const now = () => performance.timeOrigin + performance.now();
const watch = new PortWatch({
  ...JSON.parse(process.argv[2] ?? '{}'),
  onChange: ({ use, endUse }) => say({ at: now(), use, endUse, used: watch.used, serving: watch.serving }),
  onError: (message) => say({ error: message }),
});
watch.start();
say({ ready: true });
createInterface({ input: process.stdin })
  .on('line', () => say({ counters: watch.counters }))
  .on('close', () => watch.stop());
