import { expect, it, vi } from "vitest";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { RoutingObserver } from "./observer.js";
import { type TrainInput, trainOptions } from "./options.js";
import { scheduleFactor } from "./schedule.js";
import { Trainer } from "./trainer.js";

const engine = loadEngine({ engine: "reference", float: "f64" });
const config = modelConfig({ vocab: 24, width: 8, layers: 2, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 8, router: { capacity: { train: 0.5, eval: 0.5, drop: "position" } } } });
const batch = () => {
  const tokens = Int32Array.from({ length: 17 }, (_, t) => (t * t + 5 * t) % 24);
  return { inputs: tokens.subarray(0, 16), targets: tokens.subarray(1), batch: 1 };
};
const trainerOf = (input: Partial<TrainInput>) => new Trainer(LanguageModel.create({ config, engine, seed: 3 }), trainOptions({ steps: 10, batch: 1, learningRate: 0.01, ...input }));

it("each step has the learning rate that the schedule gives it, counted from 0, and so has a step after a skipped one", () => {
  using trainer = trainerOf({ schedule: "wsd", warmup: 2, decaySteps: 3 });
  const embedding = trainer.model.parameters.get("embedding");
  const rates = Array.from({ length: 10 }, (_, step) => {
    const sound = engine.read(embedding);
    if (step === 4) engine.fill(embedding, NaN);
    const { learningRate, applied } = trainer.train(batch);
    if (step === 4) engine.write(embedding, sound);
    expect(applied).toBe(step !== 4);
    return learningRate;
  });
  expect(rates).toEqual(rates.map((_, step) => 0.01 * scheduleFactor(step, trainer.options.schedule)));
  expect([rates[0], rates[1], rates[7], trainer.optimizer.steps]).toEqual([0.005, 0.01, 0.01, 9]);
});

it.each([0.5, 2])("a gradient of %d times clipNorm goes into the moments with that norm at most", (times) => {
  using plain = trainerOf({});
  const { total } = plain.train(batch).norms;
  using trainer = trainerOf({ clipNorm: total / times });
  expect(trainer.train(batch).norms.total).toBe(total);
  const moments = ({ optimizer }: Trainer) => optimizer.moments.flatMap(({ m }) => [...engine.read(m)]);
  const gradient = trainer.optimizer.moments.flatMap(({ parameter: { tensor } }) => [...engine.read(tensor.grad!)]);
  expect(Math.hypot(...moments(trainer))).toBeCloseTo(0.1 * Math.min(total, total / times), 6); // 1 - beta1
  expect(moments(trainer)).toEqual(gradient.map((g) => expect.closeTo((0.1 * g) / Math.max(1, times), 6)));
});

it("two skipped steps are forgiven by a sound one, three in a row are not", () => {
  using trainer = trainerOf({});
  const embedding = trainer.model.parameters.get("embedding");
  const sound = engine.read(embedding);
  const skip = () => {
    engine.fill(embedding, NaN);
    return trainer.train(batch).applied;
  };
  for (let i = 0; i < 2; i++) {
    expect([skip(), skip()]).toEqual([false, false]);
    engine.write(embedding, sound);
    expect(trainer.train(batch).applied).toBe(true);
  }
  expect([skip(), skip()]).toEqual([false, false]);
  expect(skip).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DIVERGED", message: expect.stringContaining("at step 9, not finite for 3 steps in a row") }));
});

it("dropout acts on the embeddings and on both branches of each layer, with a mask of their own each, which the backward pass has again", () => {
  const dropout = vi.spyOn(engine, "dropout");
  using trainer = trainerOf({ dropout: 0.3 });
  trainer.train(batch);
  const seeds = dropout.mock.calls.map(([, , rate, seed]) => [rate, seed]);
  dropout.mockRestore();
  expect(seeds).toHaveLength(2 * (1 + 2 * config.layers));
  expect(new Set(seeds.map(([, seed]) => seed)).size).toBe(1 + 2 * config.layers);
  expect(seeds.toReversed()).toEqual(seeds);
  expect(seeds.every(([rate]) => rate === 0.3)).toBe(true);
});

it("products are of the precision that was asked for", () => {
  const losses = (["f32", "bf16"] as const).map((precision) => {
    using trainer = trainerOf({ precision });
    return trainer.train(batch).loss;
  });
  expect(losses[1]).not.toBeCloseTo(losses[0]!, 7);
  expect(losses[1]).toBeCloseTo(losses[0]!, 1);
});

it("the record of a step has the drops of all its batches", () => {
  using trainer = trainerOf({ accumulation: 2 });
  const observer = new RoutingObserver(trainer.model);
  const drops: { dropped: number; fullyDropped: number }[][] = [];
  trainer.train(batch, (routings) => {
    observer.observe(routings);
    drops.push(routings.map(({ dropped, fullyDropped }) => ({ dropped, fullyDropped })));
  });
  const shares = [0, 1].map((l) => ({ dropped: (drops[0]![l]!.dropped + drops[1]![l]!.dropped) / 64, fully_dropped: (drops[0]![l]!.fullyDropped + drops[1]![l]!.fullyDropped) / 32 }));
  expect(shares.every(({ dropped, fully_dropped }) => dropped > 0 && fully_dropped > 0)).toBe(true);
  expect(observer.layerRecords()).toMatchObject(shares);
});
