import fc from "fast-check";
import { expect, test } from "vitest";
import { gradcheck } from "../../test/gradcheck.js";
import { Tape, type TapeOptions } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import type { Tensor } from "../tensor/tensor.js";
import { hashExperts } from "./hash.js";
import { routerConfig } from "./presets.js";
import { decide, type DecisionInput, route } from "./route.js";
import type { RouterConfig, RouterParameters, Routing } from "./types.js";

const engine = new ReferenceEngine({ float: "f64" });
const arena = new Arena(engine, 2 ** 24);

function newTape(options: TapeOptions = {}): Tape {
  arena.reset();
  return new Tape(engine, arena, options);
}

function rows(t: Tensor): number[][] {
  const values = Array.from(engine.read(t));
  return Array.from({ length: t.rows }, (_, i) => values.slice(i * t.cols, (i + 1) * t.cols));
}
const flat = (x: readonly (readonly number[])[]): number[] => x.flat();

/** Probabilities of four tokens over four experts; their logarithms are logits that give exactly these back. */
const P = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 0.15, 0.1], [0.1, 0.6, 0.05, 0.25]];
const logP = P.map((row) => row.map(Math.log));
const best2 = [[0, 1], [3, 2], [0, 1], [1, 3]];

/** A decision on `logits`, read back. */
function run(config: RouterConfig, k: number, logits: readonly (readonly number[])[] = logP, options: TapeOptions = {}, more: (tape: Tape) => Partial<DecisionInput> = () => ({})) {
  const tape = newTape(options);
  const routing = decide(config, { tape, logits: tape.constant([logits.length, logits[0]!.length], flat(logits)), k, ...more(tape) });
  return { experts: rows(routing.experts), weights: rows(routing.weights), load: [...routing.load], dropped: routing.dropped, fullyDropped: routing.fullyDropped, routing };
}

function expectClose(actual: number[][], expected: number[][]): void {
  expect(actual.map((row) => row.length)).toEqual(expected.map((row) => row.length));
  actual.flat().forEach((x, i) => expect(x).toBeCloseTo(expected.flat()[i]!, 12));
}

const plain = routerConfig("olmoe", { balance: { method: "none" }, zLoss: 0 });

test.each<[string, Partial<RouterConfig>, (p: number[]) => number[]]>([
  ["softmax, as they are", {}, (p) => p],
  ["softmax, sum-normalised", { normalize: { eps: 0, p: 1 } }, ([a = 0, b = 0]) => [a / (a + b), b / (a + b)]],
  ["softmax, eps", { normalize: { eps: 0.5, p: 1 } }, ([a = 0, b = 0]) => [a / (a + b + 0.5), b / (a + b + 0.5)]],
  ["softmax, Euclidean norm", { normalize: { eps: 0, p: 2 } }, ([a = 0, b = 0]) => [a / Math.hypot(a, b), b / Math.hypot(a, b)]],
  ["softmax, 3-norm", { normalize: { eps: 0, p: 3 } }, (p) => p.map((w) => w / Math.cbrt(p[0]! ** 3 + p[1]! ** 3))],
  ["top-k before the softmax", { score: "logits", weight: "softmax" }, ([a = 0, b = 0]) => [a / (a + b), b / (a + b)]],
  ["sigmoid of the chosen logits", { score: "logits", weight: "sigmoid" }, (p) => p.map((x) => x / (1 + x))],
  ["sigmoid scores, scaled", { score: "sigmoid", scale: 2.5 }, (p) => p.map((x) => (2.5 * x) / (1 + x))],
  ["sqrt-softplus", { score: "sqrt-softplus" }, (p) => p.map((x) => Math.sqrt(Math.log(1 + x)))],
])("parametric router: %s", (_, overrides, weigh) => {
  const { experts, weights, load, dropped, fullyDropped } = run({ ...plain, ...overrides }, 2);
  expect(experts).toEqual(best2);
  expectClose(weights, best2.map((chosen, t) => weigh(chosen.map((e) => P[t]![e]!))));
  expect({ load, dropped, fullyDropped }).toEqual({ load: [2, 3, 1, 2], dropped: 0, fullyDropped: 0 });
});

test("the selection bias enters the choice and not the weight", () => {
  const { experts, weights } = run({ ...plain, selectionBias: true }, 2, logP, {}, (tape) => ({ selectionBias: tape.constant([4], [0, 0, 0, 0.25]) }));
  expect(experts).toEqual([[0, 3], [3, 2], [0, 3], [1, 3]]);
  expectClose(weights, [[0.4, 0.1], [0.4, 0.3], [0.5, 0.1], [0.6, 0.25]]);
});

test("group-limited choice: groups scored by their best or by their two best; masked groups stay out even if all scores are negative", () => {
  const logits = [[0.5, 0, 0.4, 0.3]];
  const grouped = (score: "max" | "top2sum") => run({ ...plain, score: "logits", weight: "softmax", groups: { count: 2, keep: 1, score } }, 2, logits).experts;
  expect(grouped("max")).toEqual([[0, 1]]);
  expect(grouped("top2sum")).toEqual([[2, 3]]);
  // Masking with 0.0 instead of -infinity would pick experts of the forbidden group 0 here.
  const negative = [[-0.25, -0.23, -0.24, -0.22, -0.03, -0.02, -0.03, -0.04]];
  expect(run({ ...plain, score: "logits", weight: "softmax", groups: { count: 2, keep: 1, score: "top2sum" } }, 2, negative).experts).toEqual([[5, 4]]);
});

test("dense: every expert, best first", () => {
  const { experts, weights, load } = run({ ...plain, selection: "dense" }, 2);
  expect(experts[3]).toEqual([1, 3, 0, 2]);
  expectClose(weights, P.map((row) => row.toSorted((a, b) => b - a)));
  expect(load).toEqual([4, 4, 4, 4]);
});

test("expert choice: every expert takes its best tokens", () => {
  const one = run(routerConfig("expert-choice"), 1);
  expect(one.experts).toEqual([[-1, -1], [3, 2], [0, -1], [1, -1]]);
  expectClose(one.weights, [[0, 0], [0.4, 0.3], [0.5, 0], [0.6, 0]]);
  expect(one).toMatchObject({ load: [1, 1, 1, 1], dropped: 0, fullyDropped: 1 });
  // k = 2: capacity ceil(4 * 2 / 4) = 2; a capacity factor of 2 with k = 1 says the same.
  const two = run(routerConfig("expert-choice"), 2);
  expect(two.experts).toEqual([[0, 1, 2], [3, 2, -1], [0, -1, -1], [1, 3, -1]]);
  expect(run(routerConfig("expert-choice", { capacity: { train: 1, eval: 2, drop: "position" } }), 1).experts).toEqual(two.experts);
  expect(run(routerConfig("expert-choice"), 4).load).toEqual([4, 4, 4, 4]); // room for all
});

test("hash: a fixed function of the token id", () => {
  const tape = newTape();
  const ids = tape.constant([6], [0, 1, 50_000, 1, 2, 3], "i32");
  const chosen = rows(hashExperts(tape, ids, 3, 8));
  expect(chosen[3]).toEqual(chosen[1]);
  // Models trained with hash routing depend on these very numbers.
  expect(chosen).toEqual([[1, 5, 4], [5, 3, 4], [5, 1, 6], [5, 3, 4], [0, 2, 7], [6, 0, 5]]);
  // All experts are about equally popular among ids, in every slot.
  const many = rows(hashExperts(tape, tape.constant([8000], Int32Array.from({ length: 8000 }, (_, i) => i), "i32"), 3, 8));
  for (let slot = 0; slot < 3; slot++) {
    for (let e = 0; e < 8; e++) expect(Math.abs(many.filter((row) => row[slot] === e).length - 1000)).toBeLessThan(120);
  }
  const { weights, experts } = run({ ...plain, selection: "hash" }, 2, logP, {}, (t) => ({ tokenIds: t.constant([4], [7, 8, 9, 7], "i32") }));
  expectClose(weights, experts.map((row, t) => row.map((e) => P[t]![e]!)));
});

test("stochastic: in training experts are drawn without replacement by their probabilities, in evaluation the best are taken", () => {
  const config = { ...plain, selection: "stochastic" as const };
  expect(run(config, 2).experts).toEqual(best2);
  const n = 20_000;
  const { experts, weights } = run(config, 2, Array.from({ length: n }, () => logP[0]!), { training: true, seed: 3 });
  const share = (e: number, slot: number) => experts.filter((row) => row[slot] === e).length / n;
  P[0]!.forEach((p, e) => expect(Math.abs(share(e, 0) - p)).toBeLessThan(0.012)); // 3.5 standard deviations
  const second = (e: number) => P[0]!.reduce((sum, p, first) => (first === e ? sum : sum + (p * P[0]![e]!) / (1 - p)), 0);
  P[0]!.forEach((_, e) => expect(Math.abs(share(e, 1) - second(e))).toBeLessThan(0.012));
  expectClose(weights.slice(0, 50), experts.slice(0, 50).map((row) => row.map((e) => P[0]![e]!)));
});

/** x [T,D] through a whole router with the given parameters. */
function runRoute(config: RouterConfig, k: number, x: number[][], parameters: { weight: number[][]; noise?: number[][] }, options: TapeOptions = {}): Routing {
  const tape = newTape(options);
  const matrix = (m: number[][]) => tape.constant([m.length, m[0]!.length], flat(m));
  const tensors: RouterParameters = { weight: matrix(parameters.weight), noise: parameters.noise && matrix(parameters.noise) };
  return route(config, { tape, x: matrix(x), parameters: tensors, k });
}

const identity = (n: number) => Array.from({ length: n }, (_, i) => Array.from({ length: n }, (__, j) => (i === j ? 1 : 0)));

test("noisy top-k: normal noise of the learned deviation in training, none in evaluation", () => {
  const config = routerConfig("shazeer", { balance: { method: "none" } });
  const noise = identity(4).map((row) => row.map((v) => 2 * v));
  expectClose(rows(runRoute(config, 2, logP, { weight: identity(4), noise }).logits), logP);
  expectClose(rows(runRoute(config, 2, logP, { weight: identity(4), noise }, { recording: true }).logits), logP);
  const x = Array.from({ length: 4000 }, () => [1, 0.5, 0, -1]);
  const { logits, weights, experts } = runRoute(config, 2, x, { weight: identity(4), noise }, { training: true, seed: 5 });
  const noisy = rows(logits);
  x[0]!.forEach((clean, e) => {
    const z = noisy.map((row) => (row[e]! - clean) / Math.log1p(Math.exp(2 * clean)));
    expect(Math.abs(z.reduce((a, b) => a + b) / z.length)).toBeLessThan(0.06);
    expect(z.reduce((a, b) => a + b * b, 0) / z.length).toBeCloseTo(1, 0.7);
  });
  // Weights: softmax over the k noisy logits.
  const [first, second] = rows(experts)[9]!.map((e) => noisy[9]![e]!) as [number, number];
  expect(first).toBeGreaterThanOrEqual(second);
  expect(rows(weights)[9]![0]).toBeCloseTo(1 / (1 + Math.exp(second - first)), 12);
});

test("jitter multiplies the router's input: it scales with it, within its bounds, and rests in evaluation", () => {
  const config = routerConfig("switch", { jitter: 0.1, capacity: undefined, balance: { method: "none" } });
  const x = Array.from({ length: 200 }, (_, t) => [1, -2, 3, t / 100]);
  const logits = (factor: number, options: TapeOptions) => rows(runRoute(config, 1, x.map((row) => row.map((v) => factor * v)), { weight: identity(4) }, options).logits);
  expectClose(logits(1, { training: false, seed: 1 }), x);
  const once = logits(1, { training: true, seed: 1 });
  expectClose(logits(4, { training: true, seed: 1 }), once.map((row) => row.map((v) => 4 * v)));
  const ratio = once.flatMap((row, t) => row.slice(0, 3).map((v, e) => v / x[t]![e]!));
  expect(Math.min(...ratio)).toBeGreaterThanOrEqual(0.9);
  expect(Math.max(...ratio)).toBeLessThanOrEqual(1.1);
  expect(Math.min(...ratio)).toBeLessThan(0.905);
  expect(Math.max(...ratio)).toBeGreaterThan(1.095);
});

test.each<[string, RouterConfig]>([
  ["noisy top-k", routerConfig("shazeer")],
  ["stochastic", { ...plain, selection: "stochastic" }],
  ["jitter", routerConfig("switch", { jitter: 0.5 })],
])("%s: the same seed gives the same decision, another seed another; evaluation has no randomness", (_, config) => {
  const x = Array.from({ length: 32 }, (__, t) => [Math.sin(t), Math.cos(3 * t), Math.sin(5 * t), 0.1]);
  const parameters = { weight: identity(4), ...(config.selection === "noisy-top-k" ? { noise: identity(4) } : {}) };
  const decision = (options: TapeOptions) => {
    const { experts, weights } = runRoute(config, 2, x, parameters, options);
    return [rows(experts), rows(weights)];
  };
  expect(decision({ training: true, seed: 1 })).toEqual(decision({ training: true, seed: 1 }));
  expect(decision({ training: true, seed: 1 })).not.toEqual(decision({ training: true, seed: 2 }));
  expect(decision({ seed: 1 })).toEqual(decision({ seed: 2 }));
});

test("capacity acts with its own factor in training and in evaluation, and the gradient of a dropped weight is 0", () => {
  const config: RouterConfig = { ...plain, capacity: { train: 0.5, eval: 4, drop: "position" } };
  const same = [logP[0]!, logP[0]!, logP[0]!, logP[0]!];
  expect(run(config, 2, same)).toMatchObject({ dropped: 0, fullyDropped: 0 });
  const capped = run(config, 2, same, { training: true }); // ceil(0.5 * 4 * 2 / 4) = 1 row
  expect(capped).toMatchObject({ experts: [[0, 1], [-1, -1], [-1, -1], [-1, -1]], load: [4, 4, 0, 0], dropped: 6, fullyDropped: 3 });
  expectClose(capped.weights, [[0.4, 0.3], [0, 0], [0, 0], [0, 0]]);
  const weights = (tape: Tape, [logits]: Tensor[]) => decide(config, { tape, logits: logits!, k: 2 }).weights;
  expect(gradcheck(engine, weights, [{ shape: [4, 4], values: flat(same) }], { tape: { training: true } })).toEqual([]);
});

const nearTie = 1e-3;
/** Logits on both sides of the boundary between the second and the third expert, and ordinary ones. */
const boundary = [[1, 0.5 + nearTie, 0.5, -0.3], [1.2, 0.5, 0.5 + nearTie, -0.4], [-0.7, 0.2, 0.9, 0.4]];

test.each<[string, Partial<RouterConfig>]>([
  ["softmax", {}],
  ["normalised", { normalize: { eps: 1e-3, p: 1 } }],
  ["2-norm", { normalize: { eps: 0, p: 2 } }],
  ["3-norm", { normalize: { eps: 1e-3, p: 3 } }],
  ["sigmoid, scaled, biased", { score: "sigmoid", normalize: { eps: 1e-20, p: 1 }, scale: 2.5, selectionBias: true }],
  ["sqrt-softplus", { score: "sqrt-softplus", normalize: { eps: 1e-20, p: 1 } }],
  ["softmax of the chosen", { score: "logits", weight: "softmax" }],
  ["sigmoid of the chosen", { score: "logits", weight: "sigmoid" }],
  ["groups", { groups: { count: 2, keep: 1, score: "top2sum" } }],
  ["stochastic", { selection: "stochastic" }],
  ["dense", { selection: "dense" }],
  ["hash", { selection: "hash" }],
  ["expert choice", { selection: "expert-choice", normalize: { eps: 1e-3, p: 1 } }],
])("gradients of the weights: %s", (_, overrides) => {
  const f = (tape: Tape, [logits]: Tensor[]) =>
    decide({ ...plain, ...overrides }, { tape, logits: logits!, k: 2, selectionBias: tape.constant([4], [0, 0, 0, 0.05]), tokenIds: tape.constant([3], [4, 5, 6], "i32") }).weights;
  expect(gradcheck(engine, f, [{ shape: [3, 4], values: flat(boundary) }], { tape: { training: true } })).toEqual([]);
});

test("gradients reach input, projection, bias and noise of a whole router", () => {
  const config = routerConfig("shazeer", { bias: true, jitter: 0.1, balance: { method: "none" } });
  const f = (tape: Tape, [x, weight, bias, noise]: Tensor[]) => route(config, { tape, x: x!, parameters: { weight: weight!, bias: bias!, noise: noise! }, k: 2 }).weights;
  const values = (n: number, phase: number) => Array.from({ length: n }, (_, i) => Math.sin(1.7 * i + phase));
  const inputs = [{ shape: [3, 5], values: values(15, 0) }, { shape: [4, 5], values: values(20, 1) }, { shape: [4], values: values(4, 2) }, { shape: [4, 5], values: values(20, 3) }];
  expect(gradcheck(engine, f, inputs, { tape: { training: true } })).toEqual([]);
});

const anyRouter = fc
  .record({ T: fc.integer({ min: 1, max: 9 }), groups: fc.integer({ min: 1, max: 4 }), size: fc.integer({ min: 1, max: 4 }), seed: fc.nat(2 ** 30) })
  .chain(({ T, groups, size, seed }) =>
    fc.record({
      T: fc.constant(T),
      E: fc.constant(groups * size),
      seed: fc.constant(seed),
      k: fc.integer({ min: 1, max: groups * size }),
      groups: fc.constant(groups),
      size: fc.constant(size),
      logits: fc.array(fc.double({ min: -30, max: 30, noNaN: true }), { minLength: T * groups * size, maxLength: T * groups * size }),
      selection: fc.constantFrom("top-k" as const, "stochastic" as const, "noisy-top-k" as const),
      score: fc.constantFrom("softmax" as const, "sigmoid" as const, "sqrt-softplus" as const),
      weight: fc.constantFrom("score" as const, "softmax" as const, "sigmoid" as const),
      normalized: fc.boolean(),
      grouped: fc.boolean(),
      training: fc.boolean(),
    }),
  );

test("weights are at least 0 and sum to the scale when normalised, experts are distinct and the k best, loads sum to T * k", () => {
  fc.assert(
    fc.property(anyRouter, (c) => {
      const keep = Math.ceil(c.k / c.size);
      const config: RouterConfig = {
        ...plain,
        ...c,
        scale: 1.5,
        normalize: c.normalized ? { eps: 0, p: 1 } : undefined,
        groups: c.grouped ? { count: c.groups, keep, score: "max" } : undefined,
      };
      const matrix = Array.from({ length: c.T }, (_, t) => c.logits.slice(t * c.E, (t + 1) * c.E));
      const { experts, weights, load, routing } = run(config, c.k, matrix, { training: c.training, seed: c.seed });
      for (const [t, row] of experts.entries()) {
        expect(new Set(row).size).toBe(c.k);
        const chosen = row.map((e) => rows(routing.choice!)[t]![e]!);
        expect(chosen).toEqual(chosen.toSorted((a, b) => b - a));
        if (!c.grouped) expect(Math.min(...chosen)).toBeGreaterThanOrEqual(Math.max(...rows(routing.choice!)[t]!.filter((_, e) => !row.includes(e)), -Infinity));
        else expect(new Set(row.map((e) => Math.floor(e / c.size))).size).toBeLessThanOrEqual(keep);
        expect(Math.min(...weights[t]!)).toBeGreaterThanOrEqual(0);
        if (c.normalized || c.weight === "softmax") expect(weights[t]!.reduce((a, b) => a + b)).toBeCloseTo(1.5, 9);
      }
      expect(load.reduce((a, b) => a + b)).toBe(c.T * c.k);
      // A token's decision does not depend on its batch.
      if (c.training) return;
      const alone = run(config, c.k, [matrix[0]!]);
      expect([alone.experts[0], alone.weights[0]]).toEqual([experts[0], weights[0]]);
    }),
    { numRuns: 200 },
  );
});

test("softmax over all, sum-normalised, equals softmax over the chosen", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 8, maxLength: 8 }), fc.integer({ min: 1, max: 8 }), (logits, k) => {
      const after = run(routerConfig("mixtral"), k, [logits]);
      const before = run({ ...plain, score: "softmax", weight: "softmax" }, k, [logits]);
      expect(after.experts).toEqual(before.experts);
      expectClose(after.weights, before.weights);
    }),
  );
});
