const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

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
