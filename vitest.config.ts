/**
 * Tests: every test/**\/*.test.ts, a process each and one after another.
 *
 * Processes    `cap` and `raw-socket` do not load in the main thread and in a worker as well: forks, not threads.
 * One by one   live tests make network namespaces and measure: two at a time would disturb each other.
 * Second try   in CI a live test that fails is tried once more, since the machine is shared: a frame lost while it stood still
 *              is not a fault of Berth. .ci/run prints each such test and why it failed at first; nothing else is retried.
 */
import { defineConfig } from 'vitest/config';

const LIVE = 'test/journey/**/*.test.ts';

export default defineConfig({
  test: {
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default'],
    projects: [
      { extends: true, test: { name: 'pure', include: ['test/**/*.test.ts'], exclude: [LIVE] } },
      { extends: true, test: { name: 'live', include: [LIVE], retry: process.env.CI === undefined ? 0 : 1 } },
    ],
  },
});
