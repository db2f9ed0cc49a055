/** First fit: the first pool in the configuration that has an address to give. */
import type { Policy } from './policy.js';

export const firstFit: Policy = (candidates) => candidates.map((_, at) => ({ cost: at / candidates.length, words: at === 0 ? 'the first that has an address to give' : 'later in the configuration' }));
