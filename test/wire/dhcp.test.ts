/** The DHCP codec: what it writes it reads again, and what a hostile client may send is read within its lengths or refused. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeDhcp, DISCOVER, encodeDhcp, numberOption, OPTION_CLIENT_ID, OPTION_DNS, OPTION_MESSAGE_TYPE, OPTION_REQUESTED_ADDRESS, OPTION_SERVER, optionOf } from '../../src/wire/dhcp.js';
import { clientMessage } from '../support/dhcp.js';

const MESSAGE_TYPE = [OPTION_MESSAGE_TYPE, 1, DISCOVER];

/** A message with these bytes as its options, and as its fields `file` and `sname`. */
function message(options: readonly number[], file: readonly number[] = [], sname: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(240 + options.length);
  bytes.set(encodeDhcp(clientMessage(DISCOVER), 300).subarray(0, 240));
  bytes.set(sname, 44);
  bytes.set(file, 108);
  bytes.set(options, 240);
  return bytes;
}

const optionsOf = (bytes: Uint8Array): Record<number, number[]> | null => {
  const decoded = decodeDhcp(bytes);
  return decoded === null ? null : Object.fromEntries([...decoded.options].map(([code, value]) => [code, [...value]]));
};

describe('reading', () => {
  it.each([
    ['a message', message([...MESSAGE_TYPE, 255]), { 53: [1] }],
    ['pads between options, and what follows the end', message([0, 0, ...MESSAGE_TYPE, 0, 12, 2, 97, 98, 255, 61, 200, 1]), { 53: [1], 12: [97, 98] }],
    ['options without an end', message(MESSAGE_TYPE), { 53: [1] }],
    ['an empty option', message([80, 0, ...MESSAGE_TYPE, 255]), { 80: [], 53: [1] }],
    ['an option in parts (RFC 3396)', message([61, 2, 1, 2, ...MESSAGE_TYPE, 61, 1, 3, 255]), { 61: [1, 2, 3], 53: [1] }],
    ['options in the field file', message([...MESSAGE_TYPE, 52, 1, 1, 255], [50, 4, 192, 0, 2, 10, 255]), { 53: [1], 52: [1], 50: [192, 0, 2, 10] }],
    ['options in the field sname', message([...MESSAGE_TYPE, 52, 1, 2, 255], [50, 4, 1, 1, 1, 1, 255], [50, 4, 192, 0, 2, 10, 255]), { 53: [1], 52: [2], 50: [192, 0, 2, 10] }],
    ['options in both, in this order', message([...MESSAGE_TYPE, 52, 1, 3, 61, 1, 1, 255], [61, 1, 2, 255], [61, 1, 3, 255]), { 53: [1], 52: [3], 61: [1, 2, 3] }],
    ['the fields as text without option 52', message([...MESSAGE_TYPE, 255], [61, 255], [61, 255]), { 53: [1] }],
    ['no options at all', message([]), {}],
  ])('takes %s', (_, bytes, options) => {
    expect(optionsOf(bytes)).toEqual(options);
  });

  it.each([
    ['nothing', new Uint8Array(0)],
    ['239 bytes', message([]).subarray(0, 239)],
    ['another cookie', message([...MESSAGE_TYPE, 255]).map((byte, at) => (at === 236 ? byte + 1 : byte))],
    ['another hardware than Ethernet', message([...MESSAGE_TYPE, 255]).map((byte, at) => (at === 1 ? 6 : byte))],
    ['a hardware address of 16 bytes', message([...MESSAGE_TYPE, 255]).map((byte, at) => (at === 2 ? 16 : byte))],
    ['an option cut before its length', message([...MESSAGE_TYPE, 61])],
    ['an option that goes past the end', message([...MESSAGE_TYPE, 61, 4, 1, 2, 3])],
    ['an option in `file` that goes past it', message([...MESSAGE_TYPE, 52, 1, 1, 255], [61, 127, ...new Array<number>(126).fill(1)])],
    ['an option 52 of two bytes', message([...MESSAGE_TYPE, 52, 2, 1, 1, 255])],
    ['two options 52', message([...MESSAGE_TYPE, 52, 1, 1, 52, 1, 1, 255])],
    ['an option 52 of no field', message([...MESSAGE_TYPE, 52, 1, 0, 255])],
    ['an option 52 of a field that does not exist', message([...MESSAGE_TYPE, 52, 1, 4, 255])],
    ['an empty option 52', message([...MESSAGE_TYPE, 52, 0, 255])],
  ])('refuses %s', (_, bytes) => {
    expect(decodeDhcp(bytes)).toBeNull();
  });

  it('takes numbers of the right size only', () => {
    const read = clientMessage(DISCOVER, { [OPTION_REQUESTED_ADDRESS]: optionOf(4, 0xc000020a), [OPTION_SERVER]: Uint8Array.of(1, 2, 3) });
    expect(numberOption(read, OPTION_REQUESTED_ADDRESS, 4)).toBe(0xc000020a);
    expect(numberOption(read, OPTION_SERVER, 4)).toBeNaN();
    expect(numberOption(read, OPTION_DNS, 4)).toBeNull();
  });
});

describe('writing', () => {
  it('leaves out what does not fit, and takes what does after it', () => {
    const bytes = encodeDhcp(clientMessage(DISCOVER, { [OPTION_CLIENT_ID]: new Uint8Array(255), [OPTION_DNS]: optionOf(4, 1) }), 320);
    expect(bytes.length).toBe(300);
    expect(optionsOf(bytes)).toEqual({ 53: [1], 6: [0, 0, 0, 1] });
  });

  it('fills a message to the last byte', () => {
    const bytes = encodeDhcp(clientMessage(DISCOVER, { [OPTION_CLIENT_ID]: new Uint8Array(255).fill(7) }), 240 + 3 + 257 + 1);
    expect(bytes.length).toBe(501);
    expect(bytes.at(-1)).toBe(255);
    expect(optionsOf(bytes)![61].length).toBe(255);
  });

  it('refuses an option that its length cannot say', () => {
    expect(() => encodeDhcp(clientMessage(DISCOVER, { [OPTION_CLIENT_ID]: new Uint8Array(256) }), 1400)).toThrow(expect.objectContaining({ code: 'ERR_DHCP' }) as Error);
  });
});

describe('any bytes', () => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  const options = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 254 }).filter((code) => code !== 52), fc.uint8Array({ maxLength: 40 })), { selector: ([code]) => code, maxLength: 12 });

  it('what is written is read again', () => {
    fc.assert(
      fc.property(fc.record({ op: fc.integer({ min: 0, max: 255 }), xid: word, flags: fc.integer({ min: 0, max: 0xffff }), ciaddr: word, yiaddr: word, giaddr: word, mac: fc.uint8Array({ minLength: 6, maxLength: 6 }) }), options, (fields, list) => {
        const given = { ...fields, options: new Map(list) };
        expect(decodeDhcp(encodeDhcp(given, 1400))).toEqual(given);
      }),
      { numRuns: 500 },
    );
  });

  it('noise behind a good header is read within its bytes, or refused; memory around it makes no difference', () => {
    const likely = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 2, 3, 50, 52, 53, 54, 55, 57, 61, 255));
    fc.assert(
      fc.property(fc.array(likely, { maxLength: 400 }), fc.array(likely, { maxLength: 128 }), fc.array(likely, { maxLength: 64 }), fc.integer({ min: 0, max: 640 }), (tail, file, sname, cut) => {
        const bytes = message(tail, file, sname).subarray(0, 640 - cut);
        const padded = new Uint8Array(bytes.length + 64).fill(1);
        padded.set(bytes, 32);
        const decoded = decodeDhcp(bytes);
        expect(decodeDhcp(padded.subarray(32, 32 + bytes.length))).toEqual(decoded);
        const read = [...(decoded?.options.values() ?? [])].reduce((sum, { length }) => sum + length, 0);
        expect(read).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 3000 },
    );
  });
});
