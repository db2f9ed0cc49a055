/**
 * The shape of a configuration: which keys there are and what kind of value each takes. What the values mean (ports,
 * addresses, who owns what) is control/static-leases.ts's business.
 *
 * Expected   the `error` text of a schema says what it expects; the message around it is made here, one form for all.
 * New keys   a key that is not in a schema is refused with the nearest one that is: a later feature adds its key here.
 */
import { z } from 'zod';
import { show, type KeyPath, type Problems } from './config-locate.js';
import {
  address,
  addressRanges,
  blockSize,
  blockSizeOrNone,
  folderPath,
  gateway,
  group,
  interfaceName,
  netnsName,
  plainName,
  POLICIES,
  port,
  portCount,
  ports,
  socketPath,
  speed,
  time,
  weight,
  wholeNumber,
  yesNo,
} from './config-values.js';
import { nearest } from './nearest.js';

const EXPECT_ADDRESSES = 'IPv4 addresses, as [192.0.2.10]';
const EXPECT_AGENT = 'an agent, as { socket: /run/berth/web.sock }';
const EXPECT_GUEST_NAME = 'a guest name: a letter or digit, then at most 62 letters, digits, ".", "_" or "-"';
const EXPECT_LATENCY = 'auto, off, or microseconds, 0 to 1000';
const EXPECT_LEASE = 'a lease, as { tcp: "80,8000-8999", udp: 53 } or { address: 192.0.2.11 }';
const EXPECT_LINK = 'a link, as { tap: tap-web } or { netns: web, name: eth0 }';
const EXPECT_MAP = 'a list of mappings, as [ { tcp: 8443, to: 443 }, { udp: 5000-5009, to: 6000 } ]';
const EXPECT_MAPPING = 'a mapping, as { tcp: 8443, to: 443 }';
const EXPECT_POLICY = 'a policy, as { maxPorts: 4096, allow: { tcp: "80,443" } }';
const EXPECT_POOL = 'a pool, as { ports: "20000-59999" }, or off';
const EXPECT_ADDRESS_POOL = 'a pool of addresses, as { network: uplink1, addresses: "203.0.113.16-203.0.113.31" }';
const EXPECT_NETWORK = 'a network, as { nic: eth0 }';
const EXPECT_SELECTION = `one of ${POLICIES.join(', ')}, or weights as { least-load: 2, lowest-occupancy: 1 }`;
const EXPECT_WISH = 'what address is wanted, as { name: any, policy: least-load }';
const EXPECT_PROTOCOLS = 'ports by protocol, as { tcp: "80,443", udp: 53 }';
const EXPECT_USE = 'all, or ports as { tcp: "80,8000-8010" }';

const GUEST_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const addressList = z.array(address, { error: EXPECT_ADDRESSES }).min(1, { error: EXPECT_ADDRESSES });
const portsByProtocol = (error: string) => z.strictObject({ tcp: ports.optional(), udp: ports.optional() }, { error });

const link = z.strictObject(
  {
    tap: interfaceName.optional(),
    netns: netnsName.optional(),
    name: interfaceName.optional(),
    configure: z.literal('dhcp', { error: 'dhcp' }).optional(),
    mac: z.string({ error: 'a MAC address in quotes, as "02:00:5e:10:00:01"' }).optional(),
  },
  { error: EXPECT_LINK },
);
const lease = z.strictObject({ address: address.optional(), tcp: ports.optional(), udp: ports.optional() }, { error: EXPECT_LEASE });
const use = portsByProtocol(EXPECT_USE);
const agent = z.strictObject({ socket: socketPath.optional(), connect: yesNo.optional() }, { error: EXPECT_AGENT });
const named = portsByProtocol(EXPECT_PROTOCOLS);
const policy = z.strictObject(
  {
    block: blockSize.optional(),
    maxPorts: portCount.optional(),
    threshold: z.enum(['strict', 'literal'], { error: 'strict or literal' }).optional(),
    allow: named.optional(),
    deny: named.optional(),
    implicit: yesNo.optional(),
    leaseTime: time(1, '1h').optional(),
  },
  { error: EXPECT_POLICY },
);
const weights = z.partialRecord(z.enum(POLICIES), weight).refine((given) => Object.keys(given).length > 0);
const selection = z.union([z.enum(POLICIES), weights], { error: EXPECT_SELECTION });
const wish = z.strictObject(
  {
    name: plainName.optional(),
    ports: blockSize.optional(),
    policy: selection.optional(),
    class: plainName.optional(),
    rule: z.enum(['together', 'apart'], { error: 'together or apart' }).optional(),
  },
  { error: EXPECT_WISH },
);
const mapping = z.strictObject({ tcp: ports.optional(), udp: ports.optional(), to: port.optional() }, { error: EXPECT_MAPPING });
const guest = z.strictObject(
  {
    link: link.optional(),
    lease: lease.optional(),
    use: z.union([z.literal('all'), use], { error: EXPECT_USE }).optional(),
    agent: agent.optional(),
    policy: policy.optional(),
    pool: wish.optional(),
    mode: z.enum(['share', 'map'], { error: 'share or map' }).optional(),
    inside: address.optional(),
    gateway: address.optional(),
    map: z.array(mapping, { error: EXPECT_MAP }).optional(),
    block: blockSizeOrNone.optional(),
  },
  { error: 'a map with link, lease, use, agent, policy and pool' },
);
const admin = z.strictObject({ socket: socketPath.optional(), group: group.optional() }, { error: 'a map with socket and group' });
const store = z.strictObject({ path: folderPath.optional() }, { error: 'a map with path' });
const pool = z.strictObject({ ports: ports.optional(), reserve: portCount.optional(), quarantine: time(0, '60s').optional() }, { error: EXPECT_POOL });
const network = z.strictObject({ nic: interfaceName, gateway: gateway.optional() }, { error: EXPECT_NETWORK });
const addressPool = z.strictObject(
  {
    network: plainName.optional(),
    addresses: addressRanges,
    speed: speed.optional(),
    maxGuests: wholeNumber(1, 1_000_000, 'a number of guests, 1 to 1000000').optional(),
    class: plainName.optional(),
    policy: selection.optional(),
  },
  { error: EXPECT_ADDRESS_POOL },
);
const root = z.strictObject(
  {
    nic: interfaceName.optional(),
    backend: z.enum(['packet', 'cap'], { error: 'packet or cap' }).optional(),
    fastPath: z.enum(['auto', 'off'], { error: 'auto or off' }).optional(),
    cpuLatency: z.union([z.enum(['auto', 'off']), wholeNumber(0, 1000, EXPECT_LATENCY)], { error: EXPECT_LATENCY }).optional(),
    addresses: z.union([address, addressList], { error: EXPECT_ADDRESSES }).optional(),
    notInUse: z.enum(['drop', 'reject'], { error: 'drop or reject' }).optional(),
    rejectRate: wholeNumber(1, 1_000_000, 'a whole number of answers a second, 1 to 1000000').optional(),
    guests: z.record(z.string(), guest, { error: 'a map of guests by name' }).optional(),
    admin: admin.optional(),
    store: store.optional(),
    pool: z.union([z.literal('off'), pool], { error: EXPECT_POOL }).optional(),
    networks: z.record(plainName, network, { error: 'a map of networks by name' }).optional(),
    pools: z.record(plainName, addressPool, { error: 'a map of pools of addresses by name' }).optional(),
  },
  { error: 'a map with the keys of a configuration (nic, addresses, guests, ...)' },
);

/** Every map with fixed keys, by its path; `*` is any guest, or any entry of a list. */
const MAPS: Readonly<Record<string, { readonly shape: object }>> = {
  '': root,
  admin,
  store,
  pool,
  'networks.*': network,
  'pools.*': addressPool,
  'guests.*': guest,
  'guests.*.link': link,
  'guests.*.lease': lease,
  'guests.*.map.*': mapping,
  'guests.*.use': use,
  'guests.*.agent': agent,
  'guests.*.policy': policy,
  'guests.*.pool': wish,
  'guests.*.policy.allow': named,
  'guests.*.policy.deny': named,
};

export type RawConfig = z.infer<typeof root>;
export type RawGuest = z.infer<typeof guest>;
export type RawLink = z.infer<typeof link>;

/** Checks the shape of a value read from YAML; every problem is added to `problems`, and null returned if there is one. */
export function checkShape(value: unknown, problems: Problems): RawConfig | null {
  const result = root.safeParse(value);
  const issues = result.success ? [] : result.error.issues.flatMap((issue) => flatten(issue, []));
  for (const issue of issues) report(issue, value, problems);
  const badNames = checkGuestNames(value, problems);
  return result.success && !badNames ? result.data : null;
}

/** Checks the shape of one guest's settings; as checkShape. */
export function checkGuest(name: string, setting: unknown, problems: Problems): RawGuest | null {
  return checkShape({ guests: Object.fromEntries([[name, setting]]) }, problems)?.guests?.[name] ?? null;
}

/** The settings of a guest, and `more` that is required, as a JSON schema: for the description of the admin interface. */
export function guestJsonSchema(more: Record<string, object>): object {
  const { properties } = z.toJSONSchema(guest, { io: 'input', unrepresentable: 'any' });
  return { type: 'object', properties: { ...more, ...properties }, required: Object.keys(more), additionalProperties: false };
}

type Issue = Pick<z.core.$ZodIssue, 'code' | 'message'> & { readonly path: KeyPath; readonly keys?: readonly string[] };

/** An issue with its whole path; that of a union becomes its map branch's issues when the value is a map. */
function flatten(issue: z.core.$ZodIssue, prefix: KeyPath): Issue[] {
  const path = [...prefix, ...(issue.path as (string | number)[])];
  if (issue.code === 'unrecognized_keys') return [{ code: issue.code, message: issue.message, path, keys: issue.keys }];
  if (issue.code === 'invalid_union') {
    const branch = issue.errors.find((issues) => issues.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'));
    if (branch !== undefined) return branch.flatMap((inner) => flatten(inner, path));
  }
  return [{ code: issue.code, message: issue.message, path }];
}

function report(issue: Issue, value: unknown, problems: Problems): void {
  for (const key of issue.keys ?? []) {
    const known = knownKeys(issue.path);
    const text = `unknown key (got ${show(key)}, expected one of ${known.join(', ')}); ${suggest(key, known)}`;
    problems.add('ERR_CONFIG_UNKNOWN_KEY', [...issue.path, key], text);
  }
  if (issue.keys !== undefined) return;
  const got = issue.path.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown> | null)?.[key], value);
  const hint = typeof got === 'number' && /\bname\b/.test(issue.message) ? '; write it in quotes' : '';
  problems.add('ERR_CONFIG_VALUE', issue.path, `wrong value (got ${show(got)}, expected ${issue.message})${hint}`);
}

/** Names become file names under `replay --split`; zod passes over some keys (`__proto__`), so they are looked at here. */
function checkGuestNames(value: unknown, problems: Problems): boolean {
  const guests = (value as { guests?: unknown } | null)?.guests;
  if (typeof guests !== 'object' || guests === null || Array.isArray(guests)) return false;
  const bad = Object.keys(guests).filter((name) => !GUEST_NAME.test(name));
  for (const name of bad) {
    const text = `wrong name (got ${show(name)}, expected ${EXPECT_GUEST_NAME}); rename the guest`;
    problems.add('ERR_CONFIG_VALUE', ['guests', name], text);
  }
  return bad.length > 0;
}

/** The keys that the map at `path` may have. */
function knownKeys(path: KeyPath): readonly string[] {
  const at = path.map((key, index) => (index === 1 || typeof key === 'number' ? '*' : key)).join('.');
  return Object.keys((MAPS[at] ?? root).shape);
}

function suggest(key: string, known: readonly string[]): string {
  const { best, isClose } = nearest(key, known);
  return isClose ? `did you mean ${show(best)}?` : `the nearest known key is ${show(best)}`;
}
