/**
 * The Internet checksum (RFC 1071): the complement of the one's-complement sum of big-endian 16-bit words.
 *
 * Sums         travel unfolded and uncomplemented, so a pseudo header is just the `initial` of the next call.
 * Checking     a span that includes its own correct checksum gives 0.
 * UDP          a computed 0 is sent as 0xffff, because 0 means "none" (RFC 768): the caller's business.
 */

/**
 * Checksum of `length` bytes at `offset`, an odd last byte padded with zero on the right (RFC 1071 §4.1).
 * @param bytes borrowed for the call; `offset + length` must lie within it.
 * @param initial an unfolded sum to start from (`pseudoHeaderSum`), 0 … 2^52.
 * @returns 0 … 65535, to be stored big-endian.
 */
export function checksum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  const end = offset + length;
  const even = end - (length & 1);
  let sum = initial;
  for (let i = offset; i < even; i += 2) sum += bytes[i] * 256 + bytes[i + 1];
  if (even < end) sum += bytes[even] * 256;
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum ^ 0xffff;
}

/**
 * Unfolded sum of the pseudo header that TCP (RFC 9293 §3.1) and UDP (RFC 768) put before their segment over IPv4.
 * @param source IPv4 address as a number in host order; @param destination the same.
 * @param protocol IANA number; @param length bytes of transport header and data.
 */
export function pseudoHeaderSum(source: number, destination: number, protocol: number, length: number): number {
  return (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length;
}
