/**
 * Publisher: writes leases and indications into the steering table, and hands new buffers to the engine.
 *
 * The only importer of steering/table-writer.ts. Leases of the configuration (a LeasePlan) are published at the start; those
 * granted at run time follow as the lease book's changes.
 */
import { NEVER, type Change, type Ports } from './lease-state.js';
import { countEntries, forEachEntry, type LeasePlan, NO_LINK } from './lease-plan.js';
import type { GuestPlan } from './lease-plan.js';
import { mapsOf } from './map-plan.js';
import { ConfigError } from '../base/errors.js';
import type { Maps } from '../steering/maps.js';
import { type Proto, STATE_FREE, STATE_IN_USE, STATE_MASK } from '../steering/table-layout.js';
import { SteeringTable } from '../steering/table.js';
import type { TableFollower } from '../steering/table-follower.js';
import { TableWriter } from '../steering/table-writer.js';
import { PROTOCOL_UDP } from '../wire/ipv4.js';
import type { PortRange } from '../wire/port-set.js';

/** Link indices of the guests that lease something on an address, by the table's address index. */
export type GuestsByAddress = (number[] | undefined)[];

/** A newer steering table for the engine; it answers with `adopted(generation)`. */
export type OnTable = (buffer: SharedArrayBuffer, generation: number, guests: GuestsByAddress, maps: Maps) => void;

const ENGINE = 0;
/** 128 MiB of steering table. */
const MAX_ENDPOINTS = 8 * 1024 * 1024;

/** Ports that one guest uses implicitly on one address; port 0 is a whole address. */
export interface ImplicitUse {
  guest: string;
  address: number;
  proto: Proto;
  ports: number[];
}

export class Publisher {
  private readonly plan: LeasePlan;
  private readonly writer: TableWriter;
  private readonly guests: GuestsByAddress = [];
  private reader: SteeringTable;
  private readonly onTable: OnTable;

  /** Publishes the whole plan. Under a guest's policy `implicit` its own frame from a leased endpoint indicates its use (D7). */
  constructor(plan: LeasePlan, onTable: OnTable = () => undefined, follower?: TableFollower) {
    this.plan = plan;
    this.onTable = onTable;
    const endpoints = countEntries(plan);
    refuseTooMany(endpoints);
    this.writer = new TableWriter({
      endpoints,
      addresses: plan.addresses.length,
      follower,
      publish: (buffer, generation) => {
        onTable(buffer, generation, this.guests, this.maps);
      },
    });
    this.reader = new SteeringTable(this.writer.buffer);
    for (const address of plan.addresses) this.writer.addAddress(address);
    for (const guest of plan.guests) this.lease(guest);
    this.writer.addReader(ENGINE);
  }

  /** ERR_TABLE_FULL for a guest whose leases do not fit into the table. */
  refuseUnfit(guest: GuestPlan): void {
    refuseTooMany(this.writer.endpoints + countEntries({ guests: [guest] }));
  }

  /** Publishes the leases of a guest that came later. */
  addGuest(guest: GuestPlan): void {
    this.lease(guest);
    this.sendGuests();
  }

  /** Nothing that is for all who share an address is for the guest any more. Its leases in the table are ended by others. */
  removeGuest({ index }: GuestPlan): void {
    for (const sharing of this.guests) if (sharing?.includes(index) === true) sharing.splice(sharing.indexOf(index), 1);
    this.sendGuests();
  }

  /** What the guest leases of the configuration is quarantined, or free at once: what was its own address leaves if nobody has it now. */
  endLeases(guest: GuestPlan, how: 'quarantine' | 'release'): void {
    forEachEntry({ guests: [guest] }, (address, protocol, port) => {
      this.writer[how](address, protocol === PROTOCOL_UDP ? 1 : 0, port);
    });
    this.writer.settleUsed();
    if (how === 'release') for (const address of guest.addresses) if (!this.plan.addresses.includes(address)) this.removeAddress(address);
  }

  /** What a guest of an earlier daemon has left is quarantined. */
  quarantine(departed: GuestPlan): void {
    this.leaseEntries(departed);
    this.endLeases(departed, 'quarantine');
  }

  /** Whether anything of an address of a pool is in use; of these ports alone, where they are given. */
  isInUse(address: number, ports: PortRange | null): boolean {
    const { table } = this;
    if (ports === null) return table.isUsed(address);
    for (let port = ports.first; port <= ports.last; port++) {
      for (const proto of [0, 1] as const) if ((table.value(address, proto, port) & STATE_MASK) === STATE_IN_USE) return true;
    }
    return false;
  }

  get buffer(): SharedArrayBuffer {
    return this.writer.buffer;
  }

  get endpoints(): number {
    return this.writer.endpoints;
  }

  get guestsByAddress(): GuestsByAddress {
    return this.guests;
  }

  /** What is mapped now. */
  get maps(): Maps {
    return mapsOf(this.plan.guests, this.plan.shared);
  }

  /** The engine has left every older buffer. */
  adopted(generation: number): void {
    this.writer.adopted(ENGINE, generation);
  }

  /** Ends implicit uses of the protocol that were idle since the last call; returns how many. */
  sweepIdle(proto: Proto): number {
    return this.writer.sweepIdle(proto);
  }

  /**
   * What is in use because a guest's own frame came from it (D7): kept over a restart, or a guest that only
   * listens would never be heard again. Null when nothing has changed since the last call.
   */
  implicitUses(): ImplicitUse[] | null {
    if (!this.writer.takeImplied()) return null;
    const uses = new Map<string, ImplicitUse>();
    this.writer.forEachImplicit((address, proto, port, link) => {
      const key = `${link}/${address}/${proto}`;
      const use = uses.get(key) ?? { guest: this.nameOf(link), address, proto, ports: [] };
      use.ports.push(port);
      uses.set(key, use);
    });
    return [...uses.values()];
  }

  /** Takes up implicit uses of an earlier daemon, as far as the same guest still leases them. */
  restoreImplicit(uses: readonly ImplicitUse[]): void {
    for (const { guest, address, proto, ports } of uses) {
      const link = this.find(guest)?.index ?? -1;
      if (link >= 0) for (const port of ports) this.writer.imply(address, proto, port, link);
    }
  }

  /** The plan's addresses are others now: what was on those that are gone is on nobody's, what is on all is on the new ones too. */
  followAddresses(gone: readonly number[], added: readonly number[]): void {
    for (const address of gone) this.removeAddress(address);
    for (const address of this.plan.addresses) this.writer.addAddress(address);
    for (const guest of this.plan.guests) {
      const again = guest.onShared ? added : guest.addresses.filter((address) => gone.includes(address));
      this.lease({ ...guest, addresses: again }, added);
    }
    this.sendGuests();
  }

  /** Follows what the lease book decided, on every shared address; leases of the configuration are there already. */
  apply(changes: readonly Change[], addresses = this.plan.shared): void {
    for (const change of changes) {
      if (!('first' in change) || (change.type === 'lease' && change.until === NEVER)) continue;
      const proto: Proto = change.proto === 'udp' ? 1 : 0;
      const guest = this.find(change.guest);
      for (const address of addresses) {
        for (let port = change.first; port <= change.last; port++) this.applyOne(change.type, address, proto, port, guest);
      }
    }
  }

  /** Ends implicit uses (D7) of these ports by the guest; what the configuration says is in use stays so. */
  endImplicit(guest: string, ports: Ports): void {
    const configured = this.find(guest);
    if (configured === undefined) return;
    for (const [proto, set] of [[0, ports.tcp.subtract(configured.useTcp)], [1, ports.udp.subtract(configured.useUdp)]] as const) {
      for (const port of set.ports()) for (const address of this.plan.shared) this.writer.endUse(address, proto, port);
    }
  }

  private find(guest: string): GuestPlan | undefined {
    return this.plan.guests.find((one) => one.name === guest);
  }

  private nameOf(link: number): string {
    return this.plan.guests.find(({ index }) => index === link)?.name ?? '';
  }

  private applyOne(type: Change['type'], address: number, proto: Proto, port: number, guest: GuestPlan | undefined): void {
    // A guest that is no longer there has no link; what it left is in quarantine, where no link matters.
    if (type === 'lease') this.writer.lease(address, proto, port, guest?.index ?? 0, guest?.policy.implicit ?? false);
    else if (type === 'quarantine') this.writer.quarantine(address, proto, port);
    else if (type === 'free') this.writer.release(address, proto, port);
    else if (type === 'use') this.writer.use(address, proto, port);
    else if (type === 'end-use') this.writer.endUse(address, proto, port);
  }

  private lease(guest: GuestPlan, shared = this.plan.shared): void {
    const { index, agent, mapped } = guest;
    this.leaseEntries(guest);
    // Nothing that is for all who share an address is for a mapped guest, which has none of them.
    if (mapped !== null) return;
    // Guests with an agent may lease ports later: what is for all who share an address is for them from the start.
    for (const address of agent === null ? guest.addresses : [...guest.addresses, ...shared]) this.share(address, index);
  }

  private leaseEntries(guest: GuestPlan): void {
    const { ofPool, whole, addresses, policy, mapped } = guest;
    // Of a pool's address that is leased by ports: the rest is nobody's, and discarded; the first guest there brings it.
    if (ofPool && whole === null) for (const address of addresses) if (this.table.value(address, 0, 0) === STATE_FREE) this.writer.leaseWhole(address, NO_LINK, false);
    forEachEntry({ guests: [guest] }, (address, protocol, port, owner, inUse) => {
      const proto: Proto = protocol === PROTOCOL_UDP ? 1 : 0;
      if (mapped !== null) {
        this.writer.map(address, proto, port, owner);
        return;
      }
      if (port === 0) this.writer.leaseWhole(address, owner, policy.implicit);
      else this.writer.lease(address, proto, port, owner, policy.implicit);
      if (inUse && port === 0) this.writer.useWhole(address);
      else if (inUse) this.writer.use(address, proto, port);
    });
  }

  private get table(): SteeringTable {
    if (this.reader.words.buffer !== this.writer.buffer) this.reader = new SteeringTable(this.writer.buffer);
    return this.reader;
  }

  private share(address: number, guest: number): void {
    const index = this.writer.addAddress(address);
    const sharing = (this.guests[index] ??= []);
    if (!sharing.includes(guest)) sharing.push(guest);
  }

  private removeAddress(address: number): void {
    this.guests[this.writer.removeAddress(address)] = undefined;
  }

  private sendGuests(): void {
    this.onTable(this.writer.buffer, this.writer.generation, this.guests, this.maps);
  }
}

function refuseTooMany(endpoints: number): void {
  if (endpoints <= MAX_ENDPOINTS) return;
  throw new ConfigError('ERR_TABLE_FULL', `${endpoints} endpoints are leased, at most ${MAX_ENDPOINTS} fit; lease whole addresses (leave the ports out), or fewer ports`);
}
