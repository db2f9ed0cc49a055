/**
 * Publisher: writes leases and indications into the steering table, and hands new buffers to the engine.
 *
 * The only importer of steering/table-writer.ts. Leases of the configuration (a LeasePlan) are published at the start; those
 * granted at run time follow as the lease book's changes.
 */
import { NEVER, type Change, type Ports } from './lease-state.js';
import { countEntries, forEachEntry, type LeasePlan } from './lease-plan.js';
import { ConfigError } from '../base/errors.js';
import { ADDRESS_INDEX_MASK, type Proto } from '../steering/table-layout.js';
import { type TableFollower, TableWriter } from '../steering/table-writer.js';
import { PROTOCOL_UDP } from '../wire/ipv4.js';

/** Link indices of the guests that lease something on an address, by the table's address index. */
export type GuestsByAddress = (number[] | undefined)[];

/** A newer steering table for the engine; it answers with `adopted(generation)`. */
export type OnTable = (buffer: SharedArrayBuffer, generation: number, guests: GuestsByAddress) => void;

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

  /** Publishes the whole plan. Under a guest's policy `implicit` its own frame from a leased endpoint indicates its use (D7). */
  constructor(plan: LeasePlan, onTable: OnTable = () => undefined, follower?: TableFollower) {
    this.plan = plan;
    const endpoints = countEntries(plan);
    if (endpoints > MAX_ENDPOINTS) {
      throw new ConfigError('ERR_TABLE_FULL', `${endpoints} endpoints are leased, at most ${MAX_ENDPOINTS} fit; lease whole addresses (leave the ports out), or fewer ports`);
    }
    this.writer = new TableWriter({
      endpoints,
      addresses: plan.addresses.length,
      follower,
      publish: (buffer, generation) => {
        onTable(buffer, generation, this.guests);
      },
    });
    for (const address of plan.addresses) this.writer.addAddress(address);
    forEachEntry(plan, (address, protocol, port, guest, inUse) => {
      const proto: Proto = protocol === PROTOCOL_UDP ? 1 : 0;
      const mayImply = plan.guests[guest].policy.implicit;
      if (port === 0) this.writer.leaseWhole(address, guest, mayImply);
      else this.writer.lease(address, proto, port, guest, mayImply);
      if (inUse && port === 0) this.writer.useWhole(address);
      else if (inUse) this.writer.use(address, proto, port);
      this.addGuest(address, guest);
    });
    // Guests with an agent may lease ports later: what is for all who share an address is for them from the start.
    for (const guest of plan.guests) if (guest.agent !== null) for (const address of plan.shared) this.addGuest(address, guest.index);
    this.writer.addReader(ENGINE);
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
      const use = uses.get(key) ?? { guest: this.plan.guests[link].name, address, proto, ports: [] };
      use.ports.push(port);
      uses.set(key, use);
    });
    return [...uses.values()];
  }

  /** Takes up implicit uses of an earlier daemon, as far as the same guest still leases them. */
  restoreImplicit(uses: readonly ImplicitUse[]): void {
    for (const { guest, address, proto, ports } of uses) {
      const link = this.plan.guests.findIndex((one) => one.name === guest);
      if (link >= 0) for (const port of ports) this.writer.imply(address, proto, port, link);
    }
  }

  /** Follows what the lease book decided, on every shared address; leases of the configuration are there already. */
  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if (!('first' in change) || (change.type === 'lease' && change.until === NEVER)) continue;
      const proto: Proto = change.proto === 'udp' ? 1 : 0;
      const link = this.linkOf(change.guest);
      for (const address of this.plan.shared) {
        for (let port = change.first; port <= change.last; port++) this.applyOne(change.type, address, proto, port, link);
      }
    }
  }

  /** Ends implicit uses (D7) of these ports by the guest; what the configuration says is in use stays so. */
  endImplicit(guest: string, ports: Ports): void {
    const link = this.linkOf(guest);
    if (link < 0) return;
    const configured = this.plan.guests[link];
    for (const [proto, set] of [[0, ports.tcp.subtract(configured.useTcp)], [1, ports.udp.subtract(configured.useUdp)]] as const) {
      for (const port of set.ports()) for (const address of this.plan.shared) this.writer.endUse(address, proto, port);
    }
  }

  private linkOf(guest: string): number {
    return this.plan.guests.findIndex((one) => one.name === guest);
  }

  private applyOne(type: Change['type'], address: number, proto: Proto, port: number, link: number): void {
    // A guest that is no longer configured has no link; what it left is in quarantine, where no link matters.
    if (type === 'lease') this.writer.lease(address, proto, port, Math.max(0, link), link >= 0 && this.plan.guests[link].policy.implicit);
    else if (type === 'quarantine') this.writer.quarantine(address, proto, port);
    else if (type === 'free') this.writer.release(address, proto, port);
    else if (type === 'use') this.writer.use(address, proto, port);
    else if (type === 'end-use') this.writer.endUse(address, proto, port);
  }

  private addGuest(address: number, guest: number): void {
    const index = this.writer.addAddress(address) & ADDRESS_INDEX_MASK;
    const sharing = (this.guests[index] ??= []);
    if (!sharing.includes(guest)) sharing.push(guest);
  }
}
