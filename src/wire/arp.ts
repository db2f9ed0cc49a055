/** ARP for IPv4 over Ethernet (RFC 826): 28 bytes after the Ethernet header; offsets from its start. */
export const ARP_BYTES = 28;
/** hardware type 1, protocol type 0x0800 / lengths 6 and 4, as the first two 32-bit words hold them (the second's upper half). */
export const ARP_ETHERNET_IPV4 = 0x00010800;
export const ARP_LENGTHS = 0x0604;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
export const ARP_OPERATION = 6;
export const ARP_SENDER_MAC = 8;
export const ARP_SENDER_IP = 14;
export const ARP_TARGET_MAC = 18;
export const ARP_TARGET_IP = 24;
