/**
 * What a guest's DHCP message is answered: the server's side of RFC 2131 §4.3, for one client whose address is settled.
 *
 *     DISCOVER → OFFER       REQUEST → ACK, or NAK for an address that is not the guest's       INFORM → ACK without a lease
 *     DECLINE, RELEASE: taken note of       everything else: ignored, and why
 *
 * Pure         a message and what is to be told go in, the answer comes out. There is nothing to remember: the address is the
 *              guest's by its lease (static-leases.ts), whoever asks for it on its link, and only there.
 * Authority    no other server is on the link, so also a client that only remembers an address (INIT-REBOOT) gets its NAK.
 * Times        a guest learns a new address of the host when it renews, so it renews every minute. Its lease lasts five: as long
 *              as that the daemon may be away before the guest gives its address, and all connections, up.
 *              (Clients that know only the lease's length, as busybox, renew after half of it.)
 */
import {
  ACK,
  BOOT_REPLY,
  BOOT_REQUEST,
  BROADCAST_FLAG,
  DECLINE,
  type DhcpMessage,
  DISCOVER,
  INFORM,
  NAK,
  numberOption,
  OFFER,
  OPTION_CLIENT_ID,
  OPTION_DNS,
  OPTION_LEASE_TIME,
  OPTION_MASK,
  OPTION_MESSAGE_TYPE,
  OPTION_MOST_BYTES,
  OPTION_MTU,
  OPTION_PORTS,
  OPTION_REBIND_AFTER,
  OPTION_RENEW_AFTER,
  OPTION_REQUESTED_ADDRESS,
  OPTION_ROUTER,
  OPTION_ROUTES,
  OPTION_SERVER,
  OPTION_WANTED,
  optionOf,
  RELEASE,
  REQUEST,
  SERVER_ADDRESS,
} from '../wire/dhcp.js';

const LEASE_S = 300;
const RENEW_AFTER_S = 60;
const REBIND_AFTER_S = 240;
/** RFC 2132 §9.14: at least two bytes. */
const LEAST_CLIENT_ID = 2;
const MOST_CLIENT_ID = 255;
const MOST_SERVERS = 8;
const BROADCAST = 0xffffffff;
/** Bytes of a datagram that a client takes if it does not say (RFC 2131 §2), the most it is sent, and the headers of IP and UDP in it. */
const [LEAST_BYTES, MOST_BYTES, HEADER_BYTES] = [576, 1500, 28];

/** Code and value. */
type Option = [code: number, value: Uint8Array];

/** What a guest is told of its network. */
export interface GuestNetwork {
  /** Six bytes: the NIC's, and so the guest's. */
  mac: Uint8Array;
  /** The guest's addresses, the one that it is offered first. Never empty. */
  addresses: readonly { address: number; prefix: number }[];
  gateway: number | null;
  dns: readonly number[];
  mtu: number;
  /** The block of the guest's ports that its own connections can come from; null: none, or any port is its own. */
  ports: { first: number; bits: number } | null;
}

/** Why a message is not answered: not readable as one, of another station, or for another server. */
export type Ignored = 'malformed' | 'foreign' | 'other-server';

export type DhcpAnswer =
  | { kind: 'offer' | 'ack' | 'nak'; reply: DhcpMessage; to: number; mostBytes: number }
  | { kind: 'declined' | 'released'; address: number }
  | { kind: 'ignored'; why: Ignored };

/** `to` of the answer is the address that it is sent to (RFC 2131 §4.1), `mostBytes` as long as the client takes it. */
export function answerDhcp(message: DhcpMessage, network: GuestNetwork): DhcpAnswer {
  if (message.op !== BOOT_REQUEST) return ignored('malformed');
  if (message.giaddr !== 0 || message.mac.some((byte, at) => byte !== network.mac[at])) return ignored('foreign');
  const type = numberOption(message, OPTION_MESSAGE_TYPE, 1);
  const requested = numberOption(message, OPTION_REQUESTED_ADDRESS, 4);
  const server = numberOption(message, OPTION_SERVER, 4);
  const size = numberOption(message, OPTION_MOST_BYTES, 2);
  const id = message.options.get(OPTION_CLIENT_ID);
  if (Number.isNaN(requested) || Number.isNaN(server) || Number.isNaN(size)) return ignored('malformed');
  if (id !== undefined && (id.length < LEAST_CLIENT_ID || id.length > MOST_CLIENT_ID)) return ignored('malformed');
  if (server !== null && server !== SERVER_ADDRESS) return ignored('other-server');

  switch (type) {
    case DISCOVER:
      return give('offer', message, network, requested ?? 0, true);
    case REQUEST:
      if (server === null ? (requested === null) === (message.ciaddr === 0) : requested === null || message.ciaddr !== 0) return ignored('malformed');
      return give('ack', message, network, requested ?? message.ciaddr, false);
    case INFORM:
      return inform(message, network);
    case DECLINE:
      return { kind: 'declined', address: requested ?? 0 };
    case RELEASE:
      return { kind: 'released', address: message.ciaddr };
    default:
      return ignored('malformed');
  }
}

function ignored(why: Ignored): DhcpAnswer {
  return { kind: 'ignored', why };
}

/** `wanted`, if it is the guest's; else what it may have (an offer), or no. */
function give(kind: 'offer' | 'ack', message: DhcpMessage, network: GuestNetwork, wanted: number, mayDiffer: boolean): DhcpAnswer {
  const own = network.addresses.find(({ address }) => address === wanted) ?? (mayDiffer ? network.addresses[0] : undefined);
  if (own === undefined) {
    const reply = replyTo(message, NAK, 0, []);
    return { kind: 'nak', reply: { ...reply, ciaddr: 0, flags: message.flags | BROADCAST_FLAG }, to: BROADCAST, mostBytes: mostBytesOf(message) };
  }
  const times: Option[] = [
    [OPTION_RENEW_AFTER, optionOf(4, RENEW_AFTER_S)],
    [OPTION_REBIND_AFTER, optionOf(4, REBIND_AFTER_S)],
  ];
  const options: Option[] = [[OPTION_LEASE_TIME, optionOf(4, LEASE_S)], ...networkOptions(message, network, own), ...times];
  const reply = replyTo(message, kind === 'offer' ? OFFER : ACK, own.address, options);
  const to = message.ciaddr === 0 && (message.flags & BROADCAST_FLAG) !== 0 ? BROADCAST : own.address;
  return { kind, reply, to, mostBytes: mostBytesOf(message) };
}

/** A client that has its address already asks for the rest (RFC 2131 §4.3.5). */
function inform(message: DhcpMessage, network: GuestNetwork): DhcpAnswer {
  const own = network.addresses.find(({ address }) => address === message.ciaddr);
  if (own === undefined) return ignored('foreign');
  const reply = replyTo(message, ACK, 0, networkOptions(message, network, own));
  return { kind: 'ack', reply, to: own.address, mostBytes: mostBytesOf(message) };
}

/** Only what the client asks for, if it says; the mask always, without which an address is of no use. The most important first. */
function networkOptions(message: DhcpMessage, network: GuestNetwork, { address, prefix }: { address: number; prefix: number }): Option[] {
  const { gateway, dns, mtu, ports } = network;
  const wanted = message.options.get(OPTION_WANTED);
  const all: Option[] = [[OPTION_MASK, optionOf(4, maskOf(prefix))]];
  if (gateway !== null) {
    // A gateway outside the guest's own network needs a route to itself first; the option stands in place of the other (RFC 3442).
    if (((gateway ^ address) & maskOf(prefix)) !== 0) all.push([OPTION_ROUTES, Uint8Array.from([32, ...optionOf(4, gateway, 0), 0, ...optionOf(4, gateway)])]);
    all.push([OPTION_ROUTER, optionOf(4, gateway)]);
  }
  if (dns.length > 0) all.push([OPTION_DNS, optionOf(4, ...dns.slice(0, MOST_SERVERS))]);
  all.push([OPTION_MTU, optionOf(2, Math.min(mtu, 0xffff))]);
  if (ports !== null && wanted !== undefined) all.push([OPTION_PORTS, Uint8Array.from([0, ports.bits, ...optionOf(2, ports.first)])]);
  return wanted === undefined ? all : all.filter(([code]) => code === OPTION_MASK || wanted.includes(code));
}

/** The client's identifier goes back with every answer (RFC 6842). */
function replyTo(message: DhcpMessage, type: number, yiaddr: number, options: readonly Option[]): DhcpMessage {
  const id = message.options.get(OPTION_CLIENT_ID);
  const all = new Map([[OPTION_MESSAGE_TYPE, optionOf(1, type)], [OPTION_SERVER, optionOf(4, SERVER_ADDRESS)]]);
  if (id !== undefined) all.set(OPTION_CLIENT_ID, id);
  for (const [code, value] of options) all.set(code, value);
  const { xid, flags, ciaddr, mac } = message;
  return { op: BOOT_REPLY, xid, flags, ciaddr: type === OFFER ? 0 : ciaddr, yiaddr, giaddr: 0, mac, options: all };
}

/** Bytes of the message itself; option 57 counts the whole datagram (RFC 2132 §9.10). */
function mostBytesOf(message: DhcpMessage): number {
  return Math.min(MOST_BYTES, Math.max(LEAST_BYTES, numberOption(message, OPTION_MOST_BYTES, 2) ?? LEAST_BYTES)) - HEADER_BYTES;
}

function maskOf(prefix: number): number {
  return prefix === 0 ? 0 : (BROADCAST << (32 - prefix)) >>> 0;
}
