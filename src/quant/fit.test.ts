import { describe, expect, it } from "vitest";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { Random } from "../tensor/random.js";
import { blockCodecs, decodeBlocks, encodeBlocks, fitBlocks } from "./codecs.js";

const types = (Object.keys(blockCodecs) as GgufType[]).filter((type) => blockCodecs[type]?.fit !== undefined);
const cols = 512;
const ones = new Float32Array(cols).fill(1);

const random = new Random(5);
const normal = () => Math.sqrt(-2 * Math.log(1 - random.float())) * Math.cos(2 * Math.PI * random.float());
const weights = Float32Array.from({ length: 24 * cols }, () => 0.02 * normal());
/** Some columns matter a hundred times more than others, as in real layers. */
const importance = Float32Array.from({ length: cols }, () => Math.exp(1.5 * normal()));

/** sum of w (x - y)^2 over sum of w x^2 */
function error(type: GgufType, x: Float32Array, bytes: Uint8Array<ArrayBuffer>, w: Float32Array): number {
  const y = decodeBlocks(type, bytes);
  const sum = (f: (i: number) => number) => x.reduce((total, _, i) => total + (w[i % cols] as number) * f(i) ** 2, 0);
  const difference = sum((i) => x[i]! - y[i]!);
  return difference === 0 ? 0 : difference / sum((i) => x[i]!);
}

describe("search for scales", () => {
  /**
   * Squared error of normal weights: within 3 % of what this search reaches, and below what ggml's own quantisers (ggml_quantize_chunk with an importance
   * of 1 everywhere) reach on the same kind of weights: the figures in the comments.
   */
  const reached: Partial<Record<GgufType, number>> = {
    Q4_0: 6.53e-3, // 6.64e-3
    Q4_1: 4.82e-3, // 4.84e-3
    Q5_0: 1.6e-3, // 1.63e-3
    Q5_1: 1.13e-3, // 1.13e-3
    Q2_K: 6.93e-2, // 7.15e-2
    Q3_K: 2.07e-2, // 2.07e-2
    Q4_K: 4.9e-3, // 4.96e-3
    Q5_K: 1.2e-3, // 1.24e-3
    Q6_K: 2.71e-4, // 2.99e-4
    IQ4_NL: 5.34e-3, // 5.58e-3
    IQ4_XS: 5.4e-3, // 5.68e-3
    MXFP4: 1.24e-2, // 1.29e-2
  };

  it("there is one for every type that weights are stored in, 8-bit ones apart", () => expect(types.toSorted()).toEqual(Object.keys(reached).toSorted()));

  it.each(types)("%s: the error of normal weights", (type) => {
    const found = error(type, weights, fitBlocks(type, weights.slice(), ones), ones);
    expect(found).toBeLessThan(1.03 * reached[type]!);
    expect(found).toBeGreaterThan(0.9 * reached[type]!);
    if (blockCodecs[type]?.encode !== undefined) expect(found).toBeLessThan(0.97 * error(type, weights, encodeBlocks(type, weights.slice()), ones));
  });

  it.each(types)("%s: columns that matter more get less of the error", (type) => {
    const [plain, weighted] = [fitBlocks(type, weights.slice(), ones), fitBlocks(type, weights.slice(), importance)];
    // One exponent for 32 leaves MXFP4 little to choose.
    expect(error(type, weights, weighted, importance)).toBeLessThan((type === "MXFP4" ? 0.999 : 0.8) * error(type, weights, plain, importance));
    expect(error(type, weights, weighted, ones)).toBeGreaterThan(error(type, weights, plain, ones));
  });

  it.each<[GgufType, number]>([["Q2_K", 3.3e-3], ["Q4_K", 3.7e-4], ["Q5_K", 8e-5]])("%s: where all weights are positive the minimum, whose sign is fixed, is 0", (type, least) => {
    const x = ones.map((_, i) => 1 + (i % 11) / 50);
    expect(error(type, x, fitBlocks(type, x.slice(), ones), ones)).toBeLessThan(1.01 * least);
  });

  const rows: [string, (i: number) => number][] = [
    ["one outlier", (i) => (i === 77 ? 65_504 : 1e-3 * ((i % 5) - 2))],
    ["denormal numbers", (i) => 1e-42 * (i % 7)],
    ["below the least f16 scale", (i) => 1e-9 * ((i % 9) - 4)],
    ["one value", () => 3.25],
    ["one negative value", () => -3.25],
    ["only positive ones", (i) => 1 + (i % 11) / 50],
    ["the largest", (i) => (i % 2 === 0 ? 65_504 : -65_504)],
    ["a single element", (i) => (i % 256 === 3 ? -0.5 : 0)],
  ];
  it.each(types.flatMap((type) => rows.map(([name, f]) => [type, name, f] as const)))("%s, %s: finite, and never further off than zeros", (type, _name, f) => {
    const x = ones.map((_, i) => f(i));
    for (const w of [ones, importance, ones.map((_, i) => (i % 64 < 40 ? 0 : 1e30)), ones.map((_, i) => 1e-38 * (i % 2))]) {
      const bytes = fitBlocks(type, x.slice(), w);
      expect(decodeBlocks(type, bytes).every(Number.isFinite)).toBe(true);
      expect(error(type, x, bytes, w)).toBeLessThanOrEqual(1);
    }
  });

  it.each(types)("%s: zeros stay zeros, and columns without importance change nothing of the others", (type) => {
    expect(decodeBlocks(type, fitBlocks(type, new Float32Array(cols), importance)).every((x) => x === 0)).toBe(true);
    const { elements } = ggufTypes[type];
    const first = Float32Array.from(importance, (w, i) => (i < elements ? w : 0));
    const row = weights.slice(0, cols);
    expect(fitBlocks(type, row.slice(), first).subarray(0, ggufTypes[type].bytes)).toEqual(fitBlocks(type, row.slice(), importance).subarray(0, ggufTypes[type].bytes));
    expect(fitBlocks(type, row.slice(), new Float32Array(cols))).toEqual(fitBlocks(type, row.slice(), ones));
  });

  it.each([Number.NaN, Infinity, 65_536])("refuses the weight %s and negative or infinite importance", (x) => {
    for (const type of types) {
      const values = weights.slice(0, cols);
      values[9] = x;
      expect(() => fitBlocks(type, values, ones)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringContaining("up to 65504") }));
      for (const w of [-1, Number.NaN, Infinity]) expect(() => fitBlocks(type, weights.slice(0, cols), ones.with(3, w))).toThrow(/importance of 0 or more/);
    }
  });

  it("refuses rows that are no whole blocks; types without a search are rounded", () => {
    expect(() => fitBlocks("Q4_K", new Float32Array(288), new Float32Array(288))).toThrow(/encode Q4_K: expected rows of 288 elements, whole blocks of 256/);
    expect(() => fitBlocks("Q4_0", new Float32Array(96), new Float32Array(64))).toThrow(/got 96 elements/);
    expect(fitBlocks("Q8_0", weights.slice(0, cols), importance)).toEqual(encodeBlocks("Q8_0", weights.slice(0, cols)));
  });
});
