/**
 * Maps: what the control plane says of mapped guests, as the data plane takes it (dataplane/mapping.ts). Plain data, handed over
 * with each steering table; whole, so that nobody has to keep in step.
 */

/** Outside ports `first` … `last` to inside ports from `to` on. */
export interface MapRange {
  readonly first: number;
  readonly last: number;
  readonly to: number;
}

/** A mapped guest. Addresses are numbers in host order. */
export interface MappedLink {
  readonly link: number;
  readonly inside: number;
  /** What Berth answers ARP for on the link. */
  readonly gateway: number;
  /** The guest's own MAC, six bytes; `nic`: the NIC's, as on every link that Berth makes; null: to be learned. */
  readonly mac: Uint8Array | 'nic' | null;
  /** What its own flows leave by; null: it has none. */
  readonly block: { readonly first: number; readonly last: number } | null;
  readonly tcp: readonly MapRange[];
  readonly udp: readonly MapRange[];
}

/** All that is mapped, and the addresses that it is mapped on: the first one is for the guests' own flows. */
export interface Maps {
  readonly outside: readonly number[];
  readonly guests: readonly MappedLink[];
}
