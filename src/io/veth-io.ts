/**
 * Veths that Berth makes for sandbox guests: the guest's end in its namespace, the host's end here, where the fast path and the engine's
 * packet socket are.
 *
 * Name         the host's end has a name that follows from the NIC and the guest's place: what a killed daemon left is found by it,
 *              with the guest's addresses and routes on the other end, and taken over.
 * Quiet        the host's stack must neither speak nor hear on the host's end, so it comes up only after `quiet` has seen to that.
 * Gone         both ends go when either does, or the guest's namespace. Sources: veth(4), ip-link(8).
 */
import { createHash } from 'node:crypto';
import { runTool } from '../base/command.js';
import { ConfigError } from '../base/errors.js';
import { findInterface, type Interface } from './interfaces.js';
import type { GuestPlace, LinkDress } from './tap-io.js';

/** The host's end of a guest's veth. */
export interface HostEnd {
  name: string;
  ifindex: number;
}

/** Whether the guest's interface is one end of a veth of ours on this NIC. */
export function isOurVeth(guest: Interface, nic: string, place: GuestPlace): boolean {
  return hostEndOf(guest, nic, place) !== null;
}

/** Makes the veth, or takes it over where it is there already, up or down. `quiet` is given the name of the host's end. */
export function openGuestVeth(place: GuestPlace, dress: LinkDress, quiet: (name: string) => void): HostEnd {
  const { netns, name } = place;
  const { mac, mtu, nic } = dress;
  const host = nameOfHostEnd(nic, place);
  const existing = findInterface(name, netns);
  if (existing !== null && hostEndOf(existing, nic, place) === null) {
    throw new ConfigError('ERR_LINK_TAKEN', `${name} in namespace ${netns} exists and is no link of Berth on ${nic}; choose another name`);
  }
  if (existing !== null && existing.mac !== mac) {
    throw new ConfigError('ERR_GUEST_MAC', `${name} in namespace ${netns} has MAC ${existing.mac}, the NIC has ${mac}; a guest that shares the address must have the NIC's MAC`);
  }
  if (existing === null) {
    if (findInterface(host) !== null) runTool('ip', ['link', 'delete', 'dev', host]); // its other end has another name now
    runTool('ip', ['link', 'add', 'name', host, 'mtu', String(mtu), 'type', 'veth', 'peer', 'name', name, 'netns', netns, 'address', mac, 'mtu', String(mtu)]);
  }
  runTool('ip', ['link', 'set', 'dev', host, 'addrgenmode', 'none', 'mtu', String(mtu)]);
  quiet(host);
  runTool('ip', ['link', 'set', 'dev', host, 'up']);
  runTool('ip', ['-n', netns, 'link', 'set', 'dev', name, 'mtu', String(mtu), ...(existing === null ? ['up'] : [])]);
  return { name: host, ifindex: findInterface(host)?.ifindex ?? 0 };
}

/** Removes the veth of a guest, by the host's end: whatever the guest has done with its own, none may be left; true if there was one. */
export function removeGuestVeth(nic: string, place: GuestPlace): boolean {
  const host = findInterface(nameOfHostEnd(nic, place));
  if (host?.kind !== 'veth') return false;
  runTool('ip', ['link', 'delete', 'dev', host.name]);
  return true;
}

function hostEndOf(guest: Interface, nic: string, place: GuestPlace): Interface | null {
  if (guest.kind !== 'veth') return null;
  const host = findInterface(nameOfHostEnd(nic, place));
  return host?.kind === 'veth' && host.peerIndex === guest.ifindex && guest.peerIndex === host.ifindex ? host : null;
}

/** 46 bits of a digest, as many as an interface's name has room for. */
function nameOfHostEnd(nic: string, { netns, name }: GuestPlace): string {
  const digest = createHash('sha256').update(`${nic}/${netns}/${name}`).digest();
  return `berth-${digest.readBigUInt64BE().toString(36).padStart(9, '0').slice(-9)}`;
}
