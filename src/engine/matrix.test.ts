import fc from "fast-check";
import { expect, it } from "vitest";
import { describeVariants, nmse, rowOf, sameBits, TestTensors } from "../../test/engines.js";
import type { TypedArray } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Engine, GroupedOptions, MatmulForm } from "./engine.js";
import { loadEngine } from "./load.js";
import { ReferenceEngine } from "./reference.js";

const reference = new ReferenceEngine();
const forms = ["nt", "nn", "tn"] as const;
const shapes = (form: MatmulForm, m: number, n: number, k: number) => [form === "tn" ? [k, m] : [m, k], form === "nt" ? [n, k] : [k, n]];

function matmul(engine: Engine, form: MatmulForm, m: number, n: number, k: number, seed: number, accumulate = false, precision: "f32" | "bf16" | "f64" = "f32") {
  using t = new TestTensors(engine, seed);
  const [a, b] = shapes(form, m, n, k).map((shape) => t.random(shape));
  const out = t.random([m, n]);
  engine.matmul(form, out, a, b, { accumulate, precision });
  return engine.read(out);
}

interface Grouped {
  form: MatmulForm;
  counts: number[];
  f: number;
  d: number;
  gather: boolean;
  accumulate: boolean;
  seed: number;
}

/** Rows past the last group, as in a layer that drops tokens. */
const spare = 3;

function grouped(engine: Engine, { form, counts, f, d, gather, accumulate, seed }: Grouped): Float32Array {
  using t = new TestTensors(engine, seed);
  const used = counts.reduce((sum, n) => sum + n, 0);
  const [n, tokens] = [used + spare, 5 + used];
  const offsets = t.ints([0, ...counts.map((_, e) => counts.slice(0, e + 1).reduce((sum, c) => sum + c, 0))]);
  const rows = t.ints(Array.from({ length: n }, (_, i) => (i < used ? (i * 7 + seed) % tokens : -1)));
  const options: GroupedOptions = { accumulate, ...(gather && (form === "tn" ? { rowsB: rows } : { rowsA: rows })) };
  const w = [counts.length, f, d];
  const many = gather ? tokens : n;
  const [a, b, out] = (form === "nt" ? [[many, d], w, [n, f]] : form === "nn" ? [[many, f], w, [n, d]] : [[n, f], [many, d], w]).map((shape) => t.random(shape));
  engine.groupedMatmul(form, out, a, b, offsets, options);
  return engine.read(out) as Float32Array;
}

describeVariants("matrix products", (isa) => {
  const engine = loadEngine({ engine: "native", isa, threads: 2 });
  const dim = fc.oneof(fc.constantFrom(1, 2, 3, 7, 13, 31, 33, 64, 100), fc.integer({ min: 1, max: 40 }));
  const seed = fc.integer({ min: 1, max: 1e6 });

  it("equal the reference for any shape", () => {
    fc.assert(
      fc.property(fc.constantFrom(...forms), dim, dim, dim, fc.boolean(), seed, (form, m, n, k, accumulate, s) => {
        expect(nmse(matmul(engine, form, m, n, k, s, accumulate), matmul(reference, form, m, n, k, s, accumulate))).toBeLessThan(1e-10);
      }),
      { numRuns: 150 },
    );
  });

  it("equal the reference where reductions and rows span several blocks", () => {
    for (const [m, n, k] of [[13, 33, 700], [400, 70, 257], [1000, 3, 5], [2, 515, 513]] as const) {
      for (const form of forms) expect(nmse(matmul(engine, form, m, n, k, 5), matmul(reference, form, m, n, k, 5)), `${form} ${m} ${n} ${k}`).toBeLessThan(1e-10);
    }
  });

  it("with bf16 operands equal the reference's rounded ones", () => {
    fc.assert(
      fc.property(fc.constantFrom(...forms), dim, dim, dim, seed, (form, m, n, k, s) => {
        expect(nmse(matmul(engine, form, m, n, k, s, true, "bf16"), matmul(reference, form, m, n, k, s, true, "bf16"))).toBeLessThan(1e-10);
      }),
      { numRuns: 60 },
    );
  });

  it("summed in double precision are the exact sums, rounded", () => {
    fc.assert(
      fc.property(dim, dim, fc.oneof(dim, fc.constant(700)), fc.boolean(), seed, (m, n, k, accumulate, s) => {
        expect(nmse(matmul(engine, "nt", m, n, k, s, accumulate, "f64"), matmul(reference, "nt", m, n, k, s, accumulate))).toBeLessThan(3e-15); // of half an ulp: 1.2e-15
      }),
      { numRuns: 60 },
    );
    expect(sameBits(matmul(engine, "nn", 5, 9, 40, 2, false, "f64"), matmul(engine, "nn", 5, 9, 40, 2))).toBe(true);
  });

  it("treat an empty reduction as zero", () => {
    expect(matmul(engine, "tn", 3, 5, 0, 1)).toEqual(new Float32Array(15));
    expect(sameBits(matmul(engine, "tn", 3, 5, 0, 1, true), matmul(reference, "tn", 3, 5, 0, 1, true))).toBe(true);
  });

  it("over groups equal the reference, with gathers, empty groups and spare rows", () => {
    const counts = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 })), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(fc.constantFrom(...forms), counts, dim, dim, fc.boolean(), fc.boolean(), seed, (form, c, f, d, gather, accumulate, s) => {
        const given = { form, counts: c, f, d, gather, accumulate, seed: s };
        expect(nmse(grouped(engine, given), grouped(reference, given))).toBeLessThan(1e-10);
      }),
      { numRuns: 120 },
    );
  });

  it("over groups write no row beyond the last group, and nothing at all for no groups' rows", () => {
    for (const form of ["nt", "nn"] as const) {
      const given = { form, counts: [5, 0, 9], f: 21, d: 35, gather: true, accumulate: false, seed: 3 };
      const columns = form === "nt" ? 21 : 35;
      expect(sameBits(grouped(engine, given).slice(14 * columns), grouped(reference, given).slice(14 * columns))).toBe(true);
    }
    expect(grouped(engine, { form: "tn", counts: [0, 0], f: 4, d: 5, gather: false, accumulate: false, seed: 1 })).toEqual(new Float32Array(40));
  });

  it("give a row the same bits alone, in a batch, in a group, and on one thread", () => {
    for (const precision of ["f32", "bf16", "f64"] as const) {
      using t = new TestTensors(engine, 11);
      const [m, n, k] = [150, 130, 600];
      const a = t.random([m, k]);
      for (const form of precision === "f64" ? (["nt"] as const) : (["nt", "nn"] as const)) {
        const b = t.random(form === "nt" ? [n, k] : [k, n]);
        const out = t.random([m, n]);
        engine.threads = 2;
        engine.matmul(form, out, a, b, { precision });
        const batch = engine.read(out);
        engine.threads = 1;
        engine.matmul(form, out, a, b, { precision });
        expect(sameBits(engine.read(out), batch)).toBe(true);
        engine.threads = 2;
        for (const row of [0, 1, 77, m - 1]) {
          const one = t.random([1, n]);
          engine.matmul(form, one, rowOf(a, row), b, { precision });
          expect(sameBits(engine.read(one), batch.slice(row * n, row * n + n)), `${form} row ${row}`).toBe(true);
        }
        if (precision === "f64") continue; // there are no such products of groups
        // The same rows, five to a group, all groups with the same matrix.
        const w = t.random([3, ...b.shape]);
        for (let e = 0; e < 3; e++) engine.copy(view(w, b.shape, e * n * k), b);
        const ragged = t.random([m, n]);
        engine.groupedMatmul(form, ragged, a, w, t.ints([0, 5, 5, m]), { precision });
        expect(sameBits(engine.read(ragged), batch)).toBe(true);
      }
    }
  });

  it("give the same weight gradient for a group as for its rows alone, and on one thread", () => {
    using t = new TestTensors(engine, 12);
    const [f, d, n] = [77, 90, 300];
    const [a, b, out, alone] = [t.random([n, f]), t.random([n, d]), t.random([2, f, d]), t.random([f, d])];
    engine.groupedMatmul("tn", out, a, b, t.ints([0, 290, n]));
    const both = engine.read(out);
    engine.matmul("tn", alone, view(a, [10, f], 290 * f), view(b, [10, d], 290 * d));
    expect(sameBits(engine.read(alone), both.slice(f * d))).toBe(true);
    engine.threads = 1;
    engine.groupedMatmul("tn", out, a, b, t.ints([0, 290, n]));
    engine.threads = 2;
    expect(sameBits(engine.read(out), both)).toBe(true);
  });

  it("sum the squares of weight gradients, however they are cut", () => {
    for (const [counts, f, d] of [[[30, 3, 0, 11], 512, 1024], [[300, 0, 25, 1], 77, 90], [[700], 260, 96], [[0], 5, 6]] as const) {
      using t = new TestTensors(engine, 15);
      const n = counts.reduce((sum: number, c) => sum + c, 0);
      const [a, b, out, squares] = [t.random([n, f]), t.random([n, d]), t.random([counts.length, f, d]), t.of("f64", [1], [-1])];
      const offsets = t.ints(counts.reduce((all: number[], c) => [...all, (all.at(-1) as number) + c], [0]));
      for (const precision of ["f32", "bf16"] as const) {
        const sums = [2, 1].map((threads) => {
          engine.threads = threads;
          engine.groupedMatmul("tn", out, a, b, offsets, { precision, squares });
          return engine.read(squares)[0] as number;
        });
        engine.threads = 2;
        const expected = engine.sumSquares(out);
        expect(Math.abs((sums[0] as number) - expected)).toBeLessThanOrEqual(1e-7 * expected);
        expect(sums[1]).toBe(sums[0]);
      }
      expect(() => engine.groupedMatmul("tn", out, a, b, offsets, { accumulate: true, squares })).toThrow(/squares/);
    }
  });

  it("give each group the bits of its rows alone, whatever their number, in a result larger than the caches too", () => {
    for (const counts of [[0, 1, 7, 12, 13, 24, 25, 60], [30, 3, 0, 11], [9, 16, 18, 31, 72, 73, 96, 97]]) {
      using t = new TestTensors(engine, 13);
      const [f, d, n] = [512, 1024, counts.reduce((sum, c) => sum + c)];
      const offsets = counts.reduce((all, c) => [...all, (all.at(-1) as number) + c], [0]);
      const [x, y, w] = [t.random([n, d]), t.random([n, f]), t.random([counts.length, f, d])];
      const [out_nt, out_nn, out_tn] = [t.random([n, f]), t.random([n, d]), t.random([counts.length, f, d])];
      engine.groupedMatmul("nt", out_nt, x, w, t.ints(offsets));
      engine.groupedMatmul("nn", out_nn, y, w, t.ints(offsets));
      engine.groupedMatmul("tn", out_tn, y, x, t.ints(offsets));
      const [nt, nn, tn] = [out_nt, out_nn, out_tn].map((out) => engine.read(out)) as [Float32Array, Float32Array, Float32Array];
      const all = (rows: number, columns: number, matrix: number) => view(w, [rows, columns], matrix * f * d);
      counts.forEach((_, e) => {
        const gradient = t.random([f, d]);
        const rows = counts[e] as number;
        const first = offsets[e] as number;
        engine.matmul("tn", gradient, view(y, [rows, f], first * f), view(x, [rows, d], first * d));
        expect(sameBits(engine.read(gradient), tn.subarray(e * f * d, (e + 1) * f * d)), `tn, ${rows} rows`).toBe(true);
        // Rows of a batch of 100, most of them of no interest.
        const [wide, tall] = [t.random([100, d]), t.random([100, f])];
        if (rows > 0) engine.copy(view(wide, [rows, d]), view(x, [rows, d], first * d));
        if (rows > 0) engine.copy(view(tall, [rows, f]), view(y, [rows, f], first * f));
        const [wide_nt, tall_nn] = [t.random([100, f]), t.random([100, d])];
        engine.matmul("nt", wide_nt, wide, all(f, d, e));
        engine.matmul("nn", tall_nn, tall, all(f, d, e));
        expect(sameBits(engine.read(wide_nt).subarray(0, rows * f), nt.subarray(first * f, (first + rows) * f)), `nt, ${rows} rows`).toBe(true);
        expect(sameBits(engine.read(tall_nn).subarray(0, rows * d), nn.subarray(first * d, (first + rows) * d)), `nn, ${rows} rows`).toBe(true);
      });
    }
  });

  it("give few rows, short or long, the bits that they have among many", () => {
    using t = new TestTensors(engine, 17);
    for (const k of [40, 256, 257, 300]) {
      const [x, w, out] = [t.random([40, k]), t.random([50, k]), t.random([40, 50])];
      engine.matmul("nt", out, x, w);
      const all = engine.read(out);
      for (const m of [1, 2, 3, 4, 5]) {
        const few = t.random([m, 50]);
        engine.matmul("nt", few, view(x, [m, k]), w);
        expect(sameBits(engine.read(few), all.slice(0, m * 50)), `${m} rows of ${k}`).toBe(true);
      }
    }
  });

  it("give the same bits from rows that are gathered, and so packed, as from rows that are read as they lie", () => {
    using t = new TestTensors(engine, 14);
    for (const form of forms) {
      for (const [m, n, k] of [[70, 65, 300], [33, 1100, 40]] as const) {
        const [a, w] = shapes(form, m, n, k).map((shape, i) => t.random(i === 0 || form === "tn" ? shape : [1, ...shape])) as [Tensor, Tensor];
        const rows = t.ints(Array.from({ length: a.rows }, (_, i) => i));
        const [plain, gathered] = [undefined, rows].map((rowsA) => {
          const out = t.random(form === "tn" ? [1, m, n] : [m, n]);
          engine.groupedMatmul(form, out, a, w, t.ints([0, a.rows]), { rowsA });
          return engine.read(out);
        }) as [TypedArray, TypedArray];
        expect(sameBits(gathered, plain), `${form} ${m} ${n} ${k}`).toBe(true);
      }
    }
  });

  it("refuse indices and offsets that would leave memory", () => {
    using t = new TestTensors(engine, 1);
    const [x, w, y] = [t.random([4, 8]), t.random([2, 6, 8]), t.random([4, 6])];
    const run = (offsets: number[], rowsA?: number[]) =>
      engine.groupedMatmul("nt", y, x, w, t.ints(offsets), { rowsA: rowsA && t.ints(rowsA) });
    run([0, 2, 4], [3, 0, 0, 3]);
    for (const offsets of [[0, 2, 5], [-1, 2, 4], [0, 3, 2]]) expect(() => run(offsets)).toThrow(/offsets/);
    for (const rows of [[0, 1, 2, 4], [0, -1, 2, 3]]) expect(() => run([0, 2, 4], rows)).toThrow(/rowsA/);
    expect(() => engine.matmul("nt", y, x, t.random([6, 7]))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
  });
});
