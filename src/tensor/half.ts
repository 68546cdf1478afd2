/** Elements of half-width floating-point types to and from f32, in the byte order of the machine (little-endian everywhere Node runs but s390x). */

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** IEEE 754 binary16 to f32, exactly. */
export function f16ToF32(x: Uint16Array): Float32Array {
  const out = new Float32Array(x.length);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < x.length; i++) {
    const h = x[i];
    const sign = (h & 0x8000) << 16;
    const rest = h & 0x7fff;
    if (rest >= 0x7c00) bits[i] = sign | 0x7f800000 | ((rest & 0x3ff) << 13);
    else if (rest >= 0x400) bits[i] = sign | ((rest << 13) + 0x38000000);
    else out[i] = (sign === 0 ? rest : -rest) * 2 ** -24; // subnormal, or zero of either sign
  }
  return out;
}

/** bfloat16 to f32, exactly: the upper half of the bits. */
export function bf16ToF32(x: Uint16Array): Float32Array {
  const bits = new Uint32Array(x.length);
  for (let i = 0; i < x.length; i++) bits[i] = x[i] << 16;
  return new Float32Array(bits.buffer);
}

/** f32 to IEEE 754 binary16, to nearest with ties to even: too large becomes infinite, NaN stays NaN. */
export function f32ToF16(x: Float32Array | Float64Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(x.length);
  for (let i = 0; i < x.length; i++) {
    f32[0] = x[i];
    const sign = (u32[0] >>> 16) & 0x8000;
    const magnitude = u32[0] & 0x7fffffff;
    if (magnitude > 0x7f800000) out[i] = sign | 0x7e00;
    else if (magnitude >= 0x47800000) out[i] = sign | 0x7c00;
    // The carry of rounding up reaches the exponent, and from 65504 infinity, as it should.
    else if (magnitude >= 0x38800000) out[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    else {
      f32[0] = Math.abs(x[i]) + 0.5; // the last bit of 0.5 is worth 2 ** -24, the smallest step of binary16
      out[i] = sign | (u32[0] - 0x3f000000);
    }
  }
  return out;
}

/** f32 to bfloat16, to nearest with ties to even; NaN stays NaN. */
export function f32ToBf16(x: Float32Array | Float64Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(x.length);
  for (let i = 0; i < x.length; i++) {
    f32[0] = x[i];
    const bits = u32[0];
    const isNaN = (bits & 0x7fffffff) > 0x7f800000;
    out[i] = isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return out;
}

const halves = f16ToF32(Uint16Array.from({ length: 2 ** 16 }, (_, i) => i));

/** The binary16 number at byte `at`. */
export const f16At = (bytes: Uint8Array, at: number): number => halves[bytes[at] | (bytes[at + 1] << 8)];

/** The f32 number at byte `at`. */
export function f32At(bytes: Uint8Array, at: number): number {
  u32[0] = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
  return f32[0];
}

/** The bfloat16 number at byte `at`. */
export function bf16At(bytes: Uint8Array, at: number): number {
  u32[0] = (bytes[at] << 16) | (bytes[at + 1] << 24);
  return f32[0];
}
