/** Seeded random numbers (xorshift32): the same frames in every run. */
export class Random {
  constructor(seed = 0x5eed) {
    this.state = seed | 1;
  }

  /** An integer in 0 … below - 1. */
  below(below) {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return Math.floor(((this.state >>> 0) / 0x100000000) * below);
  }
}
