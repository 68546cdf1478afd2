import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import type { MixerConfig } from "../model/config.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { AdamW, defaultOptimizer } from "./optimizer.js";
import { trainOptions } from "./options.js";
import { train } from "./train.js";
import { Trainer } from "./trainer.js";

it.each(["native", "reference"] as const)("norms are those of the gradients, of one batch and of several: %s", (name) => {
  if (name === "native" && loadEngine().name !== "native") return;
  const config = modelConfig({ vocab: 40, width: 32, layers: 2, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 24 } });
  for (const accumulation of [1, 3]) {
    const engine = loadEngine({ engine: name });
    using trainer = new Trainer(LanguageModel.create({ config, engine }), trainOptions({ steps: 10, batch: 1, accumulation, learningRate: 1e-2, schedule: "constant" }));
    for (let step = 0; step < 2; step++) {
      const { norms } = trainer.train(() => {
        const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7 + step) % 40);
        return { inputs: tokens, targets: tokens, batch: 1 };
      });
      const squares = { dense: 0, expert: 0, router: 0 };
      for (const { group, tensor } of trainer.model.parameters.list) for (const x of tensor.grad === undefined ? [] : engine.read(tensor.grad)) squares[group] += x * x;
      for (const group of ["dense", "expert", "router"] as const) expect(norms[group] / Math.sqrt(squares[group])).toBeCloseTo(1, 6);
      expect(norms.total).toBeCloseTo(Math.hypot(norms.dense, norms.expert, norms.router), 9);
    }
  }
});

it("a bias of experts before their activation gets no gradient, which is said before training", () => {
  const config = modelConfig({ vocab: 40, width: 16, layers: 1, heads: 1, context: 16 });
  using model = LanguageModel.create({ config: { ...config, moe: { ...config.moe!, bias: true } } });
  expect(() => new Trainer(model, trainOptions({ steps: 1, batch: 1, learningRate: 1e-3 }))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/experts\.upBias gets no gradient/) }));
});

it("biases of a dense layer and of a shared expert are trained", () => {
  const engine = loadEngine({ engine: "reference", float: "f64" });
  const config = modelConfig({ vocab: 40, width: 16, layers: 2, heads: 1, context: 16, moe: { layers: { firstDense: 1 }, shared: 1 } });
  using model = LanguageModel.create({ config: { ...config, ffnBias: true }, engine });
  const batch = { inputs: Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 40), targets: Int32Array.from({ length: 16 }, (_, i) => (i * 3) % 40), batch: 1 };
  const options = { ...trainOptions({ steps: 10, batch: 1, learningRate: 1 }), learningRate: 0 }; // its steps leave the weights as they are
  using trainer = new Trainer(model, options);
  for (const name of ["layers.0.ffn.upBias", "layers.0.ffn.downBias", "layers.1.shared.upBias", "layers.1.shared.downBias"]) {
    const bias = model.parameters.get(name);
    const lossAt = (by: number) => {
      engine.write(bias, Float64Array.from({ length: bias.size }, (_, i) => (i === 3 ? by : 0)));
      return trainer.train(() => batch).loss;
    };
    const slope = (lossAt(1e-5) - lossAt(-1e-5)) / 2e-5;
    lossAt(0);
    expect(Math.abs(slope)).toBeGreaterThan(1e-6);
    expect(engine.read(bias.grad!)[3], name).toBeCloseTo(slope, 7);
  }
});

it.each<[string, MixerConfig]>([
  ["shortConv", { kind: "shortConv", kernel: 3, bias: false }],
  ["sparse latent attention", { kind: "latent", rope: 0, index: { heads: 1, headDim: 8, topK: 4 } }],
])("a layer of %s has no backward pass, which is said before a folder is made", async (name, mixer) => {
  const plain = modelConfig({ vocab: 40, width: 16, layers: 1, heads: 1, context: 16, moe: false });
  const latent = mixer.kind === "latent" ? { queryRank: 8, rank: 8, unrotated: 8, value: 8, normEps: 1e-6 } : undefined;
  using model = LanguageModel.create({ config: { ...plain, latent, ropes: [{ theta: 1e4, rotary: 8, interleaved: false }], mixers: [mixer] } });
  const out = join(tmpdir(), `switchyard-no-backward-${process.pid}`);
  const data = new Int32Array(400);
  await expect(train(model, { data, out, steps: 1, batch: 1, learningRate: 1e-3 }).next()).rejects.toMatchObject({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: `train: ${name} has no backward pass, so a model with such layers can be run but not trained` });
  expect(existsSync(out)).toBe(false);
});

it("gives back its memory when not all moments can be made", () => {
  const plain = new ReferenceEngine();
  let made = 0;
  const fill: Engine["fill"] = (out, value) => {
    if (++made === 3) throw new Error("no third moment");
    plain.fill(out, value);
  };
  const allocate: Engine["allocate"] = (bytes) => plain.allocate(bytes);
  const engine = Object.create(plain, { fill: { value: fill }, allocate: { value: allocate } }) as Engine;
  using model = LanguageModel.create({ config: modelConfig({ vocab: 40, width: 16, layers: 1, heads: 1, context: 16 }), engine: plain });
  model.parameters.requireGradients();
  const before = plain.allocatedBytes;
  const parameters = Object.create(model.parameters, { engine: { value: engine } }) as typeof model.parameters;
  expect(() => new AdamW(parameters, defaultOptimizer)).toThrow("no third moment");
  expect(plain.allocatedBytes).toBe(before);
});
