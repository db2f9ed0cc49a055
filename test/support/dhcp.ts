/** DHCP messages as clients send them, for tests: fields with defaults, options by code. */
import { BOOT_REQUEST, type DhcpMessage, encodeDhcp, OPTION_MESSAGE_TYPE, optionOf } from '../../src/wire/dhcp.js';
import { eth } from '../../src/wire/frame-builder.js';

export const CLIENT_MAC = '02:00:5e:10:00:10';
const CLIENT = Uint8Array.of(0x02, 0x00, 0x5e, 0x10, 0x00, 0x10);

export function clientMessage(type: number, options: Record<number, Uint8Array> = {}, fields: Partial<DhcpMessage> = {}): DhcpMessage {
  const all = new Map([[OPTION_MESSAGE_TYPE, optionOf(1, type)], ...Object.entries(options).map(([code, value]) => [Number(code), value] as [number, Uint8Array])]);
  return { op: BOOT_REQUEST, xid: 0x12345678, flags: 0, ciaddr: 0, yiaddr: 0, giaddr: 0, mac: CLIENT, options: all, ...fields };
}

/** The frame of a client that has no address yet. */
export function clientFrame(message: DhcpMessage): Uint8Array {
  return eth({ src: CLIENT_MAC, dst: 'ff:ff:ff:ff:ff:ff' })
    .ipv4({ src: '0.0.0.0', dst: '255.255.255.255' })
    .udp(68, 67, { payload: encodeDhcp(message, 1400) })
    .build();
}
