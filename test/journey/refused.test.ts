/**
 * Refused at start: each with its own message in one line, exit code 2 (1 where nothing is wrong with the configuration), and
 * nothing changed on the host.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, type Setting, type World } from '../support/live.js';

const FOREIGN_MAC = '02:00:5e:10:00:66';

interface Row {
  name: string;
  /** Makes the obstacle; the guests `web` and `db` have namespaces, the host a tap `tap-vm`. Returns the configuration. */
  arrange: (world: World) => Setting | Promise<Setting>;
  /** Each must be in the one line of the message. */
  says: (RegExp | string)[];
  /** 2 unless it is stated */
  code?: 1;
}

function webAnd(world: World, more: Setting['guests'] = {}): Setting {
  return { guests: { web: { link: { netns: world.guest('web') }, lease: { tcp: '8080', udp: '53' }, use: 'all' }, ...more } };
}

function withAgent(world: World, socket: string): Setting {
  return { store: { path: `${world.lab.folder}/store` }, guests: { web: { link: { netns: world.guest('web') }, agent: { socket } } } };
}

const rows: Row[] = [
  {
    name: 'two guests with one endpoint',
    arrange: (world) => webAnd(world, { db: { link: { netns: world.guest('db') }, lease: { tcp: '8000-8100' } } }),
    says: [/guests\.(web|db)/, '8080', 'web', 'db'],
  },
  {
    name: 'a TCP port that the host listens on',
    arrange: async (world) => {
      const host = world.peer(world.lab.host);
      await host.hold('tcp', '0.0.0.0', 8080);
      return webAnd(world);
    },
    says: ['web', '8080', 'tcp', /node, pid \d+/],
  },
  {
    name: 'a TCP port that the host listens on at the shared address, in the middle of a range',
    arrange: async (world) => {
      await world.peer(world.lab.host).hold('tcp', HOST_ADDRESS, 8085);
      return webAnd(world, { db: { link: { netns: world.guest('db') }, lease: { tcp: '8081-8089' } } });
    },
    says: ['db', '8085', 'tcp', /node, pid \d+/],
  },
  {
    name: 'a UDP port that the host has bound',
    arrange: async (world) => {
      await world.peer(world.lab.host).hold('udp', '0.0.0.0', 53);
      return webAnd(world);
    },
    says: ['web', '53', 'udp', /node, pid \d+/],
  },
  {
    name: 'a NIC that does not exist',
    arrange: (world) => ({ ...webAnd(world), nic: 'eth7' }),
    says: [/berth\.yaml:\d+: nic/, 'eth7', 'eth0'],
  },
  {
    name: 'a NIC that is not Ethernet',
    arrange: (world) => ({ ...webAnd(world), nic: 'lo', addresses: [HOST_ADDRESS] }),
    says: [/berth\.yaml:\d+: nic/, 'lo'],
  },
  {
    name: 'a tap that is a port of a bridge',
    arrange: (world) => {
      world.lab.run(world.lab.host, ['ip', 'link', 'add', 'br0', 'type', 'bridge']);
      world.lab.run(world.lab.host, ['ip', 'link', 'set', 'tap-vm', 'master', 'br0']);
      return webAnd(world, { vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000' } } });
    },
    says: ['tap-vm', 'br0'],
  },
  {
    name: 'a tap link that is no tap',
    arrange: (world) => {
      world.lab.run(world.lab.host, ['ip', 'link', 'add', 'veth9', 'type', 'veth', 'peer', 'name', 'veth8']);
      return webAnd(world, { vm: { link: { tap: 'veth9' }, lease: { tcp: '7000' } } });
    },
    says: ['veth9', 'tap'],
  },
  {
    name: 'the NIC itself as a guest\'s tap',
    arrange: (world) => webAnd(world, { vm: { link: { tap: 'eth0' }, lease: { tcp: '7000' } } }),
    says: ['eth0', 'guests.vm.link'],
  },
  {
    name: 'an interface of that name in the namespace that is not Berth\'s',
    arrange: (world) => {
      world.lab.run(world.guest('web'), ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1']);
      return webAnd(world);
    },
    says: ['eth0', /no link of Berth/],
  },
  {
    name: 'a tap in the namespace that another program holds',
    arrange: async (world) => {
      await world.startVm('tap-vm', 'web'); // opens eth0 there, with the NIC's MAC
      return webAnd(world);
    },
    says: ['eth0', /in use/],
  },
  {
    name: 'a guest MAC other than the NIC\'s',
    arrange: (world) => webAnd(world, { db: { link: { netns: world.guest('db'), mac: FOREIGN_MAC }, lease: { tcp: '5432' } } }),
    says: [/berth\.yaml:\d+: guests\.db\.link\.mac/, FOREIGN_MAC],
  },
  {
    name: 'a tap in the namespace with a MAC other than the NIC\'s',
    arrange: (world) => {
      world.lab.run(world.guest('web'), ['ip', 'tuntap', 'add', 'dev', 'eth0', 'mode', 'tap', 'vnet_hdr']);
      world.lab.run(world.guest('web'), ['ip', 'link', 'set', 'eth0', 'address', FOREIGN_MAC]);
      return webAnd(world);
    },
    says: ['eth0', FOREIGN_MAC],
  },
  {
    name: 'a second daemon on the NIC',
    arrange: async (world) => {
      await world.start({ guests: { db: { link: { netns: world.guest('db') }, lease: { tcp: '5432' } } } });
      return webAnd(world);
    },
    says: ['eth0', /in use by another Berth/],
    code: 1,
  },
  {
    name: 'a tap that another daemon holds',
    arrange: async (world) => {
      const { lab } = world;
      lab.run(lab.host, ['ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', lab.outside]);
      lab.configure(lab.host, 'eth1', '198.51.100.10');
      lab.configure(lab.outside, 'eth1', '198.51.100.1');
      await world.start({ nic: 'eth1', guests: { vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000' } } } });
      return webAnd(world, { vm: { link: { tap: 'tap-vm' }, lease: { tcp: '7000' } } });
    },
    says: ['tap-vm', /in use by another Berth/],
    code: 1,
  },
  {
    name: 'an agent\'s socket whose path is a file of something else, which stays',
    arrange: (world) => withAgent(world, world.write({ guests: {} }, 'precious.yaml')),
    says: [/guest web: .*precious\.yaml cannot be listened on \(there is a file that is no socket\); mend that, or name another path/],
    code: 1,
  },
  {
    name: 'an agent\'s socket that a program has',
    arrange: async (world) => {
      const server = createServer().listen(`${world.lab.folder}/taken.sock`);
      await once(server, 'listening');
      onTestFinished(() => void server.close());
      return withAgent(world, `${world.lab.folder}/taken.sock`);
    },
    says: [/guest web: .*taken\.sock cannot be listened on \(a program that runs has it\)/],
    code: 1,
  },
  {
    name: 'an agent\'s socket where no folder can be made',
    arrange: (world) => withAgent(world, '/proc/nowhere/web.sock'),
    says: [/guest web: .*\/proc\/nowhere\/web\.sock cannot be listened on \(its folder is not there\)/],
    code: 1,
  },
];

describe.skipIf(!liveTests('refused'))('refused at start', () => {
  it.each(rows.map((row) => [row.name, row] as const))('%s', async (_name, { arrange, says, code: expected = 2 }) => {
    const world = freshWorld('refuse');
    world.addGuest('web');
    world.addGuest('db');
    world.lab.run(world.lab.host, ['ip', 'tuntap', 'add', 'dev', 'tap-vm', 'mode', 'tap', 'vnet_hdr']);
    world.setReservedPorts('9000-9010');
    const setting = await arrange(world);
    const state = (): unknown => ({ ...world.hostState(), web: world.link(world.guest('web'), 'eth0')?.address, db: world.link(world.guest('db'), 'eth0')?.address });
    const before = state();

    const { code, output, errors } = await world.berth('run', '--config', world.write(setting, 'refused-berth.yaml'));
    expect({ code, output }).toEqual({ code: expected, output: expect.not.stringContaining('ready') });
    expect(errors.trim().split('\n')).toHaveLength(1);
    for (const text of says) expect(errors).toMatch(text);
    expect(state()).toEqual(before);
  });
});
