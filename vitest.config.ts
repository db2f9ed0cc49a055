/**
 * Tests: every test/**\/*.test.ts, a process each and one after another.
 *
 * Processes    `cap` and `raw-socket` do not load in the main thread and in a worker as well: forks, not threads.
 * One by one   live tests make network namespaces and measure: two at a time would disturb each other.
 */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default'],
  },
});
