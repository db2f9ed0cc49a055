/**
 * Address pools: what `pools` and `networks` of a configuration mean. Ranges are read, each pool has its network, and nobody's address is in
 * a pool: not the host's own, not another pool's, not one that a guest leases by name.
 *
 * Errors   added to `problems`: ERR_CONFIG_VALUE, ERR_ADDRESS_TAKEN (with the owner and the line).
 */
import type { AddressPoolConfig, PolicyChoice } from '../../base/config-pools.js';
import { ANY_POOL, type Config, type Problems } from '../../base/config.js';
import { messageOf } from '../../base/errors.js';
import { formatIpv4 } from '../../wire/address.js';
import { type AddressRange, formatAddressRange, parseAddressRanges } from '../../wire/address-ranges.js';

/** All pools together: each address costs a bit. */
const MAX_ADDRESSES = 1 << 20;

export interface AddressPool {
  readonly name: string;
  /** its network's name: that of the NIC where the configuration names no networks */
  readonly network: string;
  /** in the order of writing, without an address in common */
  readonly ranges: readonly AddressRange[];
  readonly size: number;
  /** bits a second; null: what the kernel says of the NIC */
  readonly speed: number | null;
  /** null: as many as there is room for */
  readonly maxGuests: number | null;
  readonly class: string | null;
  readonly policy: PolicyChoice | null;
}

/** The pool that has the address. */
export function poolOf(pools: readonly AddressPool[], address: number): AddressPool | undefined {
  return pools.find(({ ranges }) => ranges.some(({ first, last }) => address >= first && address <= last));
}

/** An address that a pool must not have, and whose it is: `the host's own (eth0)`. */
export interface Owned {
  readonly address: number;
  readonly owner: string;
}

interface Claim extends AddressRange {
  readonly pool: string;
}

export function resolveAddressPools(config: Config, owned: readonly Owned[], whyNotUnicast: (address: number) => string | null, problems: Problems): AddressPool[] {
  const pools = config.pools.map((pool) => resolvePool(pool, config, whyNotUnicast, problems));
  const size = pools.reduce((sum, pool) => sum + pool.size, 0);
  if (size > MAX_ADDRESSES) problems.add('ERR_CONFIG_VALUE', ['pools'], `too many addresses (got ${size}, expected at most ${MAX_ADDRESSES}); remove some`);
  else refuseTaken(pools, owned, problems);
  refuseUnknownPools(config, problems);
  return pools;
}

function resolvePool({ name, network, addresses, ...rest }: AddressPoolConfig, config: Config, whyNotUnicast: (address: number) => string | null, problems: Problems): AddressPool {
  const path = ['pools', name];
  let ranges: AddressRange[] = [];
  try {
    ranges = parseAddressRanges(addresses);
  } catch (error) {
    problems.add('ERR_CONFIG_VALUE', [...path, 'addresses'], messageOf(error));
  }
  for (const range of ranges) {
    const wrong = whyNotUnicast(range.first) ?? whyNotUnicast(range.last);
    if (wrong !== null) problems.add('ERR_CONFIG_VALUE', [...path, 'addresses'], `${wrong} (got ${formatAddressRange(range)}); name addresses that one host can have`);
  }
  if (name === ANY_POOL) problems.add('ERR_CONFIG_VALUE', path, `${ANY_POOL} stands for all pools; give this one another name`);
  const size = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  return { name, network: networkOf(network, name, config, problems), ranges, size, ...rest };
}

function networkOf(named: string | null, pool: string, { networks, nic }: Config, problems: Problems): string {
  if (networks.length === 0) {
    if (named !== null && nic !== null && named !== nic) {
      problems.add('ERR_CONFIG_VALUE', ['pools', pool, 'network'], `there is no network ${named} (got no \`networks\`, expected it there); add \`networks: { ${named}: { nic: ${nic} } }\`, or leave \`network\` out`);
    }
    return named ?? nic ?? '';
  }
  if (named !== null && networks.some(({ name }) => name === named)) return named;
  const known = networks.map(({ name }) => name).join(', ');
  if (named !== null) problems.add('ERR_CONFIG_VALUE', ['pools', pool, 'network'], `there is no network ${named} (expected one of ${known}); add it under \`networks\``);
  else if (networks.length > 1) problems.add('ERR_CONFIG_VALUE', ['pools', pool], `on which network is it? (got no \`network\`, expected one of ${known})`);
  return named ?? networks[0].name;
}

/** Sorted and swept once: the cost is that of sorting the ranges. */
function refuseTaken(pools: readonly AddressPool[], owned: readonly Owned[], problems: Problems): void {
  const claims = pools.flatMap(({ name, ranges }) => ranges.map((range): Claim => ({ ...range, pool: name }))).sort((a, b) => a.first - b.first);
  let widest: Claim | undefined;
  for (const claim of claims) {
    if (widest !== undefined && claim.first <= widest.last) {
      const both = formatAddressRange({ first: claim.first, last: Math.min(claim.last, widest.last) });
      const lines = problems.linesOf(['pools', widest.pool, 'addresses'], ['pools', claim.pool, 'addresses']);
      const whose = widest.pool === claim.pool ? 'given twice' : `in pool ${widest.pool} too${lines}`;
      problems.add('ERR_ADDRESS_TAKEN', ['pools', claim.pool, 'addresses'], `${both} is ${whose}; take it out of one`);
    }
    if (widest === undefined || claim.last > widest.last) widest = claim;
  }
  for (const { address, owner } of owned) {
    const claim = claims.find(({ first, last }) => address >= first && address <= last);
    if (claim !== undefined) problems.add('ERR_ADDRESS_TAKEN', ['pools', claim.pool, 'addresses'], `${formatIpv4(address)} is ${owner}; take it out of the pool`);
  }
}

function refuseUnknownPools({ guests, pools }: Config, problems: Problems): void {
  for (const { name, pool } of guests) {
    if (pool === null || (pool.name === ANY_POOL && pools.length > 0) || pools.some((one) => one.name === pool.name)) continue;
    const text = pools.length === 0 ? 'there are no pools; add one under `pools`' : `there is no pool ${pool.name} (expected one of ${[ANY_POOL, ...pools.map((one) => one.name)].join(', ')})`;
    problems.add('ERR_CONFIG_VALUE', ['guests', name, 'pool'], text);
  }
}
