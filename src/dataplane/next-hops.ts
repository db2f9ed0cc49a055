/**
 * Next hops: the station that frames of mapped guests for an outside address go to, as long as it is fresh.
 *
 * A mapped guest knows nothing of the outside: the MAC that its frame is sent to is Berth's to find. A flow remembers the station
 * that its last frame from outside came from (flow-table.ts), and that is the way back. Where none came, or none for FRESH_SECONDS,
 * what is here is asked; and where nothing is here, the frame itself is given to the host's own stack, which knows routes and
 * neighbours, resolves them and sends it (control/next-hops.ts). Its answer is put here. So the engine has no routes and no ARP of
 * its own, no frame waits or is lost for one that is not resolved yet, and a neighbour that has changed is found out again in time.
 */
import { FORGOTTEN, Recent } from './recent.js';

/** How long a station is taken for the next hop without having been heard of; as `Recent` remembers. */
export const FRESH_SECONDS = 30;
const STATIONS = 256;

export class NextHops {
  /** (outside address, 0, 0) → station + 1. */
  private readonly known = new Recent(4096);
  private readonly highs = new Int32Array(STATIONS);
  private readonly lows = new Uint16Array(STATIONS);
  private stations = 0;

  /** Bytes 0–3 and 4–5 of the MAC of the station that frames for `address` go to. */
  learn(address: number, high: number, low: number, now: number): void {
    let station = 0;
    while (station < this.stations && (this.highs[station] !== (high | 0) || this.lows[station] !== low)) station++;
    if (station === STATIONS) return; // a network with more next hops: those past them are asked for each time
    this.highs[station] = high;
    this.lows[station] = low;
    if (station === this.stations) this.stations++;
    this.known.put(address, 0, 0, station + 1, now);
  }

  /** The station for `address`, to be read by `high` and `low`; FORGOTTEN (0) where none is known. */
  find(address: number, now: number): number {
    return this.known.find(address, 0, 0, now);
  }

  high(station: number): number {
    return this.highs[station - 1];
  }

  low(station: number): number {
    return this.lows[station - 1];
  }
}

export { FORGOTTEN as UNKNOWN_HOP };
