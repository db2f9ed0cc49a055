/**
 * Wireshark's dissectors as a second opinion: frames go into a classic pcap file, tshark prints fields of each.
 *
 * Facts        fields repeat when headers nest (the packet quoted by an ICMP error): values are joined with ','.
 *              A checksum status is '1' good, '0' bad, '2' unverified.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Link types of the pcap format. */
export const LINK_ETHERNET = 1;
export const LINK_IPV4 = 228;

const CHECKED = ['ip.check_checksum', 'tcp.check_checksum', 'udp.check_checksum', 'ip.defragment'];

/** False, with a printed reason, where tshark is not installed. */
export function hasTshark(): boolean {
  if (spawnSync('tshark', ['-v'], { stdio: 'ignore' }).status === 0) return true;
  console.warn('skipped: tshark is not installed');
  return false;
}

/** One object a frame: each of `fields` as tshark prints it, '' where the frame has no such field. */
export function dissect<Field extends string>(
  frames: readonly Uint8Array[],
  fields: readonly Field[],
  linkType = LINK_ETHERNET,
): Record<Field, string>[] {
  const folder = mkdtempSync(join(tmpdir(), 'berth-tshark-'));
  try {
    const file = join(folder, 'frames.pcap');
    writeFileSync(file, pcap(frames, linkType));
    const args = ['-n', '-r', file, '-T', 'fields', '-E', 'separator=|', '-E', 'aggregator=,'];
    for (const preference of CHECKED) args.push('-o', `${preference}:TRUE`);
    for (const field of fields) args.push('-e', field);
    const text = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return text
      .replace(/\n$/, '')
      .split('\n')
      .map((line) => {
        const values = line.split('|');
        return Object.fromEntries(fields.map((field, i) => [field, values[i]])) as Record<Field, string>;
      });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A pcap file, microsecond variant, little-endian, all times 0. */
function pcap(frames: readonly Uint8Array[], linkType: number): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262144, 16);
  header.writeUInt32LE(linkType, 20);
  const parts = [header];
  for (const frame of frames) {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    parts.push(record, Buffer.from(frame));
  }
  return Buffer.concat(parts);
}
