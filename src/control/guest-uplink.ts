/** What the control plane sees of an uplink: a NIC and what serves the guests of its network. */
import type { GuestLinks } from './guest-links.js';
import type { HostStack } from './host-stack.js';
import type { LivePlan } from './live-plan.js';
import type { Publisher } from './publisher.js';
import type { Interface } from '../io/interfaces.js';

export interface GuestUplink {
  /** of its network */
  readonly network: string;
  readonly nic: Interface;
  readonly plan: LivePlan;
  readonly host: HostStack;
  /** Once the engine runs. */
  readonly publisher: Publisher;
  readonly links: GuestLinks;
}
