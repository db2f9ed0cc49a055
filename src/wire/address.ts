/**
 * Text and number forms of addresses. An IPv4 address is a number 0 … 2^32-1 in host order (192.0.2.1 = 0xc0000201);
 * a MAC address is six bytes, `02:00:5e:10:00:01`. The only import of ipaddr.js.
 */
import ipaddr from 'ipaddr.js';

/** Dotted quad → number; null for anything else (also for the octal and short forms that inet_aton takes). */
export function parseIpv4(text: string): number | null {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) return null;
  const [a, b, c, d] = ipaddr.IPv4.parse(text).octets as [number, number, number, number];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** `aa:bb:cc:dd:ee:ff` (any case) → six bytes; null for anything else. */
export function parseMac(text: string): Uint8Array | null {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return null;
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}

export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
