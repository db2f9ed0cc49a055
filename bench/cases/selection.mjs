/**
 * Selection: how long it takes to choose an address for a guest, among 100,000 addresses in 8 pools on 4 networks, and to take it: the addresses
 * empty, or all but 1,000 of them leased.
 */
import { performance } from 'node:perf_hooks';
import { load } from '../support/dist.mjs';
import { median, quantile } from '../support/measure.mjs';

const ADDRESSES = 100_000;
const POOLS = 8;
const CHOICES = 500;
const FIRST = 0x0a000000;
const WISH = { name: 'any', ports: null, policy: { 'least-load': 2, 'lowest-occupancy': 1, 'service-class': 1 }, class: 'web', rule: 'together' };

export const variants = ['empty', 'nearly-full'];

export async function run(variant) {
  const { AddressBook } = await load('control/pools/address-book');
  const size = ADDRESSES / POOLS;
  const pools = Array.from({ length: POOLS }, (_, n) => {
    const first = FIRST + n * 65536;
    return { name: `p${n}`, network: `n${n % 4}`, ranges: [{ first, last: first + size - 1 }], size, speed: 1e10, maxGuests: size, class: null, policy: null };
  });
  const book = new AddressBook(pools);
  const rates = (network) => ({ load: Number(network.slice(1)) * 1e8, speed: 1e10 });
  if (variant === 'nearly-full') {
    for (const { ranges } of pools) {
      for (let address = ranges[0].first; address <= ranges[0].last - 1000 / POOLS; address++) book.set(address, book.leased(`old${address}`, { address, block: null, words: [] }, 'web', 0));
    }
  }
  const times = [];
  for (let n = 0; n < CHOICES; n++) {
    const start = performance.now();
    const choice = book.choose(`new${n}`, WISH, rates);
    book.set(choice.address, book.leased(`new${n}`, choice, 'web', 0));
    times.push(performance.now() - start);
  }
  if (book.leaseOf(`new${CHOICES - 1}`) === undefined) throw new Error('nothing was chosen');
  return [{ what: `selection among ${ADDRESSES.toLocaleString('en-US')} addresses, ${variant}: median`, value: median(times), unit: 'ms', goal: 1, atMost: true, detail: `p99 ${quantile(times, 0.99).toFixed(3)} ms` }];
}
