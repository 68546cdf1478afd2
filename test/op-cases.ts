/**
 * Every op but products (product-cases.ts) on odd sizes, for the tests that compare engines, ISA variants and thread counts.
 * Outputs start out filled with numbers, so that `accumulate` and rows that must stay untouched are seen.
 */
import type { UnaryFn } from "../src/engine/engine.js";
import { mixerOpCases } from "./mixer-cases.js";
import type { OpCase } from "./op-maker.js";
import { matrixCases } from "./row-cases.js";

const unaryFns: readonly UnaryFn[] = ["neg", "exp", "log", "sqrt", "square", "sigmoid", "tanh", "softplus", "relu", "normal-cdf"];

/** Rows x columns: empty, single, odd, and large enough for two threads. */
const matrices: readonly (readonly [number, number])[] = [[0, 8], [1, 3], [3, 7], [5, 33], [130, 97], [67, 512]];

export const smallOpCases: readonly OpCase[] = [
  ...matrices.flatMap(([rows, cols]) => matrixCases(rows, cols)),
  ...[0, 1, 5, 300].flatMap((tokens) => routingCases(tokens)),
  ...[0, 1, 2, 3, 1000, 40_001].flatMap((size) => flatCases(size)),
  ...mixerOpCases,
];

function routingCases(tokens: number): OpCase[] {
  const cases: OpCase[] = [];
  const add = (name: string, run: OpCase["run"]): void => {
    cases.push({ name: `${name}, ${tokens} tokens`, run });
  };
  for (const [experts, k] of [[1, 1], [7, 3], [64, 8], [130, 130], [1024, 65]] as const) {
    if (tokens > 5 && experts > 64) continue; // one size that two threads share is enough
    for (const biased of [false, true]) {
      add(`topK ${k} of ${experts} bias=${biased}`, (make) => {
        const indices = make.ints([tokens, k], 0, 1);
        const scores = make.floats([tokens, experts]);
        make.engine.topK(indices, scores, biased ? { bias: make.floats([experts]) } : {});
        return [indices];
      });
    }
    add(`topK ${k} of ${experts} with many ties`, (make) => {
      const indices = make.ints([tokens, k], 0, 1);
      make.engine.topK(indices, make.values("f", [tokens, experts], Array.from({ length: tokens * experts }, () => make.random.below(3) / 4)));
      return [indices];
    });
    add(`columns ${k} of ${experts}`, (make) => {
      const columns = make.ints([tokens, k], -1, experts);
      const [out, x, dx, sum] = [make.floats([tokens, k]), make.floats([tokens, experts]), make.floats([tokens, experts]), make.floats([tokens, experts])];
      make.engine.gatherColumns(out, x, columns);
      make.engine.scatterColumns(dx, out, columns);
      make.engine.scatterColumns(sum, out, columns, true);
      return [out, dx, sum];
    });
    add(`sortByExpert and combineRows ${k} of ${experts}`, (make) => {
      const N = tokens * k;
      const [offsets, slots, order, positions] = [make.ints([experts + 1], 5, 9), make.ints([N], 5, 9), make.ints([N], 5, 9), make.ints([tokens, k], 5, 9)];
      make.engine.sortByExpert(offsets, slots, order, positions, make.ints([tokens, k], -1, experts));
      const [out, y] = [make.floats([tokens, 19]), make.floats([N, 19])];
      make.engine.combineRows(out, y, positions);
      const sum = make.floats([tokens, 19]);
      make.engine.combineRows(sum, y, positions, { accumulate: true });
      const weighted = make.floats([tokens, 19]);
      make.engine.combineRows(weighted, y, positions, { weights: make.floats([tokens, k]) });
      return [offsets, slots, order, positions, out, sum, weighted];
    });
  }
  for (const score of ["max", "top2sum"] as const) {
    for (const [count, keep, experts, k] of [[4, 2, 16, 3], [8, 4, 256, 8], [5, 1, 15, 4], [6, 6, 6, 2]] as const) {
      add(`topK ${k} of ${experts} in ${keep} of ${count} groups by ${score}`, (make) => {
        const indices = make.ints([tokens, k], 0, 1);
        make.engine.topK(indices, make.floats([tokens, experts]), { bias: make.floats([experts]), groups: { count, keep, score } });
        return [indices];
      });
    }
  }
  return cases;
}

function flatCases(size: number): OpCase[] {
  const cases: OpCase[] = [];
  const add = (name: string, run: OpCase["run"]): void => {
    cases.push({ name: `${name} [${size}]`, run });
  };
  for (const fn of unaryFns) {
    const [low, high] = fn === "log" || fn === "sqrt" ? [0.01, 9] : [-9, 9];
    add(`unary ${fn}`, (make) => {
      const [x, out] = [make.floats([size], low, high), make.floats([size])];
      const [dx, sum, dout] = [make.floats([size]), make.floats([size]), make.floats([size])];
      make.engine.unary(fn, out, x);
      make.engine.unaryBackward(fn, dx, dout, x);
      make.engine.unaryBackward(fn, sum, dout, x, true);
      make.engine.unary(fn, x, x);
      return [out, dx, sum, x];
    });
  }
  add("scale", (make) => {
    const [x, out, sum] = [make.floats([size]), make.floats([size]), make.floats([size])];
    make.engine.scale(out, x, 0.3);
    make.engine.scale(sum, x, -1.7, true);
    make.engine.scale(x, x, 3);
    return [out, sum, x];
  });
  for (const seed of [0, 1, 2 ** 53 - 1]) {
    add(`dropout seed ${seed}`, (make) => {
      const [x, out] = [make.floats([size], 1, 2), make.floats([size])];
      make.engine.dropout(out, x, 0.3, seed);
      return [out];
    });
    add(`uniform seed ${seed}`, (make) => {
      const out = make.floats([size]);
      make.engine.uniform(out, -0.3, 0.7, seed);
      return [out];
    });
    add(`normal seed ${seed}`, (make) => {
      const out = make.floats([size]);
      make.engine.normal(out, 0.02, seed);
      return [out];
    });
  }
  add("adamW", (make) => {
    const [param, m, v] = [make.floats([size]), make.floats([size]), make.floats([size], 0, 1)];
    for (const step of [1, 2]) {
      make.engine.adamW(param, make.floats([size]), m, v, { learningRate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, step, gradScale: 0.5 });
    }
    return [param, m, v];
  });
  add("sumSquares", (make) => [make.values("f", [1], [make.engine.sumSquares(make.floats([size]))])]);
  return cases;
}
