import { expect, it } from "vitest";
import { Tape } from "../autograd/tape.js";
import { evaluationWindows } from "../data/index.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { forward, logits } from "../model/transformer.js";
import { Random } from "../tensor/random.js";
import { measureDrift } from "./drift.js";

const engine = loadEngine();
const [vocab, experts, active] = [40, 6, 2];
const config = modelConfig({ vocab, width: 32, layers: 2, heads: 2, context: 16, moe: { router: "olmoe", experts, active, hidden: 16 } });

/** Distributions of the next token, and in each layer the weights of all experts, for every token. */
function computed(model: LanguageModel, inputs: Int32Array, batch: number): { next: number[][]; weights: number[][][] } {
  using arena = new Arena(engine);
  const tape = new Tape(engine, arena);
  const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
  const rows = Array.from({ length: inputs.length }, (_, t) => t);
  const scores = engine.read(logits(tape, model, hidden));
  const next = rows.map((t) => {
    const powers = Array.from(scores.subarray(t * vocab, (t + 1) * vocab), Math.exp);
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((p) => p / sum);
  });
  const weights = routings.map((routing) => {
    const [chosen, weight] = [engine.read(routing.experts), engine.read(routing.weights)];
    return rows.map((t) => Array.from({ length: experts }, (_, e) => [0, 1].reduce((sum, k) => sum + (chosen[active * t + k] === e ? weight[active * t + k]! : 0), 0)));
  });
  return { next, weights };
}

it("is what the definitions say, over all tokens of all windows", async () => {
  const random = new Random(4);
  const tokens = Int32Array.from({ length: 60 }, () => random.below(vocab));
  using before = LanguageModel.create({ config, engine, seed: 1 });
  using after = LanguageModel.create({ config, engine, seed: 1 });
  for (const { tensor } of after.parameters.list) engine.write(tensor, Float32Array.from(engine.read(tensor), (x) => x * (1 + 0.3 * (random.float() - 0.5))));
  const windows = () => evaluationWindows(tokens, { context: 16, batch: 2 });
  const drift = await measureDrift(before, after, windows());

  const all = [...windows()].map(({ inputs, targets, batch }) => ({ targets: [...targets], was: computed(before, inputs, batch), is: computed(after, inputs, batch) }));
  const [was, is] = (["was", "is"] as const).map((which) => all.flatMap((window) => window[which].next)) as [number[][], number[][]];
  const targets = all.flatMap((window) => window.targets);
  const mean = (of: (t: number) => number) => targets.reduce((sum, _, t) => sum + of(t), 0) / targets.length;
  const top = (p: number[]) => p.indexOf(Math.max(...p));
  expect(drift.tokens).toBe(59);
  expect(drift.perplexity.before).toBeCloseTo(Math.exp(mean((t) => -Math.log(was[t]![targets[t]!]!))), 4);
  expect(drift.perplexity.after).toBeCloseTo(Math.exp(mean((t) => -Math.log(is[t]![targets[t]!]!))), 4);
  expect(drift.klDivergence).toBeCloseTo(mean((t) => was[t]!.reduce((sum, p, v) => sum + p * Math.log(p / is[t]![v]!), 0)), 6);
  expect(drift.sameTop).toBeCloseTo(mean((t) => Number(top(was[t]!) === top(is[t]!))), 12);
  expect(drift.sameTop).toBeLessThan(1);
  for (const layer of [0, 1]) {
    const [w, v] = (["was", "is"] as const).map((which) => all.flatMap((window) => window[which].weights[layer]!)) as [number[][], number[][]];
    const kept = mean((t) => w[t]!.filter((x, e) => x > 0 && v[t]![e]! > 0).length / active);
    const [difference, sum] = [mean((t) => w[t]!.reduce((total, x, e) => total + Math.abs(x - v[t]![e]!), 0)), mean((t) => w[t]!.reduce((a, b) => a + b))];
    expect(drift.routers[layer]).toEqual({ layer, agreement: expect.closeTo(kept, 12), weightError: expect.closeTo(difference / sum, 6) });
    expect(kept).toBeLessThan(1);
  }
});
