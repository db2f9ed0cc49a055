/**
 * Explain: an endpoint in words. Who has it, since when, in what state, and why a frame for it would go where it goes.
 *
 * Pure: what the steering table and the lease book have there goes in, sentences come out. What decides about the frame is
 * the table; the book only knows since when and why.
 */
import type { HostSocket, Place } from './admin-api.js';
import type { ProtoName } from './lease-state.js';

export interface EndpointFacts {
  address: string;
  proto: ProtoName;
  port: number;
  state: Place['state'];
  guest: string | null;
  source: Place['source'];
  since: string | null;
  until: string | null;
  /** How the use began; null: it is not in use. */
  use: 'agent' | 'frame' | 'configuration' | 'run time' | null;
  agent: 'connected' | 'away' | 'none';
  mayImply: boolean;
  /** For a mapped guest: the inside endpoint, `10.0.7.2 port 443`; null for one that shares the address. */
  mappedTo: string | null;
  /** Its address is no guest's as a whole. */
  byPorts: boolean;
  /** The guest's link, as messages name it. */
  link: string;
  attached: boolean;
  rejecting: boolean;
}

const USE_WORDS = {
  agent: 'its agent says so',
  frame: 'a frame of the guest came from it',
  configuration: 'the configuration says so',
  'run time': 'its settings say so',
};
const UNUSED_WORDS = {
  connected: 'its agent has not said that it uses it',
  away: 'its agent is not connected',
  none: 'neither the configuration nor a frame of the guest says so',
};

export function explainPlace(facts: EndpointFacts): Place {
  const { address, state, guest, source, since, until } = facts;
  return { address, state, guest, source, since, until, ...verdictOf(facts), words: [whose(facts), goes(facts)] };
}

/** What the host itself has on the port. */
export function explainHost(sockets: readonly HostSocket[] | null, leased: boolean): string {
  if (sockets === null) return 'What the host itself has there could not be found out (ss).';
  if (sockets.length === 0) return leased ? 'The host itself has nothing there: the port is kept from it.' : 'The host itself has no socket there.';
  return `The host itself has there: ${sockets.map(({ state, local, owner }) => `${local} ${state}${owner === null ? '' : ` (${owner})`}`).join('; ')}.`;
}

function verdictOf({ state, rejecting }: EndpointFacts): Pick<Place, 'verdict' | 'reason'> {
  if (state === 'in use') return { verdict: 'forward', reason: null };
  if (state === 'leased') return { verdict: rejecting ? 'reject' : 'discard', reason: 'not-in-use' };
  return state === 'free' ? { verdict: 'pass', reason: 'not-leased' } : { verdict: 'discard', reason: 'quarantined' };
}

function whose({ address, proto, port, state, guest, source, since, until, use, agent, byPorts }: EndpointFacts): string {
  const endpoint = `${address} ${proto} ${port}`;
  if (state === 'free') return `${endpoint} is leased to nobody.`;
  if (state === 'quarantined') return `${endpoint} was released by guest ${guest ?? '?'} at ${since ?? '?'}; another guest may have it from ${until ?? '?'} on.`;
  if (guest === null && byPorts) return `${endpoint} is leased to nobody: other ports of the address, which is of a pool, are.`;
  if (guest === null) return `${endpoint} is nobody's: what its guest sends from it is for Berth, which serves DHCP there.`;
  const lease = source === 'configuration' ? 'by the configuration' : source === 'run time' ? 'by its settings' : `until ${until ?? '?'}`;
  const used = use === null ? `not in use: ${UNUSED_WORDS[agent]}` : `in use: ${USE_WORDS[use]}`;
  return `${endpoint} is leased to guest ${guest ?? '?'} since ${since ?? '?'}, ${lease}, and ${used}.`;
}

function goes({ proto, state, guest, mayImply, mappedTo, link, attached, rejecting }: EndpointFacts): string {
  switch (state) {
    case 'free':
      return 'A frame for it is left to the host\'s own stack (not-leased).';
    case 'quarantined':
      return 'A frame for it is discarded (quarantined): it may be meant for the guest before.';
    case 'leased': {
      const answer = rejecting ? `discarded and answered with a ${proto === 'tcp' ? 'reset' : 'port unreachable'}` : 'discarded';
      return `A frame for it is ${answer} (not-in-use)${mayImply ? '; a frame of the guest from it begins a use' : ''}.`;
    }
    case 'in use':
      return attached ? `A frame for it goes to guest ${guest ?? '?'}: ${link}${mappedTo === null ? '' : `, readdressed to ${mappedTo}`}.` : `A frame for it is lost (link-down): ${link} is not there.`;
  }
}
