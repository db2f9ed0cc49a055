/** The ports that blocks are cut from, as far as the host alone decides. */
import { readFileSync } from 'node:fs';
import type { PoolPlan } from './lease-plan.js';
import { PortSet } from '../wire/port-set.js';

const EPHEMERAL_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
const FIRST_UNPRIVILEGED = 1024;

/** Those of the configuration; else all ports but the privileged ones and those that the host's kernel hands out itself. */
export function poolPorts({ ports }: PoolPlan): PortSet {
  if (ports !== null) return ports;
  const [first, last] = readFileSync(EPHEMERAL_RANGE, 'utf8').trim().split(/\s+/).map(Number);
  return PortSet.fromRanges([{ first: FIRST_UNPRIVILEGED, last: 65535 }]).subtract(PortSet.fromRanges([{ first, last }]));
}
