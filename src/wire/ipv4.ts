/** IPv4 (RFC 791 §3.1) and its protocol numbers (IANA). */
export const IPV4_MIN_HEADER_BYTES = 20;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
/** In the 16-bit flags-and-offset field: more fragments, and the offset in units of 8 bytes. */
export const MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET_MASK = 0x1fff;
