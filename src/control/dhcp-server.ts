/**
 * DHCP server: configures the guests whose link says `configure: dhcp` as if each had a network of its own with us.
 *
 *     engine ─ a frame of the guest ─▶ receive ─▶ decode ─▶ answer ─▶ encode ─▶ a frame for that link alone ─▶ engine
 *
 * Identity     the link is the guest: what comes from it can only be answered there, with that guest's addresses.
 * Facts        gateway, name servers, MTU and masks are those that agents are told (network.ts), as they are now.
 * ARP          the server's address is answered for too: some guests take all of 169.254.0.0/16 for their own network, and would
 *              not find us through the gateway.
 * Checksums    of what the guest sends are not looked at: with offloads they are not there yet, and the frame crossed no wire.
 * Bounds       the engine hands over a few frames a second of each link; nothing is kept of them.
 */
import { answerDhcp, type DhcpAnswer, type GuestNetwork, type Ignored } from './dhcp-answer.js';
import { type GuestPlan, largestBlock, type LeasePlan } from './lease-plan.js';
import type { NetworkFacts } from './session.js';
import type { Log } from '../base/log.js';
import { formatIpv4, formatMac, parseIpv4, parseMac } from '../wire/address.js';
import { ARP_REQUEST, ARP_SENDER_IP, ARP_TARGET_IP } from '../wire/arp.js';
import { decodeDhcp, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, type DhcpMessage, encodeDhcp, SERVER_ADDRESS } from '../wire/dhcp.js';
import { ETHERNET_HEADER_BYTES, ETHERTYPE_ARP } from '../wire/ethernet.js';
import { eth } from '../wire/frame-builder.js';
import { UDP_HEADER_BYTES } from '../wire/udp.js';

const WHOLE_PREFIX = 32;
const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';
const BROADCAST = 0xffffffff;

export interface DhcpServerParts {
  plan: Pick<LeasePlan, 'guests' | 'shared'>;
  facts: () => NetworkFacts;
  /** Sends a frame on the port's link. */
  send: (port: number, frame: Uint8Array) => void;
  log: Log;
}

/** Messages of guests, by what became of them. */
export type DhcpCounters = Record<'offers' | 'acks' | 'naks' | 'declines' | 'releases' | Ignored, number>;

const COUNTED = { offer: 'offers', ack: 'acks', nak: 'naks', declined: 'declines', released: 'releases' } as const;

export class DhcpServer {
  readonly counters: DhcpCounters = { offers: 0, acks: 0, naks: 0, declines: 0, releases: 0, malformed: 0, foreign: 0, 'other-server': 0 };
  private readonly parts: DhcpServerParts;
  /** What was last said about each guest, so that it is not said at every renewal. */
  private readonly said = new Map<string, string>();

  constructor(parts: DhcpServerParts) {
    this.parts = parts;
  }

  /** Takes a whole frame from the guest on the port's link, which is DHCP or ARP for the server, and answers it. */
  receive(port: number, frame: Uint8Array): void {
    const guest = this.parts.plan.guests.find(({ index }) => index === port - 1);
    if (guest?.link?.configure !== 'dhcp') return; // it has left meanwhile
    const facts = this.parts.facts();
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    if (view.getUint16(ETHERNET_HEADER_BYTES - 2) === ETHERTYPE_ARP) this.answerArp(port, view, facts.mac);
    else this.answerDatagram(port, guest, frame, facts);
  }

  private answerArp(port: number, view: DataView, mac: string): void {
    if (view.getUint16(ETHERNET_HEADER_BYTES + 6) !== ARP_REQUEST) return;
    const asker = formatIpv4(view.getUint32(ETHERNET_HEADER_BYTES + ARP_SENDER_IP));
    const asked = formatIpv4(view.getUint32(ETHERNET_HEADER_BYTES + ARP_TARGET_IP));
    this.parts.send(port, eth({ src: serverMac(mac), dst: mac }).arp('reply', { senderIp: asked, targetIp: asker }).build());
  }

  private answerDatagram(port: number, guest: GuestPlan, frame: Uint8Array, facts: NetworkFacts): void {
    const payload = payloadOf(frame);
    const message = payload === null ? null : decodeDhcp(payload);
    const network = networkOf(guest, this.parts.plan.shared, facts);
    const answer: DhcpAnswer = message === null || network === null ? { kind: 'ignored', why: 'malformed' } : answerDhcp(message, network);
    this.counters[answer.kind === 'ignored' ? answer.why : COUNTED[answer.kind]]++;
    if ('reply' in answer) this.parts.send(port, frameOf(answer.reply, answer.to, answer.mostBytes, facts.mac));
    this.tell(guest.name, answer, message);
  }

  private tell(name: string, answer: DhcpAnswer, message: DhcpMessage | null): void {
    const { log } = this.parts;
    if (answer.kind === 'ignored' || answer.kind === 'offer' || message === null) return;
    if (answer.kind === 'ack') {
      this.say(name, `has ${formatIpv4(answer.reply.yiaddr || message.ciaddr)} by DHCP`, (text) => log.info({ guest: name }, text));
    } else if (answer.kind === 'declined') {
      this.say(name, `has declined ${formatIpv4(answer.address)} by DHCP: it takes the address for somebody else's`, (text) => log.warn({ guest: name }, text));
    } else if (answer.kind === 'nak') {
      this.say(name, 'asked by DHCP for an address that is not its own, and is told to ask anew', (text) => log.info({ guest: name }, text));
    } else {
      this.say(name, 'has given its address back by DHCP', (text) => log.info({ guest: name }, text));
    }
  }

  private say(name: string, text: string, write: (text: string) => void): void {
    if (this.said.get(name) === text) return;
    this.said.set(name, text);
    write(`guest ${name} ${text}`);
  }
}

/** What the guest is told: addresses that it leases something on, else the shared ones, where it may lease something later. */
export function networkOf(guest: GuestPlan, shared: readonly number[], facts: NetworkFacts): GuestNetwork | null {
  const mac = parseMac(facts.mac);
  const own = guest.addresses.length > 0 ? guest.addresses : shared;
  if (mac === null || own.length === 0) return null;
  const networks = facts.addresses.map(({ address, prefix }) => ({ address: parseIpv4(address) ?? 0, prefix }));
  return {
    mac,
    addresses: own.map((address) => ({ address, prefix: prefixOf(address, networks) })),
    gateway: facts.gateway === null ? null : parseIpv4(facts.gateway),
    dns: facts.dns.flatMap((server) => parseIpv4(server) ?? []),
    mtu: facts.mtu,
    ports: guest.whole === null ? largestBlock(guest) : null,
  };
}

/** A dedicated address lies in the network of the host's own address around it, or in none. */
function prefixOf(address: number, networks: readonly { address: number; prefix: number }[]): number {
  const around = networks.find((one) => one.address === address) ?? networks.find((one) => one.prefix > 0 && (address ^ one.address) >>> (WHOLE_PREFIX - one.prefix) === 0);
  return around?.prefix ?? WHOLE_PREFIX;
}

/** The payload of the frame's UDP datagram; null where its lengths do not fit. The engine has seen that it is one, and whole. */
function payloadOf(frame: Uint8Array): Uint8Array | null {
  const ip = ETHERNET_HEADER_BYTES;
  const udp = ip + (frame[ip] & 15) * 4;
  const first = udp + UDP_HEADER_BYTES;
  const end = udp + ((frame[udp + 4] << 8) | frame[udp + 5]);
  return end >= first && end <= frame.length ? frame.subarray(first, end) : null;
}

function frameOf(reply: DhcpMessage, to: number, mostBytes: number, mac: string): Uint8Array {
  return eth({ src: serverMac(mac), dst: to === BROADCAST ? BROADCAST_MAC : mac })
    .ipv4({ src: formatIpv4(SERVER_ADDRESS), dst: formatIpv4(to), id: 0 })
    .udp(DHCP_SERVER_PORT, DHCP_CLIENT_PORT, { payload: encodeDhcp(reply, mostBytes) })
    .build();
}

/** Another than the guest's own, which is the NIC's: a locally administered one, of no meaning off the link. */
function serverMac(mac: string): string {
  const bytes = parseMac(mac) ?? new Uint8Array(6);
  bytes[0] |= 2;
  bytes[5] ^= 1;
  return formatMac(bytes);
}
