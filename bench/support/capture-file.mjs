/**
 * Captures for the replay case: classic pcap, deterministic, sizes as asked for, at least `bytes` bytes long.
 *
 * Traffic      TCP and UDP alike to one address, of 20 frames 18 for an endpoint in use, one for a leased one, one for
 *              another; a frame in 50 is ARP, which the filter of tcpdump leaves out.
 */
import fs from 'node:fs';
import { Random } from './random.mjs';

export const ADDRESS = '10.77.0.0';
const ADDRESS_NUMBER = 0x0a4d0000;
/** What berth replay is told: ports 1024-33791, of which up to 32767 are in use. */
export const CONFIG = `addresses: [${ADDRESS}]
guests:
${[0, 1, 2, 3].map((n) => guest(n)).join('')}`;

/** Frame sizes without FCS, and how many of each in twelve: 64 alone, and the simple Internet mix of 7, 4 and 1. */
export const SIZES = { small: [60], imix: [60, 60, 60, 60, 60, 60, 60, 590, 590, 590, 590, 1514] };

function guest(n) {
  const first = 1024 + n * 8192;
  return `  guest${n}:
    link: { tap: bench${n} }
    lease: { tcp: "${first}-${first + 8191}", udp: "${first}-${first + 8191}" }
    use: { tcp: "${first}-${first + 7935}", udp: "${first}-${first + 7935}" }
`;
}

/** Writes the capture; returns how many frames it has. */
export function writeCapture(file, sizes, bytes) {
  const random = new Random(0xcab1e);
  const out = fs.openSync(file, 'w');
  const chunk = Buffer.alloc(1024 * 1024);
  let used = chunk.writeUInt32LE(0xa1b2c3d4, 0);
  used = chunk.writeUInt16LE(2, used);
  used = chunk.writeUInt16LE(4, used);
  used = chunk.writeUInt32LE(262144, used + 8);
  used = chunk.writeUInt32LE(1, used);
  let written = 0;
  let frames = 0;
  while (written + used < bytes) {
    if (used + 16 + 1514 > chunk.length) {
      written += fs.writeSync(out, chunk, 0, used);
      used = 0;
    }
    const length = sizes[random.below(sizes.length)];
    chunk.writeUInt32LE(1_700_000_000 + Math.floor(frames / 1e6), used);
    chunk.writeUInt32LE(frames % 1e6, used + 4);
    chunk.writeUInt32LE(length, used + 8);
    chunk.writeUInt32LE(length, used + 12);
    writeFrame(chunk, used + 16, length, random);
    used += 16 + length;
    frames++;
  }
  fs.writeSync(out, chunk, 0, used);
  fs.closeSync(out);
  return frames;
}

function writeFrame(chunk, at, length, random) {
  chunk.fill(0, at, at + 64);
  chunk.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], at);
  if (random.below(50) === 0) {
    chunk.writeUInt16BE(0x0806, at + 12);
    chunk.writeUInt32BE(0x00010800, at + 14);
    chunk.writeUInt32BE(0x06040001, at + 18);
    chunk.writeUInt32BE(ADDRESS_NUMBER, at + 38);
    return;
  }
  const isTcp = random.below(2) === 0;
  const kind = random.below(20);
  const guestPorts = 1024 + random.below(4) * 8192;
  const port = kind < 18 ? guestPorts + random.below(7936) : kind === 18 ? guestPorts + 7936 + random.below(256) : 40000 + random.below(20000);
  chunk.writeUInt16BE(0x0800, at + 12);
  chunk.writeUInt16BE(0x4500, at + 14);
  chunk.writeUInt16BE(length - 14, at + 16);
  chunk.writeUInt16BE(random.below(65536), at + 18);
  chunk.writeUInt16BE(0x4000, at + 20);
  chunk[at + 22] = 64;
  chunk[at + 23] = isTcp ? 6 : 17;
  chunk.writeUInt32BE(0xc6336400 + random.below(256), at + 26);
  chunk.writeUInt32BE(ADDRESS_NUMBER, at + 30);
  chunk.writeUInt16BE(1024 + random.below(60000), at + 34);
  chunk.writeUInt16BE(port, at + 36);
  if (isTcp) chunk.writeUInt16BE(0x5010, at + 46);
  else chunk.writeUInt16BE(length - 34, at + 38);
}
