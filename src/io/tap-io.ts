/**
 * Taps that Berth creates for sandbox guests: a tap in a network namespace, read and written by its descriptor.
 *
 * A new tap is made in the daemon's own namespace, dressed (MAC, MTU) and moved: its descriptor then does not keep the
 * guest's namespace alive. After a crash it is still there, persistent, with the guest's address and routes; then it is
 * taken over where it is. Sources: Documentation/networking/tuntap.rst, netns(7).
 */
import { closeSync, openSync } from 'node:fs';
import { runTool } from '../base/command.js';
import { ConfigError } from '../base/errors.js';
import { addon, check, errnoName } from '../native/binding.js';
import { findInterface } from './interfaces.js';

export const NETNS_FOLDER = '/run/netns';

/** Where a sandbox guest's interface is. */
export interface GuestPlace {
  netns: string;
  name: string;
}

export interface LinkDress {
  /** The NIC that the guest shares, and what the guest's interface has of it. */
  nic: string;
  mac: string;
  mtu: number;
  /** Checksum and segmentation offload of taps: on with the packet back end, off with `cap`, which cannot carry it. */
  offloads: boolean;
  /** A new link of a sandbox is a veth, which the kernel can steer to (fast-path.ts); else a tap. */
  veth: boolean;
}

/** Opens the tap, making it if it is not there. Returns its descriptor, which is the caller's; the tap outlives it. */
export function openGuestTap(place: GuestPlace, dress: LinkDress): number {
  const existing = findInterface(place.name, place.netns);
  if (existing === null) return createTap(place, dress);
  if (existing.kind !== 'tun') {
    throw new ConfigError('ERR_LINK_TAKEN', `${place.name} in namespace ${place.netns} exists and is not a tap; choose another name`);
  }
  if (existing.mac !== dress.mac) {
    throw new ConfigError(
      'ERR_GUEST_MAC',
      `${place.name} in namespace ${place.netns} has MAC ${existing.mac}, the NIC has ${dress.mac}; a guest that shares the address must have the NIC's MAC`,
    );
  }
  const netns = openSync(`${NETNS_FOLDER}/${place.netns}`, 'r');
  try {
    const fd = addon().openTap(place.name, netns, dress.offloads);
    if (fd < 0 && errnoName(fd) === 'EBUSY') {
      throw new ConfigError('ERR_LINK_TAKEN', `tap ${place.name} in namespace ${place.netns} is in use by another program; end it or choose another name`);
    }
    check(fd, `taking over tap ${place.name} in namespace ${place.netns}`);
    finish(fd, place, dress);
    return fd;
  } finally {
    closeSync(netns);
  }
}

let made = 0;

function createTap(place: GuestPlace, dress: LinkDress): number {
  const temporary = `bt${process.pid % 1e7}x${made++ % 1000}`;
  const fd = check(addon().openTap(temporary, -1, dress.offloads), `making a tap for namespace ${place.netns}`);
  try {
    // No IPv6 chatter from the host in the moment before it moves.
    runTool('ip', ['link', 'set', 'dev', temporary, 'addrgenmode', 'none']);
    runTool('ip', ['link', 'set', 'dev', temporary, 'netns', place.netns, 'name', place.name]);
    finish(fd, place, dress);
    return fd;
  } catch (error) {
    addon().closeFd(fd); // not persistent yet: the tap goes with it
    throw error;
  }
}

function finish(fd: number, place: GuestPlace, dress: LinkDress): void {
  runTool('ip', ['-n', place.netns, 'link', 'set', 'dev', place.name, 'address', dress.mac, 'mtu', String(dress.mtu), 'up']);
  check(addon().setTapPersistent(fd, true), `keeping tap ${place.name}`);
}
