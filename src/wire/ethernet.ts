/** Ethernet II (IEEE 802.3) and VLAN tags (IEEE 802.1Q): offsets and numbers. All fields are big-endian. */
export const ETHERNET_HEADER_BYTES = 14;
export const VLAN_TAG_BYTES = 4;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_SERVICE_VLAN = 0x88a8;
export const ETHERTYPE_OLD_QINQ = 0x9100;
/** The most VLAN tags that are skipped when a frame is read. */
export const MAX_VLAN_TAGS = 2;
