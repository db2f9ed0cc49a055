/**
 * What one value of a configuration may be: the kinds that the keys of config-schema.ts take.
 *
 * Expected   the `error` text of a kind says what it expects; the message around it is made in config-schema.ts.
 * Times      text with a unit or a number of seconds in, whole milliseconds out.
 * Not here   what only the host can judge: whether an interface, a group or a folder is there.
 */
import { z } from 'zod';

/** A set of ports as written: `80` or `"80,443,8000-8999"`. */
export type PortText = string | number;

/** How an address of a pool may be chosen (control/pools/). */
export const POLICIES = ['first-fit', 'least-load', 'most-available-rate', 'lowest-occupancy', 'service-class'] as const;

const EXPECT_INTERFACE = 'an interface name: 1 to 15 bytes without white space or any of / : % " \\ ; { }';
const EXPECT_NETNS = 'the name of a network namespace, as `ip netns` lists it: no "/" or white space';
const EXPECT_SOCKET = 'an absolute path of at most 107 bytes, as /run/berth/web.sock';
const EXPECT_FOLDER = 'an absolute path, as /var/lib/berth';
const EXPECT_GROUP = 'a group of this host, as berth, or its number';

/** The longest path that fits `sun_path` with the 0 at its end (unix(7)). */
const MAX_SOCKET_BYTES = 107;
/** PATH_MAX with the 0 at its end. */
const MAX_PATH_BYTES = 4095;
/** 2^32 - 1 is chown(2)'s "leave it". */
const MAX_GROUP = 0xffff_fffe;

const EXPECT_GATEWAY = 'a router with the prefix length of its network, as 198.51.100.1/24';
const EXPECT_SPEED = 'a rate in bits a second with its unit, as 10Gbit or 2.5Gbit';
const EXPECT_NAME = 'a name: a letter or digit, then at most 62 letters, digits, ".", "_" or "-"';
const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const RATE_UNITS = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9, tbit: 1e12 };

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const MAX_TIME_MS = 365 * UNITS.d;

/** What the kernel takes (dev_valid_name), less `%`, which makes a name a pattern, and what would end a quoted name in nft. */
const isInterfaceName = (name: string): boolean => isFileName(name, 15) && !/[:%"\\;{}]/.test(name);
/** `ip netns` keeps namespaces as files; a leading "-" would be an option to it. */
const isNetnsName = (name: string): boolean => isFileName(name, 255) && !name.startsWith('-');
const isSocketPath = (path: string): boolean => isAbsolutePath(path, MAX_SOCKET_BYTES) && !/\/\.{0,2}$/.test(path);

function isFileName(name: string, maxBytes: number): boolean {
  return Buffer.byteLength(name) <= maxBytes && /^[^/\s\p{Cc}]+$/u.test(name) && name !== '.' && name !== '..';
}

function isGroup(group: string | number): boolean {
  if (typeof group === 'string') return /^[A-Za-z_][A-Za-z0-9._-]{0,31}$/.test(group);
  return Number.isInteger(group) && group >= 0 && group <= MAX_GROUP;
}

function isAbsolutePath(path: string, maxBytes: number): boolean {
  return Buffer.byteLength(path) <= maxBytes && /^\/[^\p{Cc}]*$/u.test(path);
}

/** `"60s"`, `"1.5h"`, `60`: whole milliseconds, or null for what is no time from 0 to 365 days. */
function readTime(time: string | number): number | null {
  const match = typeof time === 'number' ? [time, time, 's'] : /^(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)$/.exec(time);
  if (match === null) return null;
  const milliseconds = Math.round(Number(match[1]) * UNITS[match[2] as keyof typeof UNITS] * 1e6) / 1e6;
  return Number.isInteger(milliseconds) && milliseconds >= 0 && milliseconds <= MAX_TIME_MS ? milliseconds : null;
}

/** `10Gbit`: bits a second, as tc(8) writes them; null for what is no rate above 0. */
function readRate(text: string): number | null {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?bit)(?:\/s)?$/.exec(text.toLowerCase());
  const rate = match === null ? 0 : Number(match[1]) * RATE_UNITS[match[2] as keyof typeof RATE_UNITS];
  return rate > 0 ? rate : null;
}

/** `198.51.100.1/24` */
function readGateway(text: string): { address: string; prefix: number } | null {
  const [, address = '', prefix] = /^((?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?=\d)|(?=\/))){4})\/([1-9]|[12]\d|3[0-2])$/.exec(text) ?? [];
  return address === '' ? null : { address, prefix: Number(prefix) };
}

export const interfaceName = z.string({ error: EXPECT_INTERFACE }).refine(isInterfaceName, { error: EXPECT_INTERFACE });
export const netnsName = z.string({ error: EXPECT_NETNS }).refine(isNetnsName, { error: EXPECT_NETNS });
export const address = z.string({ error: 'an IPv4 address, as 192.0.2.10' });
export const gateway = z
  .string({ error: EXPECT_GATEWAY })
  .refine((text) => readGateway(text) !== null, { error: EXPECT_GATEWAY })
  .transform((text) => readGateway(text) as { address: string; prefix: number });
export const addressRanges = z
  .union([z.string(), z.array(z.string()).min(1)], { error: 'addresses, as "203.0.113.16-203.0.113.31", or a list of them' })
  .transform((value) => (typeof value === 'string' ? value : value.join(',')));
export const speed = z
  .string({ error: EXPECT_SPEED })
  .refine((text) => readRate(text) !== null, { error: EXPECT_SPEED })
  .transform((text) => readRate(text) as number);
export const plainName = z.string({ error: EXPECT_NAME }).refine((name) => PLAIN_NAME.test(name), { error: EXPECT_NAME });
export const ports = z.union([z.string(), z.number()], { error: 'ports, as 80 or "80,443,8000-8999"' });
export const yesNo = z.boolean({ error: 'true or false' });
export const socketPath = z.string({ error: EXPECT_SOCKET }).refine(isSocketPath, { error: EXPECT_SOCKET });
export const folderPath = z.string({ error: EXPECT_FOLDER }).refine((path) => isAbsolutePath(path, MAX_PATH_BYTES), { error: EXPECT_FOLDER });

export const group = z.union([z.string(), z.number()], { error: EXPECT_GROUP }).refine(isGroup, { error: EXPECT_GROUP });

export const blockSize = wholeNumber(1, 32_768, 'a power of two, 1 to 32768', (size) => (size & (size - 1)) === 0);
export const blockSizeOrNone = wholeNumber(0, 32_768, 'a power of two, 1 to 32768, or 0 for none', (size) => (size & (size - 1)) === 0);
export const port = wholeNumber(1, 65_535, 'a port, 1 to 65535');
export const portCount = wholeNumber(0, 65_535, 'a number of ports, 0 to 65535');

export const weight = z.number({ error: 'a weight above 0, at most 1000' }).refine((value) => value > 0 && value <= 1000, { error: 'a weight above 0, at most 1000' });

export function wholeNumber(least: number, most: number, error: string, isRight: (number: number) => boolean = () => true): z.ZodType<number, number> {
  return z.number({ error }).refine((number) => Number.isInteger(number) && number >= least && number <= most && isRight(number), { error });
}

/** A time of at least `leastMs`; `example` is one to show. */
export function time(leastMs: number, example: string): z.ZodType<number, string | number> {
  const least = leastMs === 0 ? '0s' : `${leastMs}ms`;
  const error = `a time, ${least} to 365d, as ${example}, or a number of seconds`;
  return z
    .union([z.string(), z.number()], { error })
    .refine((value) => (readTime(value) ?? -1) >= leastMs, { error })
    .transform((value) => readTime(value) as number);
}
