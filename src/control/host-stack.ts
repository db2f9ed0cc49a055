/**
 * Host stack: everything that Berth changes on the host beside its own sockets, and how it is undone.
 *
 *     reserve sockets ─▶ remember (state file) ─▶ reserved ports ─▶ mute        undone in reverse
 *
 * State file   /run/berth/NETNS-NIC.json, written before anything is changed: a daemon that was killed leaves the file,
 *              and the next one (or `berth clean`) knows what to undo. Gone after a clean stop.
 * Killed       the mute and the guests' interfaces stay, so that guest connections survive until the next daemon; sockets go. They
 *              also survive a next daemon that refuses its plan before it has changed anything.
 * Late         the reserved ports, by up to RESERVE_MS: the bound sockets keep the host off meanwhile, by choice or by chance.
 * Length       what is changed and how it is undone, by this daemon or the next, stand together: apart, one would be forgotten.
 * Undoing      goes on after a failure; the first one is thrown at the end, and the state file kept for `berth clean`.
 */
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { GuestPlan, LeasePlan } from './lease-plan.js';
import { NO_PORTS, type Ports, type ProtoName } from './lease-state.js';
import type { OwnConnection } from './own-connections.js';
import type { ImplicitUse } from './publisher.js';
import { Mute, mutedBy, nicTable, quietLink, linkTable, unmute } from './mute.js';
import { leasedPorts, readReservedPorts, Reservation, type Taken, writeReservedPorts } from './reserve.js';
import { runTool } from '../base/command.js';
import { BerthError, messageOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { findInterface } from '../io/interfaces.js';
import { leaveRunFolder, netnsId, RUN_FOLDER, runFiles } from '../io/lock.js';
import { type GuestPlace, NETNS_FOLDER } from '../io/tap-io.js';
import { removeGuestVeth } from '../io/veth-io.js';
import { addon } from '../native/binding.js';
import { PortSet } from '../wire/port-set.js';

/** Between two changes of the reserved ports: each is a file written and a list of the kernel's read and replaced. */
const RESERVE_MS = 100;

/** What a daemon has changed and must undo. */
export interface HostState {
  nic: string;
  /** The NIC's MAC: tells a NIC of the same name in a namespace that came later. */
  mac: string;
  /** Ports added to ip_local_reserved_ports, by this daemon or by another that serves another NIC here. */
  reserved: string;
  /** nftables netdev tables. */
  tables: string[];
  /** Interfaces made in guest namespaces: persistent taps, and ends of veths. */
  guestTaps: GuestPlace[];
  /** Sysctl files and what they held. */
  sysctls: Record<string, string>;
  /** Not a change, but lost with the daemon otherwise. */
  implicit: ImplicitUse[];
  /** As implicit; absent in files of earlier versions. */
  connections?: OwnConnection[];
}

export class HostStack {
  private readonly file: string;
  private readonly state: HostState;
  private reservation: Reservation | null = null;
  private plan: LeasePlan | null = null;
  private granted: Ports = NO_PORTS;
  private readonly mute: Mute;
  private readonly log: Log;
  private reserving: NodeJS.Timeout | null = null;

  /** Takes over what a killed daemon on this NIC left; changes nothing yet. */
  constructor(nic: string, mac: string, log: Log) {
    this.mute = new Mute(nic, log);
    this.log = log;
    this.file = stateFile(nic);
    const left = readState(this.file);
    this.state = left?.mac === mac ? left : { nic, mac, reserved: '', tables: [], guestTaps: [], sysctls: {}, implicit: [] };
  }

  /** Guest taps of a daemon that was killed, some of which may no longer be wanted. */
  get guestTaps(): readonly GuestPlace[] {
    return this.state.guestTaps;
  }

  /**
   * Reserves and mutes what the plan leases, and until `setGranted` what a killed daemon had granted. A port that the host itself uses goes to `refused`;
   * if that throws, nothing is changed.
   */
  apply(plan: LeasePlan, refused: (guest: string, error: unknown) => void): void {
    this.reservation = new Reservation(plan, refused, (message) => this.log.warn(message));
    this.plan = plan;
    const left = portsOf(this.state);
    this.granted = { tcp: left, udp: left };
    this.remember({ tables: [...new Set([...this.state.tables, nicTable(this.state.nic)])] });
    this.reservePorts(plan);
    this.mute.start(mutedBy(plan, this.granted));
  }

  /** Binds ports first … last on every shared address; the first that a host process holds, with nothing kept, or null. */
  reserve(proto: ProtoName, first: number, last: number): Taken | null {
    return this.reservation?.reserve(proto, first, last) ?? null;
  }

  /** Ports among first … last that are reserved already. */
  reserved(proto: ProtoName, first: number, last: number): PortSet {
    return this.reservation?.held(proto, first, last) ?? PortSet.EMPTY;
  }

  unreserve(proto: ProtoName, first: number, last: number): void {
    this.reservation?.unreserve(proto, first, last);
  }

  /** Binds what the guest leases of the configuration; throws, with nothing changed, where a host process has a port. */
  reserveGuest(guest: GuestPlan): void {
    this.reservation?.reserveGuest(guest);
  }

  unreserveGuest(guest: GuestPlan): void {
    this.reservation?.unreserveGuest(guest);
  }

  /** Binds the ports on one address, but for those that a host process holds there, which it returns. */
  claim(address: number, proto: ProtoName, ports: PortSet): Taken[] {
    return this.reservation?.claim(address, proto, ports) ?? [];
  }

  /** Lets go of an address that is no longer shared; guests that lease on it by itself are bound anew. */
  leaveAddress(address: number): void {
    this.reservation?.leave(address);
    for (const guest of this.plan?.guests ?? []) if (!guest.onShared && guest.addresses.includes(address)) this.reserveGuest(guest);
  }

  /** Keeps the host silent for exactly these ports besides the plan's; resolves when it is. Its automatic choice soon is off them too. */
  setGranted(granted: Ports): Promise<void> {
    this.granted = granted;
    return this.followPlan();
  }

  /** The plan has other guests, or other addresses: as setGranted. */
  followPlan(): Promise<void> {
    const { plan } = this;
    if (plan === null) return Promise.resolve();
    this.reserving ??= setTimeout(() => {
      this.reserving = null;
      try {
        this.reservePorts(plan);
      } catch (error) {
        this.log.error(messageOf(error)); // leased all the same: the sockets hold the ports
      }
    }, RESERVE_MS);
    return this.mute.set(mutedBy(plan, this.granted));
  }

  private reservePorts(plan: LeasePlan): void {
    const { operator, all } = reservedBeside(this.file, this.state);
    const added = leasedPorts(plan).union(this.granted.tcp).union(this.granted.udp).subtract(operator);
    this.remember({ reserved: added.isEmpty ? '' : added.format() });
    writeReservedPorts(all.union(added));
  }

  /** Implicit uses that a killed daemon wrote down. */
  get implicitUses(): readonly ImplicitUse[] {
    return this.state.implicit;
  }

  rememberImplicit(uses: ImplicitUse[]): void {
    this.remember({ implicit: uses });
  }

  get ownConnections(): readonly OwnConnection[] {
    return this.state.connections ?? [];
  }

  rememberConnections(connections: OwnConnection[]): void {
    this.remember({ connections });
  }

  /** An interface in a guest's namespace that outlives the daemon. */
  rememberInterface(tap: GuestPlace): void {
    const known = this.state.guestTaps.some((one) => one.netns === tap.netns && one.name === tap.name);
    if (!known) this.remember({ guestTaps: [...this.state.guestTaps, tap] });
  }

  /** Keeps the host's stack and the host side of a guest's link apart: no frame in, no IPv6 chatter out. */
  quietLink(tap: string): void {
    const file = disableIpv6(tap);
    let before: string | null = null;
    try {
      before = readFileSync(file, 'utf8').trim();
    } catch {
      // no IPv6 in this kernel: nothing to switch off
    }
    const sysctls = before === null || file in this.state.sysctls ? this.state.sysctls : { ...this.state.sysctls, [file]: before };
    this.remember({ sysctls, tables: [...new Set([...this.state.tables, linkTable(tap)])] });
    if (before !== null) writeFileSync(file, '1');
    quietLink(tap);
  }

  /** Gives it back to the host's stack. */
  unquietLink(tap: string): void {
    const file = disableIpv6(tap);
    const { [file]: before, ...sysctls } = this.state.sysctls;
    if (before !== undefined) restoreSysctls({ [file]: before });
    unmute(linkTable(tap));
    this.remember({ sysctls, tables: this.state.tables.filter((table) => table !== linkTable(tap)) });
  }

  /** Removes the interface of a removed guest, if it is still there and ours. */
  removeInterface(tap: GuestPlace): void {
    removeGuestInterface(tap, this.state);
    this.remember({ guestTaps: this.state.guestTaps.filter((one) => one.netns !== tap.netns || one.name !== tap.name) });
  }

  /** Undoes everything, once the engine has closed its descriptors; nothing if `apply` refused the plan. */
  async restore(): Promise<void> {
    if (this.plan === null) return;
    if (this.reserving !== null) clearTimeout(this.reserving);
    await this.mute.stop();
    try {
      undoState(this.file, this.state);
    } finally {
      this.reservation?.release();
    }
  }

  /** Whole or not at all, also for a daemon that is killed here. */
  private remember(change: Partial<HostState>): void {
    Object.assign(this.state, change);
    mkdirSync(RUN_FOLDER, { recursive: true, mode: 0o755 });
    writeFileSync(temporary(this.file), `${JSON.stringify(this.state)}\n`, { mode: 0o600 });
    renameSync(temporary(this.file), this.file);
  }
}

/** State files of this network namespace: daemons that run, or were killed. */
export function leftStates(): { file: string; state: HostState }[] {
  return runFiles()
    .filter((name) => name.endsWith('.json'))
    .map((name) => ({ file: `${RUN_FOLDER}/${name}`, state: readState(`${RUN_FOLDER}/${name}`) }))
    .filter((one): one is { file: string; state: HostState } => one.state !== null);
}

/**
 * Is the state about this namespace, not about one that is gone and had its inode? So it is if the NIC is the same, or
 * one of its tables is here: a NIC may be gone or changed.
 */
export function isOfThisNamespace(state: HostState): boolean {
  if (findInterface(state.nic)?.mac === state.mac) return true;
  const here = runTool('nft', ['list', 'tables', 'netdev']).split('\n');
  return state.tables.some((table) => here.includes(`table netdev ${table}`));
}

/**
 * Undoes what a daemon has changed, and forgets it; returns the number of interfaces removed. These first: what a guest sends must not
 * find the host's stack open to it for a moment.
 */
export function undoState(file: string, state: HostState): number {
  let removed = 0;
  attempt([
    () => {
      removed = removeInterfaces(state);
    },
    ...state.tables.map((table) => () => {
      unmute(table);
    }),
    () => {
      if (state.reserved !== '') writeReservedPorts(reservedBeside(file, state).all);
    },
    () => {
      restoreSysctls(state.sysctls);
    },
  ]);
  forget(file);
  return removed;
}

/** Removes the state's guest interfaces that still exist, are ours and in nobody's use; returns their number. */
export function removeInterfaces(state: HostState): number {
  return state.guestTaps.filter((tap) => removeGuestInterface(tap, state)).length;
}

export function forget(file: string): void {
  rmSync(file, { force: true });
  rmSync(temporary(file), { force: true });
  leaveRunFolder();
}

/** Removes an interface in a guest's namespace if it is a veth of ours, or a tap dressed as ours and in nobody's use; true if it was. */
export function removeGuestInterface(guest: GuestPlace, { nic, mac }: Pick<HostState, 'nic' | 'mac'>): boolean {
  const { netns, name } = guest;
  if (removeGuestVeth(nic, guest)) return true;
  const found = findInterface(name, netns);
  if (found?.kind !== 'tun' || found.mac !== mac) return false;
  const namespace = openSync(`${NETNS_FOLDER}/${netns}`, 'r');
  try {
    const fd = addon().openTap(name, namespace, true);
    if (fd < 0) return false; // in use by another program, which then has it
    addon().setTapPersistent(fd, false);
    addon().closeFd(fd); // and the tap goes with it
    return true;
  } finally {
    closeSync(namespace);
  }
}

/** Ports that stay reserved without this state: `operator`, those that no Berth added; `all`, those of other daemons too. */
function reservedBeside(file: string, state: HostState): { operator: PortSet; all: PortSet } {
  const now = readReservedPorts();
  const own = portsOf(state);
  const others = leftStates().reduce((all, one) => (one.file === file ? all : all.union(portsOf(one.state))), PortSet.EMPTY);
  return { operator: now.subtract(own.union(others)), all: now.subtract(own.subtract(others)) };
}

function portsOf(state: HostState): PortSet {
  return state.reserved === '' ? PortSet.EMPTY : PortSet.parse(state.reserved);
}

function disableIpv6(tap: string): string {
  return `/proc/sys/net/ipv6/conf/${tap}/disable_ipv6`;
}

function restoreSysctls(sysctls: HostState['sysctls']): void {
  for (const [file, value] of Object.entries(sysctls)) {
    try {
      writeFileSync(file, value);
    } catch {
      // the interface is gone, and its sysctls with it
    }
  }
}

/** Does all of them, whichever fails; throws the first failure at the end. */
function attempt(actions: readonly (() => void)[]): void {
  const errors: unknown[] = [];
  for (const action of actions) {
    try {
      action();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

function temporary(file: string): string {
  return `${file}.new`;
}

function stateFile(nic: string): string {
  return `${RUN_FOLDER}/${netnsId()}-${encodeURIComponent(nic)}.json`;
}

function readState(file: string): HostState | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null;
  }
  try {
    return JSON.parse(text) as HostState;
  } catch (cause) {
    throw new BerthError('ERR_STATE_FILE', `${file} is damaged (${messageOf(cause)}); look at it, then remove it`, { cause });
  }
}
