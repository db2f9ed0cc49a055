/**
 * Processors are kept awake for guests that exchange small frames, live: by both paths, let go at once after, and nothing is left of a daemon that is killed.
 */
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, type RunningDaemon, type Setting, type World } from '../support/live.js';

const DEVICE = '/dev/cpu_dma_latency';

function isHeld(daemon: RunningDaemon): boolean {
  const folder = `/proc/${daemon.child.pid}/fd`;
  return existsSync(folder) && readdirSync(folder).some((fd) => existsSync(`${folder}/${fd}`) && readlinkSync(`${folder}/${fd}`) === DEVICE);
}

describe.skipIf(!liveTests('cpu-latency') || !existsSync(DEVICE))('processors are kept awake', () => {
  async function start(setting: Omit<Setting, 'guests'>): Promise<{ world: World; daemon: RunningDaemon; talk: () => Promise<unknown> }> {
    const world = freshWorld('awake');
    const daemon = await world.start({ ...setting, guests: { web: { link: { netns: world.addGuest('web') }, lease: { udp: '8080', tcp: '8080' }, use: 'all' } } });
    await world.enter('web').sink(8080);
    const outside = world.peer(world.lab.outside);
    return { world, daemon, talk: () => outside.flood(HOST_ADDRESS, 8080, 50, 25_000) };
  }

  it.each(['auto', 'off'] as const)('while it lasts, fast path %s; and `berth status` tells it', async (fastPath) => {
    const { world, daemon, talk } = await start({ fastPath });
    expect(isHeld(daemon)).toBe(false);
    const sent = talk();
    await expect.poll(() => isHeld(daemon), { timeout: 4000, interval: 10 }).toBe(true);
    await sent;
    await expect.poll(() => isHeld(daemon), { timeout: 4000 }).toBe(false);
    const { output } = await world.berth('status', '--admin', `${world.lab.folder}/admin.sock`);
    expect(output).toMatch(/^Processors kept awake for [\d.]+ s in all\.$/m);
  });

  it('not under `cpuLatency: off`, and not for bulk', async () => {
    const { daemon, talk } = await start({ cpuLatency: 'off' });
    let held = false;
    const timer = setInterval(() => (held ||= isHeld(daemon)), 10);
    await talk();
    clearInterval(timer);
    expect(held).toBe(false);
    const { world, daemon: other } = await start({});
    const status = async (): Promise<unknown> => (JSON.parse((await world.berth('status', '--admin', `${world.lab.folder}/admin.sock`, '--json')).output) as { cpuLatency: unknown }).cpuLatency;
    await world.peer(world.lab.outside).upload(HOST_ADDRESS, 8080, 5e8);
    expect(await status()).toMatchObject({ isHeld: false });
    expect(isHeld(other)).toBe(false);
  });

  it('nothing is left of a daemon that is killed meanwhile', async () => {
    const { daemon, talk } = await start({ cpuLatency: 5 });
    const sent = talk();
    await expect.poll(() => isHeld(daemon), { timeout: 4000, interval: 10 }).toBe(true);
    await daemon.stop('SIGKILL');
    expect(isHeld(daemon)).toBe(false);
    await sent;
  });
});
