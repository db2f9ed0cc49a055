/**
 * The engine: a batch's journey through the stages, a stage a file.
 *
 *     capture ─▶ parse ─▶ lookup ─▶ verdict ─▶ forward
 *     (slots)    kind     position  verdict    ports, counters
 *                ports              reason
 *
 * The same engine runs on a NIC and taps (worker.ts) and on captures (cli replay): the caller fills `slots` from a source
 * and brings the sink. One thread; nothing is allocated for a frame; memory is the source's until forward gives it back.
 */
import type { Counters} from './counters.js';
import { EGRESS, INGRESS } from './counters.js';
import { Extras } from './extras.js';
import { forward } from './forward.js';
import { FrameBatch } from './frame-batch.js';
import { lookupDestination, lookupSource } from './lookup.js';
import { Mapping } from './mapping.js';
import { Memory } from './memory.js';
import { ANY_STATION, parse, type Station } from './parse.js';
import { decideEgress } from './verdict-egress.js';
import { decideIngress } from './verdict-ingress.js';
import { decideMappedEgress } from './verdict-mapped-egress.js';
import type { FrameSink, FrameSlots } from '../io/frame-io.js';
import type { Maps } from '../steering/maps.js';
import type { SteeringTable } from '../steering/table.js';

export interface EngineOptions {
  slots: FrameSlots;
  table: SteeringTable;
  counters: Counters;
  /** The NIC's MAC, or ANY_STATION for captures. */
  station: Station;
  /** Policy notInUse: reject. */
  rejecting: boolean;
}

export class Engine {
  readonly batch: FrameBatch;
  readonly memory = new Memory();
  /** Replaced between batches when the control plane hands out a newer buffer. */
  table: SteeringTable;
  private readonly counters: Counters;
  private readonly station: Station;
  private readonly extras: Extras;

  constructor(options: EngineOptions) {
    this.batch = new FrameBatch(options.slots);
    this.table = options.table;
    this.counters = options.counters;
    this.station = options.station;
    this.extras = new Extras(options.rejecting);
  }

  /** Steers the frames in `slots`, which came from the NIC (or a capture). */
  ingress(sink: FrameSink): void {
    const { batch, table, extras } = this;
    parse(batch, this.station);
    lookupDestination(batch, table);
    decideIngress(batch, table, this.memory, extras);
    forward(batch, extras, sink, this.counters, INGRESS, 0);
  }

  /** Checks and sends the frames in `slots`, all of which came from the guest on `link`. */
  egress(link: number, sink: FrameSink): void {
    const { batch, table, extras, memory } = this;
    const { mapping } = memory;
    const guest = mapping === null ? undefined : mapping.guests[link];
    parse(batch, ANY_STATION);
    if (mapping !== null && guest !== undefined) {
      decideMappedEgress(batch, link, guest, table, memory, mapping, this.station, extras);
    } else {
      lookupSource(batch, table);
      decideEgress(batch, link, table, memory, this.station, extras);
    }
    forward(batch, extras, sink, this.counters, EGRESS, link);
  }

  /** What is mapped from now on. `links`: how many there may be; `hasHeaders`: frames have a virtio-net header before them. */
  map(maps: Maps, links: number, hasHeaders: boolean): void {
    if (this.memory.mapping === null && maps.guests.length === 0) return;
    this.memory.mapping ??= new Mapping(links, hasHeaders, this.station);
    this.memory.mapping.update(maps);
  }
}
