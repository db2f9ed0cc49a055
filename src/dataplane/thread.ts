/**
 * The engine's thread seen from the daemon: starts the worker, sends it commands, tells what it reports.
 *
 * Loading      the worker's modules take longer than most of a daemon's start, so it is made before it is needed: by `prepare`, beside the
 *              daemon's own modules. Until it has its work it keeps no process alive.
 * Order        a command is posted first and the event signalled after, so that a woken worker always finds it.
 * Ownership    descriptors given in commands belong to the worker from then on.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Command, Report, WorkerStart } from './worker-protocol.js';
import { BerthError } from '../base/errors.js';
import { addon, check } from '../native/binding.js';

export interface EngineReports {
  adopted(generation: number): void;
  failed(port: number, serial: number): void;
  left(port: number): void;
  reject(packet: Uint8Array): void;
  send(frame: Uint8Array): void;
  punt(port: number, frame: Uint8Array): void;
  capSend(): void;
  toHost(link: number, address: number, packet: Uint8Array | null): void;
  connections(connections: Int32Array): void;
  exhausted(link: number): void;
  /** The worker ended although nobody stopped it. */
  died(error: Error): void;
}

let prepared: Worker | null = null;

function load(): Worker {
  const worker = new Worker(new URL('./worker.js', import.meta.url));
  // One that ends before it is started is made again then, and its error told.
  worker.on('error', () => undefined);
  worker.once('exit', () => {
    if (prepared === worker) prepared = null;
  });
  worker.unref();
  return worker;
}

export class EngineThread {
  private readonly worker: Worker;
  private readonly eventFd: number;
  private readonly ended: Promise<unknown>;
  private stopping = false;

  private constructor(worker: Worker, eventFd: number) {
    this.worker = worker;
    this.eventFd = eventFd;
    this.ended = new Promise((resolve) => worker.once('exit', resolve));
  }

  /** Begins to load the worker of the thread that will be started next. */
  static prepare(): void {
    prepared ??= load();
  }

  /** Gives a worker its work, and waits until it serves its ports. */
  static async start(start: Omit<WorkerStart, 'eventFd'>, reports: EngineReports): Promise<EngineThread> {
    const eventFd = check(addon().openEvent(), 'making a wake-up event');
    const worker = prepared ?? load();
    prepared = null;
    const thread = new EngineThread(worker, eventFd);
    try {
      worker.ref();
      worker.postMessage({ ...start, eventFd } satisfies WorkerStart);
      await Promise.race([once(worker, 'message'), thread.ended.then(() => Promise.reject(new BerthError('ERR_ENGINE', 'the engine\'s thread ended before it had begun')))]);
    } catch (error) {
      addon().closeFd(eventFd);
      throw error;
    }
    worker.on('message', (report: Report) => {
      if (report.type === 'adopted') reports.adopted(report.generation);
      else if (report.type === 'failed') reports.failed(report.port, report.serial);
      else if (report.type === 'left') reports.left(report.port);
      else if (report.type === 'reject') reports.reject(report.packet);
      else if (report.type === 'send') reports.send(report.frame);
      else if (report.type === 'punt') reports.punt(report.port, report.frame);
      else if (report.type === 'cap-send') reports.capSend();
      else if (report.type === 'to-host') reports.toHost(report.link, report.address, report.packet);
      else if (report.type === 'connections') reports.connections(report.connections);
      else if (report.type === 'exhausted') reports.exhausted(report.link);
    });
    worker.on('error', (error) => {
      reports.died(error);
    });
    worker.on('exit', (code) => {
      if (!thread.stopping) reports.died(new BerthError('ERR_ENGINE', `the engine's thread ended with code ${code}`));
    });
    return thread;
  }

  send(command: Command): void {
    this.worker.postMessage(command);
    this.wake();
  }

  wake(): void {
    check(addon().signalEvent(this.eventFd), 'waking the engine');
  }

  /** Ends the worker, if it has not ended by itself: its sockets close, promiscuous mode ends; taps disappear unless kept. */
  async stop(keepTaps: boolean): Promise<void> {
    this.stopping = true;
    this.send({ type: 'stop', keepTaps });
    await this.ended;
    addon().closeFd(this.eventFd);
  }
}
