import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { readSafetensorsHeader } from "../src/formats/safetensors.js";
import { relativeError } from "../src/inspect/compare.js";
import { type GoldenLayer, readGolden } from "../src/inspect/golden.js";
import { writePublication } from "../src/model/families/publication.js";
import { LanguageModel } from "../src/model/language-model.js";
import { parameterSpecs } from "../src/model/parameter-specs.js";
import { forward, logits, loss, moeParameters } from "../src/model/transformer.js";
import { moeLayer } from "../src/moe/layer.js";
import type { Routing } from "../src/routing/types.js";
import { type Tensor, view } from "../src/tensor/tensor.js";
import { AdamW } from "../src/train/optimizer.js";
import { nativeVariants } from "./engines.js";

/** Tiny checkpoints with the outputs, gradients and AdamW steps of transformers in float64. */
const goldens = new URL("../../shared/goldens/", import.meta.url).pathname;
const absent = !existsSync(goldens);
const trained = ["llama", "qwen3", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"];
const families = [
  ...trained, "qwen2_moe_sparse", "mixtral_swa", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_yarn", "glm4_moe_lite", "mistral4", "glm4_moe", "dots1",
  "solar_open", "exaone_moe", "minimax_m2", "hy_v3", "afmoe", "dbrx", "ernie4_5_moe", "hunyuan_v1_moe", "flex_olmo", "mellum", "gpt_oss", "llama4", "granitemoe",
  "granitemoeshared", "phimoe", "cohere2_moe", "lfm2_moe", "deepseek_v32", "minimax",
];
/** Their layers carry errors from token to token; of Qwen's, transformers computes the recurrence in f32 in any case. */
const recurrent = ["qwen3_next", "qwen3_5_moe", "jamba"];
const toleranceOf = (family: string) => (recurrent.includes(family) ? 5e-5 : 1e-5);

const native = nativeVariants.map((isa): [string, () => Engine] => [`native ${isa}`, () => loadEngine({ engine: "native", isa })]);
const f64: [string, () => Engine] = ["reference f64", () => new ReferenceEngine({ float: "f64" })];
const f32: [string, () => Engine] = ["reference f32", () => new ReferenceEngine({ float: "f32" })];

/** The layer's decision is the golden's: the same experts for every token, the same weights. */
function expectDecision(engine: Engine, { experts, weights, logits: projection }: Routing, golden: GoldenLayer, tolerance: number): void {
  const k = experts.cols;
  expect(relativeError(engine.read(projection), golden.router_logits!.values)).toBeLessThan(tolerance);
  const byExpert = (e: ArrayLike<number>, w: ArrayLike<number>, t: number) =>
    Array.from({ length: k }, (_, j) => [e[t * k + j] as number, w[t * k + j] as number] as const).sort(([a], [b]) => a - b);
  const [gotExperts, gotWeights] = [engine.read(experts), engine.read(weights)];
  for (let t = 0; t < experts.rows; t++) {
    const got = byExpert(gotExperts, gotWeights, t);
    const want = byExpert(golden.experts!.values, golden.weights!.values, t);
    expect(got.map(([e]) => e)).toEqual(want.map(([e]) => e));
    expect(relativeError(got.map(([, w]) => w), want.map(([, w]) => w))).toBeLessThan(tolerance);
  }
}

describe.skipIf(absent).each([f64, ...native])("every family against transformers in float64, on %s (needs ../shared/goldens)", (name, make) => {
  it.each([...families, ...recurrent])("%s: logits, decisions, sparse blocks, greedy continuation", async (family) => {
    const engine = make();
    const folder = join(goldens, family);
    const tolerance = toleranceOf(family);
    using model = await LanguageModel.load(folder, { engine });
    const { config } = model;
    const golden = readGolden(folder);
    using arena = new Arena(engine, 2 ** 24);
    const run = (ids: readonly number[], batch: number) => {
      arena.reset();
      const tape = new Tape(engine, arena);
      const { hidden, routings } = forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch });
      return { values: engine.read(logits(tape, model, hidden)), routings };
    };
    const { values, routings } = run(golden.ids.flat(), golden.ids.length);
    expect(relativeError(values, golden.logits!.values)).toBeLessThan(tolerance);
    expect(golden.layers.map(({ layer }) => layer)).toEqual(config.sparseLayers);
    routings.forEach((routing, i) => expectDecision(engine, routing, golden.layers[i]!, tolerance));

    for (const layer of golden.layers) {
      const tape = new Tape(engine, arena);
      const x = tape.constant(layer.moe_input!.shape, layer.moe_input!.values);
      const parameters = moeParameters(model.parameters, layer.layer as number);
      // transformers has Granite's shared network beside the block, not in it.
      const { out, routing } = moeLayer(tape, x, family === "granitemoeshared" ? { ...parameters, shared: undefined } : parameters, config.moe!);
      expectDecision(engine, routing, layer, tolerance);
      expect(relativeError(engine.read(out), layer.moe_output!.values)).toBeLessThan(tolerance);
    }

    if (name.startsWith("reference")) return; // step by step it takes too long
    const ids = [...golden.greedy!.prompt];
    for (const next of golden.greedy!.ids) {
      const last = run(ids, 1).values.slice(-config.vocab);
      expect(last.indexOf(Math.max(...last))).toBe(next);
      ids.push(next);
    }
  });
});

/** Elements of a stored F64 tensor. */
function stored(file: string): Map<string, number[]> {
  const bytes = readFileSync(file);
  return new Map([...readSafetensorsHeader(file).tensors].map(([name, { begin, end }]) => [name, Array.from(new Float64Array(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end)))]));
}

const norm = (x: readonly number[]) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));

describe.skipIf(absent).each([f64, f32, ...native])("training against transformers in float64, on %s (needs ../shared/goldens)", (_, make) => {
  it.each(trained)("%s: loss, every gradient, ten AdamW steps", async (family) => {
    const engine = make();
    const folder = join(goldens, family);
    using model = await LanguageModel.load(folder, { engine });
    const { config, parameters } = model;
    const { input_ids: rows } = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as { input_ids: number[][] };
    const train = JSON.parse(readFileSync(join(folder, "train.json"), "utf8")) as { loss: number; grad_norm: number; adamw: { losses: number[]; grad_norms: number[]; lr: number } };
    const grads = stored(join(folder, "grads.safetensors"));
    const inputs = rows.flatMap((row) => row.slice(0, -1));
    const targets = rows.flatMap((row) => row.slice(1));
    // The goldens have no auxiliary loss.
    const moe = config.moe && { ...config.moe, router: { ...config.moe.router, balance: { method: "none" } as const, zLoss: 0 } };
    const plain = { config: { ...config, moe }, parameters, ropes: model.ropes };
    const optimizer = new AdamW(parameters, { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, decay: "all", clipNorm: 1, routerRate: 1 });
    using arena = new Arena(engine);
    const pass = (backward: boolean) => {
      arena.reset();
      const tape = new Tape(engine, arena, { recording: true, training: true });
      const ids = tape.constant([inputs.length], inputs, "i32");
      const { total } = loss(tape, plain, { ids, batch: 2 }, tape.constant([targets.length], targets, "i32"));
      const value = engine.read(total)[0] as number;
      if (backward) tape.backward(total);
      return value;
    };
    const losses: number[] = [];
    const norms: number[] = [];
    for (let step = 0; step < 10; step++) {
      optimizer.clearGradients();
      losses.push(pass(true));
      const n = optimizer.gradientNorms();
      norms.push(n.total);
      if (step === 0) {
        expect(Math.abs(losses[0]! - train.loss) / train.loss).toBeLessThan(1e-6);
        for (const spec of parameterSpecs(config)) {
          for (const { name, rows: count, cols, at } of writePublication(config).pieces(spec)) {
            const want = grads.get(name)!;
            const got = engine.read(view(parameters.get(spec.name).grad as Tensor, [count * cols], at(0)));
            expect(norm(want.map((w, i) => w - (got[i] as number))), name).toBeLessThan(1e-4 * norm(want) + 1e-12);
          }
        }
      }
      optimizer.step(train.adamw.lr, n);
    }
    losses.push(pass(false));
    const close = (got: readonly number[], want: readonly number[], what: string) => got.forEach((value, i) => expect(Math.abs(value - want[i]!) / want[i]!, `${what} ${i}`).toBeLessThan(i < 2 ? 1e-4 : 1e-3));
    close(losses, train.adamw.losses, "loss");
    close(norms, train.adamw.grad_norms, "norm");
  });
});
