/** What a guest is answered by DHCP: RFC 2131 §4.3, a row a message. */
import { describe, expect, it } from 'vitest';
import { answerDhcp, type DhcpAnswer, type GuestNetwork } from '../../src/control/dhcp-answer.js';
import { ACK, DECLINE, decodeDhcp, DISCOVER, type DhcpMessage, encodeDhcp, INFORM, NAK, OFFER, optionOf, RELEASE, REQUEST, SERVER_ADDRESS } from '../../src/wire/dhcp.js';
import { clientMessage } from '../support/dhcp.js';

const [OURS, SECOND, FOREIGN] = [0xc000020a, 0xc000020b, 0xc0000263];
const NETWORK: GuestNetwork = {
  mac: clientMessage(DISCOVER).mac,
  addresses: [{ address: OURS, prefix: 24 }, { address: SECOND, prefix: 24 }],
  gateway: 0xc0000201,
  dns: [0x09090909, 0x01010101],
  mtu: 1450,
  ports: { first: 40960, bits: 4 },
};
const server = (address = SERVER_ADDRESS) => ({ 54: optionOf(4, address) });
const asks = (address: number) => ({ 50: optionOf(4, address) });
const answer = (type: number, options: Record<number, Uint8Array> = {}, fields: Partial<DhcpMessage> = {}, network: Partial<GuestNetwork> = {}): DhcpAnswer =>
  answerDhcp(clientMessage(type, options, fields), { ...NETWORK, ...network });
const optionsOf = (given: DhcpAnswer): Record<number, number[]> => {
  if (!('reply' in given)) throw new Error(`no reply: ${given.kind}`);
  return Object.fromEntries([...given.reply.options].map(([code, value]) => [code, [...value]]));
};
const WHOLE = { 1: [255, 255, 255, 0], 3: [192, 0, 2, 1], 6: [9, 9, 9, 9, 1, 1, 1, 1], 26: [5, 170] };
const TIMES = { 51: [0, 0, 1, 44], 58: [0, 0, 0, 60], 59: [0, 0, 0, 240] };
const SERVER = { 54: [169, 254, 0, 67] };

describe('what is answered', () => {
  it.each([
    { name: 'offers the first address', given: answer(DISCOVER), kind: 'offer', type: OFFER, yiaddr: OURS, to: OURS },
    { name: 'offers another of its addresses that the guest asks for', given: answer(DISCOVER, asks(SECOND)), kind: 'offer', type: OFFER, yiaddr: SECOND, to: SECOND },
    { name: 'offers its own where the guest asks for another’s', given: answer(DISCOVER, asks(FOREIGN)), kind: 'offer', type: OFFER, yiaddr: OURS, to: OURS },
    { name: 'offers by broadcast where the guest asks so', given: answer(DISCOVER, {}, { flags: 0x8000 }), kind: 'offer', type: OFFER, yiaddr: OURS, to: 0xffffffff },
    { name: 'acknowledges what it offered', given: answer(REQUEST, { ...asks(OURS), ...server() }), kind: 'ack', type: ACK, yiaddr: OURS, to: OURS },
    { name: 'refuses what it would not offer', given: answer(REQUEST, { ...asks(FOREIGN), ...server() }), kind: 'nak', type: NAK, yiaddr: 0, to: 0xffffffff },
    { name: 'acknowledges a remembered address (INIT-REBOOT)', given: answer(REQUEST, asks(SECOND)), kind: 'ack', type: ACK, yiaddr: SECOND, to: SECOND },
    { name: 'refuses a remembered address that is not the guest’s', given: answer(REQUEST, asks(FOREIGN)), kind: 'nak', type: NAK, yiaddr: 0, to: 0xffffffff },
    { name: 'renews', given: answer(REQUEST, {}, { ciaddr: OURS }), kind: 'ack', type: ACK, yiaddr: OURS, to: OURS },
    { name: 'renews to the address itself whatever the broadcast flag', given: answer(REQUEST, {}, { ciaddr: OURS, flags: 0x8000 }), kind: 'ack', type: ACK, yiaddr: OURS, to: OURS },
    { name: 'refuses to renew an address that the host no longer has', given: answer(REQUEST, {}, { ciaddr: FOREIGN }), kind: 'nak', type: NAK, yiaddr: 0, to: 0xffffffff },
    { name: 'informs', given: answer(INFORM, {}, { ciaddr: OURS }), kind: 'ack', type: ACK, yiaddr: 0, to: OURS },
  ])('$name', ({ given, kind, type, yiaddr, to }) => {
    expect(given).toMatchObject({ kind, to, reply: { op: 2, xid: 0x12345678, yiaddr, giaddr: 0, mac: NETWORK.mac } });
    expect(optionsOf(given)).toMatchObject({ 53: [type], ...SERVER });
  });

  it.each([
    ['a decline', answer(DECLINE, { ...asks(OURS), ...server() }), { kind: 'declined', address: OURS }],
    ['a release', answer(RELEASE, server(), { ciaddr: OURS }), { kind: 'released', address: OURS }],
  ])('takes note of %s', (_, given, expected) => {
    expect(given).toEqual(expected);
  });

  it.each([
    ['a reply', answer(DISCOVER, {}, { op: 2 }), 'malformed'],
    ['no message type', answerDhcp({ ...clientMessage(DISCOVER), options: new Map() }, NETWORK), 'malformed'],
    ['a message type of two bytes', answer(DISCOVER, { 53: Uint8Array.of(0, 1) }), 'malformed'],
    ['a message type that servers send', answer(OFFER), 'malformed'],
    ['an unknown message type', answer(13), 'malformed'],
    ['an address of three bytes', answer(REQUEST, { 50: Uint8Array.of(1, 2, 3) }), 'malformed'],
    ['a server of five bytes', answer(REQUEST, { ...asks(OURS), 54: new Uint8Array(5) }), 'malformed'],
    ['a size of four bytes', answer(DISCOVER, { 57: new Uint8Array(4) }), 'malformed'],
    ['a client identifier of one byte', answer(DISCOVER, { 61: Uint8Array.of(1) }), 'malformed'],
    ['a giant client identifier', answer(DISCOVER, { 61: new Uint8Array(300) }), 'malformed'],
    ['a request for nothing', answer(REQUEST), 'malformed'],
    ['a request for two addresses', answer(REQUEST, asks(OURS), { ciaddr: OURS }), 'malformed'],
    ['a choice of this server without an address', answer(REQUEST, server()), 'malformed'],
    ['a choice of this server by one that has an address', answer(REQUEST, { ...asks(OURS), ...server() }, { ciaddr: OURS }), 'malformed'],
    ['the choice of another server', answer(REQUEST, { ...asks(OURS), ...server(FOREIGN) }), 'other-server'],
    ['a decline to another server', answer(DECLINE, { ...asks(OURS), ...server(FOREIGN) }), 'other-server'],
    ['another client', answer(DISCOVER, {}, { mac: Uint8Array.of(2, 0, 0x5e, 0x10, 0, 0x11) }), 'foreign'],
    ['a relay', answer(DISCOVER, {}, { giaddr: OURS }), 'foreign'],
    ['one that informs itself about another’s address', answer(INFORM, {}, { ciaddr: FOREIGN }), 'foreign'],
  ])('ignores %s', (_, given, why) => {
    expect(given).toEqual({ kind: 'ignored', why });
  });
});

describe('what a guest is told', () => {
  it('all of it where it does not say what it wants', () => {
    expect(optionsOf(answer(DISCOVER))).toEqual({ 53: [OFFER], ...SERVER, ...WHOLE, ...TIMES });
  });
  it('what it asks for, and the mask always', () => {
    expect(optionsOf(answer(REQUEST, { ...asks(OURS), 55: Uint8Array.of(3, 12, 15) }))).toEqual({ 53: [ACK], ...SERVER, ...TIMES, 1: WHOLE[1], 3: WHOLE[3] });
  });
  it('its ports where it asks for them (RFC 7618)', () => {
    expect(optionsOf(answer(DISCOVER, { 55: Uint8Array.of(159) }))).toMatchObject({ 159: [0, 4, 0xa0, 0] });
    expect(optionsOf(answer(DISCOVER, { 55: Uint8Array.of(159) }, {}, { ports: null }))).not.toHaveProperty('159');
  });
  it('no lease where it has its address already', () => {
    expect(optionsOf(answer(INFORM, {}, { ciaddr: OURS }))).toEqual({ 53: [ACK], ...SERVER, ...WHOLE });
  });
  it('nothing of a network in a refusal', () => {
    expect(optionsOf(answer(REQUEST, asks(FOREIGN)))).toEqual({ 53: [NAK], ...SERVER });
  });
  it('no gateway and no name servers where the host has none', () => {
    const told = optionsOf(answer(DISCOVER, {}, {}, { gateway: null, dns: [] }));
    for (const code of [3, 6, 121]) expect(told).not.toHaveProperty(String(code));
  });
  it('a route to a gateway that lies outside its own network', () => {
    const told = optionsOf(answer(DISCOVER, {}, {}, { addresses: [{ address: FOREIGN, prefix: 32 }] }));
    expect(told).toMatchObject({ 1: [255, 255, 255, 255], 3: [192, 0, 2, 1], 121: [32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1] });
  });
  it('its identifier, again (RFC 6842), also in a refusal', () => {
    const id = Uint8Array.of(255, 1, 2, 3);
    for (const given of [answer(DISCOVER, { 61: id }), answer(REQUEST, { 61: id, ...asks(FOREIGN) })]) expect(optionsOf(given)).toMatchObject({ 61: [...id] });
  });
  it('the most important first, in a message that is full', () => {
    const given = answer(DISCOVER, { 61: new Uint8Array(255).fill(3) });
    if (!('reply' in given)) throw new Error('no reply');
    expect(given.mostBytes).toBe(548);
    const bytes = encodeDhcp(given.reply, given.mostBytes);
    expect(bytes.length).toBeLessThanOrEqual(548);
    expect([...decodeDhcp(bytes)!.options.keys()]).toEqual([53, 54, 61, 51, 1, 3, 6, 26, 58]);
  });
  it.each([[100, 548], [576, 548], [1200, 1172], [65535, 1472]])('a client that takes %i bytes gets at most %i', (size, most) => {
    expect(answer(DISCOVER, { 57: optionOf(2, size) })).toMatchObject({ mostBytes: most });
  });
});
