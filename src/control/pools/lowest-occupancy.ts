/** Lowest occupancy: the pool with the lowest share of configured guests in those that may be configured. */
import type { Policy } from './policy.js';

export const lowestOccupancy: Policy = (candidates) => candidates.map(({ guests, maxGuests }) => ({ cost: guests / maxGuests, words: `${guests} of ${maxGuests} guests configured` }));
