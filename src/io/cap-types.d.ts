/** What of `cap` 0.2.1 is used here (it ships no types). */
declare module 'cap' {
  import type { EventEmitter } from 'node:events';

  export class Cap extends EventEmitter {
    /** Opens promiscuously and returns the link type. `buffer` must stay referenced: every frame is written into it. */
    open(device: string, filter: string, bufferSize: number, buffer: Buffer): string;
    setMinBytes?(bytes: number): void;
    send(buffer: Buffer, length: number): void;
    close(): void;
  }
}
