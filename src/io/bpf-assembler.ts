/**
 * Assembler of eBPF instructions (linux/bpf.h, RFC 9669), as far as the programs here need them: one method an instruction,
 * jumps to named places, all of them forward.
 *
 * Registers    0 the result and what `lookup` and `call…` give; 1–5 lost by these; 6–9 kept; STACK, of which `lookup` uses the
 *              first 4 bytes, the rest is the program's.
 * Comparisons  of the lower 32 bits, unsigned; only `jumpIfMissing` looks at 64.
 */
const LOAD_MAP = 0x18;
const MAP_DESCRIPTOR = 1;
const LOOKUP_HELPER = 1;
const KERNEL_FUNCTION = 2;
/** The top of the stack: what is below it, down to -512, is the program's. */
export const STACK = 10;

export class BpfAssembler {
  private readonly instructions: { code: number; dst: number; src: number; offset: number; imm: number; to: string | null }[] = [];
  private readonly places = new Map<string, number>();

  /** Names the place of the next instruction. */
  place(name: string): void {
    if (this.places.has(name)) throw new RangeError(`two places are named ${name}`);
    this.places.set(name, this.instructions.length);
  }

  /** dst = the word that `src` + `at` points to. */
  read(dst: number, src: number, at: number): void {
    this.emit(0x61, dst, src, at);
  }

  /** The same, of one byte, two, or eight. */
  readByte(dst: number, src: number, at: number): void {
    this.emit(0x71, dst, src, at);
  }

  readHalf(dst: number, src: number, at: number): void {
    this.emit(0x69, dst, src, at);
  }

  readDouble(dst: number, src: number, at: number): void {
    this.emit(0x79, dst, src, at);
  }

  copy(dst: number, src: number): void {
    this.emit(0xbf, dst, src);
  }

  set(dst: number, value: number): void {
    this.emit(0xb7, dst, 0, 0, value);
  }

  add(dst: number, value: number): void {
    this.emit(0x07, dst, 0, 0, value);
  }

  addRegister(dst: number, src: number): void {
    this.emit(0x0f, dst, src);
  }

  subtractRegister(dst: number, src: number): void {
    this.emit(0x1f, dst, src);
  }

  /** The lower 16, or 32, bits of `dst` as they are in a frame: most significant byte first. */
  swapHalf(dst: number): void {
    this.emit(0xdc, dst, 0, 0, 16);
  }

  swapWord(dst: number): void {
    this.emit(0xdc, dst, 0, 0, 32);
  }

  and(dst: number, value: number): void {
    this.emit(0x57, dst, 0, 0, value);
  }

  shiftLeft(dst: number, bits: number): void {
    this.emit(0x67, dst, 0, 0, bits);
  }

  shiftLeftBy(dst: number, src: number): void {
    this.emit(0x6f, dst, src);
  }

  shiftRight(dst: number, bits: number): void {
    this.emit(0x77, dst, 0, 0, bits);
  }

  /** The word at `dst` + `at` = `src`. */
  write(dst: number, at: number, src: number): void {
    this.emit(0x63, dst, src, at);
  }

  /** The word at `dst` + `at` gets the bits of `src` too, atomically. */
  orAtomically(dst: number, at: number, src: number): void {
    this.emit(0xc3, dst, src, at, 0x40);
  }

  /** The 64-bit word at `dst` + `at` grows by `src`, atomically. */
  addAtomically(dst: number, at: number, src: number): void {
    this.emit(0xdb, dst, src, at);
  }

  /** Register 0 = a pointer to the value that the map has for the word in `key`, or 0. */
  lookup(map: number, key: number): void {
    this.write(STACK, -4, key);
    this.copy(2, STACK);
    this.add(2, -4);
    this.emit(LOAD_MAP, 1, MAP_DESCRIPTOR, 0, map);
    this.emit(0); // its second half
    this.call(LOOKUP_HELPER);
  }

  /** Register 0 = what the helper of this number (bpf-helpers(7)) returns for registers 1 to 5. */
  call(helper: number): void {
    this.emit(0x85, 0, 0, 0, helper);
  }

  /** The same, of a function of the kernel by its id (io/kernel-types.ts). */
  callKernel(id: number): void {
    this.emit(0x85, 0, KERNEL_FUNCTION, 0, id);
  }

  jump(to: string): void {
    this.emit(0x05, 0, 0, 0, 0, to);
  }

  /** After `lookup`: it has nothing for the key. */
  jumpIfMissing(to: string): void {
    this.emit(0x15, 0, 0, 0, 0, to);
  }

  jumpIfEqual(register: number, value: number, to: string): void {
    this.emit(0x16, register, 0, 0, value, to);
  }

  jumpUnlessEqual(register: number, value: number, to: string): void {
    this.emit(0x56, register, 0, 0, value, to);
  }

  jumpIfAny(register: number, bits: number, to: string): void {
    this.emit(0x46, register, 0, 0, bits, to);
  }

  jumpIfAnyOf(register: number, other: number, to: string): void {
    this.emit(0x4e, register, other, 0, 0, to);
  }

  jumpIfLess(register: number, value: number, to: string): void {
    this.emit(0xa6, register, 0, 0, value, to);
  }

  jumpIfMore(register: number, value: number, to: string): void {
    this.emit(0x26, register, 0, 0, value, to);
  }

  jumpIfMoreThan(register: number, other: number, to: string): void {
    this.emit(0x2e, register, other, 0, 0, to);
  }

  exit(): void {
    this.emit(0x95);
  }

  /** The program, 8 bytes an instruction, in this machine's byte order (the addon runs on little-endian ones only). */
  assemble(): Uint8Array {
    const bytes = new Uint8Array(this.instructions.length * 8);
    const view = new DataView(bytes.buffer);
    this.instructions.forEach(({ code, dst, src, offset, imm, to }, n) => {
      const target = to === null ? n + 1 + offset : this.places.get(to);
      if (target === undefined) throw new RangeError(`no place is named ${to}`);
      view.setUint8(n * 8, code);
      view.setUint8(n * 8 + 1, (src << 4) | dst);
      view.setInt16(n * 8 + 2, target - n - 1, true);
      view.setInt32(n * 8 + 4, imm | 0, true);
    });
    return bytes;
  }

  private emit(code: number, dst = 0, src = 0, offset = 0, imm = 0, to: string | null = null): void {
    this.instructions.push({ code, dst, src, offset, imm, to });
  }
}
