import { describe, expect, it } from "vitest";
import { sameBits } from "../../test/engines.js";
import { engines, Maker } from "../../test/op-maker.js";
import { type Tensor, view } from "../tensor/tensor.js";

const rows = (t: Tensor, first: number, count: number): Tensor => view(t, [count, t.cols], first * t.cols);

describe.each(engines.map((engine) => [`${engine.name} ${engine.isa}`, engine] as const))("sequence mixers on %s", (_, engine) => {
  const make = new Maker(engine);
  const f = (shape: readonly number[], values: readonly number[]) => make.values("f", shape, values);
  const values = (t: Tensor) => [...engine.read(t)];

  it("causalConv gives the sums written out by hand and keeps the last inputs", () => {
    const [out, state] = [f([3, 1], [0, 0, 0]), f([1, 2, 1], [1, 2])];
    engine.causalConv(out, state, f([3, 1], [3, 4, 5]), f([1, 3], [100, 10, 1]), f([1], [0.5]));
    expect(values(out)).toEqual([123.5, 234.5, 345.5]);
    expect(values(state)).toEqual([4, 5]);
    engine.causalConv(rows(out, 0, 1), state, f([1, 1], [6]), f([1, 3], [100, 10, 1]), undefined);
    expect(values(out)[0]).toBe(456);
    expect(values(state)).toEqual([5, 6]);
  });

  it("linearAttention decays, adds k v^T and reads with q; the delta rule replaces what the key knew", () => {
    const dims = { heads: 1, keyHeads: 1, keyDim: 2, valueDim: 1, scale: 2 };
    const [out, state] = [f([2, 1], [0, 0]), f([1, 1, 2, 1], [4, 8])];
    const qkv = f([2, 5], [1, 0, 1, 0, 3, 0, 1, 1, 1, 5]); // q = e0, k = e0, v = 3; q = e1, k = e0 + e1, v = 5
    engine.linearAttention(out, state, qkv, f([1], [0.5]), undefined, dims);
    expect(values(state)).toEqual([(2 + 3) / 2 + 5, 4 / 2 + 5]);
    expect(values(out)).toEqual([10, 14]);
    const fresh = f([1, 1, 2, 1], [4, 8]);
    engine.linearAttention(out, fresh, qkv, f([2, 1], [0.5, 1]), f([2, 1], [1, 0.5]), dims);
    // S = (2, 4), then (3, 4); the second key knows 7 and moves by half of 5 - 7.
    expect(values(fresh)).toEqual([2, 3]);
    expect(values(out)).toEqual([6, 6]);
  });

  it("linearAttention divides queries and keys by their norm", () => {
    const [out, state] = [f([1, 1], [0]), f([1, 1, 2, 1], [0, 0])];
    engine.linearAttention(out, state, f([1, 5], [3, 4, 6, 8, 1]), f([1], [1]), undefined, { heads: 1, keyHeads: 1, keyDim: 2, valueDim: 1, scale: 1, normEps: 0 });
    expect(values(out)[0]).toBeCloseTo(1, 6);
    expect(values(state)[0]).toBeCloseTo(0.6, 6);
  });

  it("deltaDecays sums exponents in chunks, in f32", () => {
    const [out, state] = [f([4, 1], [0, 0, 0, 0]), f([1, 3, 1], [0, 0, 0])];
    engine.deltaDecays(out, state, f([4, 1], [-7, 2, -9, 1]), f([1], [0]), f([1], [Math.LN2]), 3);
    const g = [-7, 2, -9, 1].map((x) => -2 * Math.log1p(Math.exp(x)));
    g.forEach((x, t) => expect(values(out)[t]).toBeCloseTo(Math.exp(x), 6));
    expect(values(state)[0]).toBeCloseTo(g[3]!, 6); // the fourth begins a chunk
    expect(values(state)[2]).toBe(1);

    // Beyond 2^24 an f32 has steps of 2: an exponent of -1.1 counts as -2 or 0, but what was rounded off is not lost.
    const large = f([1, 3, 1], [-(2 ** 24), 0, 1]);
    const step = Math.log(Math.expm1(1.1));
    engine.deltaDecays(out, large, f([4, 1], [step, step, step, step]), f([1], [0]), f([1], [0]), 64);
    [2, 0, 2, 0].forEach((x, t) => expect(values(out)[t]).toBeCloseTo(Math.exp(-x), 6));
  });

  it("selectiveScan follows the recurrence", () => {
    const [out, state] = [f([2, 1], [0, 0]), f([1, 2, 1], [1, 0])];
    const scan = { delta: f([2, 1], [0, Math.LN2]), a: f([1, 2], [-1, -2]), b: f([2, 2], [9, 9, 0, 1]), c: f([2, 2], [1, 1, 2, 1]), d: f([1], [10]) };
    engine.selectiveScan(out, state, f([2, 1], [1, 2]), scan);
    const got = [...values(state), ...values(out)];
    [0.5, 2 * Math.LN2, 11, 1 + 2 * Math.LN2 + 20].forEach((x, i) => expect(got[i]).toBeCloseTo(x, 5));
  });

  it("lightningIndexer keeps the best keys and none of the future", () => {
    const dims = { batch: 1, queries: 2, keys: 5, keyStride: 5, heads: 2, headDim: 1, topK: 2 };
    const bias = f([2, 5], new Array(10).fill(7));
    // Scores of the last query, weights 1 and -1 of heads that see k and -k: k where positive, else k.
    engine.lightningIndexer(bias, f([2, 2], [0, 1, 1, -1]), f([5, 1], [-1, 2, 3, 1, 5]), f([2, 2], [1, 1, 1, -1]), dims);
    const [no, yes] = [-Infinity, 0];
    expect(values(bias)).toEqual([no, yes, yes, no, no, no, no, yes, no, yes]);
  });

  it("lightningIndexer chooses among equals as PyTorch 2.13 does on a CPU", () => {
    // torch.tensor([x]).topk(k).indices, sorted, of these scores.
    const cases = [
      { x: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], k: 4 },
      { x: [0, 1, 0, 0, 2, 0, -1, 0, 0, 3, 0, 0, -2, 0], k: 6 },
      { x: [-1, 0, 0, -1, 0, 0, 0, 1, 1, 1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1, -1, 0], k: 9 },
    ];
    const chosen = cases.map(({ x, k }) => {
      const bias = f([1, x.length], x);
      // Two heads see the key and its negative: a score of any sign.
      engine.lightningIndexer(bias, f([1, 2], [1, -1]), f([x.length, 1], x), f([1, 2], [1, -1]), { batch: 1, queries: 1, keys: x.length, keyStride: x.length, heads: 2, headDim: 1, topK: k });
      return values(bias).flatMap((b, j) => (b === 0 ? [j] : []));
    });
    expect(chosen).toEqual([[5, 6, 7, 8], [1, 4, 8, 9, 10, 13], [7, 8, 9, 13, 15, 16, 17, 18, 21]]);
  });

  it("a NaN score is chosen last", () => {
    const bias = f([1, 3], [7, 7, 7]);
    engine.lightningIndexer(bias, f([1, 1], [1]), f([3, 1], [1, 2, 3]), f([1, 1], [Number.NaN]), { batch: 1, queries: 1, keys: 3, keyStride: 3, heads: 1, headDim: 1, topK: 1 });
    expect(values(bias).filter((x) => x === 0)).toHaveLength(1);
  });

  const [batch, length, C] = [2, 11, 37];
  const T = batch * length;
  const attention = { heads: 4, keyHeads: 2, keyDim: 12, valueDim: 37, scale: 0.3, normEps: 1e-6 };
  const qkvWidth = 2 * 2 * 12 + 4 * 37;
  type Mixer = { width: number; input: Tensor; state: readonly number[]; run: (out: Tensor, state: Tensor, first: number, count: number) => void };
  const mixers: Record<string, () => Mixer> = {
    causalConv: () => {
      const [input, weight, bias] = [make.floats([T, C]), make.floats([C, 4]), make.floats([C])];
      return { width: C, input, state: [3, C], run: (out, state, first, count) => engine.causalConv(out, state, rows(input, first, count), weight, bias) };
    },
    linearAttention: () => {
      const [input, decay, beta] = [make.floats([T, qkvWidth]), make.floats([T, 4], 0.5, 1), make.floats([T, 4], 0, 1)];
      return {
        width: 4 * 37, input, state: [4, 12, 37],
        run: (out, state, first, count) => engine.linearAttention(out, state, rows(input, first, count), rows(decay, first, count), rows(beta, first, count), attention),
      };
    },
    deltaDecays: () => {
      const [input, bias, logRate] = [make.floats([T, C]), make.floats([C]), make.floats([C], 0, 3)];
      return { width: C, input, state: [3, C], run: (out, state, first, count) => engine.deltaDecays(out, state, rows(input, first, count), bias, logRate, 4) };
    },
    selectiveScan: () => {
      const [input, delta, a, b, c, d] = [make.floats([T, C]), make.floats([T, C], 0, 1), make.floats([C, 6], -2, 0), make.floats([T, 6]), make.floats([T, 6]), make.floats([C])];
      return {
        width: C, input, state: [6, C],
        run: (out, state, first, count) =>
          engine.selectiveScan(out, state, rows(input, first, count), { delta: rows(delta, first, count), a, b: rows(b, first, count), c: rows(c, first, count), d }),
      };
    },
  };

  it.each(Object.keys(mixers))("%s: a sequence in pieces, alone, has the bits of the batch", (name) => {
    const { width, state: shape, run } = mixers[name]!();
    const size = shape.reduce((a, b) => a * b, 1);
    const [whole, states] = [make.floats([T, width]), f([batch, ...shape], new Array(batch * size).fill(0.25))];
    run(whole, states, 0, T);
    for (const pieces of [[11], [1, 1, 9], [2, 8, 1], [5, 6]]) {
      for (let sequence = 0; sequence < batch; sequence++) {
        const [out, state] = [make.floats([length, width]), f([1, ...shape], new Array(size).fill(0.25))];
        let done = 0;
        for (const count of pieces) {
          run(rows(out, done, count), state, sequence * length + done, count);
          done += count;
        }
        expect(sameBits(engine.read(out), engine.read(rows(whole, sequence * length, length))), `pieces ${pieces.join(" ")}`).toBe(true);
        expect(sameBits(engine.read(state), engine.read(view(states, [size], sequence * size)))).toBe(true);
      }
    }
  });

  it.skipIf(engine.name === "reference")("refuses dimensions that do not fit the memory", () => {
    const x = f([2, 2], [1, 2, 3, 4]);
    const state = f([1, 1, 2, 2], [0, 0, 0, 0]);
    const refused = expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" });
    const huge = { heads: 2, keyHeads: 1, keyDim: 2 ** 30, valueDim: 2 ** 30, scale: 1 };
    expect(() => engine.linearAttention(x, state, x, x, undefined, huge)).toThrow(refused);
    expect(() => engine.linearAttention(x, state, x, x, undefined, { ...huge, keyDim: 1, valueDim: 1, keyHeads: 0 })).toThrow(refused);
    expect(() => engine.linearAttention(x, state, x, x, undefined, { ...huge, heads: 3, keyHeads: 2 })).toThrow(refused);
    const dims = { batch: 1, queries: 2, keys: 2, keyStride: 2, heads: 1, headDim: 2, topK: 1 };
    for (const bad of [{ ...dims, topK: 0 }, { ...dims, keyStride: 1 }, { ...dims, batch: 2 ** 20 }, { ...dims, keys: 1 }, { ...dims, headDim: 0.5 }]) {
      expect(() => engine.lightningIndexer(x, x, x, x, bad), JSON.stringify(bad)).toThrow(refused);
    }
  });
});
