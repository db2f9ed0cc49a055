/**
 * A guest's link over time: there or not there, attached or not.
 *
 *     waiting ──open()──▶ attached ──isGone() or a failed port──▶ waiting …
 *
 * Sandbox      a tap in a network namespace, made by Berth (tap-io.ts). Gone when the namespace is another or none.
 * VM           the host side of a tap that a VMM has opened or will open. Gone when there is no interface of the name.
 * Not here     the descriptor: it belongs to the engine from the moment it is attached.
 */
import { statSync } from 'node:fs';
import { runTool } from '../base/command.js';
import type { LinkConfig } from '../base/config.js';
import { ConfigError } from '../base/errors.js';
import { findInterface, type Interface, interfaceIndex } from './interfaces.js';
import { openTapHostSide } from './packet-io.js';
import { NETNS_FOLDER, openGuestTap, type TapDress } from './tap-io.js';

export interface OpenLink {
  fd: number;
  /** A packet socket on the host side, not a tap's own descriptor. */
  isSocket: boolean;
}

export class GuestLink {
  readonly config: LinkConfig;
  private readonly dress: TapDress;
  private namespaceInode = 0;
  /** The VMM's tap as it was before it was set up: by its index. */
  private before: Interface | null = null;

  constructor(config: LinkConfig, dress: TapDress) {
    this.config = config;
    this.dress = dress;
  }

  /** `tap tap-web`, `eth0 in namespace web`: for messages. */
  get description(): string {
    return this.config.kind === 'tap' ? `tap ${this.config.tap}` : `${this.config.name} in namespace ${this.config.netns}`;
  }

  /** Opens the link if it is there; null while it is not. Errors say why it can never be had as it is. */
  open(): OpenLink | null {
    return this.config.kind === 'tap' ? this.openHostSide(this.config.tap) : this.openInNamespace(this.config.netns, this.config.name);
  }

  /** For an attached link: has its namespace or interface gone, so that it must be detached? */
  isGone(): boolean {
    if (this.config.kind === 'netns') return inodeOf(this.config.netns) !== this.namespaceInode;
    return interfaceIndex(this.config.tap) !== this.before?.ifindex;
  }

  private openInNamespace(netns: string, name: string): OpenLink | null {
    const inode = inodeOf(netns);
    if (inode === 0) return null;
    const fd = openGuestTap({ netns, name }, this.dress);
    this.namespaceInode = inode;
    return { fd, isSocket: false };
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

  private openHostSide(tap: string): OpenLink | null {
    if (interfaceIndex(tap) === 0) return null;
    const found = findTap(tap);
    if (found === null) return null;
    if (this.before?.ifindex !== found.ifindex) {
      runTool('ip', ['link', 'set', 'dev', tap, 'mtu', String(this.dress.mtu), 'up']);
      this.before = found;
    } else if (!found.up) {
      return null; // taken down by somebody: left so until it comes up again
    }
    return { fd: openTapHostSide(tap, found.ifindex), isSocket: true };
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
