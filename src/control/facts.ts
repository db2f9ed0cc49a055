/** What a guest that shares the host's network must know of it: addresses, gateway, MTU, MAC, name servers. */
import { readFileSync } from 'node:fs';
import type { NetworkFacts } from './session.js';
import type { GatewayConfig } from '../base/config.js';
import { defaultGateway, findInterface, type Interface } from '../io/interfaces.js';
import { formatIpv4, parseIpv4 } from '../wire/address.js';

const WHOLE_PREFIX = 32;
/** How old the facts of another network may be: each is a tool that is run, for a guest that may ask often. */
const FACTS_MS = 1000;

/** `shared`: the addresses that guests share; one that is not on the NIC counts as a network of its own. */
export function networkFacts(nic: Interface, shared: readonly number[]): NetworkFacts {
  return {
    addresses: shared.map((address) => {
      const at = nic.addresses.indexOf(address);
      return { address: formatIpv4(address), prefix: at < 0 ? WHOLE_PREFIX : nic.prefixes[at] };
    }),
    gateway: defaultGateway(nic.name),
    mtu: nic.mtu,
    mac: nic.mac,
    dns: nameServers(),
  };
}

/** Of a network besides the first, as they are now: its addresses and gateway as the host has them there, or as `told` in their place. */
export function otherFacts(nic: Interface, told: GatewayConfig | null): () => NetworkFacts {
  let facts: NetworkFacts | null = null;
  let readAt = 0;
  return () => {
    if (facts !== null && performance.now() - readAt < FACTS_MS) return facts;
    const now = findInterface(nic.name) ?? nic;
    facts = networkFacts(now, now.addresses);
    if (told !== null) facts = { ...facts, addresses: [told, ...facts.addresses], gateway: told.address };
    readAt = performance.now();
    return facts;
  };
}

/** IPv4 name servers of the host that a guest can reach too: none on loopback. */
function nameServers(): string[] {
  let text = '';
  try {
    text = readFileSync('/etc/resolv.conf', 'utf8');
  } catch {
    return [];
  }
  return [...text.matchAll(/^nameserver\s+(\S+)/gm)].map(([, server]) => server).filter((server) => (parseIpv4(server) ?? 0x7f000000) >>> 24 !== 127);
}
