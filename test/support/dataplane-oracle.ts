/**
 * What tshark reads in a capture, made into the reference's frames. Nothing here looks at a frame's bytes.
 *
 * Columns      oracle.sh beside the corpora, with a total length of 0 taken as the captured length (its README: the
 *              rule), and a second run for what oracle.sh leaves out: ids, ARP, ICMP and the packets that errors quote.
 * Traps        the README's list; each is where it is needed below.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Body, Frame } from './dataplane-reference.js';

export interface Seen {
  frame: Frame;
  seconds: number;
  /** tshark's view cannot be compared, and why. */
  skip?: string;
  /** tshark's own view of what was read; no ports: a later fragment, or not TCP or UDP. */
  src?: string;
  dst?: string;
  ports?: { src: number; dst: number };
}

type Columns = Record<string, string>;

const MORE = ['frame.number', 'frame.time_epoch', 'ip.id', 'ip.src', 'ip.dst', 'ip.proto', 'ip.frag_offset', 'ip.opt.type', 'icmp.type', 'icmp.ident', 'tcp.srcport', 'udp.srcport'];
const ARP = ['arp.opcode', 'arp.hw.type', 'arp.proto.type', 'arp.hw.size', 'arp.proto.size', 'arp.src.hw_mac', 'arp.src.proto_ipv4', 'arp.dst.proto_ipv4'];
const PREFERENCES = ['ip.defragment:FALSE', 'ip.tso_support:TRUE', 'ip.check_checksum:FALSE', 'tcp.check_checksum:FALSE', 'udp.check_checksum:FALSE', 'udp.try_heuristic_first:FALSE', 'tcp.try_heuristic_first:FALSE'];

function table(text: string): Columns[] {
  const [head, ...lines] = text.trimEnd().split('\n').map((line) => line.split('\t'));
  return lines.map((line) => Object.fromEntries(head.map((name, n) => [name, line[n] ?? ''])));
}

function run(program: string, args: string[], input = ''): string {
  return execFileSync(program, args, { encoding: 'utf8', input, maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'ignore'] });
}

/** tshark's view of every frame of the capture at `path`. */
export function seenByTshark(path: string, oracle: string): Seen[] {
  // A frame with total length 0 has no fields unless tshark is told about segmentation.
  const script = readFileSync(oracle, 'utf8').replace('ip.tso_support:FALSE', 'ip.tso_support:TRUE');
  const outer = table(run('bash', ['-s', path], script));
  const fields = [...MORE, ...ARP].flatMap((field) => ['-e', field]);
  const options = PREFERENCES.flatMap((preference) => ['-o', preference]);
  const inner = table(run('tshark', ['-n', '-r', path, ...options, '-T', 'fields', '-E', 'header=y', '-E', 'separator=/t', '-E', 'occurrence=a', '-E', 'aggregator=,', ...fields]));
  return outer.map((columns, n) => see(columns, inner[n]));
}

function see(outer: Columns, more: Columns): Seen {
  const protocols = outer['frame.protocols'];
  const tags = /^eth:ethertype((?::(?:vlan|ieee8021ad):ethertype){0,2}):(ip|arp)(?::|$)/.exec(protocols);
  const count = tags === null ? 0 : tags[1].split(':ethertype').length - 1;
  const captured = Number(outer['frame.cap_len']);
  const make = (body: Body, rest: Partial<Seen> = {}): Seen => ({
    frame: { destinationMac: outer['eth.dst'], sourceMac: outer['eth.src'], isRunt: captured < 14, tags: count, body },
    seconds: Math.floor(Number(more['frame.time_epoch'])),
    ...rest,
  });
  if (captured < 14) return make({ is: 'malformed' });
  // tshark calls RARP (0x8035) ARP.
  if (tags === null || outer['eth.type'] === '0x8035') return make({ is: 'not-ipv4' });
  const link = 14 + 4 * count;
  if (tags[2] === 'arp') return make(arp(more, captured - link));
  return ipv4(outer, more, link, make);
}

function arp(more: Columns, present: number): Body {
  if (present < 28) return { is: 'malformed' };
  if (ARP.slice(1, 5).map((field) => Number(more[field])).join() !== '1,2048,6,4') return { is: 'not-ipv4' };
  return { is: 'arp', operation: Number(more['arp.opcode']), senderMac: more['arp.src.hw_mac'], sender: more['arp.src.proto_ipv4'], target: more['arp.dst.proto_ipv4'] };
}

function ipv4(outer: Columns, more: Columns, link: number, make: (body: Body, rest?: Partial<Seen>) => Seen): Seen {
  const present = Number(outer['frame.cap_len']) - link;
  const header = Number(outer['ip.hdr_len']);
  const total = Number(outer['ip.len']);
  // Bad version, IHL, total length: no addresses, whatever tshark prints. Total length past the frame: likewise.
  if (outer['ip.version'] !== '4' || header < 20 || present < 20 || present < header) return make({ is: 'malformed' });
  if (total < header || total > Number(outer['frame.len']) - link) return make({ is: 'malformed' });
  const options = more['ip.opt.type'].split(',');
  if (options.includes('131') || options.includes('137')) return make({ is: 'malformed' }, { skip: 'source route' });

  const protocol = Number(outer['ip.proto']);
  const offset = Number(outer['ip.frag_offset']);
  const isFirst = offset === 0;
  const isMore = outer['ip.flags.mf'] === '1';
  const size = Math.min(total, present) - header;
  const needs = protocol === 6 ? 20 : protocol === 17 || protocol === 1 ? 8 : 0;
  if (isFirst && !isMore && size < needs) return make({ is: 'malformed' });
  const src = outer['ip.src'];
  const dst = outer['ip.dst'];
  const body = { is: 'ipv4' as const, src, dst, protocol, id: Number(first(more['ip.id'])), offset, more: isMore, payload: new Array<number>(size).fill(0) };
  if ((protocol !== 6 && protocol !== 17) || !isFirst || size < needs) {
    if (protocol === 1 && isFirst && size >= needs) body.payload = icmp(more, size);
    return make(body, { src, dst });
  }
  const name = protocol === 6 ? 'tcp' : 'udp';
  const isOuter = /^eth:ethertype(:vlan:ethertype|:ieee8021ad:ethertype)*:ip:(tcp|udp)/.test(outer['frame.protocols']);
  const ports = { src: Number(outer[`${name}.srcport`]), dst: Number(outer[`${name}.dstport`]) };
  // Malformed options: tshark stops before the ports.
  if (!isOuter || outer[`${name}.srcport`] === '') return make(body, { src, dst, skip: header > 20 ? 'malformed options' : 'no ports from tshark' });
  return make({ ...body, ports }, { src, dst, ports });
}

const first = (list: string): string => list.split(',')[0];

/** The ICMP message as far as the rules need it, written from columns: type, identifier, and the quoted packet. */
function icmp(more: Columns, size: number): number[] {
  const list = (field: string): string[] => (more[field] === '' ? [] : more[field].split(','));
  const types = list('icmp.type').map(Number);
  const [identifier = 0] = list('icmp.ident').map(Number);
  const message = new Array<number>(Math.max(8, size)).fill(0);
  const put = (at: number, ...bytes: number[]): void => {
    bytes.forEach((byte, n) => (message[at + n] = byte));
  };
  put(0, types[0]);
  const [, source] = list('ip.src');
  if (source === undefined) {
    put(4, identifier >> 8, identifier & 255);
    return message;
  }
  const protocol = Number(list('ip.proto')[1]);
  const offset = Number(list('ip.frag_offset')[1]);
  const port = Number(protocol === 6 ? first(more['tcp.srcport']) : first(more['udp.srcport']));
  put(8, 0x45, 0, 0, 0, 0, 0, offset >> 8, offset & 255, 64, protocol, 0, 0, ...source.split('.').map(Number), ...list('ip.dst')[1].split('.').map(Number));
  if (protocol === 1) put(28, types[1], 0, 0, 0, identifier >> 8, identifier & 255);
  else put(28, port >> 8, port & 255);
  return message;
}
