import fc from "fast-check";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { describeVariants, nmse, sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { blockElements, isStored, isStoredFloat, type StoredDType, storedBlocks } from "../tensor/dtype.js";
import { e4m3Values, e5m2Values } from "../tensor/fp8.js";
import { Random } from "../tensor/random.js";
import { sizeOf, type Tensor, view } from "../tensor/tensor.js";
import type { Engine, MatmulOptions } from "./engine.js";
import { loadEngine } from "./load.js";
import { ReferenceEngine } from "./reference.js";

const reference = new ReferenceEngine();
const types = Object.keys(storedBlocks) as StoredDType[];

/** Without fused multiply-adds, and where products of f32 are summed in f64, the last bits differ. */
function expectEqual(engine: Engine, type: StoredDType, got: Float32Array, expected: Float32Array): void {
  if (isStoredFloat(type) || engine.isa === "x86-64") expect(nmse(got, expected)).toBeLessThan(1e-10);
  else expect(sameBits(got, expected), `${type}: same bits`).toBe(true);
}

/** Random blocks, or such whose bytes are all the same. */
function stored(t: TestTensors, type: StoredDType, shape: readonly number[], seed: number, byte?: number): Tensor {
  const blocks = randomBlocks(type, sizeOf(shape), seed);
  return t.of(type, shape, byte === undefined ? blocks : blocks.fill(byte));
}

function product(engine: Engine, type: StoredDType, m: number, n: number, k: number, seed: number, options: MatmulOptions = {}): Float32Array {
  using t = new TestTensors(engine, seed);
  const out = t.random([m, options.column === undefined ? n : n + 5]);
  engine.matmul("nt", out, t.random([m, k]), stored(t, type, [n, k], seed), options);
  return engine.read(out) as Float32Array;
}

describeVariants("stored weights", (isa) => {
  const engine = loadEngine({ engine: "native", isa, threads: 2 });
  const folder = mkdtempSync(join(tmpdir(), "stored-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each(types)("%s: products equal the reference for any shape", (type) => {
    const blocks = fc.integer({ min: 1, max: blockElements(type) > 32 ? 512 / blockElements(type) : blockElements(type) === 1 ? 150 : 19 });
    const precisions = fc.constantFrom(...(isStoredFloat(type) ? ([undefined, "f32", "bf16"] as const) : [undefined]));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 70 }), blocks, fc.boolean(), fc.option(fc.nat(5), { nil: undefined }), precisions, fc.nat(1e6),
        (m, n, b, accumulate, column, precision, seed) => {
          const k = b * blockElements(type);
          const options = { accumulate, column, precision };
          expectEqual(engine, type, product(engine, type, m, n, k, seed, options), product(reference, type, m, n, k, seed, options));
        }),
      { numRuns: isStoredFloat(type) ? 75 : 25 },
    );
  });

  it.each(types)("%s: products are close to those of the exact weights", (type) => {
    using t = new TestTensors(engine, 3);
    const [m, n, k] = [9, 40, 1024];
    const [x, w, wide, out, exact] = [t.random([m, k]), stored(t, type, [n, k], 5), t.random([n, k]), t.random([m, n]), t.random([m, n])];
    engine.gatherRows(wide, w, t.ints(Array.from({ length: n }, (_, i) => i)));
    engine.matmul("nt", out, x, w);
    engine.matmul("nt", exact, x, wide);
    expect(nmse(engine.read(out), engine.read(exact))).toBeLessThan(!isStoredFloat(type) ? 5e-4 : type === "bf16" ? 1e-5 : 1e-14);
    if (!isStoredFloat(type)) return;
    engine.matmul("nt", out, x, w, { precision: "f32" });
    expect(nmse(engine.read(out), engine.read(exact))).toBeLessThan(1e-14);
  });

  it.each(types.filter((type) => !isStoredFloat(type)))("%s: the largest sums that codes and activations allow equal the reference", (type) => {
    for (const byte of [0x77, 0x80, 0xbf, 0xfb]) {
      for (const signs of [[1, 1], [-1, -1], [1, -1]] as const) {
        const run = (on: Engine, m: number) => {
          using t = new TestTensors(on, 1);
          const x = t.of("f32", [m, 512], Float32Array.from({ length: m * 512 }, (_, i) => signs[i % 2]!));
          const out = t.random([m, 24]);
          on.matmul("nt", out, x, stored(t, type, [24, 512], 1, byte));
          return on.read(out) as Float32Array;
        };
        for (const m of [1, 7]) expectEqual(engine, type, run(engine, m), run(reference, m));
      }
    }
  });

  it.each(types)("%s: gathered rows equal the reference bit for bit", (type) => {
    const run = (on: Engine) => {
      using t = new TestTensors(on, 1);
      const table = stored(t, type, [50, 768], 2);
      const rows = Array.from({ length: 70 }, (_, i) => (i % 9 === 4 ? -1 : (i * 7) % 50));
      const out = t.random([70, 768]);
      on.gatherRows(out, table, t.ints(rows));
      return on.read(out);
    };
    expect(sameBits(run(engine), run(reference))).toBe(true);
  });

  it.each(types)("%s: groups, as one tensor and as a list of mapped tensors at any address, equal the reference", (type) => {
    const [counts, n, k] = [[3, 0, 17, 1, 40], 37, 512];
    const weights = randomBlocks(type, counts.length * n * k, 4);
    const path = join(folder, type);
    const one = weights.length / counts.length;
    const file = new Uint8Array(2 + counts.length * (one + 2));
    counts.forEach((_, e) => file.set(weights.subarray(e * one, (e + 1) * one), 2 + e * (one + 2)));
    writeFileSync(path, file);
    const run = (on: Engine, listed: boolean) => {
      using t = new TestTensors(on, 6);
      const mapped = on.mapFile(path);
      const offsets = t.ints([0, ...counts.map((_, e) => counts.slice(0, e + 1).reduce((sum, c) => sum + c, 0))]);
      const [x, out] = [t.random([30, k]), t.random([64, 2 * n])];
      const rowsA = t.ints(Array.from({ length: 64 }, (_, i) => (i * 7) % 30));
      const w = listed ? counts.map((_, e) => mapped.tensor(type, [n, k], 2 + e * (one + 2))) : t.of(type, [counts.length, n, k], weights);
      on.groupedMatmul("nt", out, x, w, offsets, { rowsA, column: n });
      const result = on.read(out) as Float32Array;
      mapped.free();
      return result;
    };
    const expected = run(reference, true);
    for (const listed of [false, true]) expectEqual(engine, type, run(engine, listed), expected);
  });

  it.each(types)("%s: products of one matrix given together have the bits that each has alone, side by side where they share a result", (type) => {
    using t = new TestTensors(engine, 3);
    for (const m of [1, 7]) {
      const [x, both, third, one] = [t.random([m, 512]), t.random([m, 37 + 150]), t.random([m, 3]), [37, 150, 3].map((n) => t.random([m, n]))];
      const weights = [37, 150, 3].map((n, i) => stored(t, type, [n, 512], i));
      engine.matmuls([both, both, third], x, weights);
      weights.forEach((w, i) => engine.matmul("nt", one[i] as Tensor, x, w));
      const [a, b, c] = one.map((y) => engine.read(y) as Float32Array);
      const joined = Float32Array.from({ length: m * 187 }, (_, i) => (i % 187 < 37 ? a![Math.floor(i / 187) * 37 + (i % 187)] : b![Math.floor(i / 187) * 150 + (i % 187) - 37]) as number);
      expect(sameBits(engine.read(both), joined)).toBe(true);
      expect(sameBits(engine.read(third), c!)).toBe(true);
    }
  });

  it("matmuls takes weights of several types, and more than three", () => {
    using t = new TestTensors(engine, 3);
    const weights = (["q4_k", "q6_k", "f32", "q4_k"] as const).map((type, i) => (type === "f32" ? t.random([9, 256]) : stored(t, type, [9, 256], i)));
    const [x, out, one] = [t.random([2, 256]), t.random([2, 36]), t.random([2, 36])];
    engine.matmuls(weights.map(() => out), x, weights);
    weights.forEach((w, i) => engine.matmul("nt", one, x, w, { column: 9 * i }));
    expect(sameBits(engine.read(out), engine.read(one))).toBe(true);
    expect(() => engine.matmuls([out], x, weights)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(() => engine.matmuls([one, one, one, one, one], x, [...weights, weights[0] as Tensor])).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(() => engine.matmuls([one, one], t.random([2, 512]), weights.slice(0, 1).concat(weights[3] as Tensor))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
  });

  it.each(["q4_k", "f32"] as const)("%s: a second matrix beside each expert's has the bits that it has alone, listed or not", (type) => {
    using t = new TestTensors(engine, 6);
    const [counts, n, k] = [[1, 0, 9, 2], 37, 512];
    const make = (seed: number) => (type === "f32" ? t.random([4, n, k]) : stored(t, type, [4, n, k], seed));
    const [gate, up] = [make(1), make(2)];
    const listed = (w: Tensor) => counts.map((_, e) => view(w, [n, k], e * n * k));
    const [x, expected, out] = [t.random([12, k]), t.random([12, 2 * n + 5]), t.random([12, 2 * n + 5])];
    const offsets = t.ints(counts.reduce((begins, c) => [...begins, (begins.at(-1) as number) + c], [0]));
    engine.groupedMatmul("nt", expected, x, gate, offsets, { column: 2 });
    engine.groupedMatmul("nt", expected, x, up, offsets, { column: 2 + n });
    for (const [b, beside] of [[gate, up], [listed(gate), listed(up)], [gate, listed(up)]] as const) {
      engine.copy(out, expected);
      engine.groupedMatmul("nt", out, x, b, offsets, { column: 2, beside });
      expect(sameBits(engine.read(out), engine.read(expected))).toBe(true);
    }
    expect(() => engine.groupedMatmul("nt", out, x, listed(gate), offsets, { column: 6, beside: listed(up) })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
  });

  it("a list may hold matrices of several types, of which each group has the bits that it has alone", () => {
    const [mixed, counts, n, k] = [["q4_k", "q4_k", "q8_0", "f32", "q8_0", "q6_k"] as const, [3, 1, 0, 9, 2, 5], 37, 512];
    using t = new TestTensors(engine, 6);
    const weights = mixed.map((type, e) => (type === "f32" ? t.random([n, k]) : stored(t, type, [n, k], e)));
    const [x, out, one] = [t.random([20, k]), t.random([20, n + 3]), t.random([20, n])];
    engine.groupedMatmul("nt", out, x, weights, t.ints(counts.reduce((begins, c) => [...begins, (begins.at(-1) as number) + c], [0])), { column: 3 });
    let row = 0;
    for (const [e, count] of counts.entries()) {
      engine.matmul("nt", one, x, weights[e] as Tensor);
      for (const end = row + count; row < end; row++) {
        const at = row * (n + 3) + 3;
        const [got, alone] = [engine.read(out).subarray(at, at + n), engine.read(one).subarray(row * n, row * n + n)];
        if (mixed[e] === "f32") expect(nmse(got, alone)).toBeLessThan(1e-12);
        else expect(sameBits(got, alone), mixed[e]).toBe(true);
      }
    }
  });

  it.each([...types.map((type) => [type, 1280] as const), ["bf16", 1250], ["bf16", 603]] as const)("%s: a row of %i has the same bits alone, in a batch and on one thread", (type, k) => {
    using t = new TestTensors(engine, 8);
    const [m, n] = [230, 75];
    const [x, w, out, one] = [t.random([m, k]), stored(t, type, [n, k], 9), t.random([m, n]), t.random([1, n])];
    engine.matmul("nt", out, x, w);
    const batch = engine.read(out);
    for (const i of [0, 3, 100, 229]) {
      engine.matmul("nt", one, view(x, [1, k], i * k), w);
      expect(sameBits(engine.read(one), batch.subarray(i * n, (i + 1) * n))).toBe(true);
    }
    const few = view(out, [9, n]);
    engine.matmul("nt", few, view(x, [9, k], 50 * k), w);
    expect(sameBits(engine.read(few), batch.subarray(50 * n, 59 * n))).toBe(true);
    engine.threads = 1;
    engine.matmul("nt", out, x, w);
    engine.threads = 2;
    expect(sameBits(engine.read(out), batch)).toBe(true);
  });

  it("a row that is not finite gives no finite result, and no other row notices", () => {
    for (const type of ["q4_0", "q4_k", "q6_k"] as const) {
      using t = new TestTensors(engine, 2);
      const random = new Random(3);
      const values = Float32Array.from({ length: 4 * 256 }, () => random.float() - 0.5);
      values[256 + 40] = Number.NaN;
      values[512 + 3] = Infinity;
      values.fill(1e-38, 768);
      const [w, out] = [stored(t, type, [33, 256], 1), t.random([4, 33])];
      engine.matmul("nt", out, t.of("f32", [4, 256], values), w);
      const got = engine.read(out);
      const row = (i: number) => [...got.subarray(33 * i, 33 * i + 33)];
      expect(row(0).every(Number.isFinite)).toBe(true);
      expect([...row(1), ...row(2)].some(Number.isFinite)).toBe(false);
      expect(row(3).every((x) => x === 0)).toBe(true);
    }
  });

  it.each(["fp8_e4m3", "fp8_e5m2"] as const)("%s: every number is that which it stands for, times its scale, and products have the bits of those as f32", (type) => {
    using t = new TestTensors(engine, 4);
    const scales = Float32Array.of(1, -0.3, 2 ** -130, 3e4);
    const all = Uint8Array.from({ length: 8 * 132 }, (_, i) => (i % 132 < 4 ? new Uint8Array(scales.buffer)[4 * (Math.floor(i / 264) % 4) + (i % 132)]! : (i % 132) - 4 + 128 * (Math.floor(i / 132) % 2)));
    const values = type === "fp8_e4m3" ? e4m3Values : e5m2Values;
    const expected = Float32Array.from({ length: 1024 }, (_, i) => values[i % 256]! * scales[Math.floor(i / 256)]!);
    const decoded = t.random([4, 256]);
    engine.gatherRows(decoded, t.of(type, [4, 256], all), t.ints([0, 1, 2, 3]));
    expect(engine.read(decoded)).toEqual(expected);
    const [n, k] = [75, 640];
    // Blocks with what is no number, and with scales near the ends of f32, are widened otherwise than the rest.
    const blocks = randomBlocks(type, n * k, 5);
    blocks.set([0x7f, 0xff], 132 * 7 + 90);
    [3e4, -(2 ** 127), 2 ** -140].forEach((scale, i) => blocks.set(new Uint8Array(Float32Array.of(scale).buffer), 132 * (40 * i + 3)));
    const [w, wide] = [t.of(type, [n, k], blocks), t.random([n, k])];
    engine.gatherRows(wide, w, t.ints(Array.from({ length: n }, (_, i) => i)));
    for (const m of [1, 5, 60]) {
      const [x, out, exact] = [t.random([m, k]), t.random([m, n]), t.random([m, n])];
      engine.matmul("nt", out, x, w);
      engine.matmul("nt", exact, x, wide);
      expect(sameBits(engine.read(out), engine.read(exact)), `${m} rows`).toBe(true);
    }
  });

  it("f32 weights in a mapped file work at any multiple of four bytes, and in a list", () => {
    using t = new TestTensors(engine, 1);
    const [n, k] = [40, 52];
    const values = Float32Array.from({ length: 2 * n * k + 3 }, (_, i) => Math.sin(i));
    writeFileSync(join(folder, "f32"), values);
    const mapped = engine.mapFile(join(folder, "f32"));
    const list = [0, 1].map((e) => mapped.tensor("f32", [n, k], 4 + e * (n * k * 4 + 4)));
    const [x, out, expected] = [t.random([7, k]), t.random([7, n]), t.random([7, n])];
    for (const form of ["nt", "nn"] as const) {
      const w = form === "nt" ? list : list.map((m) => view(m, [k, n]));
      engine.groupedMatmul(form, out, x, w, t.ints([0, 3, 7]));
      engine.groupedMatmul(form, expected, x, t.of("f32", form === "nt" ? [2, n, k] : [2, k, n], [...engine.read(list[0]), ...engine.read(list[1])]), t.ints([0, 3, 7]));
      expect(sameBits(engine.read(out), engine.read(expected))).toBe(true);
    }
    mapped.free();
  });

  it("rounds the scales of activations to 11 bits, as an f16 has them, in the range of f32", () => {
    const ones = new Uint8Array(34).fill(1).fill(0x3c, 1, 2).fill(0, 0, 1); // scale 1, elements 1
    // scale = largest / 127, q = 127 for the first element; the f16 nearest to 1 / 127 is 1032 / 2^17.
    for (const [largest, scale] of [[1, 1032 / 2 ** 17], [2 ** 60, (1032 / 2 ** 17) * 2 ** 60], [2 ** -60, (1032 / 2 ** 17) * 2 ** -60], [127, 1]] as const) {
      for (const on of [engine, reference]) {
        using t = new TestTensors(on, 1);
        const out = t.random([1, 1]);
        on.matmul("nt", out, t.of("f32", [1, 32], [largest, ...new Array<number>(31).fill(0)]), t.of("q8_0", [1, 32], ones));
        expect(on.read(out)[0], `${on.isa} ${largest}`).toBe(127 * scale);
      }
    }
  });

  it("refuses other forms, rows of partial blocks, lists that do not match and addresses outside memory", () => {
    using t = new TestTensors(engine, 1);
    const [x, y, w] = [t.random([3, 32]), t.random([3, 32]), stored(t, "q8_0", [32, 32], 1)];
    const offsets = t.ints([0, 1, 3]);
    for (const form of ["nn", "tn"] as const) expect(() => engine.matmul(form, y, x, w)).toThrow();
    expect(() => view(w, [64, 16])).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(() => engine.groupedMatmul("nt", y, x, [w], offsets)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(() => engine.groupedMatmul("nt", y, x, [w, stored(t, "q4_0", [32, 64], 1)], offsets)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(() => engine.matmul("nt", y, x, w, { column: 1 })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    const freed = engine.allocate(4096);
    const gone = freed.tensor("q8_0", [32, 32], 0);
    freed.free();
    expect(() => engine.groupedMatmul("nt", y, x, [w, gone], offsets)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" }));
    expect(() => engine.fill(w, 0)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DTYPE" }));
    expect(isStored(w.dtype)).toBe(true);
  });
});
