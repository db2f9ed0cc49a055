/** Frames of a guest to Berth's DHCP server and back: what goes onto the link, and on no other, as Wireshark reads it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/base/config.js';
import { createLog } from '../../src/base/log.js';
import { DhcpServer, networkOf } from '../../src/control/dhcp-server.js';
import type { NetworkFacts } from '../../src/control/session.js';
import { resolveLeases } from '../../src/control/static-leases.js';
import { DISCOVER, optionOf, REQUEST } from '../../src/wire/dhcp.js';
import { eth } from '../../src/wire/frame-builder.js';
import { CLIENT_MAC, clientFrame, clientMessage } from '../support/dhcp.js';
import { dissect, hasTshark } from '../wire/tshark.js';

const FACTS: NetworkFacts = { addresses: [{ address: '192.0.2.10', prefix: 24 }], gateway: '192.0.2.1', mtu: 1450, mac: CLIENT_MAC, dns: ['9.9.9.9', '::1', '1.1.1.1'] };
const CONFIG = `
nic: eth0
addresses: [192.0.2.10]
guests:
  other: { link: { tap: t0 }, lease: { tcp: 9000 } }
  web:   { link: { tap: t1, configure: dhcp }, lease: { tcp: "80,20000-28191", udp: "20000-28191" } }
  db:    { link: { tap: t2, configure: dhcp }, lease: { address: 192.0.2.20 } }
  far:   { link: { tap: t3, configure: dhcp }, lease: { address: 198.51.100.9, tcp: 5 } }
`;
const PLAN = resolveLeases(parseConfig(CONFIG, 'berth.yaml'));
const [, WEB, DB, FAR] = [1, 2, 3, 4];
const SERVER_MAC = '02:00:5e:10:00:11';

interface Sent {
  port: number;
  frame: Uint8Array;
}

function fresh(facts: NetworkFacts = FACTS): { server: DhcpServer; sent: Sent[] } {
  const sent: Sent[] = [];
  const log = createLog({ level: 'silent' });
  return { server: new DhcpServer({ plan: PLAN, facts: () => facts, send: (port, frame) => sent.push({ port, frame }), log }), sent };
}

const discover = (options = {}, fields = {}): Uint8Array => clientFrame(clientMessage(DISCOVER, options, fields));

describe('on the link', () => {
  it('answers a served guest on its own port, and no other guest', () => {
    const { server, sent } = fresh();
    for (const port of [1, WEB, 9]) server.receive(port, discover());
    expect(sent.map(({ port }) => port)).toEqual([WEB]);
    expect(server.counters).toMatchObject({ offers: 1, malformed: 0 });
  });

  it.skipIf(!hasTshark())('writes frames that Wireshark reads as they are meant', () => {
    const { server, sent } = fresh();
    const wants = { 55: Uint8Array.of(1, 3, 6, 26, 159), 61: Uint8Array.of(1, 2, 0, 0x5e, 0x10, 0, 0x10) };
    server.receive(WEB, discover(wants));
    server.receive(WEB, clientFrame(clientMessage(REQUEST, { ...wants, 50: optionOf(4, 0xc000020a), 54: optionOf(4, 0xa9fe0043) }, { flags: 0x8000 })));
    server.receive(WEB, clientFrame(clientMessage(REQUEST, { 50: optionOf(4, 0xc0000299) })));
    server.receive(FAR, discover());
    const fields = ['eth.dst', 'eth.src', 'ip.src', 'ip.dst', 'udp.srcport', 'udp.dstport', 'ip.checksum.status', 'udp.checksum.status', 'dhcp.type', 'dhcp.ip.your', 'dhcp.hw.mac_addr', 'dhcp.option.dhcp', 'dhcp.option.dhcp_server_id', 'dhcp.option.subnet_mask', 'dhcp.option.router', 'dhcp.option.domain_name_server', 'dhcp.option.interface_mtu', 'dhcp.option.ip_address_lease_time', 'dhcp.option.renewal_time_value', 'dhcp.option.rebinding_time_value', 'dhcp.option.classless_static_route', '_ws.malformed'] as const;
    const read = dissect(sent.map(({ frame }) => frame), fields);
    const common = { 'eth.src': SERVER_MAC, 'ip.src': '169.254.0.67', 'udp.srcport': '67', 'udp.dstport': '68', 'ip.checksum.status': '1', 'udp.checksum.status': '1', 'dhcp.type': '2', 'dhcp.option.dhcp_server_id': '169.254.0.67', '_ws.malformed': '' };
    const network = { 'dhcp.ip.your': '192.0.2.10', 'dhcp.option.subnet_mask': '255.255.255.0', 'dhcp.option.router': '192.0.2.1', 'dhcp.option.domain_name_server': '9.9.9.9,1.1.1.1', 'dhcp.option.interface_mtu': '1450' };
    const times = { 'dhcp.option.ip_address_lease_time': '300', 'dhcp.option.renewal_time_value': '60', 'dhcp.option.rebinding_time_value': '240' };
    expect(read[0]).toMatchObject({ ...common, ...network, ...times, 'eth.dst': CLIENT_MAC, 'ip.dst': '192.0.2.10', 'dhcp.option.dhcp': '2' });
    expect(read[1]).toMatchObject({ ...common, ...network, ...times, 'eth.dst': 'ff:ff:ff:ff:ff:ff', 'ip.dst': '255.255.255.255', 'dhcp.option.dhcp': '5' });
    expect(read[2]).toMatchObject({ ...common, 'eth.dst': 'ff:ff:ff:ff:ff:ff', 'dhcp.ip.your': '0.0.0.0', 'dhcp.option.dhcp': '6', 'dhcp.option.subnet_mask': '' });
    expect(read[3]).toMatchObject({ ...common, 'dhcp.ip.your': '198.51.100.9', 'dhcp.option.subnet_mask': '255.255.255.255', 'dhcp.option.classless_static_route': '20c000020100000000,00c0000201' });
  });

  it('answers ARP for the server, and nothing else of ARP', () => {
    const { server, sent } = fresh();
    const asks = (operation: 'request' | 'reply') => eth({ src: CLIENT_MAC }).arp(operation, { senderIp: '192.0.2.10', targetIp: '169.254.0.67' }).build();
    server.receive(WEB, asks('request'));
    server.receive(WEB, asks('reply'));
    server.receive(1, asks('request'));
    expect(sent).toEqual([{ port: WEB, frame: eth({ src: SERVER_MAC, dst: CLIENT_MAC }).arp('reply', { senderIp: '169.254.0.67', targetIp: '192.0.2.10' }).build() }]);
  });

  it('ignores what is unreadable, foreign or for others, and counts it', () => {
    const { server, sent } = fresh();
    const noise = (payload: Uint8Array, length?: number) => eth({ src: CLIENT_MAC }).ipv4({ src: '0.0.0.0' }).udp(68, 67, { payload, ...(length === undefined ? {} : { length }) }).build();
    for (const frame of [noise(new Uint8Array(0)), noise(new Uint8Array(300)), noise(new Uint8Array(300), 7), noise(new Uint8Array(300), 400), discover().subarray(0, 60)]) server.receive(WEB, frame);
    server.receive(WEB, discover({}, { mac: Uint8Array.of(2, 2, 2, 2, 2, 2) }));
    server.receive(WEB, clientFrame(clientMessage(REQUEST, { 50: optionOf(4, 0xc000020a), 54: optionOf(4, 0xc0000201) })));
    expect(sent).toEqual([]);
    expect(server.counters).toEqual({ offers: 0, acks: 0, naks: 0, declines: 0, releases: 0, malformed: 5, foreign: 1, 'other-server': 1 });
  });

  it('any damage to a frame: at most one answer, to the guest, and no failure', () => {
    const frame = clientFrame(clientMessage(REQUEST, { 50: optionOf(4, 0xc000020a), 55: Uint8Array.of(1, 3, 6), 61: new Uint8Array(20) }));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 14, max: frame.length - 1 }), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }), fc.integer({ min: 42, max: frame.length }), (changes, length) => {
        const damaged = frame.slice(0, length);
        for (const [at, byte] of changes) if (at < length) damaged[at] = byte;
        const { server, sent } = fresh();
        server.receive(WEB, damaged);
        expect(sent.length).toBeLessThanOrEqual(1);
        for (const one of sent) expect(one.port).toBe(WEB);
        expect(Object.values(server.counters).reduce((sum, count) => sum + count, 0)).toBe(1);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the network of a guest', () => {
  const network = (port: number, facts: Partial<NetworkFacts> = {}) => networkOf(PLAN.guests[port - 1], PLAN.shared, { ...FACTS, ...facts })!;
  const text = (port: number) => network(port).addresses.map(({ address, prefix }) => `${address.toString(16)}/${prefix}`);

  it('has the shared address with the host’s prefix; a dedicated one the prefix of the network around it, or none', () => {
    expect([WEB, DB, FAR].map(text)).toEqual([['c000020a/24'], ['c0000214/24'], ['c6336409/32']]);
  });
  it('has the largest block of its ports in both protocols', () => {
    expect([WEB, DB, FAR].map((port) => network(port).ports)).toEqual([{ first: 20480, last: 24575, bits: 4 }, null, null]);
  });
  it('has no name servers but IPv4 ones', () => {
    expect(network(WEB).dns).toEqual([0x09090909, 0x01010101]);
  });
  it('is not known where no address is shared and none leased', () => {
    expect(networkOf({ ...PLAN.guests[1], addresses: [] }, [], FACTS)).toBeNull();
  });
});
