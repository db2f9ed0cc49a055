/**
 * Codec: a byte stream ⇄ lines ⇄ JSON-RPC 2.0 messages. What the messages of Berth mean is in messages.ts.
 *
 *   bytes ──LineDecoder──▶ lines ──parseMessage──▶ request │ notification │ answer │ refusal │ invalid
 *
 * Line        UTF-8, ended by \n (a \r before it is ignored), at most MAX_LINE_BYTES without its end. Empty lines are nothing:
 *             a sender that does not know what came before begins with one.
 * Too long    ends the stream: ERR_LINE_TOO_LONG once, then the decoder takes nothing more. Found as soon as the bytes are
 *             there, so a line of 10 MB never costs more memory than one of 64 KiB.
 * Garbage     (no UTF-8, no JSON, no message) is one `invalid` with the JSON-RPC code to answer; the stream goes on.
 */
import { BerthError } from '../base/errors.js';

export const MAX_LINE_BYTES = 64 * 1024;
/** An id is repeated in the answer: one as long as a line could not be. */
const MAX_ID_LENGTH = 128;

/** JSON-RPC 2.0 §5.1. */
export const PARSE_ERROR = -32700;
export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;
export const INTERNAL_ERROR = -32603;
/** A refusal that the protocol allows; `data.code` says which. */
export const REFUSED = -32000;

export type Id = number | string;

export type Message =
  | { readonly kind: 'request'; readonly id: Id; readonly method: string; readonly params: unknown }
  | { readonly kind: 'notification'; readonly method: string; readonly params: unknown }
  | { readonly kind: 'answer'; readonly id: Id; readonly result: unknown }
  | { readonly kind: 'refusal'; readonly id: Id | null; readonly code: number; readonly message: string; readonly data: unknown }
  | { readonly kind: 'invalid'; readonly id: Id | null; readonly code: number; readonly message: string };

const NEWLINE = 0x0a;
const RETURN = 0x0d;

export class LineDecoder {
  private readonly text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  private readonly maxBytes: number;
  /** The beginning of a line that has no end yet: chunks, never more than maxBytes (+ 1 for \r) in all. */
  private parts: Uint8Array[] = [];
  private held = 0;
  private ended = false;

  constructor(maxBytes = MAX_LINE_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** Bytes of an unfinished line. */
  get pending(): number {
    return this.held;
  }

  /**
   * Takes the next bytes and yields the lines that end in them, null for one that is no UTF-8. The bytes are copied where
   * they are kept. Read it to its end. Throws BerthError ERR_LINE_TOO_LONG, after which nothing more comes.
   */
  *push(bytes: Uint8Array): Generator<string | null> {
    let start = 0;
    while (!this.ended && start < bytes.length) {
      const end = bytes.indexOf(NEWLINE, start);
      const part = bytes.subarray(start, end < 0 ? bytes.length : end);
      const length = this.held + part.length;
      // One byte more may be a \r that the limit does not count: finish() looks.
      if (length > this.maxBytes + 1) this.refuse();
      if (end < 0) {
        this.parts.push(part.slice());
        this.held = length;
        return;
      }
      start = end + 1;
      const line = this.finish(part);
      if (line !== '') yield line;
    }
  }

  private finish(part: Uint8Array): string | null {
    let line = part;
    if (this.parts.length > 0) {
      line = Buffer.concat([...this.parts, part]);
      this.parts = [];
      this.held = 0;
    }
    if (line.at(-1) === RETURN) line = line.subarray(0, line.length - 1);
    if (line.length > this.maxBytes) this.refuse();
    try {
      return this.text.decode(line);
    } catch {
      return null;
    }
  }

  private refuse(): never {
    this.ended = true;
    this.parts = [];
    this.held = 0;
    throw new BerthError('ERR_LINE_TOO_LONG', `a line of more than ${this.maxBytes} bytes; send less in one message`);
  }
}

/** What a line is. Never throws. */
export function parseMessage(line: string | null): Message {
  if (line === null) return invalid(PARSE_ERROR, 'the line is not UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return invalid(PARSE_ERROR, 'the line is not JSON');
  }
  if (Array.isArray(value)) return invalid(INVALID_REQUEST, 'an array (batches are not known here); send one message a line');
  if (typeof value !== 'object' || value === null) return invalid(INVALID_REQUEST, 'the line is not a JSON object');
  return classify(value as Record<string, unknown>);
}

function classify(value: Record<string, unknown>): Message {
  const id = isId(value['id']) ? value['id'] : null;
  if (value['jsonrpc'] !== '2.0') return invalid(INVALID_REQUEST, 'no "jsonrpc": "2.0"', id);
  const method = value['method'];
  if (typeof method === 'string') {
    const params = value['params'] ?? {};
    if (typeof params !== 'object' || Array.isArray(params)) return invalid(INVALID_PARAMS, 'params is not an object', id);
    if (!('id' in value)) return { kind: 'notification', method, params };
    return id === null ? invalid(INVALID_REQUEST, `id is neither a number nor a text of at most ${MAX_ID_LENGTH} characters`) : { kind: 'request', id, method, params };
  }
  const error = value['error'];
  if (typeof error === 'object' && error !== null) {
    const { code, message, data } = error as Record<string, unknown>;
    if (typeof code === 'number' && typeof message === 'string') return { kind: 'refusal', id, code, message, data };
  }
  if ('result' in value && id !== null) return { kind: 'answer', id, result: value['result'] };
  return invalid(INVALID_REQUEST, 'neither a request nor an answer', id);
}

function invalid(code: number, message: string, id: Id | null = null): Message {
  return { kind: 'invalid', id, code, message };
}

function isId(value: unknown): value is Id {
  return (typeof value === 'string' && value.length <= MAX_ID_LENGTH) || (typeof value === 'number' && Number.isFinite(value));
}

/** One line, its end included. Port sets become their text. Throws BerthError ERR_LINE_TOO_LONG for what no peer would take. */
function encode(message: object): string {
  const line = JSON.stringify({ jsonrpc: '2.0', ...message });
  if (line.length > MAX_LINE_BYTES || Buffer.byteLength(line) > MAX_LINE_BYTES) {
    throw new BerthError('ERR_LINE_TOO_LONG', `a message of ${Buffer.byteLength(line)} bytes (at most ${MAX_LINE_BYTES}); send it in parts`);
  }
  return `${line}\n`;
}

export function encodeRequest(id: Id, method: string, params: object): string {
  return encode({ id, method, params });
}

export function encodeNotification(method: string, params: object): string {
  return encode({ method, params });
}

export function encodeAnswer(id: Id, result: object): string {
  return encode({ id, result });
}

/** `id` null: the request could not be read. */
export function encodeRefusal(id: Id | null, code: number, message: string, data?: object): string {
  return encode({ id, error: data === undefined ? { code, message } : { code, message, data } });
}
