import { describe, expect, it } from "vitest";
import { engines, Maker } from "../../test/op-maker.js";
import type { AttentionDims, AttentionExtras, GroupLimit, UnaryFn } from "./engine.js";

/** Results that were worked out by hand or follow from a definition, on every engine and kernel variant. */
describe.each(engines.map((engine) => [`${engine.name} ${engine.isa}`, engine] as const))("%s", (_, engine) => {
  const make = new Maker(engine);
  const f = (shape: readonly number[], values: readonly number[]) => make.values("f", shape, values);
  const i = (shape: readonly number[], values: readonly number[]) => make.values("i", shape, values);
  const zeros = (n: number): number[] => new Array(n).fill(0);

  function choose(scores: readonly number[], k: number, bias?: readonly number[], groups?: GroupLimit): number[] {
    const out = i([1, k], new Array(k).fill(-9));
    engine.topK(out, f([1, scores.length], scores), { bias: bias && f([scores.length], bias), groups });
    return [...engine.read(out)];
  }

  function apply(fn: UnaryFn, values: readonly number[]): number[] {
    const x = f([values.length], values);
    engine.unary(fn, x, x);
    return [...engine.read(x)];
  }

  describe("matmul", () => {
    it("nt, nn, tn give the products written out by hand", () => {
      const a = f([2, 2], [1, 2, 3, 4]);
      const b = f([2, 2], [5, 6, 7, 8]);
      const out = f([2, 2], [1, 1, 1, 1]);
      engine.matmul("nn", out, a, b);
      expect([...engine.read(out)]).toEqual([19, 22, 43, 50]);
      engine.matmul("nt", out, a, b, { accumulate: true });
      expect([...engine.read(out)]).toEqual([19 + 17, 22 + 23, 43 + 39, 50 + 53]);
      engine.matmul("tn", out, a, b);
      expect([...engine.read(out)]).toEqual([26, 30, 38, 44]);
    });

    it("bf16 rounds operands to eight significant bits, ties to even", () => {
      const out = f([4, 1], [0, 0, 0, 0]);
      engine.matmul("nt", out, f([4, 1], [1 + 1 / 256, 1 + 3 / 256, 1.01, -1.01]), f([1, 1], [1]), { precision: "bf16" });
      expect([...engine.read(out)]).toEqual([1, 1 + 4 / 256, 1.0078125, -1.0078125]);
    });
  });

  it("copy rounds f32 to binary16, to the nearest, ties to even", () => {
    const halves = make.halves(f([9], [1, 65504, 65520, 1e-8, 1.5 * 2 ** -24, -0, 1 + 2 ** -11, 1 + 3 * 2 ** -11, Number.NaN]));
    const words = new Uint16Array(engine.read(halves).buffer);
    expect([...words]).toEqual([0x3c00, 0x7bff, 0x7c00, 0, 2, 0x8000, 0x3c00, 0x3c02, 0x7e00]);
  });

  describe("attention", () => {
    /** One head of one element, scores 0 everywhere: the mean of the values it sees. */
    function mean(values: readonly number[], dims: Partial<AttentionDims>, extras: AttentionExtras = {}): number[] {
      const n = values.length;
      const [out, zero] = [f([n, 1], values), f([n, 1], zeros(n))];
      engine.attention(out, f([n, 1], zeros(n)), zero, zero, f([n, 1], values), { batch: 1, queries: n, keys: n, keyStride: n, heads: 1, kvHeads: 1, headDim: 1, scale: 1, ...dims }, extras);
      return Array.from(engine.read(out), (x) => Math.round(x * 1e5) / 1e5);
    }

    it("sees the past, its window, its chunk, or everything", () => {
      const values = [6, 12, 24, 48, 96];
      expect(mean(values, {})).toEqual([6, 9, 14, 22.5, 37.2]);
      expect(mean(values, { window: 2 })).toEqual([6, 9, 18, 36, 72]);
      expect(mean(values, { chunk: 3 })).toEqual([6, 9, 14, 48, 72]);
      expect(mean(values, { causal: false })).toEqual([37.2, 37.2, 37.2, 37.2, 37.2]);
    });

    it("counts a sink of logit log(2) as two more keys of value 0, masks where the bias says so", () => {
      expect(mean([3, 9], {}, { sinks: f([1], [Math.log(2)]) })).toEqual([1, 3]);
      expect(mean([3, 9], { causal: false }, { bias: f([1, 1, 2, 2], [-Infinity, 0, Math.log(2), 0]) })).toEqual([9, 5]);
      expect(mean([3, 9], {}, { bias: f([1, 1, 2, 2], [-Infinity, 0, 0, -Infinity]) })).toEqual([0, 3]);
    });
  });

  it("glu clamps gate and up after the bias, before the offset", () => {
    const out = f([1, 2], [0, 0]);
    engine.glu(out, f([1, 4], [100, -1, 50, -50]), { activation: "relu", gated: true, limit: 7, upOffset: 1, bias: f([4], [0, 3, 0, 0]) });
    expect([...engine.read(out)]).toEqual([7 * 8, 2 * -6]);
  });

  it("rope turns pairs of the slice by the angle and copies the rest", () => {
    const x = f([1, 6], [1, 2, 3, 4, 5, 6]);
    const table = f([1, 4], [0, 0, 1, 1]); // a quarter turn
    engine.rope(x, x, table, i([1], [0]), { heads: 1, headDim: 6, first: 1, rotary: 4 });
    expect([...engine.read(x)]).toEqual([1, -4, -5, 2, 3, 6]);
    engine.rope(x, x, table, i([1], [0]), { heads: 1, headDim: 6, first: 1, rotary: 4, interleaved: true });
    expect([...engine.read(x)]).toEqual([1, 5, -4, -3, 2, 6]);
  });

  describe("topK", () => {
    it("orders from best to worst, ties to the lower column, NaN last", () => {
      expect(choose([1, 3, 2, 3], 3)).toEqual([1, 3, 2]);
      expect(choose([Number.NaN, -Infinity, -5], 3)).toEqual([2, 0, 1]);
    });

    it("adds the bias before choosing", () => {
      expect(choose([1, 3, 2, 0], 2, [0, -9, 0, 3])).toEqual([3, 2]);
    });

    it("rounds biased scores to f32 before comparing, so that ties are the same on every engine", () => {
      expect(choose([1, 1 + 2 ** -23], 1, [2 ** 25, 2 ** 25])).toEqual([0]);
    });

    it("keeps to the best groups by their best expert or their two best", () => {
      const scores = [9, 0, 0, 5, 5, 1, 4, 5, 5];
      expect(choose(scores, 4, undefined, { count: 3, keep: 1, score: "max" })).toEqual([0, 1, 2, 3]);
      expect(choose(scores, 3, undefined, { count: 3, keep: 2, score: "max" })).toEqual([0, 3, 4]);
      expect(choose(scores, 3, undefined, { count: 3, keep: 2, score: "top2sum" })).toEqual([3, 4, 7]);
    });
  });

  describe("sortByExpert and combineRows", () => {
    it("sorts slots stably, drops negative experts and adds each token's rows", () => {
      const experts = i([3, 2], [2, 0, -1, 2, 0, 2]);
      const [offsets, slots, tokens, positions] = [i([4], [7, 7, 7, 7]), i([6], new Array(6).fill(7)), i([6], new Array(6).fill(7)), i([3, 2], new Array(6).fill(7))];
      engine.sortByExpert(offsets, slots, tokens, positions, experts);
      expect([...engine.read(offsets)]).toEqual([0, 2, 2, 5]);
      expect([...engine.read(slots)]).toEqual([1, 4, 0, 3, 5, -1]);
      expect([...engine.read(tokens)]).toEqual([0, 2, 0, 1, 2, -1]);
      expect([...engine.read(positions)]).toEqual([2, 0, -1, 3, 1, 4]);
      const out = f([3, 1], [100, 100, 100]);
      engine.combineRows(out, f([6, 1], [1, 2, 4, 8, 16, 32]), positions, { accumulate: true });
      expect([...engine.read(out)]).toEqual([105, 108, 118]);
      engine.combineRows(out, f([6, 1], [1, 2, 4, 8, 16, 32]), positions, { weights: f([3, 2], [2, 3, 5, 7, 11, 13]) });
      expect([...engine.read(out)]).toEqual([11, 56, 230]);
    });
  });

  describe("crossEntropy", () => {
    it("is log(V) for equal logits and 0 for a negative target, whatever the size of the logits", () => {
      const losses = f([3], [9, 9, 9]);
      const logits = f([3, 2], [700, 700, 1, 2, 0, Math.log(3)]);
      engine.crossEntropy(losses, logits, i([3], [1, -1, 0]));
      expect([...engine.read(losses)]).toEqual([Math.log(2), 0, Math.log(4)].map((x) => expect.closeTo(x, 6)));
      engine.crossEntropyBackward(logits, f([3], [1, 1, 2]), logits, i([3], [1, -1, 0]));
      expect([...engine.read(logits)]).toEqual([0.5, -0.5, 0, 0, -1.5, 1.5].map((x) => expect.closeTo(x, 6)));
    });
  });

  describe("random numbers", () => {
    const n = 1 << 16;

    it("are uniform (chi squared over pairs of successive elements)", () => {
      const out = f([n], new Array(n).fill(0));
      engine.uniform(out, 0, 1, 42);
      const u = engine.read(out);
      const cells = new Array(256).fill(0);
      for (let k = 0; k < n; k += 2) cells[Math.floor(u[k] * 16) * 16 + Math.floor(u[k + 1] * 16)]++;
      const expected = n / 2 / 256;
      const chi2 = cells.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      expect(Math.abs(chi2 - 255)).toBeLessThan(5 * Math.sqrt(2 * 255));
    });

    it("are normal with the right moments and no correlation between neighbours", () => {
      const out = f([n], new Array(n).fill(0));
      engine.normal(out, 2, 43);
      const z = Array.from(engine.read(out), (x) => x / 2);
      const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / n;
      const within = 5 / Math.sqrt(n);
      expect(Math.abs(mean(z))).toBeLessThan(within);
      expect(Math.abs(mean(z.map((x) => x * x)) - 1)).toBeLessThan(within * Math.sqrt(2));
      expect(Math.abs(mean(z.map((x) => x ** 4)) - 3)).toBeLessThan(within * Math.sqrt(96));
      for (const lag of [1, 2]) expect(Math.abs(mean(z.map((x, k) => x * z[(k + lag) % n])))).toBeLessThan(within);
    });

    it("drop the given share of elements", () => {
      const out = f([n], new Array(n).fill(0));
      engine.dropout(out, f([n], new Array(n).fill(3)), 0.25, 44);
      const kept = engine.read(out).filter((x) => x === 4).length;
      expect(engine.read(out).every((x) => x === 0 || x === 4)).toBe(true);
      expect(Math.abs(kept - 0.75 * n)).toBeLessThan(5 * Math.sqrt(n * 0.25 * 0.75));
    });
  });

  describe("unary functions", () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

    it.each<[UnaryFn, number[], number[]]>([
      ["exp", [-inf, -1000, 0, 1000, inf, nan], [0, 0, 1, inf, inf, nan]],
      ["log", [0, 1, inf, -1, nan], [-inf, 0, inf, nan, nan]],
      ["sqrt", [0, 4, inf, -1], [0, 2, inf, nan]],
      ["sigmoid", [-inf, -1000, 0, 1000, inf, nan], [0, 0, 0.5, 1, 1, nan]],
      ["tanh", [-inf, -1000, 0, 1000, inf, nan], [-1, -1, 0, 1, 1, nan]],
      ["softplus", [-inf, -1000, 1000, inf, nan], [0, 0, 1000, inf, nan]],
      ["relu", [-inf, -1, 0, 1, inf, nan], [0, 0, 0, 1, inf, nan]],
      ["normal-cdf", [-inf, -1000, 0, 1000, inf, nan], [0, 0, 0.5, 1, 1, nan]],
    ])("%s at its edges", (fn, x, expected) => {
      expect(apply(fn, x)).toEqual(expected.map((value) => value + 0));
    });

    it.each<[UnaryFn, (x: number) => number, number, number, number]>([
      ["exp", Math.exp, -80, 80, 3e-7],
      ["log", Math.log, 1e-6, 4, 3e-7],
      ["tanh", Math.tanh, -4, 4, 5e-7],
      ["sigmoid", (x) => 1 / (1 + Math.exp(-x)), -80, 20, 5e-7],
      ["softplus", (x) => Math.log1p(Math.exp(x)), -80, 20, 5e-7],
    ])("%s to a few units in the last place", (fn, exact, low, high, limit) => {
      const x = Array.from({ length: 5001 }, (__, k) => Math.fround(low + ((high - low) * k) / 5000));
      const worst = Math.max(...apply(fn, x).map((y, k) => (y === exact(x[k]) ? 0 : Math.abs(y / exact(x[k]) - 1))));
      expect(worst).toBeLessThan(limit);
    });
  });

  describe("bad indices are refused", () => {
    const table = f([2, 4], zeros(8));
    const out = f([1, 4], zeros(4));
    const routed = i([3], [0, 2, 1]);
    it.each<[string, () => void]>([
      ["rope", () => engine.rope(out, out, f([2, 4], zeros(8)), i([1], [2]), { heads: 1, headDim: 4 })],
      ["rope", () => engine.rope(out, out, f([2, 4], zeros(8)), i([1], [-1]), { heads: 1, headDim: 4 })],
      ["glu", () => engine.glu(table, table, { activation: "relu", gated: false, offsets: routed })],
      ["gluBackward", () => engine.gluBackward(table, undefined, table, table, { activation: "relu", gated: false, offsets: routed })],
      ["gatherRows", () => engine.gatherRows(out, table, i([1], [2]))],
      ["scatterAddRows", () => engine.scatterAddRows(table, out, i([1], [2]))],
      ["combineRows", () => engine.combineRows(out, table, i([1, 1], [2]))],
      ["crossEntropy", () => engine.crossEntropy(f([1], [0]), out, i([1], [4]))],
      ["crossEntropyBackward", () => engine.crossEntropyBackward(out, f([1], [0]), out, i([1], [4]))],
      ["gatherColumns", () => engine.gatherColumns(f([1, 1], [0]), out, i([1, 1], [4]))],
      ["scatterColumns", () => engine.scatterColumns(out, f([1, 1], [0]), i([1, 1], [4]))],
      ["sortByExpert", () => engine.sortByExpert(i([3], zeros(3)), i([1], [0]), i([1], [0]), i([1, 1], [0]), i([1, 1], [2]))],
      ["groupedMatmul", () => engine.groupedMatmul("nt", f([1, 1], zeros(1)), table, f([1, 1, 4], zeros(4)), i([2], [0, 1]), { rowsA: i([1], [-1]) })],
    ["groupedMatmul", () => engine.groupedMatmul("nt", f([2, 1], zeros(2)), table, f([2, 1, 4], zeros(8)), routed)],
    ])("%s", (__, run) => {
      expect(run).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" }));
    });
  });
});
