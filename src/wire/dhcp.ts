/**
 * DHCP for IPv4: messages as bytes and as objects (RFC 2131 §2, options RFC 2132). All fields are big-endian.
 *
 *     0        4        8       12      16       20       24       28          44        108       236      240
 *     op…hops  xid      secs…   ciaddr  yiaddr   siaddr   giaddr   chaddr[16]  sname[64] file[128] cookie   options …
 *
 * Hostile      a message comes from a guest: one whose lengths do not fit is no message, and reading costs a step a byte.
 * Long         an option that comes more than once is one, its parts put together (RFC 3396); with option 52 the fields `file` and
 *              `sname` hold options too, read in this order.
 * Why here     the one library for it on npm (`dhcp`, its codec of 2017) loses a byte at every Pad, drops what it does not
 *              know, has no option 52 and throws out of truncated messages.
 * Not here     what is answered: control/dhcp-answer.ts.
 */
import { BerthError } from '../base/errors.js';

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;

/**
 * The address of Berth's server on a guest's link, where there is no other of the host's than the guest's own: one that is nobody's
 * and never routed, from the part of 169.254.0.0/16 that no host picks for itself (RFC 3927 §2.1). 169.254.0.67.
 */
export const SERVER_ADDRESS = 0xa9fe0043;

export const BOOT_REQUEST = 1;
export const BOOT_REPLY = 2;
export const BROADCAST_FLAG = 0x8000;

/** Values of option 53 (RFC 2132 §9.6). */
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

export const OPTION_MASK = 1;
export const OPTION_ROUTER = 3;
export const OPTION_DNS = 6;
export const OPTION_MTU = 26;
export const OPTION_REQUESTED_ADDRESS = 50;
export const OPTION_LEASE_TIME = 51;
const OPTION_OVERLOAD = 52;
export const OPTION_MESSAGE_TYPE = 53;
export const OPTION_SERVER = 54;
export const OPTION_WANTED = 55;
export const OPTION_MOST_BYTES = 57;
export const OPTION_RENEW_AFTER = 58;
export const OPTION_REBIND_AFTER = 59;
export const OPTION_CLIENT_ID = 61;
/** RFC 3442 */
export const OPTION_ROUTES = 121;
/** RFC 7618 §9 */
export const OPTION_PORTS = 159;
const PAD = 0;
const END = 255;

const CHADDR = 28;
const SNAME = 44;
const FILE = 108;
const COOKIE = 236;
const OPTIONS = 240;
const MAGIC = 0x63825363;
/** What the shortest BOOTP message has (RFC 1542 §2.1): some clients and relays take none that is shorter. */
const LEAST_BYTES = 300;
const MAC_BYTES = 6;
const ETHERNET = 1;
const MAX_OPTION_BYTES = 255;

/** A message of a client on Ethernet. Addresses are numbers in host order, 0 for none. */
export interface DhcpMessage {
  op: number;
  xid: number;
  flags: number;
  ciaddr: number;
  yiaddr: number;
  giaddr: number;
  /** Six bytes. */
  mac: Uint8Array;
  /** By code; in a message to be encoded in order of importance. */
  options: ReadonlyMap<number, Uint8Array>;
}

/** Reads a UDP payload, from which the message's bytes are copied. Null for what is no message of a client on Ethernet. */
export function decodeDhcp(bytes: Uint8Array): DhcpMessage | null {
  if (bytes.length < OPTIONS) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(COOKIE) !== MAGIC || bytes[1] !== ETHERNET || bytes[2] !== MAC_BYTES) return null;
  const parts = new Map<number, Uint8Array[]>();
  if (!readOptions(bytes.subarray(OPTIONS), parts)) return null;
  const overload = parts.get(OPTION_OVERLOAD);
  if (overload !== undefined) {
    const fields = overload.length === 1 && overload[0].length === 1 ? overload[0][0] : 0;
    if (fields < 1 || fields > 3) return null;
    if ((fields & 1) !== 0 && !readOptions(bytes.subarray(FILE, COOKIE), parts)) return null;
    if ((fields & 2) !== 0 && !readOptions(bytes.subarray(SNAME, FILE), parts)) return null;
  }
  return {
    op: bytes[0],
    xid: view.getUint32(4),
    flags: view.getUint16(10),
    ciaddr: view.getUint32(12),
    yiaddr: view.getUint32(16),
    giaddr: view.getUint32(24),
    mac: bytes.slice(CHADDR, CHADDR + MAC_BYTES),
    options: new Map([...parts].map(([code, pieces]) => [code, join(pieces)])),
  };
}

/**
 * The message as a UDP payload of at most `mostBytes`: options that do not fit are left out.
 * @throws BerthError ERR_DHCP for an option of more than 255 bytes, which is a mistake of the caller
 */
export function encodeDhcp(message: DhcpMessage, mostBytes: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(LEAST_BYTES, mostBytes));
  const view = new DataView(bytes.buffer);
  bytes[0] = message.op;
  bytes[1] = ETHERNET;
  bytes[2] = MAC_BYTES;
  view.setUint32(4, message.xid);
  view.setUint16(10, message.flags);
  view.setUint32(12, message.ciaddr);
  view.setUint32(16, message.yiaddr);
  view.setUint32(24, message.giaddr);
  bytes.set(message.mac.subarray(0, MAC_BYTES), CHADDR);
  view.setUint32(COOKIE, MAGIC);
  let at = OPTIONS;
  for (const [code, value] of message.options) {
    if (value.length > MAX_OPTION_BYTES) throw new BerthError('ERR_DHCP', `option ${code} has ${value.length} bytes, expected at most ${MAX_OPTION_BYTES}`);
    if (at + 2 + value.length + 1 > bytes.length) continue;
    bytes[at] = code;
    bytes[at + 1] = value.length;
    bytes.set(value, at + 2);
    at += 2 + value.length;
  }
  bytes[at] = END;
  return bytes.subarray(0, Math.max(LEAST_BYTES, at + 1));
}

/** The option's value as one number of `size` bytes (1, 2, 4); null where it is missing, NaN where it has another size. */
export function numberOption({ options }: DhcpMessage, code: number, size: 1 | 2 | 4): number | null {
  const value = options.get(code);
  if (value === undefined) return null;
  return value.length === size ? value.reduce((number, byte) => number * 256 + byte, 0) : NaN;
}

/** `numbers` as words of `size` bytes each. */
export function optionOf(size: 1 | 2 | 4, ...numbers: readonly number[]): Uint8Array {
  return Uint8Array.from(numbers.flatMap((number) => Array.from({ length: size }, (_, at) => (number >>> (8 * (size - 1 - at))) & 255)));
}

/** Adds what a field holds to `parts`; false where an option goes past its end. A field without End ends where it ends. */
function readOptions(field: Uint8Array, parts: Map<number, Uint8Array[]>): boolean {
  for (let at = 0; at < field.length && field[at] !== END; ) {
    const code = field[at];
    if (code === PAD) {
      at++;
      continue;
    }
    const first = at + 2;
    const next = first + (field[at + 1] ?? Infinity);
    if (next > field.length) return false;
    const pieces = parts.get(code);
    const piece = field.slice(first, next);
    if (pieces === undefined) parts.set(code, [piece]);
    else pieces.push(piece);
    at = next;
  }
  return true;
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0];
  const joined = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}
