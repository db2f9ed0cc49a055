/** TCP (RFC 9293 §3.1): header length without options and the control bits in byte 13. */
export const TCP_MIN_HEADER_BYTES = 20;
/** Offset of the byte whose upper half is the header's length in words. */
export const TCP_DATA_OFFSET = 12;
/** Offset of the control bits. */
export const TCP_FLAGS = 13;
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_ACK = 0x10;
