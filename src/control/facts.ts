/** What a guest that shares the host's network must know of it: addresses, gateway, MTU, MAC, name servers. */
import { readFileSync } from 'node:fs';
import type { NetworkFacts } from './session.js';
import { defaultGateway, type Interface } from '../io/interfaces.js';
import { formatIpv4, parseIpv4 } from '../wire/address.js';

const WHOLE_PREFIX = 32;

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
