/**
 * What is said of a capture that cannot be read, or not to its end: one line with the file, the place and what to do.
 *
 * Places       are bytes of the inflated file, and the line says so where that is not the file on disk.
 */
import { BerthError, messageOf } from '../base/errors.js';
import { LINK_ETHERNET } from './capture-window.js';

/** Link types that people do hand over, by the names under which they know them. */
const LINK_NAMES: Record<number, string> = { 0: 'BSD loopback', 101: 'raw IP', 105: '802.11', 113: 'Linux cooked', 127: 'radiotap', 276: 'Linux cooked 2' };

const VERBS = { TRUNCATED: 'truncated', MALFORMED: 'damaged', READ: 'cannot be read' };

/** Names one capture file in errors. */
export class CapturePlace {
  readonly path: string;
  readonly isGzip: boolean;

  constructor(path: string, isGzip: boolean) {
    this.path = path;
    this.isGzip = isGzip;
  }

  /** @param at  where the damaged record begins, in the inflated bytes */
  error(kind: keyof typeof VERBS, at: number, what: string, cause?: unknown): BerthError {
    const place = `byte ${at}${this.isGzip ? ' of the uncompressed data' : ''}`;
    return new BerthError(`ERR_CAPTURE_${kind}`, `${this.path}: ${VERBS[kind]} at ${place}: ${what}`, { cause });
  }

  /** The error of a source that ended early, with `there` bytes of the record at `at`. */
  sourceError(failure: Error, at: number, there: number): BerthError {
    const code = (failure as NodeJS.ErrnoException).code ?? '';
    const what = `${messageOf(failure)}, after ${there} bytes of a record`;
    if (!code.startsWith('Z_')) return this.error('READ', at, what, failure);
    return this.error(code === 'Z_BUF_ERROR' ? 'TRUNCATED' : 'MALFORMED', at, `gzip: ${what}`, failure);
  }

  formatError(what: string): BerthError {
    return new BerthError('ERR_CAPTURE_FORMAT', `${this.path}: not a capture that Berth reads: ${what}; expected pcap or pcapng, plain or gzip`);
  }

  /** @param head  the first bytes of the file */
  unknownFormat(head: Uint8Array): BerthError {
    if (head.length === 0) return this.formatError('it is empty');
    return this.formatError(`it begins with ${Array.from(head, (byte) => byte.toString(16).padStart(2, '0')).join(' ')}`);
  }

  linkTypeError(linkType: number): BerthError {
    const name = LINK_NAMES[linkType];
    const what = `link type ${linkType}${name === undefined ? '' : ` (${name})`}, expected ${LINK_ETHERNET} (Ethernet)`;
    return new BerthError('ERR_CAPTURE_LINKTYPE', `${this.path}: ${what}: capture on one Ethernet interface (tcpdump -i eth0, not -i any)`);
  }
}
