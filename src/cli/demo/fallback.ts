/** The demo where namespaces may not be made: a capture from Berth's own frame builder, replayed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoConfig, GUESTS, HOST_PORT, UNUSED_PORT } from './script.js';
import { loadConfig } from '../../base/config.js';
import { PcapWriter } from '../../io/pcap-writer.js';
import { eth } from '../../wire/frame-builder.js';
import { HOST_ADDRESS, OUTSIDE_ADDRESS } from '../lab.js';
import { MAX_SPEED } from '../replay/pace.js';
import { replay } from '../replay/replay.js';

export async function fallbackDemo(why: string): Promise<void> {
  process.stdout.write(`${why}: instead of a live network, a capture of made-up frames for ${HOST_ADDRESS} is replayed.\n\n`);
  const folder = mkdtempSync(join(tmpdir(), 'berth-demo-'));
  try {
    const capture = join(folder, 'demo.pcap');
    writeCapture(capture);
    const config = join(folder, 'berth.yaml');
    writeFileSync(config, demoConfig(null));
    await replay(capture, loadConfig(config), { speed: MAX_SPEED });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Ten connection attempts to each port. */
function writeCapture(path: string): void {
  const writer = new PcapWriter(path);
  const ports = [HOST_PORT, ...GUESTS.map((guest) => guest.port), UNUSED_PORT];
  for (let n = 0; n < 10; n++) {
    for (const port of ports) {
      const frame = eth().ipv4({ src: OUTSIDE_ADDRESS, dst: HOST_ADDRESS }).tcp(50000 + n, port).build();
      writer.write(frame, 0, frame.length, frame.length, n, 0);
    }
  }
  writer.close();
}
