/**
 * The configuration file: YAML text in, a plain object with every default applied out. With its config-*.ts
 * the only door to yaml.
 *
 *   file ──readText──▶ text ──parseYaml──▶ value + lines ──checkShape──▶ RawConfig ──▶ Config
 *
 * Errors    ConfigError, one line a problem: `FILE:LINE: key path: what is wrong (got X, expected Y); what to do`. Codes:
 *           ERR_CONFIG_FILE, ERR_CONFIG_SYNTAX, ERR_CONFIG_UNKNOWN_KEY, ERR_CONFIG_VALUE.
 * Lines     `place(config, path)` starts the message of a later error about a value that only the host can judge.
 * Parts     config-locate.ts (lines), config-schema.ts (keys), config-values.ts (values), config-control.ts (defaults of what the
 *           control plane is told).
 * Not here  what ports and addresses mean and who may have them: control/static-leases.ts.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import {
  toAdmin,
  toAgent,
  toPolicy,
  toPool,
  toPortTexts,
  toStore,
  type AdminConfig,
  type AgentConfig,
  type PolicyConfig,
  type PoolConfig,
  type PortTexts,
  type StoreConfig,
} from './config-control.js';
import { toMap, type MapConfig } from './config-map.js';
import { toAddressPools, toNetworks, toWish, type AddressPoolConfig, type AddressWish, type NetworkConfig } from './config-pools.js';
import { formatPath, isGiven, lineOf, locate, NO_FILE, placeOf, Problems, refuseEndlessNesting, show, type KeyPath, type Lines } from './config-locate.js';
import { checkGuest, checkShape, type RawConfig, type RawGuest, type RawLink } from './config-schema.js';
import { ConfigError, fileReason } from './errors.js';

export type { MapConfig } from './config-map.js';
export type { AdminConfig, AgentConfig, PolicyConfig, PoolConfig, PortTexts, StoreConfig } from './config-control.js';
export { ANY_POOL, type AddressWish, type GatewayConfig } from './config-pools.js';
export { guestJsonSchema } from './config-schema.js';
export { lineOf, Problems, show, type KeyPath, type Lines } from './config-locate.js';
export type { PortText } from './config-values.js';

const MAX_BYTES = 1024 * 1024;
/** Past every honest use of an anchor; config-locate.ts bounds what aliases stand for. */
const MAX_ALIASES = 100_000;

export interface TapLink {
  readonly kind: 'tap';
  /** name of the tap on the host */
  readonly tap: string;
  /** the guest's MAC address as written; null: not stated */
  readonly mac: string | null;
  /** dhcp: Berth tells the guest its network by DHCP on the link; null: others do */
  readonly configure: 'dhcp' | null;
}

export interface NetnsLink {
  readonly kind: 'netns';
  readonly netns: string;
  /** name of the interface inside the namespace */
  readonly name: string;
  readonly mac: string | null;
  readonly configure: 'dhcp' | null;
}

export type LinkConfig = TapLink | NetnsLink;

export interface GuestConfig {
  readonly name: string;
  /** null: none, which is enough for a replay */
  readonly link: LinkConfig | null;
  /** null: none; `address` null: every shared address; no ports: the whole address */
  readonly lease: ({ readonly address: string | null } & PortTexts) | null;
  readonly use: 'all' | PortTexts;
  /** null: it shares the host's addresses, and knows it */
  readonly map: MapConfig | null;
  /** null: none, so nobody speaks for the guest */
  readonly agent: AgentConfig | null;
  readonly policy: PolicyConfig;
  /** what is wanted from a pool: a dedicated address, of which `lease` may say the ports, or ports of one; null: nothing */
  readonly pool: AddressWish | null;
}

/** Plain data: may be cloned to another thread. */
export interface Config {
  /** as the operator named it */
  readonly file: string;
  readonly lines: Lines;
  readonly nic: string | null;
  readonly backend: 'packet' | 'cap';
  /** auto: the kernel steers what is plainly in use, where it can; off: the engine steers every frame. */
  readonly fastPath: 'auto' | 'off';
  /** µs that a processor may take to wake while guests exchange small frames at a rate; off: as long as it likes */
  readonly cpuLatency: number | 'auto' | 'off';
  /** null: the NIC's own */
  readonly addresses: readonly string[] | null;
  readonly notInUse: 'drop' | 'reject';
  /** answers a second at most under `notInUse: reject` */
  readonly rejectRate: number;
  readonly guests: readonly GuestConfig[];
  readonly admin: AdminConfig;
  readonly store: StoreConfig;
  readonly pool: PoolConfig;
  /** physical networks, the first one with the shared addresses; empty: the NIC is the only one */
  readonly networks: readonly NetworkConfig[];
  /** of addresses, in the order of the configuration */
  readonly pools: readonly AddressPoolConfig[];
}

/** Reads and checks a configuration file. */
export function loadConfig(path: string): Config {
  return parseConfig(readText(path), path);
}

/** Checks a configuration's text; `file` is what messages call it. */
export function parseConfig(text: string, file: string): Config {
  const { value, lines } = parseYaml(text, file);
  const problems = new Problems(file, lines);
  const raw = checkShape(value, problems);
  const config = raw === null ? null : applyDefaults(raw, file, lines, problems);
  problems.throwIfAny();
  return config as Config;
}

/** Checks the settings of one guest that were given to a daemon that runs: no file, so messages have no place. */
export function parseGuest(name: string, setting: unknown): GuestConfig {
  const problems = new Problems(NO_FILE);
  const raw = checkGuest(name, setting, problems);
  const guest = raw === null ? null : toGuest(name, raw, problems);
  problems.throwIfAny();
  return guest as GuestConfig;
}

/** The configuration with other guests, at the addresses that are shared now: for what was given to a daemon that runs. */
export function withGuests(config: Config, guests: readonly GuestConfig[], addresses: readonly string[]): Config {
  return { ...config, file: NO_FILE, lines: new Map(), guests, addresses };
}

/** Reads a file with the settings of one guest, as they are; what they say is checked by the daemon. */
export function loadGuestFile(path: string): object {
  const { value } = parseYaml(readText(path), path);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new ConfigError('ERR_CONFIG_VALUE', `${path}:1: wrong value (got ${show(value)}, expected a map with link, lease, use, agent, policy and pool)`);
}

/** `FILE:LINE: key path` for the start of a message about a key (or about the key around it, where it is left out). */
export function place(config: Config, path: KeyPath): string {
  return `${placeOf(config.file, lineOf(config.lines, path))}${formatPath(path)}`;
}

/** Whether the file has a key, rather than its default. */
export function states(config: Config, path: KeyPath): boolean {
  return isGiven(config.lines, path);
}

/** What `berth run` needs beyond a replay: the NIC, and a link for each guest. Returns the NIC's name. */
export function requireForRun(config: Config): string {
  const problems = new Problems(config.file, config.lines);
  if (config.nic === null) {
    const text = "missing (got nothing, expected an interface); add `nic: NAME` with this host's outside interface";
    problems.add('ERR_CONFIG_VALUE', ['nic'], text);
  }
  for (const { name, link } of config.guests) {
    if (link !== null) continue;
    const text = 'missing (got nothing, expected a link); add `link: { tap: NAME }` or `link: { netns: NAME }`';
    problems.add('ERR_CONFIG_VALUE', ['guests', name, 'link'], text);
  }
  problems.throwIfAny();
  return config.nic as string;
}

function readText(path: string): string {
  const bytes = Buffer.allocUnsafe(MAX_BYTES + 1);
  let length = 0;
  try {
    const fd = openSync(path, 'r');
    try {
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = readSync(fd, bytes, length, bytes.length - length, null);
      }
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    const text = `cannot read the configuration (${fileReason(cause)}); name a YAML file that this user may read`;
    throw new ConfigError('ERR_CONFIG_FILE', `${path}: ${text}`, { cause });
  }
  if (length > MAX_BYTES) {
    throw new ConfigError('ERR_CONFIG_FILE', `${path}: too large for a configuration (got more than 1 MiB); name a YAML file`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length));
  } catch (cause) {
    throw new ConfigError('ERR_CONFIG_FILE', `${path}: not a text in UTF-8; name a YAML file`, { cause });
  }
}

function parseYaml(text: string, file: string): { value: unknown; lines: Lines } {
  const problems = new Problems(file);
  const counter = new LineCounter();
  refuseEndlessNesting(text, problems);
  problems.throwIfAny();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, stringKeys: true, uniqueKeys: false });
  for (const error of [...document.errors, ...document.warnings]) {
    const { line, col } = counter.linePos(error.pos[0]);
    problems.addAt('ERR_CONFIG_SYNTAX', Math.max(1, line), Math.max(1, col), syntaxMessage(error.code, error.message));
  }
  problems.throwIfAny();
  const lines = locate(document, counter, problems);
  if (document.contents === null) {
    problems.addAt('ERR_CONFIG_SYNTAX', 1, null, 'the file is empty (expected a configuration); `berth check --help` shows one');
  }
  problems.throwIfAny();
  return { value: document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown, lines };
}

function syntaxMessage(code: string, message: string): string {
  if (code === 'TAB_AS_INDENT') return 'a tab in the indentation; indent with spaces';
  if (code === 'MULTIPLE_DOCS') return 'a second document begins (expected one); remove the `---` line';
  return `not valid YAML: ${message.replace(/\s+/g, ' ')}`;
}

/** Defaults for what is left out. A link that is neither of its two kinds is added to `problems`. */
function applyDefaults(raw: RawConfig, file: string, lines: Lines, problems: Problems): Config {
  const networks = toNetworks(raw.networks);
  refuseTwiceNamedNics(raw.nic ?? null, networks, problems);
  if (networks.length > 0 && networks[0].gateway !== null) problems.add('ERR_CONFIG_VALUE', ['networks', networks[0].name, 'gateway'], 'that of the first network is the host\'s own, which guests are told (got one); leave it out');
  return {
    file,
    lines,
    nic: raw.nic ?? networks.at(0)?.nic ?? null,
    backend: raw.backend ?? 'packet',
    fastPath: raw.fastPath ?? 'auto',
    cpuLatency: raw.cpuLatency ?? 'auto',
    addresses: typeof raw.addresses === 'string' ? [raw.addresses] : (raw.addresses ?? null),
    notInUse: raw.notInUse ?? 'drop',
    rejectRate: raw.rejectRate ?? 100,
    guests: Object.entries(raw.guests ?? {}).map(([name, guest]) => toGuest(name, guest, problems)),
    admin: toAdmin(raw.admin),
    store: toStore(raw.store),
    pool: toPool(raw.pool),
    networks,
    pools: toAddressPools(raw.pools),
  };
}

/** A NIC is on one network; and one named beside them is one of theirs. */
function refuseTwiceNamedNics(nic: string | null, networks: readonly NetworkConfig[], problems: Problems): void {
  networks.forEach((network, at) => {
    const before = networks.slice(0, at).find((one) => one.nic === network.nic);
    if (before !== undefined) problems.add('ERR_CONFIG_VALUE', ['networks', network.name, 'nic'], `${network.nic} is on network ${before.name} too${problems.linesOf(['networks', before.name], ['networks', network.name])}; name another`);
  });
  if (nic === null || networks.length === 0 || networks[0].nic === nic) return;
  problems.add('ERR_CONFIG_VALUE', ['nic'], `not that of the first network (got ${nic}, expected ${networks[0].nic}, whose addresses are shared); leave it out beside \`networks\``);
}

function toGuest(name: string, raw: RawGuest, problems: Problems): GuestConfig {
  const { link, lease, use, agent, policy, pool } = raw;
  if (pool !== undefined) refuseBesidePool(name, { lease, use, agent, pool }, problems);
  return {
    name,
    link: link === undefined ? null : toLink(link, ['guests', name, 'link'], problems),
    lease: lease === undefined ? null : { address: lease.address ?? null, ...toPortTexts(lease) },
    use: use === 'all' ? 'all' : toPortTexts(use),
    map: toMap(raw, ['guests', name], problems),
    agent: toAgent(name, agent),
    policy: toPolicy(policy),
    pool: toWish(pool),
  };
}

/** The pool says the address, and where ports of it are asked for, which they are. */
function refuseBesidePool(name: string, { lease, use, agent, pool }: Pick<RawGuest, 'lease' | 'use' | 'agent' | 'pool'>, problems: Problems): void {
  const refuse = (key: KeyPath, text: string): void => problems.add('ERR_CONFIG_VALUE', ['guests', name, ...key], text);
  if (agent !== undefined) refuse(['agent'], 'a guest of a pool has no `agent`; remove one of the two');
  if (lease?.address !== undefined) refuse(['lease', 'address'], 'the address of a guest of a pool is the pool\'s to give; remove `address`, or `pool`');
  if (pool?.ports !== undefined && lease !== undefined) refuse(['lease'], 'the ports of this guest are the pool\'s to give (got `lease` and `pool.ports`, expected one of them); remove the other');
  else if (use !== undefined && use !== 'all' && lease === undefined) {
    const what = pool?.ports === undefined ? 'uses its whole address' : 'learns its ports from the pool';
    refuse(['use'], `a guest of a pool without \`lease\` ${what} (got ports, expected all); write \`use: all\`, or leave it out`);
  }
}

/** A link is a tap or a namespace: one of the two, and `name` belongs to the second. */
function toLink({ tap, netns, name, ...rest }: RawLink, path: KeyPath, problems: Problems): LinkConfig | null {
  const mac = rest.mac ?? null;
  const configure = rest.configure ?? null;
  if (tap !== undefined && netns === undefined) {
    if (name === undefined) return { kind: 'tap', tap, mac, configure };
    const text = 'a tap link has no name besides `tap` (`name` is the interface inside a namespace); remove it';
    problems.add('ERR_CONFIG_VALUE', [...path, 'name'], text);
    return null;
  }
  if (netns !== undefined && tap === undefined) return { kind: 'netns', netns, name: name ?? 'eth0', mac, configure };
  const got = tap === undefined ? 'neither' : 'both';
  problems.add('ERR_CONFIG_VALUE', path, `a link is either a tap or a network namespace (got ${got}, expected one of tap and netns)`);
  return null;
}
