/**
 * Nothing is allocated for a frame: parse → lookup → verdict → count, both directions, measured in a process of its own.
 *
 * How          `node --expose-gc` with young generations of 64 MiB, so that nothing is collected while we look; warmed up;
 *              then the growth of heapUsed over 50 thousand turns of 64 frames. Runs on dist/ (npm test builds it).
 * Control      the same loop with one small object a turn must show: a blind measurement would pass everything.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const DIST = path.resolve(process.env['BERTH_DIST'] ?? path.join(ROOT, 'dist'));
const FRAMES = 64;
const TURNS = 50_000;

/** Runs in the child: FRAMES frames of every kind in one batch, TURNS times; prints bytes a frame, then bytes a turn of the control. */
const PROGRAM = `
const [engineUrl, slotsUrl, countersUrl, parseUrl, tableUrl, writerUrl, builderUrl] = JSON.parse(process.argv[1]);
const { Engine } = await import(engineUrl);
const { FrameSlots } = await import(slotsUrl);
const { Counters } = await import(countersUrl);
const { stationOf } = await import(parseUrl);
const { SteeringTable } = await import(tableUrl);
const { TableWriter } = await import(writerUrl);
const { eth, ipv4, fragment } = await import(builderUrl);

const dst = '192.0.2.10';
const far = '198.51.100.7';
const here = 0xc000020a;
const writer = new TableWriter({ endpoints: 64 });
for (const port of [80, 81, 82]) for (const proto of [0, 1]) writer.lease(here, proto, port, 0, true);
for (const proto of [0, 1]) writer.use(here, proto, 80);
writer.quarantine(here, 0, 82);

const mac = '02:00:00:00:00:01';
const from = { src: far, dst };
const to = { src: dst, dst: far };
const inner = ipv4(to).udp(80, 53).packet();
const big = fragment(eth({ dst: mac }).ipv4(from).udp(40000, 80, { payload: new Uint8Array(1200) }).build(), 600);
const ingress = [
  eth({ dst: mac }).ipv4(from).tcp(40000, 80).build(),
  eth({ dst: mac }).ipv4(from).udp(40000, 80).build(),
  eth({ dst: mac }).ipv4(from).tcp(40000, 81).build(),
  eth({ dst: mac }).ipv4(from).tcp(40000, 82).build(),
  eth({ dst: mac }).ipv4(from).tcp(40000, 83).build(),
  eth({ dst: mac }).vlan(5).ipv4(from).tcp(40000, 80).build(),
  eth({ dst: mac }).ipv4(from).icmpError(3, 3, inner).build(),
  eth({ dst: mac }).ipv4(from).icmpEcho('reply', 7).build(),
  eth({ dst: mac }).arp('reply', { senderIp: far, targetIp: dst }).build(),
  eth({ dst: mac }).raw(0x86dd, new Uint8Array(40)).build(),
  ...big,
];
const egress = [
  eth({ src: mac }).ipv4(to).tcp(80, 40000).build(),
  eth({ src: mac }).ipv4(to).udp(81, 40000).build(),
  eth({ src: mac }).ipv4(to).udp(99, 40000).build(),
  eth({ src: mac }).ipv4(to).icmpEcho('request', 7).build(),
  eth({ src: mac }).arp('request', { senderIp: dst, targetIp: far }).build(),
];

const bytes = new Uint8Array(${FRAMES} * 2048);
const slots = new FrameSlots(${FRAMES});
slots.lend(bytes);
function fill(frames) {
  for (let i = 0; i < ${FRAMES}; i++) {
    const frame = frames[i % frames.length];
    bytes.set(frame, i * 2048);
    slots.offset[i] = i * 2048;
    slots.length[i] = slots.wireLength[i] = frame.length;
  }
  slots.count = ${FRAMES};
}
const engine = new Engine({
  slots,
  table: new SteeringTable(writer.buffer),
  counters: new Counters(1),
  station: stationOf(Uint8Array.from(mac.split(':'), (part) => parseInt(part, 16))),
  rejecting: true,
});
engine.memory.guests = [undefined, [0]];
const sink = { forward: () => 0, copy: () => 0, reject: () => true, punt: () => true, toHost: () => true };
const inside = '10.0.7.2';
const gateway = '02:62:65:72:74:68';
const mappedWriter = new TableWriter({ endpoints: 64 });
for (const proto of [0, 1]) for (const port of [8443, 20480, 20481]) mappedWriter.map(here, proto, port, 0);
const mappedEngine = new Engine({ slots, table: new SteeringTable(mappedWriter.buffer), counters: new Counters(1), station: stationOf(Uint8Array.from(mac.split(':'), (part) => parseInt(part, 16))), rejecting: true });
const range = [{ first: 8443, last: 8443, to: 443 }];
mappedEngine.map({ outside: [here], guests: [{ link: 0, inside: 0x0a000702, gateway: 0x0a000701, mac: new Uint8Array([2, 0, 0, 0, 7, 2]), block: { first: 20480, last: 20481 }, tcp: range, udp: range }] }, 1, false);
const out = { src: inside, dst: far };
const mappedIngress = [
  eth({ dst: mac }).ipv4(from).tcp(40000, 8443).build(),
  eth({ dst: mac }).ipv4(from).udp(40000, 8443, { payload: new Uint8Array(100) }).build(),
  eth({ dst: mac }).ipv4(from).tcp(40000, 20480).build(),
  eth({ dst: mac }).ipv4(from).icmpError(3, 3, ipv4(to).udp(8443, 40000).packet()).build(),
  eth({ dst: mac }).ipv4(from).icmpEcho('reply', 20481).build(),
  ...fragment(eth({ dst: mac }).ipv4(from).udp(40000, 8443, { payload: new Uint8Array(1200) }).build(), 600),
];
const mappedEgress = [
  eth({ src: mac, dst: gateway }).ipv4(out).tcp(443, 40000).build(),
  eth({ src: mac, dst: gateway }).ipv4(out).udp(50001, 53).build(),
  eth({ src: mac, dst: gateway }).ipv4(out).udp(50002, 53).build(),
  eth({ src: mac, dst: gateway }).ipv4(out).udp(50003, 53).build(),
  eth({ src: mac, dst: gateway }).ipv4(out).icmpEcho('request', 7).build(),
  eth({ src: mac, dst: gateway }).ipv4({ src: inside, dst }).tcp(999, 8443).build(),
  eth({ src: mac }).arp('request', { senderIp: inside, targetIp: '10.0.7.1' }).build(),
];
let fresh = bytes.slice();
let kept;
const turns = {
  // Frames are rewritten where they lie: each turn begins with them as they came.
  mappedIngress: () => { bytes.set(fresh); mappedEngine.ingress(sink); },
  mappedEgress: () => { bytes.set(fresh); mappedEngine.egress(0, sink); },
  ingress: () => engine.ingress(sink),
  egress: () => engine.egress(0, sink),
  control: () => { kept = { turn: slots.count }; },
};
function grown(turn) {
  for (let i = 0; i < 5000; i++) turn();
  let least = Infinity;
  // Until the optimised code is there, which comes late on a busy machine.
  for (let attempt = 0; attempt < 12 && least > ${TURNS}; attempt++) {
    gc();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < ${TURNS}; i++) turn();
    least = Math.min(least, process.memoryUsage().heapUsed - before);
  }
  return least / ${TURNS};
}
const result = {};
fill(ingress);
result.ingress = grown(turns.ingress);
fill(egress);
result.egress = grown(turns.egress);
fill(mappedIngress);
fresh = bytes.slice();
result.mappedIngress = grown(turns.mappedIngress);
fill(mappedEgress);
fresh = bytes.slice();
result.mappedEgress = grown(turns.mappedEgress);
result.control = grown(turns.control);
console.log(JSON.stringify(kept === undefined ? {} : result));
`;

function measure(): Record<'ingress' | 'egress' | 'mappedIngress' | 'mappedEgress' | 'control', number> {
  const modules = ['dataplane/engine', 'io/frame-io', 'dataplane/counters', 'dataplane/parse', 'steering/table', 'steering/table-writer', 'wire/frame-builder'];
  const urls = modules.map((name) => `file://${path.join(DIST, name)}.js`);
  const flags = ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64', '--input-type=module'];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', PROGRAM, JSON.stringify(urls)], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the measuring process failed: ${stderr}`);
  return JSON.parse(stdout) as ReturnType<typeof measure>;
}

describe.skipIf(!fs.existsSync(path.join(DIST, 'dataplane/engine.js')))('allocation', () => {
  it('is 0 bytes a frame in both directions, of mapped guests too', { timeout: 120_000 }, () => {
    const { ingress, egress, mappedIngress, mappedEgress, control } = measure();
    expect(control).toBeGreaterThan(20);
    // What the measurement itself leaves behind is a few kilobytes in all.
    expect(ingress / FRAMES).toBeLessThan(0.05);
    expect(egress / FRAMES).toBeLessThan(0.05);
    expect(mappedIngress / FRAMES).toBeLessThan(0.05);
    expect(mappedEgress / FRAMES).toBeLessThan(0.05);
  });
});
