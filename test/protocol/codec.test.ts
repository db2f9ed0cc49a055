/** Line framing and messages: whatever way the bytes are cut, and whatever bytes they are. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BerthError } from '../../src/base/errors.js';
import { encodeAnswer, encodeNotification, encodeRefusal, encodeRequest, INVALID_PARAMS, INVALID_REQUEST, LineDecoder, MAX_LINE_BYTES, type Message, PARSE_ERROR, parseMessage } from '../../src/protocol/codec.js';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** All lines of a stream given in these chunks; the code of the error that ended it, if one did. */
function decode(chunks: readonly Uint8Array[], decoder = new LineDecoder()): { lines: (string | null)[]; code: string | null } {
  const lines: (string | null)[] = [];
  try {
    for (const chunk of chunks) for (const line of decoder.push(chunk)) lines.push(line);
  } catch (error) {
    return { lines, code: (error as BerthError).code };
  }
  return { lines, code: null };
}

function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...sorted, bytes.length].map((end, i) => bytes.slice(i === 0 ? 0 : sorted[i - 1], end));
}

describe('LineDecoder', () => {
  it('gives the same lines however the bytes are cut', () => {
    const line = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((text) => !/[\r\n]/.test(text));
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat()), fc.boolean(), (lines, places, returns) => {
        const bytes = bytesOf(lines.map((text) => `${text}${returns ? '\r' : ''}\n`).join(''));
        expect(decode(cut(bytes, places))).toEqual({ lines, code: null });
      }),
    );
  });

  it('takes any bytes, and goes on after what is no UTF-8', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat()), (garbage, places) => {
        const bytes = Uint8Array.of(...garbage, 10, ...bytesOf('good\n'));
        const { lines, code } = decode(cut(bytes, places));
        expect(code).toBeNull();
        expect(lines.at(-1)).toBe('good');
      }),
    );
    expect(decode([Uint8Array.of(0xc3, 0x28, 10), bytesOf('good\n')])).toEqual({ lines: [null, 'good'], code: null });
  });

  it('does not split or join a character that lies across two chunks', () => {
    const bytes = bytesOf('{"a":"größer 漢字 🛳"}\n');
    for (let i = 0; i <= bytes.length; i++) expect(decode([bytes.slice(0, i), bytes.slice(i)]).lines).toEqual(['{"a":"größer 漢字 🛳"}']);
  });

  it('gives nothing for half a line and for empty ones', () => {
    const decoder = new LineDecoder();
    expect(decode([bytesOf('\n\r\n\n{"half"')], decoder).lines).toEqual([]);
    expect(decoder.pending).toBe(7);
    expect(decode([bytesOf(':1}\n')], decoder).lines).toEqual(['{"half":1}']);
  });

  it('takes a line of exactly the limit, with and without \\r, and not one byte more', () => {
    const most = 'x'.repeat(MAX_LINE_BYTES);
    expect(decode([bytesOf(`${most}\n`)]).lines).toEqual([most]);
    expect(decode([bytesOf(`${most}\r`), bytesOf('\n')]).lines).toEqual([most]);
    expect(decode([bytesOf(`${most}x\n`)])).toEqual({ lines: [], code: 'ERR_LINE_TOO_LONG' });
    expect(decode([bytesOf(most), bytesOf('x'), bytesOf('\n')])).toEqual({ lines: [], code: 'ERR_LINE_TOO_LONG' });
    expect(decode([bytesOf(`${most}\r`), bytesOf('x\n')])).toEqual({ lines: [], code: 'ERR_LINE_TOO_LONG' });
  });

  it('refuses a line of 10 MB before it holds more than one of 64 KiB, and nothing comes after', () => {
    const decoder = new LineDecoder();
    const chunk = new Uint8Array(32 * 1024).fill(0x78);
    let code: string | null = null;
    let pushed = 0;
    for (; pushed < 320 && code === null; pushed++) {
      code = decode([chunk], decoder).code;
      expect(decoder.pending).toBeLessThanOrEqual(MAX_LINE_BYTES + 1);
    }
    expect([code, pushed]).toEqual(['ERR_LINE_TOO_LONG', 3]);
    expect(decode([bytesOf('\n{"good":1}\n')], decoder)).toEqual({ lines: [], code: null });
  });

  it('keeps the lines that came before one that is too long', () => {
    expect(decode([bytesOf(`one\ntwo\n${'x'.repeat(MAX_LINE_BYTES + 2)}`)])).toEqual({ lines: ['one', 'two'], code: 'ERR_LINE_TOO_LONG' });
  });

  it('keeps no view of the bytes it was given', () => {
    const decoder = new LineDecoder();
    const bytes = bytesOf('half');
    decode([bytes], decoder);
    bytes.fill(0x78);
    expect(decode([bytesOf('\n')], decoder).lines).toEqual(['half']);
  });
});

describe('parseMessage', () => {
  const rows: { name: string; line: string | null; is: Partial<Message> }[] = [
    { name: 'a request', line: '{"jsonrpc":"2.0","id":1,"method":"use","params":{"tcp":"80"},"more":true}', is: { kind: 'request', id: 1, method: 'use', params: { tcp: '80' } } },
    { name: 'a request without params', line: '{"jsonrpc":"2.0","id":"a","method":"renew"}', is: { kind: 'request', id: 'a', params: {} } },
    { name: 'a notification', line: '{"jsonrpc":"2.0","method":"revoked","params":{}}', is: { kind: 'notification', method: 'revoked' } },
    { name: 'an answer', line: '{"jsonrpc":"2.0","id":1,"result":null}', is: { kind: 'answer', id: 1, result: null } },
    { name: 'a refusal', line: '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":{"code":"ERR_X"}}}', is: { kind: 'refusal', code: -32000, data: { code: 'ERR_X' } } },
    { name: 'a refusal of what could not be read', line: '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}', is: { kind: 'refusal', id: null } },
    { name: 'no UTF-8', line: null, is: { kind: 'invalid', id: null, code: PARSE_ERROR } },
    { name: 'no JSON', line: '{"jsonrpc":"2.0","id":1', is: { kind: 'invalid', id: null, code: PARSE_ERROR } },
    { name: 'a batch', line: '[{"jsonrpc":"2.0","id":1,"method":"renew"}]', is: { kind: 'invalid', code: INVALID_REQUEST } },
    { name: 'a number', line: '42', is: { kind: 'invalid', code: INVALID_REQUEST } },
    { name: 'null', line: 'null', is: { kind: 'invalid', code: INVALID_REQUEST } },
    { name: 'another version', line: '{"jsonrpc":"1.0","id":7,"method":"renew"}', is: { kind: 'invalid', id: 7, code: INVALID_REQUEST } },
    { name: 'params in an array', line: '{"jsonrpc":"2.0","id":7,"method":"use","params":["80"]}', is: { kind: 'invalid', id: 7, code: INVALID_PARAMS } },
    { name: 'an id that is none', line: '{"jsonrpc":"2.0","id":{},"method":"renew"}', is: { kind: 'invalid', id: null, code: INVALID_REQUEST } },
    { name: 'neither request nor answer', line: '{"jsonrpc":"2.0","id":1}', is: { kind: 'invalid', id: 1, code: INVALID_REQUEST } },
  ];
  it.each(rows)('reads $name', ({ line, is }) => expect(parseMessage(line)).toMatchObject(is));

  it('never throws', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (line) => void parseMessage(line)));
    expect(parseMessage('['.repeat(MAX_LINE_BYTES)).kind).toBe('invalid');
  });

  it('reads what the encoders write', () => {
    const json = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 });
    const id = fc.oneof(fc.integer(), fc.string());
    const roundTrip = (line: string): Message => {
      const { lines } = decode([bytesOf(line)]);
      expect(lines).toHaveLength(1);
      return parseMessage(lines[0]);
    };
    fc.assert(
      fc.property(id, fc.string(), json, (number, text, given) => {
        const value = JSON.parse(JSON.stringify(given)) as object;
        expect(roundTrip(encodeRequest(number, text, given))).toEqual({ kind: 'request', id: number, method: text, params: value });
        expect(roundTrip(encodeNotification(text, given))).toEqual({ kind: 'notification', method: text, params: value });
        expect(roundTrip(encodeAnswer(number, given))).toEqual({ kind: 'answer', id: number, result: value });
        expect(roundTrip(encodeRefusal(number, -32000, text, given))).toEqual({ kind: 'refusal', id: number, code: -32000, message: text, data: value });
      }),
    );
  });

  it('writes nothing that the other side would not take', () => {
    expect(() => encodeRequest(1, 'use', { tcp: 'x'.repeat(MAX_LINE_BYTES) })).toThrow(expect.objectContaining({ code: 'ERR_LINE_TOO_LONG' }));
  });
});
