/**
 * What this part of Berth is for: `curl http://HOST_ADDRESS:8080/` from outside, answered inside a guest that itself has
 * HOST_ADDRESS, whose log shows the client's real address.
 */
import { expect, it } from 'vitest';
import { freshWorld, HOST_ADDRESS, liveTests, OUTSIDE_ADDRESS, until } from '../support/live.js';

const SERVER = `
  const server = require('node:http').createServer((asked, answer) => {
    console.log(asked.socket.remoteAddress, asked.method, asked.url, 'to', asked.socket.localAddress);
    answer.end('hello from the guest\\n');
  });
  server.listen(8080, '${HOST_ADDRESS}', () => console.log('listening'));`;

it.skipIf(!liveTests('done-when', 'curl'))('curl from outside is answered by a server in a guest at the host\'s own address', async () => {
  const world = freshWorld('done');
  const { lab } = world;
  const daemon = await world.start({
    guests: { web: { link: { netns: world.addGuest('web') }, lease: { tcp: '80,443,8000-8999', udp: '53' }, use: { tcp: '80,8000-8100' } } },
  });
  lab.configure(world.guest('web'), 'eth0', HOST_ADDRESS, OUTSIDE_ADDRESS);
  expect(world.addresses(world.guest('web'), 'eth0')).toEqual(world.addresses(lab.host, 'eth0'));

  let log = '';
  lab.spawn(world.guest('web'), [process.execPath, '-e', SERVER]).stdout!.on('data', (data: Buffer) => (log += data.toString()));
  await until(() => log.includes('listening'), 5000, () => 'the server to listen');
  const { code, output, errors } = await world.run(lab.outside, ['curl', '-sS', '--max-time', '5', `http://${HOST_ADDRESS}:8080/`]);
  expect({ code, output, errors }).toEqual({ code: 0, output: 'hello from the guest\n', errors: '' });
  expect(log).toBe(`listening\n${OUTSIDE_ADDRESS} GET / to ${HOST_ADDRESS}\n`);
  expect((await daemon.stop()).code).toBe(0);
});
