/**
 * A virtual machine as far as its network goes: `vmm.mjs TAP NETNS NAME MAC on|off`.
 *
 *     host namespace {TAP} ── this process ── {NAME} namespace NETNS
 *
 * It opens the tap as a VMM does and copies frames, with their virtio-net headers, to and from an interface inside the
 * namespace that plays the guest, which is there only as long as this process. Says `up` when both are open. The last
 * argument: whether guest and VMM take segmentation and checksum offload.
 */
import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { addon, check, LINK_MEMORY } from '../../dist/native/binding.js';

const [tap, netns, name, mac, offloads] = process.argv.slice(2);
const BATCH = 64;
const outer = check(addon().openTap(tap, -1, offloads === 'on'), `opening ${tap}`);
const inner = check(addon().openTap(name, openSync(`/run/netns/${netns}`, 'r'), offloads === 'on'), `opening ${name}`);
execFileSync('ip', ['-n', netns, 'link', 'set', 'dev', name, 'address', mac]);

const words = Array.from({ length: 5 }, () => new Uint32Array(BATCH));
const verdict = new Int32Array(BATCH);
const ready = new Int32Array(BATCH);
const ports = new (addon().Ports)(...words, verdict, ready, 3);
check(ports.attachLink(1, outer, false), 'attaching the tap');
check(ports.attachLink(2, inner, false), 'attaching the guest');
process.stdout.write('up\n');

// Blocks this thread for good: signals end the process at once, as they would a VMM's.
for (;;) {
  const found = check(ports.wait(1000, 0), 'waiting');
  for (let i = 0; i < found; i++) {
    const port = ready[i];
    if (port !== 1 && port !== 2) process.exit(1);
    const count = ports.receiveLink(port);
    verdict.fill(3 - port, 0, count);
    ports.forward(LINK_MEMORY, count);
  }
}
