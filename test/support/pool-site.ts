/** A world whose daemon has one pool of addresses, `public`: for live tests of what guests get of it. */
import { freshWorld, OUTSIDE_ADDRESS, type RunningDaemon, type Setting, type World } from './live.js';
import { askAdmin } from '../../src/cli/admin-client.js';
import type { PoolLine } from '../../src/control/admin-api.js';

export interface PoolSite {
  world: World;
  setting: Setting;
  start: () => Promise<RunningDaemon>;
  berth: (...args: string[]) => ReturnType<World['berth']>;
  pools: () => Promise<PoolLine[]>;
  /** The guest's own side: the address on its link. */
  enter: (guest: string, address: string) => ReturnType<World['peer']>;
}

export function poolSite(label: string, addresses: string, quarantine: string): PoolSite {
  const world = freshWorld(label);
  const socket = `${world.lab.folder}/admin.sock`;
  const setting: Setting = { store: { path: `${world.lab.folder}/store` }, pool: { quarantine }, pools: { public: { addresses, speed: '10Gbit' } }, guests: {} };
  return {
    world,
    setting,
    start: () => world.start(setting),
    berth: (...args) => world.berth(...args, '--admin', socket),
    pools: () => askAdmin<PoolLine[]>(socket, { path: '/pools' }),
    enter: (guest, address) => {
      world.lab.configure(world.guest(guest), 'eth0', address, OUTSIDE_ADDRESS);
      return world.peer(world.guest(guest));
    },
  };
}
