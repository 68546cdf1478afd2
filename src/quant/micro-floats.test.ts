import { describe, expect, it } from "vitest";
import { e4m3Values, e5m2Values } from "../tensor/fp8.js";
import { decodeFp8Blocks } from "./fp8.js";
import { decodeMxfp4Pairs } from "./fp4.js";

describe("FP8", () => {
  it("E4M3: signs, subnormals, the largest number and NaN", () => {
    const bytes = [0, 0x80, 1, 7, 8, 0x38, 0xb8, 0x39, 0x7e, 0x7f, 0xff];
    expect(bytes.map((byte) => e4m3Values[byte])).toEqual([0, -0, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 1, -1, 1.125, 448, Number.NaN, Number.NaN]);
  });

  it("E5M2: signs, subnormals, the largest number, infinity and NaN", () => {
    const bytes = [0, 0x80, 1, 3, 4, 0x3c, 0xbd, 0x7b, 0x7c, 0xfc, 0x7d];
    expect(bytes.map((byte) => e5m2Values[byte])).toEqual([0, -0, 2 ** -16, 3 * 2 ** -16, 2 ** -14, 1, -1.25, 57344, Infinity, -Infinity, Number.NaN]);
  });

  it("block scales belong to their block, cut off at the edges", () => {
    const scales = Float32Array.of(2, 3, 5, 7);
    const values = decodeFp8Blocks("F8_E4M3", new Uint8Array(15).fill(0x38), [3, 5], scales, [2, 4]);
    expect([...values]).toEqual([2, 2, 2, 2, 3, 2, 2, 2, 2, 3, 5, 5, 5, 5, 7]);
    const large = decodeFp8Blocks("F8_E4M3", new Uint8Array(130 * 129).fill(0x40), [130, 129], scales);
    expect([large[0], large[128], large[127 * 129], large[128 * 129], large.at(-1)]).toEqual([4, 6, 4, 10, 14]);
  });

  it("refuses the wrong number of scales", () => {
    expect(() => decodeFp8Blocks("F8_E4M3", new Uint8Array(256), [2, 128], new Float32Array(2))).toThrow(/expected 256 bytes and 1 scales, got 256 and 2/);
  });
});

describe("MXFP4 of gpt-oss", () => {
  it("a byte holds two consecutive elements, the even one low; a block has one power of two", () => {
    const blocks = new Uint8Array(32);
    blocks.set([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
    blocks[16] = 0x2f;
    const values = decodeMxfp4Pairs(blocks, Uint8Array.of(127, 130));
    expect([...values.subarray(0, 16)].map((x) => x + 0)).toEqual([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]);
    expect([...values.subarray(32, 34)]).toEqual([-48, 8]);
  });
});
