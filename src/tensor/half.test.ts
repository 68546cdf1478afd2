import { describe, expect, it } from "vitest";
import { bf16ToF32, f16ToF32, f32ToBf16 } from "./half.js";

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

  it("bf16 survives f32 and back, NaN as some NaN", () => {
    const values = bf16ToF32(all);
    const back = f32ToBf16(values);
    expect(all.filter((bits) => (Number.isNaN(values[bits]) ? (back[bits] & 0x7fff) <= 0x7f80 : back[bits] !== bits))).toEqual(new Uint16Array());
  });

  it("f32 rounds to the nearest bf16, ties to even", () => {
    const of = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer);
    const cases: [number, number][] = [
      [0x3f807fff, 0x3f80], [0x3f808000, 0x3f80], [0x3f808001, 0x3f81], [0x3f818000, 0x3f82], [0x3f81ffff, 0x3f82],
      [0xbf818000, 0xbf82], [0x7f7fffff, 0x7f80], [0xff7fffff, 0xff80], [0x00008001, 0x0001], [0x80000000, 0x8000], [0x7f800001, 0x7fc0],
    ];
    for (const [bits, expected] of cases) expect(f32ToBf16(of(bits))[0].toString(16), bits.toString(16)).toBe(expected.toString(16));
  });
});
