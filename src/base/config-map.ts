/**
 * What a configuration says of a mapped guest (`mode: map`), one that has an address of its own and knows nothing of the host's.
 *
 * Entries      outside ports of one protocol to inside ports: a range from `to` on, one to one; `to` left out is the same ports.
 * Not here     what addresses and ports mean, and who may have them: control/map-plan.ts.
 */
import type { KeyPath, Problems } from './config-locate.js';
import type { RawGuest } from './config-schema.js';
import type { PortText } from './config-values.js';

export interface MapEntry {
  readonly proto: 'tcp' | 'udp';
  /** outside, as written */
  readonly ports: PortText;
  /** the inside port of the first one; null: the same */
  readonly to: number | null;
}

export interface MapConfig {
  /** the guest's own address, as written */
  readonly inside: string;
  /** null: the first address of its /24 */
  readonly gateway: string | null;
  readonly entries: readonly MapEntry[];
  /** ports for what the guest begins itself: a power of two, or 0 */
  readonly block: number;
}

const DEFAULT_BLOCK = 1024;
/** Keys that only a mapped guest has, and those that it has not. */
const MAP_KEYS = ['inside', 'gateway', 'map', 'block'] as const;
const SHARE_KEYS = ['lease', 'use', 'agent', 'policy', 'pool'] as const;

/** The guest's mapping; null where it shares the host's address, or where something is wrong, which is added to `problems`. */
export function toMap(raw: RawGuest, path: KeyPath, problems: Problems): MapConfig | null {
  if (raw.mode !== 'map') {
    for (const key of MAP_KEYS) {
      if (raw[key] !== undefined) problems.add('ERR_CONFIG_VALUE', [...path, key], 'belongs to a mapped guest (got it without `mode: map`); add `mode: map`, or remove it');
    }
    return null;
  }
  for (const key of SHARE_KEYS) {
    if (raw[key] !== undefined) problems.add('ERR_CONFIG_VALUE', [...path, key], "a mapped guest has none (got it with `mode: map`); say its ports in `map` and `block`, or remove `mode`");
  }
  if (raw.link?.configure !== undefined) {
    problems.add('ERR_CONFIG_VALUE', [...path, 'link', 'configure'], `a mapped guest has an address of its own, which Berth does not tell it (got ${raw.link.configure} with \`mode: map\`); remove it, or remove \`mode\``);
  }
  if (raw.inside === undefined) {
    problems.add('ERR_CONFIG_VALUE', [...path, 'inside'], "missing (got nothing, expected the guest's own address); add `inside: 10.0.7.2`");
    return null;
  }
  const entries = (raw.map ?? []).flatMap((entry, index): MapEntry[] => {
    const to = entry.to ?? null;
    if (entry.tcp !== undefined && entry.udp === undefined) return [{ proto: 'tcp', ports: entry.tcp, to }];
    if (entry.udp !== undefined && entry.tcp === undefined) return [{ proto: 'udp', ports: entry.udp, to }];
    const got = entry.tcp === undefined ? 'neither' : 'both';
    problems.add('ERR_CONFIG_VALUE', [...path, 'map', index], `an entry maps ports of one protocol (got ${got}, expected one of tcp and udp); write an entry for each`);
    return [];
  });
  return { inside: raw.inside, gateway: raw.gateway ?? null, entries, block: raw.block ?? DEFAULT_BLOCK };
}
