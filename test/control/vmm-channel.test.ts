/**
 * A channel that a VMM carries into its guest: the daemon connects to it, and sees neither the agent's coming nor its going. The VMM
 * is played by a Unix socket that listens; what it does with a real guest is in journey/vm.test.ts.
 */
import { createServer, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { freshFolder, startCore } from '../support/control-core.js';
import { Channel } from '../support/control.js';
import { until } from '../support/live.js';

/** Guest `a` of a core, and the guest's end of its channel, anew whenever the daemon has connected; `said`: each one's bytes. */
async function start(): Promise<{ said: string[]; connected: (times: number) => Promise<Channel> }> {
  const folder = freshFolder();
  const channels: Channel[] = [];
  const said: string[] = [];
  const sockets: Socket[] = [];
  const vmm = createServer((socket) => {
    sockets.push(socket);
    channels.push(new Channel(socket, true));
    const number = said.push('') - 1;
    socket.on('data', (bytes: Buffer) => (said[number] += bytes.toString()));
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    vmm.close();
  });
  vmm.listen(`${folder}/a.sock`);
  await startCore(folder, { a: { block: 16 } }, { vmm: ['a'] });
  const connected = async (times: number): Promise<Channel> => {
    await until(() => channels.length === times && channels[times - 1].lines.length > 0, 2000, () => `connection ${times}, have ${channels.length}`);
    return channels[times - 1];
  };
  return { said, connected };
}

describe('a channel of a VMM', () => {
  it('begins with an empty line, which ends what was left half written, and the host\'s word that it knows no session', async () => {
    const { said, connected } = await start();
    await connected(1);
    expect(said).toEqual(['\n{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"say hello","data":{"code":"ERR_NO_HELLO"}}}\n']);
  });
});
