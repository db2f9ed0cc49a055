/** Connections that mapped guests have begun themselves, kept over a restart of the daemon: by guest here, by link in the engine (dataplane/own-connections.ts). */
import type { GuestPlan } from './lease-plan.js';

/** The guest; inside port, outside address, outside port, remote address, remote port. */
export type OwnConnection = [guest: string, insidePort: number, outsideAddress: number, outsidePort: number, remote: number, remotePort: number];

/** Numbers after the link or the guest. */
const FIELDS = 5;

/** `list`: the engine's. Those of guests that have gone meanwhile are left out. */
export function namedConnections(list: Int32Array, guests: readonly GuestPlan[]): OwnConnection[] {
  const names = new Map(guests.map(({ index, name }) => [index, name]));
  const named: OwnConnection[] = [];
  for (let at = 0; at < list.length; at += 1 + FIELDS) {
    const name = names.get(list[at]);
    if (name !== undefined) named.push([name, ...list.subarray(at + 1, at + 1 + FIELDS)] as OwnConnection);
  }
  return named;
}

/** For the engine; those of guests that are there no more are left out. */
export function connectionList(named: readonly OwnConnection[], guests: readonly GuestPlan[]): Int32Array {
  const links = new Map(guests.map(({ index, name }) => [name, index]));
  return Int32Array.from(named.flatMap(([name, ...fields]) => (links.has(name) ? [links.get(name) as number, ...fields] : [])));
}
