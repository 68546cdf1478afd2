import { describe, expect, it } from "vitest";
import { gradcheck, type GradcheckInput } from "../../test/gradcheck.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { add, sum } from "../ops/index.js";
import { type RouterPreset, routerConfig, routerPresets } from "../routing/presets.js";
import type { RouterConfig } from "../routing/types.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import { type MoeConfig, moeLayer, type MoeParameters } from "./layer.js";
import { dispatchPlan } from "./plan.js";

const engine = new ReferenceEngine({ float: "f64" });
const [T, D, F, E, K] = [5, 4, 3, 4, 2];

const values = (n: number, seed: number) => Array.from({ length: n }, (_, i) => Math.sin(seed * 12.9898 + (i + 1) * 78.233));
const input = (shape: readonly number[], seed: number): GradcheckInput => ({ shape, values: values(sizeOf(shape), seed) });

const config = (router: Partial<RouterConfig>, rest: Partial<MoeConfig> = {}): MoeConfig => ({ experts: E, active: K, hidden: F, activation: "silu", gated: true, router: routerConfig("mixtral", router), ...rest });

/** x, router weight, up, down, then what the layer has beside. */
function inputs({ gated, shared, router }: MoeConfig): GradcheckInput[] {
  const rows = gated ? 2 * F : F;
  const list = [input([T, D], 1), input([E, D], 2), input([E, rows, D], 3), input([E, D, F], 4)];
  if (router.selection === "noisy-top-k") list.push(input([E, D], 5));
  if (shared !== undefined) list.push(input([gated ? 2 * shared.hidden : shared.hidden, D], 6), input([D, shared.hidden], 7));
  if (shared !== undefined && shared.combine !== "add") list.push(input([shared.combine === "sigmoid" ? 1 : 2, D], 8));
  return list;
}

function layer(tape: Tape, moe: MoeConfig, tensors: readonly Tensor[]) {
  const [x, weight, up, down, ...rest] = tensors as [Tensor, Tensor, Tensor, Tensor, ...Tensor[]];
  const noise = moe.router.selection === "noisy-top-k" ? rest.shift() : undefined;
  const selectionBias = moe.router.selectionBias ? tape.constant([E], [0.3, -0.2, 0.1, 0]) : undefined;
  const [sharedUp, sharedDown, sharedGate] = rest;
  const parameters: MoeParameters = {
    router: { weight, noise, selectionBias },
    experts: { up, down },
    shared: sharedUp === undefined || sharedDown === undefined ? undefined : { up: sharedUp, down: sharedDown },
    sharedGate,
  };
  return moeLayer(tape, x, parameters, moe, tape.constant([T], [3, 1, 4, 1, 5], "i32"));
}

const cases: Record<string, MoeConfig> = {
  ungated: config({}, { gated: false, activation: "relu2" }),
  "shared expert": config({}, { shared: { hidden: 2, combine: "add" } }),
  "shared expert with a sigmoid gate": config({}, { shared: { hidden: 2, combine: "sigmoid" } }),
  "residual with softmax coefficients": config({}, { shared: { hidden: 2, combine: "softmax" } }),
  "dense mixture": config({ selection: "dense", balance: { method: "none" } }),
  hash: config({ selection: "hash", balance: { method: "none" } }),
  "loss-free": config({ selectionBias: true, balance: { method: "loss-free", rate: 1e-3, update: "sign" } }),
  "z-loss and entropy": config({ zLoss: 0.1, balance: { method: "entropy", coefficient: 0.1 } }),
  importance: config({ balance: { method: "importance", coefficient: 0.1 } }),
  "capacity 0.6": config({ capacity: { train: 0.6, eval: 1, drop: "probability" } }),
};
for (const name of Object.keys(routerPresets) as RouterPreset[]) {
  const router = routerConfig(name);
  cases[`preset ${name}`] = config({ normalize: undefined, ...router, groups: router.groups && { ...router.groups, count: 2, keep: 1 } }, { active: name === "switch" ? 1 : K });
}

describe("a whole MoE layer, losses included, passes gradcheck (f64)", () => {
  it.each(Object.entries(cases))("%s", (_, moe) => {
    const f = (tape: Tape, x: Tensor[]) => {
      const { out, routing } = layer(tape, moe, x);
      return Object.values(routing.losses).reduce((total, loss) => add(tape, total, loss), sum(tape, out, "rows"));
    };
    expect(gradcheck(engine, f, inputs(moe), { tape: { training: true } })).toEqual([]);
  });

  it("on both sides of a top-k boundary", () => {
    // Logits of token 0 for experts 1 and 2 differ by 2 * delta only: the second choice flips between the two runs.
    const run = (delta: number) => {
      const moe = config({});
      const data = inputs(moe);
      const x = [...data[0]!.values];
      const w = Array.from({ length: E * D }, (_, i) => (i % D === Math.floor(i / D) ? 1 : 0));
      x.splice(0, D, 2, 1 + delta, 1 - delta, -1);
      data[0] = { shape: [T, D], values: x };
      data[1] = { shape: [E, D], values: w };
      const tape = new Tape(engine, new Arena(engine, 2 ** 20));
      const { routing } = layer(tape, moe, data.map(({ shape, values: v }) => tape.constant(shape, v)));
      return { second: engine.read(routing.experts)[1], failures: gradcheck(engine, (t, y) => layer(t, moe, y).out, data) };
    };
    const [above, below] = [run(1e-4), run(-1e-4)];
    expect([above.second, below.second]).toEqual([1, 2]);
    expect([...above.failures, ...below.failures]).toEqual([]);
  });
});

it.each([["routed", 0], ["shared", 1]])("of softmax coefficients the %s part has number %d", (_, part) => {
  const moe = config({}, { shared: { hidden: 2, combine: "softmax" } });
  const out = (x: readonly GradcheckInput[], of: MoeConfig) => {
    const tape = new Tape(engine, new Arena(engine, 2 ** 20));
    return [...engine.read(layer(tape, of, x.map(({ shape, values: v }) => tape.constant(shape, v))).out)];
  };
  const data = inputs(moe);
  const ones = { shape: [T, D], values: new Array<number>(T * D).fill(1) };
  const decided = [ones, ...data.slice(1, -1), { shape: [2, D], values: Array.from({ length: 2 * D }, (__, i) => (Math.floor(i / D) === part ? 20 : -20)) }];
  const routed = out(decided.slice(0, 4), config({}));
  const both = out(decided.slice(0, 6), config({}, { shared: { hidden: 2, combine: "add" } }));
  expect(out(decided, moe)).toEqual(both.map((y, i) => expect.closeTo(part === 0 ? routed[i]! : y - routed[i]!, 12)));
});

describe("dispatch", () => {
  const silu = (v: number) => v / (1 + Math.exp(-v));

  it.each(["mixtral", "olmoe", "switch", "expert-choice"] as const)("grouped experts equal the naive loop over tokens and experts: %s", (name) => {
    const moe = config({ normalize: undefined, ...routerConfig(name) });
    const data = inputs(moe);
    const tape = new Tape(engine, new Arena(engine, 2 ** 20));
    const { out, routing } = layer(tape, moe, data.map(({ shape, values: v }) => tape.constant(shape, v)));
    const [x, , up, down] = data.map((d) => d.values) as [number[], number[], number[], number[]];
    const experts = engine.read(routing.experts);
    const weights = engine.read(routing.weights);
    const naive = new Float64Array(T * D);
    experts.forEach((e, slot) => {
      if (e < 0) return;
      const t = Math.floor(slot / routing.experts.cols);
      const dot = (row: number) => Array.from({ length: D }, (_, d) => x[t * D + d]! * up[(e * 2 * F + row) * D + d]!).reduce((a, b) => a + b);
      for (let f = 0; f < F; f++) {
        const h = silu(dot(f)) * dot(F + f) * weights[slot]!;
        for (let d = 0; d < D; d++) naive[t * D + d]! += h * down[(e * D + d) * F + f]!;
      }
    });
    engine.read(out).forEach((v, i) => expect(v).toBeCloseTo(naive[i]!, 12));
  });

  it("an expert without tokens costs no rows and gets a zero gradient", () => {
    const moe = config({ balance: { method: "none" } });
    const data = inputs(moe);
    const arena = new Arena(engine, 2 ** 20);
    const tape = new Tape(engine, arena, { recording: true });
    const tensors = data.map(({ shape, values: v }) => tape.constant(shape, v));
    engine.write(tensors[0]!, Float64Array.from({ length: T * D }, (_, i) => (i % D === 0 ? 1 : 0.1 * Math.sin(i))));
    engine.write(tensors[1]!, Float64Array.from({ length: E * D }, (_, i) => (i % D === 0 ? [5, 4, -5, 3][Math.floor(i / D)]! : 0)));
    const up = tensors[2]!;
    up.requiresGrad = true;
    const { out, routing } = layer(tape, moe, tensors);
    const offsets = engine.read(dispatchPlan(tape, routing).offsets);
    expect([...offsets]).toEqual([0, T, 2 * T, 2 * T, 2 * T]);
    tape.backward(out);
    const grad = engine.read(up.grad!);
    const part = (e: number) => grad.slice(e * 2 * F * D, (e + 1) * 2 * F * D);
    expect(part(2).every((g: number) => g === 0)).toBe(true);
    expect(part(0).some((g: number) => g !== 0)).toBe(true);
  });
});
