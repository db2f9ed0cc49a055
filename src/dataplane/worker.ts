/**
 * The engine's thread: waits for ports, runs a turn for each that has frames, takes commands in between.
 *
 * Loop         wait (native, sleeps) → for each ready port: receive a batch, engine turn. Commands arrive as messages and
 *              are taken when the event is signalled or the steering table says that a newer one is there.
 * Memory       nothing is allocated for a frame. A refused frame that is answered is copied into a message, at most
 *              `rejectRate` a second, and so is an ARP request that is, at most ARP_RATE;
 *              so is one that is for the control plane, at most PUNT_RATE a second of one link, and one of a mapped guest that
 *              the host's own stack is to send, at most HANDED_RATE a second of one link: no guest takes another's.
 * Ends         by the command `stop`; everything it holds is closed then.
 */
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { Counters } from './counters.js';
import { Engine } from './engine.js';
import type { Mapping } from './mapping.js';
import { listConnections, takeUpConnections } from './own-connections.js';
import { stationOf } from './parse.js';
import type { Command, Report, WorkerStart } from './worker-protocol.js';
import { TokenBucket } from '../base/rate-limit.js';
import { CapRing } from '../io/cap-ring.js';
import { CapSink } from '../io/cap-sink.js';
import { FrameSlots, NIC_PORT, VNET_HEADER_BYTES } from '../io/frame-io.js';
import { LIVE_BATCH, LivePorts } from '../io/live-ports.js';
import { FAILED, WOKEN } from '../native/binding.js';
import { SteeringTable } from '../steering/table.js';
import { arpReply } from '../wire/arp-frames.js';
import { mayReject, type Offender, rejection } from '../wire/reject.js';
import { wholePacket } from '../wire/whole-packet.js';

/** ARP replies a second at most: many times what neighbours that behave ask for, and nothing to a flood. */
const ARP_RATE = 1000;

/** A sleeping engine looks up at least this often. */
const SLEEP_MS = 1000;
/** Frames of one guest that the control plane takes: a second in the long run, and at once. A DHCP client sends four to begin with, then one a minute. */
const PUNT_RATE = 5;
const PUNT_BURST = 20;
/** Longer ones are no DHCP: a client may ask for more of an answer, not send more. */
const MAX_PUNT_BYTES = 1514;
/** Packets of one mapped guest that are handed to the host's own stack, a second and at once: the first ones to addresses that it has not heard of lately. */
const HANDED_RATE = 500;
const HANDED_BURST = 200;
/** Between two reports on mapped guests: that one has no ports left, what connections they have begun. */
const TELL_MS = 1000;

class EngineLoop {
  private readonly slots = new FrameSlots(LIVE_BATCH);
  private readonly counters: Counters;
  private readonly engine: Engine;
  private readonly ports: LivePorts;
  private readonly cap: CapSink | null = null;
  private readonly bucket: TokenBucket;
  private readonly arpBucket = new TokenBucket(ARP_RATE * 0.9, ARP_RATE / 10, performance.now());
  private readonly mac: Uint8Array;
  private toldExhausted = -TELL_MS;
  private toldConnections = -TELL_MS;
  private readonly parent: MessagePort;
  private readonly maxPorts: number;
  /** Of the attachment that each port has, or had last. */
  private readonly serials: number[] = [];
  /** By link. */
  private readonly puntBuckets = new Map<number, TokenBucket>();
  private readonly handedBuckets = new Map<number, TokenBucket>();
  private running = true;
  private keepTaps = false;

  constructor(start: WorkerStart, parent: MessagePort) {
    this.parent = parent;
    this.mac = start.mac;
    this.maxPorts = start.maxPorts;
    this.counters = new Counters(start.counters);
    this.engine = new Engine({
      slots: this.slots,
      table: new SteeringTable(start.table),
      counters: this.counters,
      station: stationOf(start.mac),
      rejecting: start.rejecting,
    });
    this.engine.memory.guests = start.guests;
    this.engine.map(start.maps, start.maxPorts, true);
    if (this.engine.memory.mapping !== null) takeUpConnections(this.engine.memory.mapping, start.connections, (Date.now() / 1000) | 0);
    // A tenth at once and the rest as time goes by: never more than the rate in any one second.
    const burst = Math.max(1, start.rejectRate / 10);
    this.bucket = new TokenBucket(start.rejectRate - Math.min(burst, start.rejectRate / 10), burst, performance.now());
    this.ports = new LivePorts(this.slots, this.engine.batch.verdict, start.maxPorts, {
      reject: (slots, frame, l3) => this.reject(slots, frame, l3),
      answerArp: (slots, frame, l3) => this.answerArp(slots, frame, l3),
      punt: (slots, frame, link) => this.punt(slots, frame, link),
      toHost: (slots, frame, l3, link) => this.toHost(slots, frame, l3, link),
    });
    this.ports.attachEvent(start.eventFd);
    if (start.nic.backend === 'packet') {
      this.ports.attachRings(start.nic.sockets, start.nic.mtu);
    } else {
      const { received, toSend } = start.nic.ring;
      this.cap = new CapSink(this.ports, new CapRing(received), new CapRing(toSend), () => this.report({ type: 'cap-send' }));
    }
  }

  run(): void {
    this.report({ type: 'ready' });
    while (this.running) {
      if (this.engine.table.superseded) this.takeCommands();
      const found = this.ports.wait(SLEEP_MS);
      for (let n = 0; n < found && this.running; n++) this.serve(this.ports.ready[n]);
      if (this.engine.memory.mapping !== null) this.tell(this.engine.memory.mapping);
    }
    for (let port = 0; port < this.maxPorts; port++) this.ports.detach(port, this.keepTaps);
    this.ports.close();
  }

  private serve(event: number): void {
    const { engine, ports, cap } = this;
    if (event === WOKEN) {
      this.takeCommands();
      if (cap !== null) while (cap.receive(this.slots)) engine.ingress(cap);
    } else if (event >= FAILED) {
      this.fail(event - FAILED);
    } else if (event === NIC_PORT) {
      if (ports.receiveRings() > 0) engine.ingress(ports);
    } else if (ports.receiveLink(event) > 0) {
      cap?.beginEgress();
      engine.egress(event - 1, cap ?? ports);
    }
  }

  private fail(port: number): void {
    if (port !== NIC_PORT) this.ports.detach(port, true);
    this.report({ type: 'failed', port, serial: this.serials[port] ?? 0 });
  }

  private takeCommands(): void {
    for (;;) {
      const message = receiveMessageOnPort(this.parent) as { message: Command } | undefined;
      if (message === undefined) return;
      this.obey(message.message);
    }
  }

  private obey(command: Command): void {
    switch (command.type) {
      case 'attach':
        this.ports.detach(command.port, true);
        this.serials[command.port] = command.serial;
        if (command.dhcp) this.engine.memory.dhcpLinks.add(command.port - 1);
        if (!this.ports.attachLink(command.port, command.fd, command.isSocket)) this.fail(command.port);
        break;
      case 'detach':
        this.ports.detach(command.port, true);
        break;
      case 'leave':
        this.ports.detach(command.port, false);
        this.engine.memory.forgetLink(command.port - 1);
        this.puntBuckets.delete(command.port - 1);
        this.handedBuckets.delete(command.port - 1);
        this.counters.reset(command.port - 1);
        this.report({ type: 'left', port: command.port });
        break;
      case 'table':
        this.engine.table = new SteeringTable(command.buffer);
        this.engine.memory.guests = command.guests;
        this.engine.map(command.maps, this.maxPorts, true);
        this.report({ type: 'adopted', generation: command.generation });
        break;
      case 'send':
        this.ports.send(command.port, command.frame);
        break;
      case 'next-hop': {
        const { high, low } = stationOf(command.mac);
        this.engine.memory.mapping?.hops.learn(command.address | 0, high | 0, low, (Date.now() / 1000) | 0);
        break;
      }
      case 'stop':
        this.keepTaps = command.keepTaps;
        this.running = false;
        break;
    }
  }

  /** Has the main thread send the refusal, if one is allowed and the rate is not used up. */
  private reject(slots: FrameSlots, frame: number, l3: number): boolean {
    const offender: Offender = {
      bytes: slots.bytes,
      frameOffset: slots.offset[frame],
      packetOffset: l3,
      captured: slots.offset[frame] + slots.length[frame] - l3,
      totalLength: slots.view.getUint16(l3 + 2),
    };
    if (!mayReject(offender) || !this.bucket.take(performance.now())) return false;
    const packet = rejection(offender);
    if (packet === null) return false;
    this.report({ type: 'reject', packet });
    return true;
  }

  /** Has the main thread say where a dedicated address is, if the rate is not used up. */
  private answerArp({ bytes, offset }: FrameSlots, frame: number, l3: number): boolean {
    if (!this.arpBucket.take(performance.now())) return false;
    const reply = arpReply(bytes, offset[frame], l3, this.mac);
    if (reply === null) return false;
    this.report({ type: 'send', frame: reply });
    return true;
  }

  private punt(slots: FrameSlots, frame: number, link: number): boolean {
    const now = performance.now();
    if (slots.length[frame] > MAX_PUNT_BYTES || !bucketOf(this.puntBuckets, link, PUNT_RATE, PUNT_BURST, now).take(now)) return false;
    this.report({ type: 'punt', port: 1 + link, frame: slots.bytes.slice(slots.offset[frame], slots.offset[frame] + slots.length[frame]) });
    return true;
  }

  /** Has the host's own stack send the packet of a mapped guest, if not too many are. */
  private toHost(slots: FrameSlots, frame: number, l3: number, link: number): boolean {
    const now = performance.now();
    if (!bucketOf(this.handedBuckets, link, HANDED_RATE, HANDED_BURST, now).take(now)) return false;
    const start = slots.offset[frame];
    const packet = wholePacket(slots.bytes, start - VNET_HEADER_BYTES, l3, start + slots.length[frame] - l3);
    this.report({ type: 'to-host', link, address: slots.view.getUint32(l3 + 16), packet });
    return true;
  }

  /** What is new of mapped guests. */
  private tell(mapping: Mapping): void {
    if (mapping.exhausted < 0 && !mapping.flows.changed) return;
    const now = performance.now();
    if (mapping.exhausted >= 0 && now - this.toldExhausted >= TELL_MS) {
      this.toldExhausted = now;
      this.report({ type: 'exhausted', link: mapping.exhausted });
      mapping.exhausted = -1;
    }
    if (mapping.flows.changed && now - this.toldConnections >= TELL_MS) {
      this.toldConnections = now;
      mapping.flows.changed = false;
      this.report({ type: 'connections', connections: listConnections(mapping) });
    }
  }

  private report(report: Report): void {
    this.parent.postMessage(report);
  }
}

function bucketOf(buckets: Map<number, TokenBucket>, link: number, perSecond: number, burst: number, now: number): TokenBucket {
  let bucket = buckets.get(link);
  if (bucket === undefined) buckets.set(link, (bucket = new TokenBucket(perSecond, burst, now)));
  return bucket;
}

parentPort?.once('message', (start: WorkerStart) => {
  new EngineLoop(start, parentPort as MessagePort).run();
});
