/**
 * The running kernel's own types (BTF), as far as a BPF program needs them that reads a kernel structure or calls a kernel function.
 *
 * Source       /sys/kernel/btf/vmlinux; the format: Documentation/bpf/btf.rst. A type's id is its place in the list, from 1.
 * Cost         one pass over some 5 MB, 20–40 ms: read when needed, not kept.
 */
import { readFileSync } from 'node:fs';
import { BerthError } from '../base/errors.js';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const MAGIC = 0xeb9f;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
const INT = 1;
const STRUCT = 4;
const UNION = 5;
const FUNCTION = 12;
/** By kind: bytes that follow a type, and bytes that follow it for each of its members. */
const FIXED = [0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0, 0];
const EACH = [0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12];

/** Where a member lies, in bits from the start of its structure; `bits` is its width if it is a bit field, else 0. */
export interface Field {
  readonly offset: number;
  readonly bits: number;
}

export class KernelTypes {
  private readonly view: DataView;
  private readonly bytes: Buffer;
  private readonly strings: number;
  /** By id: where the type begins. */
  private readonly starts: number[] = [0];

  /** ERR_NO_BTF where the kernel does not tell its types (CONFIG_DEBUG_INFO_BTF), or in a form that is not known. */
  constructor(file = VMLINUX) {
    try {
      this.bytes = readFileSync(file);
    } catch (cause) {
      throw new BerthError('ERR_NO_BTF', `the kernel does not tell its types: ${file} cannot be read`, { cause });
    }
    const { bytes } = this;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 24 || this.view.getUint16(0, true) !== MAGIC) throw new BerthError('ERR_NO_BTF', `${file} does not hold types of this kernel`);
    const header = this.word(4);
    this.strings = header + this.word(16);
    const end = header + this.word(8) + this.word(12);
    for (let at = header + this.word(8); at < end; ) {
      this.starts.push(at);
      const kind = this.kindAt(at);
      if (kind >= FIXED.length) throw new BerthError('ERR_NO_BTF', `${file} has a kind of type that is not known: ${kind}`);
      at += TYPE_BYTES + FIXED[kind] + EACH[kind] * this.membersAt(at);
    }
  }

  /** The id of a function of the kernel; null where there is none. */
  functionId(name: string): number | null {
    return this.find(FUNCTION, name);
  }

  /** A member of a structure, also one of an unnamed structure or union within it; null where there is none. */
  field(structure: string, member: string): Field | null {
    const id = this.find(STRUCT, structure);
    return id === null ? null : this.memberOf(id, member, 0);
  }

  private find(wanted: number, name: string): number | null {
    for (let id = 1; id < this.starts.length; id++) {
      const at = this.starts[id];
      if (this.kindAt(at) === wanted && this.isNamed(this.word(at), name)) return id;
    }
    return null;
  }

  private memberOf(id: number, name: string, base: number): Field | null {
    const start = this.starts[id];
    const areBitFields = this.word(start + 4) >>> 31 === 1;
    for (let n = 0; n < this.membersAt(start); n++) {
      const at = start + TYPE_BYTES + n * MEMBER_BYTES;
      const position = this.word(at + 8);
      const offset = base + (areBitFields ? position & 0xffffff : position);
      if (this.isNamed(this.word(at), name)) return { offset, bits: areBitFields ? position >>> 24 : this.oldBitField(this.word(at + 4)) };
      const type = this.word(at + 4);
      const kind = this.kindAt(this.starts[type]);
      const found = this.isNamed(this.word(at), '') && (kind === STRUCT || kind === UNION) ? this.memberOf(type, name, offset) : null;
      if (found !== null) return found;
    }
    return null;
  }

  /** Where the structure has no bit fields marked as such, a member may have an integer's type with a width of its own. */
  private oldBitField(type: number): number {
    const start = this.starts[type];
    if (this.kindAt(start) !== INT) return 0;
    const bits = this.word(start + TYPE_BYTES) & 0xff;
    return bits === 8 * this.word(start + 8) ? 0 : bits;
  }

  private isNamed(offset: number, name: string): boolean {
    const at = this.strings + offset;
    if (this.bytes[at + name.length] !== 0) return false;
    for (let i = 0; i < name.length; i++) if (this.bytes[at + i] !== name.charCodeAt(i)) return false;
    return true;
  }

  private kindAt(at: number): number {
    return (this.word(at + 4) >>> 24) & 0x1f;
  }

  private membersAt(at: number): number {
    return this.word(at + 4) & 0xffff;
  }

  private word(at: number): number {
    return this.view.getUint32(at, true);
  }
}
