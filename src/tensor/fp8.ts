/** Values of the 256 bytes of 8-bit floats (OCP 8-bit floating point 1.0), all exact in f32. */

/** E4M3 without infinities: bias 7, NaN where all seven bits are set. */
function e4m3(byte: number): number {
  const sign = byte < 128 ? 1 : -1;
  const exponent = (byte >>> 3) & 15;
  const fraction = byte & 7;
  if ((byte & 127) === 127) return Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
}

/** E5M2, the upper byte of a binary16: bias 15. */
function e5m2(byte: number): number {
  const sign = byte < 128 ? 1 : -1;
  const exponent = (byte >>> 2) & 31;
  const fraction = byte & 3;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -16 : (4 + fraction) * 2 ** (exponent - 17));
}

export const e4m3Values: Readonly<Float32Array> = Float32Array.from({ length: 256 }, (_, byte) => e4m3(byte));
export const e5m2Values: Readonly<Float32Array> = Float32Array.from({ length: 256 }, (_, byte) => e5m2(byte));
