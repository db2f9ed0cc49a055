/** UDP (RFC 768). */
export const UDP_HEADER_BYTES = 8;
