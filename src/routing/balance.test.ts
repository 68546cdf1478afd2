import { expect, test } from "vitest";
import { gradcheck } from "../../test/gradcheck.js";
import { Tape, type TapeOptions } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import type { Tensor } from "../tensor/tensor.js";
import { type BalanceLoss, balanceRange, auxiliaryLoss, entropyLoss, importanceLoss, loadLoss, updateSelectionBias, zLoss } from "./balance.js";
import { routerConfig } from "./presets.js";
import { decide, route } from "./route.js";
import { maxViolation, maxViolationFloor } from "./statistics.js";
import type { RouterConfig } from "./types.js";

const engine = new ReferenceEngine({ float: "f64" });
const arena = new Arena(engine, 2 ** 24);

function newTape(options: TapeOptions = { training: true }): Tape {
  arena.reset();
  return new Tape(engine, arena, options);
}

const router = (method: BalanceLoss, overrides: Partial<RouterConfig> = {}) => routerConfig("olmoe", { zLoss: 0, balance: { method, coefficient: 1 }, ...overrides });
const matrix = (tape: Tape, x: readonly (readonly number[])[]) => tape.constant([x.length, x[0]!.length], x.flat());
const scalar = (t: Tensor) => engine.read(t)[0]!;

/** The unscaled balance loss of a decision on `logits`. */
function value(method: BalanceLoss, logits: number[][], k: number, overrides: Partial<RouterConfig> = {}): number {
  const tape = newTape();
  return decide(router(method, overrides), { tape, logits: matrix(tape, logits), k }).raw.balance!;
}

/** Token t wants experts t, t+1, ..., t+k-1 (mod E), by `height`. */
const cyclic = (T: number, E: number, k: number, height: number) => Array.from({ length: T }, (_, t) => Array.from({ length: E }, (__, e) => ((e - t + E * T) % E < k ? height : 0)));
/** All tokens want the first k experts. */
const collapsed = (T: number, E: number, k: number, height: number) => Array.from({ length: T }, () => Array.from({ length: E }, (_, e) => (e < k ? height : 0)));

test.each([[1], [2], [4]])("balanced, k = %d: every loss is at its minimum, or 1 for the auxiliary ones", (k) => {
  const E = 8;
  const logits = cyclic(16, E, k, 30);
  expect(value("switch", logits, k)).toBeCloseTo(1, 12);
  expect(value("gshard", cyclic(16, E, 1, 30), k)).toBeCloseTo(1, 12);
  expect(value("importance", logits, k)).toBeCloseTo(0, 12);
  expect(value("load", logits, k)).toBeCloseTo(0, 12);
  expect(value("entropy", cyclic(16, E, 1, 50), 1)).toBeCloseTo(-Math.log(E), 9);
  for (const score of ["sigmoid", "sqrt-softplus", "logits"] as const) expect(value("switch", logits, k, { score, weight: "sigmoid" })).toBeCloseTo(1, 12);
});

test.each([[1], [2], [4]])("collapsed, k = %d: every loss reaches its maximum", (k) => {
  const E = 8;
  const logits = collapsed(16, E, k, 40);
  expect(value("switch", logits, k)).toBeCloseTo(balanceRange("switch", E, k).max, 9);
  expect(balanceRange("switch", E, k)).toEqual({ min: 1, max: E / k });
  expect(value("load", logits, k)).toBeCloseTo(balanceRange("load", E, k).max, 9);
  // These two are worst when one expert gets all of the probability.
  const one = collapsed(16, E, 1, 60);
  expect(value("gshard", one, k)).toBeCloseTo(balanceRange("gshard", E, k).max, 9);
  expect(value("importance", one, k)).toBeCloseTo(balanceRange("importance", E, k).max, 9);
  expect(value("entropy", logits, k)).toBeCloseTo(balanceRange("entropy", E, k).max, 9);
});

test("all tokens on the same experts with a nearly uniform router: the auxiliary loss hardly shows it", () => {
  expect(value("switch", collapsed(64, 8, 2, 0.01), 2)).toBeCloseTo(1.0075, 3);
  expect(value("importance", collapsed(64, 8, 2, 0.01), 2)).toBeCloseTo(3, 3);
});

test.each([[1, 8], [2, 4]])("opposite collapses in different layers, k = %d: each layer reads %d, pooled they would look balanced", (k, worst) => {
  const E = 8;
  const layers = Array.from({ length: E }, (_, layer) => Array.from({ length: 4 }, () => cyclic(layer + 1, E, k, 40)[layer]!));
  for (const logits of layers) expect(value("switch", logits, k)).toBeCloseTo(worst, 9);
  expect(value("switch", layers.flat(), k)).toBeCloseTo(1, 9);
});

test("switch and gshard: E * sum f P, with f over all choices or over first choices", () => {
  const p = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 0.15, 0.1], [0.1, 0.6, 0.05, 0.25]];
  const logits = p.map((row) => row.map(Math.log));
  const P = [1.1 / 4, 1.35 / 4, 0.7 / 4, 0.85 / 4];
  const dot = (f: number[]) => 4 * f.reduce((sum, x, e) => sum + x * P[e]!, 0);
  expect(value("switch", logits, 2)).toBeCloseTo(dot([2 / 8, 3 / 8, 1 / 8, 2 / 8]), 12);
  expect(value("gshard", logits, 2)).toBeCloseTo(dot([2 / 4, 1 / 4, 0, 1 / 4]), 12);
  // Sigmoid scores: rows divided by their sum first.
  const s = p.map((row) => row.map((x) => x / (1 + x)));
  const shares = s.map((row) => row.map((x) => x / row.reduce((a, b) => a + b)));
  const expected = [2 / 8, 3 / 8, 1 / 8, 2 / 8].reduce((sum, f, e) => sum + f * shares.reduce((a, row) => a + row[e]!, 0), 0);
  expect(value("switch", logits, 2, { score: "sigmoid" })).toBeCloseTo(expected, 12);
  const tape = newTape();
  expect(scalar(auxiliaryLoss(tape, matrix(tape, p), [2, 3, 1, 2]))).toBeCloseTo(dot([2 / 8, 3 / 8, 1 / 8, 2 / 8]), 12);
});

/** Probabilities 0.7 for the expert that each token wants and 0.1 for the other three. */
const wanting = (experts: number[]) => experts.map((wanted) => [0, 1, 2, 3].map((e) => Math.log(e === wanted ? 0.7 : 0.1)));
/** A capacity of one row leaves one choice of each expert, with which the losses would look balanced. P = [3.8, 1.4, 1.4, 1.4] / 8, weights sum to [3.5, 0.7, 0.7, 0.7]. */
const uneven = [0, 0, 0, 0, 0, 1, 2, 3];

test.each<[BalanceLoss, number[], number, number]>([
  ["switch", [0, 0, 0, 0, 0, 0, 0, 0], 7, 4 * 1 * 0.7],
  ["switch", uneven, 4, 4 * ((5 / 8) * (3.8 / 8) + 3 * (1 / 8) * (1.4 / 8))],
  ["gshard", uneven, 4, 4 * ((5 / 8) * (3.8 / 8) + 3 * (1 / 8) * (1.4 / 8))],
  ["importance", uneven, 4, 1.47 / 1.4 ** 2],
])("%s of choices %j counts what was chosen before any drop", (method, wanted, drops, expected) => {
  const tape = newTape();
  const config = router(method, { capacity: { train: 0.5, eval: 0.5, drop: "position" } });
  const { raw, losses, dropped } = decide(config, { tape, logits: matrix(tape, wanting(wanted)), k: 1 });
  expect(dropped).toBe(drops);
  expect(raw.balance).toBeCloseTo(expected, 12);
  expect(scalar(losses.balance!)).toBeCloseTo(expected, 12);
});

test("importance, load, entropy and z of small cases worked out by hand", () => {
  const tape = newTape();
  // Importance [0.9, 0.4, 0.7]: mean 2/3, variance (0.81 + 0.16 + 0.49) / 3 - 4/9.
  expect(scalar(importanceLoss(tape, matrix(tape, [[0.6, 0.4], [0.7, 0.3]]), tape.constant([2, 2], [0, 1, 2, 0], "i32"), 3))).toBeCloseTo((1.46 / 3 - 4 / 9) / (4 / 9), 12);
  // k = 1: expert 2 is 1 ahead of expert 1; the others are behind it by 2 and 1. With deviation 0.5: Phi(-4), Phi(-2), Phi(2).
  const load = [3.16712418331199e-5, 0.0227501319481792, 0.977249868051821];
  const mean = load.reduce((a, b) => a + b) / 3;
  const clean = matrix(tape, [[0, 1, 2]]);
  expect(scalar(loadLoss(tape, { clean, logits: clean, deviation: 0.5 }, 1))).toBeCloseTo(load.reduce((a, l) => a + (l - mean) ** 2, 0) / 3 / mean ** 2, 9);
  const noisy = { clean, logits: matrix(tape, [[0.5, 2, 1]]), deviation: matrix(tape, [[0.5, 0.5, 0.5]]) };
  // k = 2: rivals are the 2nd (1) for expert 0, the 3rd (0.5) for experts 1 and 2: Phi(-2), Phi(1), Phi(3).
  const second = [0.0227501319481792, 0.841344746068543, 0.998650101968370];
  const mean2 = second.reduce((a, b) => a + b) / 3;
  expect(scalar(loadLoss(tape, noisy, 2))).toBeCloseTo(second.reduce((a, l) => a + (l - mean2) ** 2, 0) / 3 / mean2 ** 2, 9);
  const h = (p: number[]) => -p.reduce((sum, x) => sum + x * Math.log(x), 0);
  expect(scalar(entropyLoss(tape, matrix(tape, [[0.9, 0.1], [0.2, 0.8]])))).toBeCloseTo((h([0.9, 0.1]) + h([0.2, 0.8])) / 2 - h([0.55, 0.45]), 12);
  expect(scalar(zLoss(tape, matrix(tape, [[0, 0, 0, 0], [3, 3, 3, 3]])))).toBeCloseTo((Math.log(4) ** 2 + (3 + Math.log(4)) ** 2) / 2, 12);
});

test("the load loss of noisy top-k uses the clean logits, the noisy rivals and the learned deviation", () => {
  const config = routerConfig("shazeer");
  const weights = Array.from({ length: 20 }, (_, i) => Math.sin(i));
  const tape = newTape({ training: true, seed: 4 });
  const x = tape.constant([6, 5], Array.from({ length: 30 }, (_, i) => Math.cos(2 * i)));
  const parameters = { weight: tape.constant([4, 5], weights), noise: tape.constant([4, 5], weights.map((w) => 0.3 - w)) };
  const { logits, raw, losses } = route(config, { tape, x, parameters, k: 2 });
  const [xs, noisy] = [engine.read(x), engine.read(logits)];
  const product = (t: number, w: (i: number) => number, e: number) => [0, 1, 2, 3, 4].reduce((sum, d) => sum + xs[t * 5 + d]! * w(e * 5 + d), 0);
  const load = [0, 0, 0, 0];
  for (let t = 0; t < 6; t++) {
    const row = [...noisy.subarray(t * 4, (t + 1) * 4)];
    for (let e = 0; e < 4; e++) {
      const rival = row.filter((_, i) => i !== e).toSorted((a, b) => b - a)[1]!;
      const z = (product(t, (i) => weights[i]!, e) - rival) / Math.log1p(Math.exp(product(t, (i) => 0.3 - weights[i]!, e)));
      const cdf = tape.constant([1], [z]);
      engine.unary("normal-cdf", cdf, cdf);
      load[e]! += scalar(cdf);
    }
  }
  const mean = load.reduce((a, b) => a + b) / 4;
  expect(raw.balance).toBeCloseTo(load.reduce((a, l) => a + (l - mean) ** 2, 0) / 4 / mean ** 2, 9);
  expect(scalar(losses.balance!)).toBeCloseTo(0.1 * raw.balance!, 12);
});

/** Both sides of the boundary between the second and the third expert, and ordinary tokens. */
const logits = [[1, 0.501, 0.5, -0.3], [1.2, 0.5, 0.501, -0.4], [-0.7, 0.2, 0.9, 0.4], [0.1, -1.2, 0.3, 1.1], [2, -0.2, -0.3, 0.6]];

test.each<[BalanceLoss | "z", Partial<RouterConfig>]>([
  ["switch", {}],
  ["switch", { score: "sigmoid" }],
  ["switch", { score: "sqrt-softplus" }],
  ["switch", { score: "logits", weight: "softmax" }],
  ["gshard", {}],
  ["importance", {}],
  ["importance", { normalize: { eps: 0, p: 1 } }],
  ["importance", { selection: "dense" }],
  ["load", {}],
  ["entropy", {}],
  ["entropy", { score: "sigmoid" }],
  ["z", {}],
])("gradient of %s %o", (method, overrides) => {
  const config = method === "z" ? routerConfig("olmoe", { balance: { method: "none" }, zLoss: 0.3 }) : router(method, overrides);
  const f = (tape: Tape, [input]: Tensor[]) => decide(config, { tape, logits: input!, k: 2 }).losses[method === "z" ? "z" : "balance"]!;
  expect(gradcheck(engine, f, [{ shape: [5, 4], values: logits.flat() }], { tape: { training: true }, absolute: 1e-8 })).toEqual([]);
});

test("gradient of the noisy load loss, through logits, rivals and deviation", () => {
  const values = (n: number, phase: number) => Array.from({ length: n }, (_, i) => Math.sin(1.7 * i + phase));
  const f = (tape: Tape, [x, weight, noise]: Tensor[]) => route(routerConfig("shazeer"), { tape, x: x!, parameters: { weight: weight!, noise: noise! }, k: 2 }).losses.balance!;
  const inputs = [{ shape: [3, 5], values: values(15, 0) }, { shape: [4, 5], values: values(20, 1) }, { shape: [4, 5], values: values(20, 3) }];
  expect(gradcheck(engine, f, inputs, { tape: { training: true }, absolute: 1e-8 })).toEqual([]);
});

test("the load loss of a router without noise is that of a deviation of 1/E", () => {
  const tape = newTape();
  const clean = matrix(tape, logits);
  const expected = scalar(loadLoss(tape, { clean, logits: clean, deviation: 1 / clean.cols }, 2));
  expect(value("load", logits, 2)).toBe(expected);
});

test("losses are scaled by their coefficients, absent when off, and not computed in plain inference", () => {
  const decision = (config: RouterConfig, options: TapeOptions) => {
    const tape = newTape(options);
    const { losses, raw } = decide(config, { tape, logits: matrix(tape, logits), k: 2 });
    return { raw, losses: Object.fromEntries(Object.entries(losses).map(([name, t]) => [name, scalar(t)])) };
  };
  const config = routerConfig("olmoe", { balance: { method: "switch", coefficient: 0.25 }, zLoss: 0.5 });
  const { raw, losses } = decision(config, { training: true });
  expect(Object.keys(raw)).toEqual(["balance", "z"]);
  expect(losses.balance).toBeCloseTo(0.25 * raw.balance!, 12);
  expect(losses.z).toBeCloseTo(0.5 * raw.z!, 12);
  expect(decision(config, {})).toEqual({ raw: {}, losses: {} });
  expect(decision(routerConfig("deepseek-v3", { groups: undefined }), { training: true })).toEqual({ raw: {}, losses: {} });
});

test("loss-free bias: raised below the mean load, lowered above, integers compared exactly", () => {
  const tape = newTape();
  const bias = tape.constant([4], [0, 0.5, -0.5, 0]);
  const update = (load: number[], kind: "sign" | "proportional") => {
    updateSelectionBias(engine, bias, load, { rate: 0.125, update: kind });
    return Array.from(engine.read(bias));
  };
  expect(update([10, 4, 2, 4], "sign")).toEqual([-0.125, 0.625, -0.375, 0.125]);
  expect(update([0, 4, 2, 18], "proportional")).toEqual([0, 0.625 + 0.125 / 3, -0.375 + 0.125 * (2 / 3), 0]);
  const before = Array.from(engine.read(bias));
  for (const kind of ["sign", "proportional"] as const) expect(update([0, 0, 0, 0], kind)).toEqual(before);
  // The mean is 2^24 + 1/4: in f32 the counts would look equal to it.
  const large = 2 ** 24;
  expect(update([large, large, large, large + 1], "sign")).toEqual(before.map((b, e) => b + (e === 3 ? -0.125 : 0.125)));
  expect(() => update([0.5, 1, 1, 1], "sign")).toThrow(/integer counts/);
  expect(() => update([1, 1], "sign")).toThrow(/\[2\]/);
});

test("loss-free balancing evens out a skewed router without touching its scores", () => {
  const constants = new Arena(engine, 2 ** 20);
  const bias = constants.alloc("f64", [8]);
  engine.fill(bias, 0);
  const config = routerConfig("olmoe", { balance: { method: "loss-free", rate: 0.002, update: "sign" } });
  const violations: number[] = [];
  for (let step = 0; step < 200; step++) {
    const tape = newTape({ training: true });
    const skewed = Array.from({ length: 64 }, (_, t) => Array.from({ length: 8 }, (__, e) => 0.3 * e + Math.sin(37 * t + 11 * e + step)));
    const { load } = decide(config, { tape, logits: matrix(tape, skewed), k: 2, selectionBias: bias });
    violations.push(maxViolation([...load]));
    updateSelectionBias(engine, bias, load, { rate: 0.002, update: "sign" });
  }
  expect(violations[0]).toBeGreaterThan(1);
  expect(violations.slice(-20).reduce((a, b) => a + b) / 20).toBeLessThan(maxViolationFloor(8, 64 * 2));
});
