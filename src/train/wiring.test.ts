import { describe, expect, it } from "vitest";
import { Tape, type TapeOptions } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig, type MoeOptions } from "../model/presets.js";
import { forward, logits } from "../model/transformer.js";
import { gatherColumns, linear, softmax, topK } from "../ops/index.js";
import type { BalanceLoss } from "../routing/balance.js";
import { defineRouter } from "../routing/define.js";
import { routerConfig } from "../routing/presets.js";
import type { Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";
import { evaluate } from "./evaluate.js";
import { RoutingObserver } from "./observer.js";
import { AdamW, defaultOptimizer } from "./optimizer.js";
import { type TrainInput, trainOptions } from "./options.js";
import { train } from "./train.js";
import { type Batch, Trainer } from "./trainer.js";

// How the parts of a training step are joined: each of them by itself has tests beside its file.

const engine = loadEngine({ engine: "reference", float: "f64" });
const arena = new Arena(engine, 2 ** 20);
const [V, T, E, K] = [24, 16, 4, 2];

/** The second and third of three layers are sparse: their number is not that of all layers, nor their indices those in the model. */
function modelOf(moe: MoeOptions): LanguageModel {
  const sizes = { vocab: V, width: 8, layers: 3, heads: 2, hidden: 8, context: T };
  return LanguageModel.create({ config: modelConfig({ ...sizes, moe: { experts: E, active: K, hidden: 8, layers: { firstDense: 1 }, ...moe } }), engine, seed: 3 });
}
const weighted = (method: BalanceLoss) => ({ balance: { method, coefficient: 0.3 }, zLoss: 0.2 });

/** With rate 0 a step leaves the weights as they are, and its gradients to be read. */
const trainerOf = (model: LanguageModel, input: Partial<TrainInput> = {}, learningRate = 0) =>
  new Trainer(model, { ...trainOptions({ steps: 10, batch: 1, learningRate: 1, schedule: "constant", warmup: 0, ...input }), learningRate });

const tokens = (n: number) => Int32Array.from({ length: T + 1 }, (_, t) => (t * t * (n + 1) + 5 * n + t) % V);
const batchOf = (n: number): Batch => ({ inputs: tokens(n).subarray(0, T), targets: tokens(n).subarray(1), batch: 1 });
/** Those batches one after another, then again from the first. */
const inTurn = (...numbers: number[]) => {
  let next = 0;
  return () => batchOf(numbers[next++ % numbers.length]!);
};

const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);
const mean = (x: readonly number[]) => sum(x) / x.length;
const means = (x: readonly (readonly number[])[]) => x[0]!.map((_, i) => mean(x.map((row) => row[i]!)));
const rows = (t: Tensor) => {
  const values = engine.read(t);
  return Array.from({ length: t.rows }, (_, i) => [...values.subarray(i * t.cols, (i + 1) * t.cols)]);
};
const logSum = (x: readonly number[]) => Math.log(sum(x.map(Math.exp)));
const entropy = (p: readonly number[]) => -sum(p.map((x) => x * Math.log(x)));
const countOf = (experts: readonly number[]) => Array.from({ length: E }, (_, e) => experts.filter((x) => x === e).length);

const layerOf = ({ logits: x, scores, chosen, experts, weights }: Routing) => ({ logits: rows(x), scores: rows(scores), chosen: rows(chosen ?? experts), weights: rows(weights) });
type Layer = ReturnType<typeof layerOf>;

/** A forward pass without the trainer, and nothing but its decisions and cross-entropy. */
function pass(model: LanguageModel, { inputs, targets, batch }: Batch, options: TapeOptions = {}): { crossEntropy: number; layers: Layer[] } {
  arena.reset();
  const tape = new Tape(engine, arena, options);
  const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
  return { crossEntropy: mean(rows(logits(tape, model, hidden)).map((row, t) => logSum(row) - row[targets[t]!]!)), layers: routings.map(layerOf) };
}

/** Unscaled routing losses of one layer, as their papers write them for softmax scores. */
const formulas = {
  switch: ({ scores, chosen }: Layer) => E * sum(means(scores).map((p, e) => (p * countOf(chosen.flat())[e]!) / (T * K))),
  gshard: ({ scores, chosen }: Layer) => E * sum(means(scores).map((p, e) => (p * countOf(chosen.map(([first]) => first!))[e]!) / T)),
  importance: ({ chosen, weights }: Layer) => {
    const importance = countOf([]).map((_, e) => sum(chosen.flatMap((row, t) => row.map((x, k) => (x === e ? weights[t]![k]! : 0)))));
    return mean(importance.map((x) => (x - mean(importance)) ** 2)) / mean(importance) ** 2;
  },
  entropy: ({ scores }: Layer) => mean(scores.map(entropy)) - entropy(means(scores)),
  z: ({ logits: x }: Layer) => mean(x.map((row) => logSum(row) ** 2)),
};
type Formula = Exclude<keyof typeof formulas, "z">;

const gradients = ({ parameters }: LanguageModel) => parameters.list.flatMap(({ tensor: { grad } }) => (grad === undefined ? [] : [...engine.read(grad)]));
const valuesOf = ({ parameters }: LanguageModel) => Object.fromEntries(parameters.list.map(({ name, tensor }) => [name, [...engine.read(tensor)]]));

describe("the loss of a step", () => {
  it.each<Formula>(["switch", "gshard", "importance", "entropy"])("is the cross-entropy plus coefficient * %s, mean of the sparse layers; so are its gradients", (method) => {
    using model = modelOf(weighted(method));
    const parts = () => {
      const { crossEntropy, layers } = pass(model, batchOf(0));
      return { crossEntropy, routing: mean(layers.map((layer) => 0.3 * formulas[method](layer) + 0.2 * formulas.z(layer))) };
    };
    using trainer = trainerOf(model);
    const { loss, crossEntropy } = trainer.train(inTurn(0));
    expect(crossEntropy).toBeCloseTo(parts().crossEntropy, 12);
    expect(loss - crossEntropy).toBeCloseTo(parts().routing, 12);
    for (const l of model.config.sparseLayers) {
      const weight = model.parameters.get(`layers.${l}.router.weight`);
      const at = [...engine.read(weight)];
      const moved = (i: number, by: number) => {
        engine.write(weight, at.map((w, j) => (j === i ? w + by : w)));
        const { crossEntropy: ce, routing } = parts();
        return ce + routing;
      };
      const slopes = at.map((_, i) => (moved(i, 1e-5) - moved(i, -1e-5)) / 2e-5);
      engine.write(weight, at);
      expect(rows(weight.grad!).flat()).toEqual(slopes.map((slope) => expect.closeTo(slope, 8)));
    }
  });

  it("of several batches is their mean, and so are its gradients", () => {
    using model = modelOf(weighted("switch"));
    const each = [[0], [1], [0, 1]].map((numbers) => {
      using trainer = trainerOf(model, { accumulation: numbers.length });
      const { loss, crossEntropy } = trainer.train(inTurn(...numbers));
      return [loss, crossEntropy, ...gradients(model)];
    });
    expect(each[2]).toEqual(means(each.slice(0, 2)).map((x) => expect.closeTo(x, 12)));
    expect(each[0]).not.toEqual(each[1]!.map((x) => expect.closeTo(x, 3)));
  });
});

describe("loss-free balancing", () => {
  const lossFree: MoeOptions = { balance: { method: "loss-free", rate: 0.125, update: "sign" } };
  const biases = (model: LanguageModel) => model.config.sparseLayers.map((l) => [...engine.read(model.parameters.get(`layers.${l}.router.selectionBias`))]);
  const loads = (model: LanguageModel, n: number) => pass(model, batchOf(n)).layers.map(({ chosen }) => countOf(chosen.flat()));
  const steps = (load: number[][]) => load.map((counts) => counts.map((n) => 0.125 * Math.sign(mean(counts) - n)));

  it.each([[[0]], [[0, 1]]])("moves the bias of each layer once in a step, by the choices of all its batches: %j", (numbers) => {
    using model = modelOf(lossFree);
    const each = numbers.map((n) => loads(model, n));
    const load = each[0]!.map((counts, l) => counts.map((_, e) => sum(each.map((of) => of[l]![e]!))));
    if (numbers.length > 1) for (const one of each) expect(steps(one)).not.toEqual(steps(load));
    using trainer = trainerOf(model, { accumulation: numbers.length });
    expect(trainer.train(inTurn(...numbers)).load.map((counts) => [...counts])).toEqual(load);
    expect(biases(model)).toEqual(steps(load));
  });

  it.each([["a loss", NaN], ["a gradient", 1e200]])("leaves the bias alone in a step that is skipped for %s that is not finite", (_, factor) => {
    using model = modelOf(lossFree);
    const moved = steps(loads(model, 0));
    using trainer = trainerOf(model);
    const head = model.parameters.get("head");
    const sound = engine.read(head);
    engine.write(head, sound.map((w) => w * factor)); // behind every router
    const { applied, loss, load } = trainer.train(inTurn(0));
    expect([applied, Number.isFinite(loss), trainer.skipped]).toEqual([false, factor === 1e200, 1]);
    expect(biases(model)).toEqual(load.map(() => [0, 0, 0, 0]));
    engine.write(head, sound);
    expect(trainer.train(inTurn(0)).applied).toBe(true);
    expect(biases(model)).toEqual(moved);
  });
});

it.each<[string, MoeOptions]>([
  ["the noise of shazeer", { router: "shazeer" }],
  ["jitter", { router: { jitter: 0.5 } }],
  ["gumbel noise", { router: { selection: "stochastic" } }],
  ["the small training capacity of a switch", { router: routerConfig("switch", { jitter: 0, capacity: { train: 0.25, eval: E, drop: "position" } }), active: 1 }],
  ["the large training capacity of a switch", { router: routerConfig("switch", { jitter: 0, capacity: { train: E, eval: 0.5, drop: "position" } }), active: 1 }],
])("evaluation is without %s", async (_, moe) => {
  using model = modelOf(moe);
  const { active: k, router } = model.config.moe!;
  const { crossEntropy, layers } = pass(model, batchOf(0));
  expect(pass(model, batchOf(0), { training: true }).crossEntropy).not.toBeCloseTo(crossEntropy, 4);
  const evaluation = await evaluate(model, { data: tokens(0) });
  expect(evaluation.loss).toBeCloseTo(crossEntropy, 12);
  const room = Math.ceil(((router.capacity?.eval ?? E) * T * k) / E);
  const loads = layers.map(({ chosen }) => countOf(chosen.flat()));
  expect(evaluation.routing.map(({ load }) => load)).toEqual(loads.map((load) => load.map((n) => n / (T * k))));
  expect(evaluation.routing.map(({ dropped }) => dropped)).toEqual(loads.map((load) => sum(load.map((n) => Math.max(0, n - room))) / (T * k)));
  if (k === 1) expect(evaluation.routing.map((layer) => layer.fully_dropped)).toEqual(evaluation.routing.map(({ dropped }) => dropped));
  expect(await evaluate(model, { data: tokens(0) })).toEqual(evaluation);
});

it.each<[string, MoeOptions, Partial<TrainInput>]>([
  ["dropout", {}, { dropout: 0.3 }],
  ["noisy top-k", { router: "shazeer" }, {}],
  ["jitter", { router: { jitter: 0.5 } }, {}],
  ["gumbel noise", { router: { selection: "stochastic" } }, {}],
])("%s is another in every batch of every step and for every seed, and the same for the same seed", (_, moe, input) => {
  using model = modelOf(moe);
  const run = (seed: number) => {
    using trainer = trainerOf(model, { accumulation: 2, seed, ...input });
    const draws: string[] = [];
    const losses = [0, 1].map(() => trainer.train(inTurn(0), (routings) => draws.push(JSON.stringify(routings.map(layerOf)))).loss);
    return { draws, losses };
  };
  const [first, again, other] = [run(7), run(7), run(8)];
  expect(again).toEqual(first);
  expect(new Set([...first.draws, ...other.draws]).size).toBe(8);
  expect(new Set([...first.losses, ...other.losses]).size).toBe(4);
});

describe("the optimiser", () => {
  it.each([0, 0.5, 3])("moves a router by %d of what it would without routerRate, and nothing else", (routerRate) => {
    const [plain, scaled] = [1, routerRate].map((rate) => {
      using model = modelOf({ ...weighted("switch"), router: { bias: true } });
      const before = valuesOf(model);
      using trainer = trainerOf(model, { routerRate: rate }, 0.01);
      trainer.train(inTurn(0));
      return { before, after: valuesOf(model), groups: model.parameters.list };
    });
    for (const { name, group } of plain!.groups) {
      const [from, to, moved] = [plain!.before[name]!, plain!.after[name]!, scaled!.after[name]!];
      expect(to, name).not.toEqual(from);
      if (group !== "router") expect(moved, name).toEqual(to);
      else if (routerRate === 0) expect(moved, name).toEqual(from);
      else expect(moved, name).toEqual(from.map((x, i) => expect.closeTo(x + routerRate * (to[i]! - x), 12)));
    }
  });

  it.each(["matrices", "all"] as const)("decays %s by learningRate * weightDecay where there is no gradient", (decay) => {
    using model = modelOf({ router: { bias: true, balance: { method: "loss-free", rate: 0.125, update: "sign" } }, shared: 1 });
    for (const { tensor } of model.parameters.list) if (tensor.shape.length === 1) engine.fill(tensor, 0.7);
    const before = valuesOf(model);
    using trainer = trainerOf(model, { weightDecay: 0.5 });
    using all = new AdamW(model.parameters, { ...defaultOptimizer, decay, weightDecay: 0.5 });
    const optimizer = decay === "all" ? all : trainer.optimizer; // a trainer's decays matrices
    for (const { tensor } of model.parameters.list) if (tensor.grad) engine.fill(tensor.grad, 9); // of a step before
    optimizer.clearGradients();
    optimizer.step(0.25, optimizer.gradientNorms());
    const after = valuesOf(model);
    for (const { name, shape } of model.parameters.list) {
      const shrinks = !name.endsWith("selectionBias") && (decay === "all" || shape.length > 1);
      expect(after[name], name).toEqual(shrinks ? before[name]!.map((x) => expect.closeTo(x * (1 - 0.25 * 0.5), 14)) : before[name]);
    }
  });
});

describe("the record of a step", () => {
  it("has routing losses that are means over layers and batches, and loads of all batches", () => {
    using model = modelOf(weighted("switch"));
    const each = [0, 1].map((n) => pass(model, batchOf(n)).layers);
    const observer = new RoutingObserver(model);
    using trainer = trainerOf(model, { accumulation: 2 });
    trainer.train(inTurn(0, 1), observer.observe);
    const raw = mean(each.flat().map(formulas.switch));
    const z = mean(each.flat().map(formulas.z));
    const aux = { method: "switch", raw: expect.closeTo(raw, 12), scaled: expect.closeTo(0.3 * raw, 12), min: 1, max: E / K };
    expect(observer.lossRecords()).toEqual({ aux, z: expect.closeTo(0.2 * z, 12) });
    expect(observer.layerRecords()).toMatchObject(
      [1, 2].map((layer, i) => ({
        layer,
        load: countOf(each.flatMap((layers) => layers[i]!.chosen.flat())).map((n) => expect.closeTo(n / (2 * T * K), 12)),
        token_entropy: expect.closeTo(mean(each.flatMap((layers) => layers[i]!.scores.map(entropy))), 12),
        router_z: expect.closeTo(mean(each.map((layers) => formulas.z(layers[i]!))), 12),
      })),
    );
  });

  it("says nothing of routing losses that a router of one's own does not have", () => {
    using model = modelOf(weighted("switch"));
    model.router = defineRouter("plain", ({ tape, x, parameters, k }) => {
      const scores = softmax(tape, linear(tape, x, parameters.weight));
      const experts = topK(tape, scores, k);
      return { scores, experts, weights: gatherColumns(tape, scores, experts) };
    });
    const observer = new RoutingObserver(model);
    using trainer = trainerOf(model);
    const { loss, crossEntropy } = trainer.train(inTurn(0), observer.observe);
    expect(loss).toBe(crossEntropy);
    expect(observer.lossRecords()).toEqual({ aux: null, z: null });
  });

  it.each<BalanceLoss>(["switch", "gshard", "importance", "load", "entropy"])("adds up: its loss is the cross-entropy and what it says of the routing losses, %s", async (method) => {
    using model = modelOf(weighted(method));
    const data = Int32Array.from({ length: 200 }, (_, i) => (i * i + i) % V);
    let records = 0;
    const settings = { data, steps: 2, batch: 2, accumulation: 2, learningRate: 1e-2, logEvery: 1, evalEvery: 0 };
    for await (const { record, loss, crossEntropy } of train(model, settings)) {
      const { aux, z, loss: recorded, ce } = record!;
      expect([recorded, ce]).toEqual([loss, crossEntropy]);
      expect(aux).toMatchObject({ method, scaled: expect.closeTo(0.3 * aux!.raw, 12) });
      expect(recorded - ce).toBeCloseTo(aux!.scaled + z!, 12);
      records++;
    }
    expect(records).toBe(2);
  });
});
