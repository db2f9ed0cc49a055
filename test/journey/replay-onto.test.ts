/** `berth replay --onto NIC`: what is forwarded is on the wire as it was captured, in order and at its pace, and nothing else. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PcapWriter } from '../../src/io/pcap-writer.js';
import { eth } from '../../src/wire/frame-builder.js';
import { readAll, type TestFrame } from '../io/capture-files.js';
import { freshWorld, HOST_ADDRESS, liveTests, until, type World } from '../support/live.js';

const SOURCE = '02:00:5e:10:00:07';
const CLIENT = '198.51.100.7';
const MTU_FRAME = 1514;
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

type Layers = ReturnType<ReturnType<typeof eth>['ipv4']>;
const to = (dst: string, tags = 0): Layers => (tags === 0 ? eth({ src: SOURCE }) : eth({ src: SOURCE }).vlan(7)).ipv4({ src: CLIENT, dst });
const padded = (length: number): Uint8Array => to(HOST_ADDRESS).udp(40005, 53, { payload: new Uint8Array(length - 42).fill(0x5a) }).build();

const FORWARDED = [
  to(HOST_ADDRESS).tcp(40000, 80, { payload: 'first' }).build(),
  to(HOST_ADDRESS).udp(40001, 53, { payload: 'second' }).build(),
  to(HOST_ADDRESS, 1).udp(40002, 53, { payload: 'tagged' }).build(),
  padded(MTU_FRAME),
];
const NOT_FORWARDED = [to(HOST_ADDRESS).tcp(40003, 81).build(), to(HOST_ADDRESS).tcp(40004, 22).build(), to('192.0.2.99').udp(1, 53).build()];

describe.skipIf(!liveTests('replay-onto', 'tcpdump', 'setpriv'))('berth replay --onto', () => {
  class Wire {
    readonly world: World;
    private seen = '';

    constructor(label: string) {
      this.world = freshWorld(label);
      writeFileSync(this.file('c.yaml'), `addresses: ${HOST_ADDRESS}\nguests:\n  web: { lease: { tcp: "80,81" }, use: { tcp: 80 } }\n  dns: { lease: { udp: 53 }, use: all }\n`);
    }

    file(name: string): string {
      return `${this.world.lab.folder}/${name}`;
    }

    /** `wire`: how long the frame was before it was cut. */
    capture(frames: readonly { bytes: Uint8Array; wire?: number }[], stepMs = 0): string {
      const writer = new PcapWriter(this.file('in.pcap'));
      frames.forEach(({ bytes, wire = bytes.length }, n) => writer.write(bytes, 0, bytes.length, wire, 1_700_000_000, n * stepMs * 1_000_000));
      writer.close();
      return this.file('in.pcap');
    }

    /** Frames that come out at the other end of the host's NIC while `action` runs, up to `last`, which it sends last. */
    async during(action: () => Promise<void>, last: Uint8Array): Promise<TestFrame[]> {
      const { lab } = this.world;
      const tcpdump = lab.spawn(lab.outside, ['tcpdump', '-i', 'eth0', '-U', '--immediate-mode', '-w', this.file('out.pcap'), 'ether', 'src', SOURCE]);
      tcpdump.stderr?.on('data', (data: Buffer) => (this.seen += data.toString()));
      await until(() => this.seen.includes('listening on'), 5000, () => `tcpdump to listen (it said: ${this.seen})`);
      await action();
      let found: TestFrame[] = [];
      for (const deadline = performance.now() + 5000; !found.some(({ bytes }) => bytes.equals(last)) && performance.now() < deadline; ) found = (await readAll(this.file('out.pcap'))).frames;
      tcpdump.kill();
      return found;
    }

    replay(capture: string, ...options: string[]): ReturnType<World['berth']> {
      return this.world.berth('replay', capture, '--config', this.file('c.yaml'), ...options);
    }
  }

  it('sends what guests would get, byte for byte and in order, and says what it could not send', { timeout: 30_000 }, async () => {
    const wire = new Wire('onto');
    const [first, second, tagged, longest] = FORWARDED.map((bytes) => ({ bytes }));
    const [notUsed, notLeased, notOurs] = NOT_FORWARDED.map((bytes) => ({ bytes }));
    const cut = { bytes: padded(1000).subarray(0, 400), wire: 1000 };
    const tooLong = { bytes: padded(MTU_FRAME + 100) };
    const capture = wire.capture([first, notUsed, second, notLeased, cut, tagged, tooLong, notOurs, longest]);
    const found = await wire.during(async () => {
      const { code, output, errors } = await wire.replay(capture, '--onto', 'eth0', '--split', wire.file('guests'));
      expect({ code, errors }).toEqual({ code: 0, errors: '' });
      expect(output).toMatch(/^forward +web +1 .*\nforward +dns +5 /m);
      expect(output.trimEnd().split('\n').at(-1)).toBe('4 frames sent on eth0, 2 not: cut in the capture or too long');
    }, longest.bytes);
    expect(found.map(({ bytes }) => bytes.toString('hex'))).toEqual(FORWARDED.map((bytes) => Buffer.from(bytes).toString('hex')));
    // Beside --split, which takes the cut and the long one too.
    expect((await readAll(wire.file('guests/dns.pcap'))).frames.map(({ bytes, wire: length }) => `${bytes.length} of ${length}`)).toEqual(['48 of 48', '400 of 1000', '52 of 52', '1614 of 1614', '1514 of 1514']);
  });

  it('keeps the time between the frames', { timeout: 30_000 }, async () => {
    const wire = new Wire('onto-pace');
    const frames = Array.from({ length: 8 }, (_, n) => ({ bytes: to(HOST_ADDRESS).udp(40010 + n, 53).build() }));
    const found = await wire.during(async () => {
      expect((await wire.replay(wire.capture(frames, 100), '--onto', 'eth0', '--speed', '2x')).code).toBe(0);
    }, frames[7].bytes);
    const times = found.map(({ seconds, nanoseconds }) => (seconds % 1000) * 1000 + nanoseconds / 1e6);
    // Each at its time after the first or later, on a busy machine.
    expect(times.map((at, n) => at - times[0] >= n * 50 - 5)).toEqual(Array(8).fill(true));
  });

  it('is refused in one line where it cannot send, and nothing is replayed', { timeout: 30_000 }, async () => {
    const wire = new Wire('onto-not');
    const { world } = wire;
    const capture = wire.capture(FORWARDED.map((bytes) => ({ bytes })));
    const onto = async (nic: string): Promise<object> => wire.replay(capture, '--onto', nic);
    expect(await onto('eth7')).toEqual({ code: 2, output: '', errors: 'berth: --onto: there is no interface eth7; ip link shows what there is\n' });
    world.lab.run(world.lab.host, ['ip', 'link', 'add', 'eth7', 'type', 'veth', 'peer', 'name', 'eth8']);
    expect(await onto('eth7')).toEqual({ code: 1, output: '', errors: 'berth: --onto: eth7 is down and takes no frames; ip link set eth7 up\n' });

    const program = new URL('../../dist/cli/main.js', import.meta.url).pathname;
    if (spawnSync(NOBODY[0], [...NOBODY.slice(1), process.execPath, program, '--version']).status !== 0) return; // not for everybody to read
    world.lab.run(world.lab.host, ['chmod', '-R', 'a+rX', world.lab.folder]);
    const { code, output, errors } = await world.run(world.lab.host, [...NOBODY, process.execPath, program, 'replay', capture, '-c', wire.file('c.yaml'), '--onto', 'eth0']);
    expect({ code, output, errors }).toEqual({ code: 1, output: '', errors: 'berth: --onto needs root (opening a packet socket on eth0: EPERM); start it with sudo\n' });
  });
});
