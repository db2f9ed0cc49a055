/**
 * Two guests with one endpoint: found and refused, with both names, the endpoints and the lines.
 *
 * Groups   guests that lease on every shared address are compared once, not once an address; then the guests of each
 *          address with one another and, where the address is a shared one, with those.
 * Cost     ranges sorted by first port and swept once a group. A guest that overlaps several others may be named with
 *          only some of them: the rest shows once that is mended.
 */
import type { KeyPath, Problems } from '../base/config.js';
import { PortSet, type PortRange } from '../wire/port-set.js';
import { formatIpv4 } from '../wire/address.js';
import { describePorts, type GuestPlan } from './lease-plan.js';

interface Claim extends PortRange {
  readonly guest: GuestPlan;
}

type Pair = (a: GuestPlan, b: GuestPlan) => void;

/** Adds ERR_PORT_TAKEN to `problems` for each pair of guests found to have an endpoint in common. */
export function refuseOverlaps(guests: readonly GuestPlan[], shared: readonly number[], problems: Problems): void {
  const everywhere = guests.filter((guest) => guest.onShared);
  const tcp = PortSet.fromRanges(everywhere.flatMap((guest) => [...guest.tcp.ranges()]));
  const udp = PortSet.fromRanges(everywhere.flatMap((guest) => [...guest.udp.ranges()]));
  const isShared = new Set(shared);
  const seen = new Set<string>();

  const reporter = (where: string): Pair => (a, b) => {
    const key = `${Math.min(a.index, b.index)} ${Math.max(a.index, b.index)}`;
    if (!seen.has(key)) report(a.index < b.index ? a : b, a.index < b.index ? b : a, where, problems);
    seen.add(key);
  };

  sweep(everywhere, reporter(shared.length === 1 ? formatIpv4(shared[0]) : 'every shared address'));
  for (const [address, group] of byAddress(guests)) {
    const meets = isShared.has(address) && group.some((guest) => guest.tcp.overlaps(tcp) || guest.udp.overlaps(udp));
    sweep(meets ? [...everywhere, ...group] : group, reporter(formatIpv4(address)));
  }
}

/** The guests whose lease names an address, by that address. */
function byAddress(guests: readonly GuestPlan[]): Map<number, GuestPlan[]> {
  const groups = new Map<number, GuestPlan[]>();
  for (const guest of guests) {
    if (guest.onShared) continue;
    for (const address of guest.addresses) {
      const group = groups.get(address);
      if (group === undefined) groups.set(address, [guest]);
      else group.push(guest);
    }
  }
  return groups;
}

/** Calls `pair` for guests of one group that overlap: for every cluster of overlapping ranges at least once. */
function sweep(group: readonly GuestPlan[], pair: Pair): void {
  const whole = group.find((guest) => guest.whole !== null);
  if (whole !== undefined) for (const guest of group) if (guest !== whole) pair(whole, guest);
  for (const protocol of ['tcp', 'udp'] as const) {
    const claims: Claim[] = group.flatMap((guest) => Array.from(guest[protocol].ranges(), ({ first, last }) => ({ first, last, guest })));
    claims.sort((a, b) => a.first - b.first);
    let widest = claims[0];
    for (const claim of claims.slice(1)) {
      if (claim.first <= widest.last) pair(widest.guest, claim.guest);
      if (claim.last > widest.last) widest = claim;
    }
  }
}

function report(before: GuestPlan, after: GuestPlan, where: string, problems: Problems): void {
  const whole = before.whole ?? after.whole;
  const tcp = before.tcp.intersect(after.tcp);
  const udp = before.udp.intersect(after.udp);
  const path = leasePath(after, tcp);
  const lines = problems.linesOf(leasePath(before, tcp), path);
  const who = before.whole === after.whole ? 'both' : 'one of them';
  const what = whole === null ? `${describePorts(tcp, udp, ' and ')} on ${where}` : `${formatIpv4(whole)}, ${who} as a whole address`;
  const text = `guests ${before.name} and ${after.name} both lease ${what}${lines}; take it from one of the two`;
  problems.add('ERR_PORT_TAKEN', path, text);
}

function leasePath(guest: GuestPlan, commonTcp: PortSet): KeyPath {
  if (guest.mapped !== null) return ['guests', guest.name, 'map'];
  const key = guest.whole !== null ? 'address' : commonTcp.isEmpty ? 'udp' : 'tcp';
  return ['guests', guest.name, 'lease', key];
}
