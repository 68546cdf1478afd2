import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { f32ToF16, f16ToF32 } from "../tensor/half.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { readSafetensorsHeader } from "../formats/safetensors.js";
import { blockCodecs, decodeBlocks, encodeBlocks, isDecodable } from "./codecs.js";

const path = new URL("../../../shared/goldens/quant-blocks.safetensors", import.meta.url).pathname;
const absent = !existsSync(path);
const types = Object.keys(blockCodecs) as GgufType[];
const writable = types.filter((type) => blockCodecs[type]?.encode !== undefined);

function golden(): (name: string) => Uint8Array<ArrayBuffer> {
  const { tensors } = readSafetensorsHeader(path);
  const bytes = Uint8Array.from(readFileSync(path));
  return (name) => {
    const { begin, end } = tensors.get(name)!;
    return bytes.slice(begin, end);
  };
}

const bits = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);

describe.skipIf(absent)("blocks of the gguf package (needs ../shared/goldens)", () => {
  it("all 16 types of the file have a codec", () => {
    const inFile = [...readSafetensorsHeader(path).tensors.keys()].filter((name) => name.endsWith(".blocks")).map((name) => name.replace(".blocks", ""));
    expect(inFile.toSorted()).toEqual(types.toSorted());
    expect(types).toHaveLength(16);
  });

  it.each(types)("%s decodes bit for bit", (type) => {
    const of = golden();
    const blocks = of(`${type}.blocks`);
    const want = new Float32Array(of(`${type}.values`).buffer);
    expect(want.length).toBe(64 * ggufTypes[type].elements);
    expect(bits(decodeBlocks(type, blocks))).toEqual(bits(want));
  });

  it("every type that the package encodes has an encoder", () => {
    const encodable = types.filter((type) => readSafetensorsHeader(path).tensors.has(`${type}.encoded`));
    expect(writable).toEqual(encodable);
  });

  it.each(writable)("%s encodes to the same bytes", (type) => {
    const of = golden();
    const encoded = encodeBlocks(type, new Float32Array(of(`${type}.source`).buffer));
    expect(encoded).toEqual(of(`${type}.encoded`));
  });
});

describe("codecs", () => {
  /** Largest error of an element, in units of the block's largest element. Q4_0 and Q5_0 spend one step less on the side of the smaller extreme. */
  const tolerance: Partial<Record<GgufType, number>> = { Q4_0: 0.126, Q4_1: 0.07, Q5_0: 0.063, Q5_1: 0.034, Q8_0: 0.0042, MXFP4: 0.26, TQ1_0: 0.501, TQ2_0: 0.501 };

  it.each(writable)("%s: what is encoded comes back within half a step", (type) => {
    const { elements } = ggufTypes[type];
    const block = fc.array(fc.float({ min: -2, max: 2, noNaN: true }), { minLength: elements, maxLength: elements });
    fc.assert(
      fc.property(block, (numbers) => {
        const values = Float32Array.from(numbers, (x) => (Math.abs(x) < 1e-3 ? 0 : x));
        const back = decodeBlocks(type, encodeBlocks(type, values));
        const largest = Math.max(...values.map(Math.abs));
        values.forEach((x, i) => expect(Math.abs(back[i] - x)).toBeLessThanOrEqual(tolerance[type]! * largest));
      }),
      { numRuns: 50 },
    );
  });

  it("a block of zeros stays one", () => {
    for (const type of writable) {
      const zeros = new Float32Array(ggufTypes[type].elements);
      expect(decodeBlocks(type, encodeBlocks(type, zeros)).every((x) => x === 0), type).toBe(true);
    }
  });

  it("F32, F16 and BF16 pass through, also from the middle of a buffer", () => {
    const values = Float32Array.of(1, -2.5, 0.125, 65504);
    for (const type of ["F32", "F16", "BF16"] as const) {
      const encoded = encodeBlocks(type, Float32Array.of(1, -2.5, 0.125));
      const shifted = new Uint8Array(encoded.length + 1);
      shifted.set(encoded, 1);
      expect(decodeBlocks(type, shifted.subarray(1))).toEqual(values.subarray(0, 3));
    }
    expect(decodeBlocks("F16", encodeBlocks("F16", values))).toEqual(values);
  });

  it.each([Number.NaN, Infinity, -1e38, 65_536])("refuses to quantise %s", (x) => {
    for (const type of [...writable, "F16"] as const) {
      const values = new Float32Array(Math.max(8, ggufTypes[type].elements));
      values[5] = x;
      expect(() => encodeBlocks(type, values)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA" }));
    }
  });

  it("refuses parts of blocks and types without a codec", () => {
    expect(() => decodeBlocks("Q4_K", new Uint8Array(145))).toThrow(/decode Q4_K: expected whole blocks of 144 bytes, got 145 bytes/);
    expect(() => encodeBlocks("Q8_0", new Float32Array(33))).toThrow(/expected whole blocks of 32 elements, got 33/);
    expect(() => decodeBlocks("IQ2_XS", new Uint8Array(74))).toThrow(/decode IQ2_XS: no decoder; expected one of F32, F16/);
    expect(() => encodeBlocks("Q4_K", new Float32Array(256))).toThrow(/encode Q4_K: no encoder; expected one of F32, F16, BF16, Q4_0/);
    expect((Object.keys(ggufTypes) as GgufType[]).filter(isDecodable)).toHaveLength(19);
  });

  it("every f16 survives f32 and back, and f32 rounds to the nearest with ties to even", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = f16ToF32(all);
    const back = f32ToF16(values);
    expect(all.filter((h) => (Number.isNaN(values[h]) ? (back[h] & 0x7fff) <= 0x7c00 : back[h] !== h))).toEqual(new Uint16Array());
    // Between two neighbours: the middle goes to the even one, a little more or less to the nearer.
    const next = Float32Array.of(0);
    for (let h = 0; h < 0x7bff; h++) {
      const middle = (values[h] + values[h + 1]) / 2;
      next[0] = middle;
      bits(next)[0] += 1;
      const [below, at, above] = f32ToF16(Float32Array.of(middle * (1 - 2 ** -23), middle, next[0]));
      if (below !== h || at !== (h % 2 === 0 ? h : h + 1) || above !== h + 1) expect.fail(`around ${middle}: ${below}, ${at}, ${above}`);
    }
    expect(f32ToF16(Float32Array.of(65519.99, 65520, -1e30, 2 ** -26, -(2 ** -40)))).toEqual(Uint16Array.of(0x7bff, 0x7c00, 0xfc00, 0, 0x8000));
  });
});
