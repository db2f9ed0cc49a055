/**
 * A replay: the engine on a capture; every frame is taken as one that came to the NIC.
 *
 * Damage       what was readable is processed and reported; then the reader's error, with the byte offset, is thrown.
 * Mapped       guests' ports count as in use; nothing is readdressed.
 * Output       the summary on standard output, on standard error where the verdicts take it (`--verdicts -`).
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { ReplayOutputs } from './outputs.js';
import { MAX_SPEED, Pace, type Speed } from './pace.js';
import { summarize } from './summary.js';
import { VerdictLines } from './verdict-lines.js';
import type { Config } from '../../base/config.js';
import { BerthError, ConfigError } from '../../base/errors.js';
import { Publisher } from '../../control/publisher.js';
import { resolveLeases } from '../../control/static-leases.js';
import { Counters } from '../../dataplane/counters.js';
import { Engine } from '../../dataplane/engine.js';
import { ANY_STATION } from '../../dataplane/parse.js';
import { type CaptureReader, openCapture } from '../../io/capture-reader.js';
import { FrameSlots } from '../../io/frame-io.js';
import { SteeringTable } from '../../steering/table.js';

/** Frames a turn at full speed. */
const BATCH = 1024;
/** Turns between two looks at the clock and at signals. */
const TURNS_BETWEEN_LOOKS = 64;
/** A capture from this size on gets a progress bar, on a terminal. */
const LONG_FILE_BYTES = 32 * 1024 * 1024;

export interface ReplayOptions {
  /** A file for one JSON object a frame; `-` is standard output. */
  verdicts?: string;
  /** A folder for one capture a guest. */
  split?: string;
  speed: Speed;
  /** An interface that the forwarded frames are sent onto. */
  onto?: string;
}

/** Replays `file` and prints the summary. Throws the reader's error after everything readable has been processed. */
export async function replay(file: string, config: Config, options: ReplayOptions): Promise<void> {
  const resolved = resolveLeases(config);
  const plan = { ...resolved, guests: resolved.guests.map((guest) => ({ ...guest, mapped: null })) };
  const guests = plan.guests.map((guest) => guest.name);
  refuseOverwriting(file, [options.verdicts ?? '-', ...guests.map((guest) => join(options.split ?? '', `${guest}.pcap`))]);
  const reader = await openCapture(file);
  const interrupted = new AbortController();
  const interrupt = (): void => {
    interrupted.abort();
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);

  const outputs = new ReplayOutputs(guests, options.split, options.onto);
  const lines = options.verdicts === undefined ? null : new VerdictLines(options.verdicts, guests);
  const counters = new Counters(guests.length);
  const slots = new FrameSlots(options.speed === MAX_SPEED ? BATCH : 1);
  const publisher = new Publisher(plan);
  const engine = new Engine({ slots, table: new SteeringTable(publisher.buffer), counters, station: ANY_STATION, rejecting: false });
  engine.memory.guests = publisher.guestsByAddress;

  const startMs = performance.now();
  try {
    await steer(reader, engine, slots, outputs, lines, options.speed, interrupted.signal);
  } finally {
    lines?.close();
    outputs.close();
    await reader.close();
  }
  const seconds = (performance.now() - startMs) / 1000;

  const out = options.verdicts === '-' ? process.stderr : process.stdout;
  out.write(summarize({ counters: counters.read(), guests, seconds }));
  if (options.onto !== undefined) out.write(`${outputs.sent} frames sent on ${options.onto}${outputs.unsent > 0 ? `, ${outputs.unsent} not: cut in the capture or too long` : ''}\n`);
  if (reader.notEthernet > 0) out.write(`${reader.notEthernet} frames are of interfaces that are not Ethernet; they count as malformed\n`);
  if (interrupted.signal.aborted) throw new BerthError('ERR_INTERRUPTED', 'interrupted; what is above is how far it came');
  if (reader.error !== null) throw reader.error;
}

/** An output that is the capture itself would destroy it. */
function refuseOverwriting(file: string, outputs: readonly string[]): void {
  const input = existsSync(file) ? statSync(file) : undefined;
  if (input === undefined || !input.isFile()) return;
  for (const output of outputs) {
    const found = existsSync(output) ? statSync(output) : undefined;
    if (found?.dev === input.dev && found.ino === input.ino) throw new ConfigError('ERR_SAME_FILE', `${output} is the capture itself; write to another file`);
  }
}

async function steer(
  reader: CaptureReader,
  engine: Engine,
  slots: FrameSlots,
  outputs: ReplayOutputs,
  lines: VerdictLines | null,
  speed: Speed,
  interrupted: AbortSignal,
): Promise<void> {
  const pace = speed === MAX_SPEED ? null : new Pace(speed, interrupted);
  const bar = progressBar(reader);
  try {
    for (let turn = 1; ; turn++) {
      let more = reader.read(slots);
      if (typeof more !== 'boolean') more = await more;
      if (!more) break;
      if (pace !== null) await pace.until(slots.seconds[0], slots.nanoseconds[0]);
      if (interrupted.aborted) break;
      engine.ingress(outputs);
      lines?.add(engine.batch);
      if (turn % TURNS_BETWEEN_LOOKS === 0) {
        bar?.update(reader.bytesRead);
        await nextTurn();
      }
    }
  } finally {
    // A bar that is not stopped keeps the process, and leaves the terminal without line wrap.
    bar?.update(reader.bytesRead);
    bar?.stop();
  }
}

function progressBar(reader: CaptureReader): SingleBar | null {
  if (!process.stderr.isTTY || reader.totalBytes === undefined || reader.totalBytes < LONG_FILE_BYTES) return null;
  const bar = new SingleBar({
    format: '{bar} {percentage} %  {eta} s left',
    formatValue: (value, _options, type) => (type === 'eta' && !Number.isFinite(value) ? '?' : String(value)),
    stream: process.stderr,
    hideCursor: null,
    clearOnComplete: true,
  });
  bar.start(reader.totalBytes, 0);
  return bar;
}
