import { describe, expect, it } from "vitest";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "./half.js";

const all = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** Value of a binary floating-point pattern, from its definition. */
function define(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> (exponentBits + fractionBits) === 0 ? 1 : -1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

describe("half-width floats", () => {
  it.each([
    ["f16", f16ToF32, 5, 10],
    ["bf16", bf16ToF32, 8, 7],
  ] as const)("every %s has the value that its bits define", (_, convert, exponentBits, fractionBits) => {
    const values = convert(all);
    expect(all.filter((bits) => !Object.is(values[bits], define(bits, exponentBits, fractionBits)))).toEqual(new Uint16Array());
  });

  it.each([
    ["f16", f16ToF32, f32ToF16, 0x7c00],
    ["bf16", bf16ToF32, f32ToBf16, 0x7f80],
  ] as const)("%s survives f32 and back, NaN as some NaN", (_, widen, narrow, infinity) => {
    const values = widen(all);
    const back = narrow(values);
    expect(all.filter((bits) => (Number.isNaN(values[bits]) ? (back[bits] & 0x7fff) <= infinity : back[bits] !== bits))).toEqual(new Uint16Array());
  });

  it("f32 rounds to the nearest bf16, ties to even", () => {
    const of = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer);
    const cases: [number, number][] = [
      [0x3f807fff, 0x3f80], [0x3f808000, 0x3f80], [0x3f808001, 0x3f81], [0x3f818000, 0x3f82], [0x3f81ffff, 0x3f82],
      [0xbf818000, 0xbf82], [0x7f7fffff, 0x7f80], [0xff7fffff, 0xff80], [0x00008001, 0x0001], [0x80000000, 0x8000], [0x7f800001, 0x7fc0],
    ];
    for (const [bits, expected] of cases) expect(f32ToBf16(of(bits))[0].toString(16), bits.toString(16)).toBe(expected.toString(16));
  });

  it("f32 rounds to the nearest f16, ties to even, subnormals and what overflows too", () => {
    const ulp = 2 ** -10;
    const cases: [number, number][] = [
      [1 + ulp / 2, 0x3c00], [1 + ulp * 0.501, 0x3c01], [1 + ulp * 1.5, 0x3c02], [-1 - ulp * 1.5, 0xbc02], [2 - ulp / 4, 0x4000],
      [65519, 0x7bff], [65520, 0x7c00], [65536, 0x7c00], [-1e9, 0xfc00], [2 ** -25, 0], [1.5 * 2 ** -24, 2], [-0.51 * 2 ** -24, 0x8001], [2 ** -14 - 2 ** -26, 0x400],
    ];
    for (const [x, expected] of cases) expect(f32ToF16(Float32Array.of(x))[0].toString(16), String(x)).toBe(expected.toString(16));
  });
});
