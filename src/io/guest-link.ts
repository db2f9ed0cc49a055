/**
 * A guest's link over time: there or not there, attached or not.
 *
 *     waiting ──open()──▶ attached ──isGone() or a failed port──▶ waiting …
 *
 * Sandbox      a veth to a network namespace, or a tap in it, made by Berth (veth-io.ts, tap-io.ts). Gone when the namespace is another
 *              or none, or the host's end of the veth.
 * VM           the host side of a tap that a VMM has opened or will open. Gone when there is no interface of the name.
 * Not here     the descriptor: it belongs to the engine from the moment it is attached.
 */
import { statSync } from 'node:fs';
import { runTool } from '../base/command.js';
import type { LinkConfig } from '../base/config.js';
import { ConfigError } from '../base/errors.js';
import { findInterface, type Interface, interfaceIndex, isRunning } from './interfaces.js';
import { openHostSide } from './packet-io.js';
import type { SteerableLink } from './kernel-table.js';
import { NETNS_FOLDER, openGuestTap, type GuestPlace, type LinkDress } from './tap-io.js';
import { isOurVeth, openGuestVeth } from './veth-io.js';

export interface OpenLink {
  fd: number;
  /** The descriptor is a packet socket on this interface, the host's side of the link; null: it is a tap's own. */
  host: SteerableLink | null;
}

export class GuestLink {
  readonly config: LinkConfig;
  private readonly dress: LinkDress;
  private namespaceInode = 0;
  /** The host's end of a sandbox guest's veth; 0: the link is a tap. */
  private hostEnd = 0;
  private hostEndName = '';
  /** The VMM's tap as it was before it was set up: by its index. */
  private before: Interface | null = null;

  constructor(config: LinkConfig, dress: LinkDress) {
    this.config = config;
    this.dress = dress;
  }

  /** `tap tap-web`, `eth0 in namespace web`: for messages. */
  get description(): string {
    return this.config.kind === 'tap' ? `tap ${this.config.tap}` : `${this.config.name} in namespace ${this.config.netns}`;
  }

  /**
   * Opens the link if it is there; null while it is not. Errors say why it can never be had as it is. `quiet` keeps the host's stack
   * from the host's end of a veth, which is given to it by name before it is up.
   */
  open(quiet: (name: string) => void): OpenLink | null {
    return this.config.kind === 'tap' ? this.openTap(this.config.tap) : this.openInNamespace(this.config, quiet);
  }

  /** For an attached link: why it must be detached, or null: its namespace or interface has gone, or the guest has set its end of a veth down. */
  whyGone(): 'went away' | 'is down' | null {
    if (this.isGone()) return 'went away';
    return this.hostEnd !== 0 && !isRunning(this.hostEndName) ? 'is down' : null;
  }

  private isGone(): boolean {
    if (this.config.kind === 'netns') {
      return inodeOf(this.config.netns) !== this.namespaceInode || (this.hostEnd !== 0 && interfaceIndex(this.hostEndName) !== this.hostEnd);
    }
    return interfaceIndex(this.config.tap) !== this.before?.ifindex;
  }

  private openInNamespace(place: GuestPlace, quiet: (name: string) => void): OpenLink | null {
    const inode = inodeOf(place.netns);
    if (inode === 0) return null;
    // Set down by the guest, and looked at twice a second: not worth more than a glance.
    if (inode === this.namespaceInode && this.hostEnd !== 0 && interfaceIndex(this.hostEndName) === this.hostEnd && !isRunning(this.hostEndName)) return null;
    const existing = findInterface(place.name, place.netns);
    // What a daemon under the other setting has left goes on as it is.
    const isVeth = existing === null ? this.dress.veth : existing.kind === 'veth' && (this.dress.veth || isOurVeth(existing, this.dress.nic, place));
    const host = isVeth ? openGuestVeth(place, this.dress, quiet) : null;
    this.namespaceInode = inode;
    this.hostEnd = host?.ifindex ?? 0;
    this.hostEndName = host?.name ?? '';
    if (host === null) return { fd: openGuestTap(place, this.dress), host: null };
    return isRunning(host.name) ? { fd: openHostSide(host.name, host.ifindex), host: { ...host, byPeer: true } } : null;
  }

  /** Throws for a VMM's tap that can never be served as it is. */
  refuseUnfit(): void {
    if (this.config.kind === 'tap') findTap(this.config.tap);
  }

  /** Gives a VMM's tap back as it was found. */
  undress(): void {
    if (this.config.kind !== 'tap' || this.before === null || interfaceIndex(this.config.tap) !== this.before.ifindex) return;
    runTool('ip', ['link', 'set', 'dev', this.config.tap, 'mtu', String(this.before.mtu), this.before.up ? 'up' : 'down']);
  }

  private openTap(tap: string): OpenLink | null {
    if (interfaceIndex(tap) === 0) return null;
    const found = findTap(tap);
    if (found === null) return null;
    if (this.before?.ifindex !== found.ifindex) {
      runTool('ip', ['link', 'set', 'dev', tap, 'mtu', String(this.dress.mtu), 'up']);
      this.before = found;
    } else if (!found.up) {
      return null; // taken down by somebody: left so until it comes up again
    }
    return { fd: openHostSide(tap, found.ifindex), host: { name: tap, ifindex: found.ifindex, byPeer: false } };
  }
}

function findTap(tap: string): Interface | null {
  const found = findInterface(tap);
  if (found === null) return null;
  if (found.kind !== 'tun') throw new ConfigError('ERR_LINK_TAKEN', `${tap} is not a tap; name the tap that the VMM opens`);
  if (found.master !== '') throw new ConfigError('ERR_LINK_TAKEN', `tap ${tap} is in use as a port of ${found.master}; take it out: ip link set ${tap} nomaster`);
  return found;
}

function inodeOf(netns: string): number {
  try {
    return statSync(`${NETNS_FOLDER}/${netns}`).ino;
  } catch {
    return 0;
  }
}
