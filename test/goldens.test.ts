import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { readSafetensorsHeader } from "../src/formats/safetensors.js";
import { readModelFolder } from "../src/model/folder.js";
import { publishedPieces } from "../src/model/families/names.js";
import { Parameters, parameterSpecs } from "../src/model/parameters.js";
import { RopeTables } from "../src/model/rope.js";
import { forward, logits, loss, type TransformerParts } from "../src/model/transformer.js";
import { type Tensor, view } from "../src/tensor/tensor.js";
import { AdamW } from "../src/train/optimizer.js";
import { nativeVariants } from "./engines.js";

/** Tiny checkpoints with the outputs, gradients and AdamW steps of transformers in float64. */
const goldens = new URL("../../shared/goldens/", import.meta.url).pathname;
const absent = !existsSync(goldens);
const families = ["llama", "qwen3", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "qwen2_moe_sparse"];
const trained = families.slice(0, 6);

/** Elements of a stored F64 or I64 tensor. */
function stored(file: string): Map<string, { shape: readonly number[]; values: number[] }> {
  const bytes = readFileSync(file);
  return new Map(
    [...readSafetensorsHeader(file).tensors].map(([name, { dtype, shape, begin, end }]) => {
      const data = bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end);
      return [name, { shape, values: dtype === "F64" ? Array.from(new Float64Array(data)) : Array.from(new BigInt64Array(data), Number) }];
    }),
  );
}

const engines: [string, () => Engine][] = [["reference f64", () => new ReferenceEngine({ float: "f64" })], ["reference f32", () => new ReferenceEngine({ float: "f32" })], ...nativeVariants.map((isa): [string, () => Engine] => [`native ${isa}`, () => loadEngine({ engine: "native", isa })])];

async function open(family: string, engine: Engine) {
  const folder = join(goldens, family);
  const { config, family: known, fill } = await readModelFolder(folder);
  const parameters = new Parameters(engine, config);
  fill(parameters);
  const arena = new Arena(engine);
  const parts: TransformerParts = { config, parameters, ropes: new RopeTables(engine, config) };
  const golden = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as { input_ids: number[][]; greedy_prompt_ids: number[]; greedy_ids: number[] };
  return { folder, config, known, parameters, arena, parts, golden };
}

const relative = (got: ArrayLike<number>, want: readonly number[]) => Math.max(...want.map((w, i) => Math.abs((got[i] as number) - w))) / Math.max(...want.map(Math.abs));

const norm = (x: readonly number[]) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));

describe.skipIf(absent).each(engines)("goldens of transformers in float64, on %s (needs ../shared/goldens)", (_, make) => {
  it.each(families)("%s: logits, experts and weights", async (family) => {
    const engine = make();
    const { folder, config, arena, parts, golden } = await open(family, engine);
    const want = stored(join(folder, "golden.safetensors"));
    const tape = new Tape(engine, arena);
    const ids = tape.constant([80], golden.input_ids.flat(), "i32");
    const { hidden, routings } = forward(tape, parts, { ids, batch: 2 });
    expect(relative(engine.read(logits(tape, parts, hidden)), want.get("logits")!.values)).toBeLessThan(1e-5);
    expect(routings).toHaveLength(config.sparseLayers.length);
    routings.forEach((routing, i) => {
      const layer = `layers.${config.sparseLayers[i]}`;
      const k = routing.experts.cols;
      const [experts, weights] = [engine.read(routing.experts), engine.read(routing.weights)];
      const wantExperts = want.get(`${layer}.experts`)!.values;
      const wantWeights = want.get(`${layer}.weights`)!.values;
      expect(relative(engine.read(routing.logits), want.get(`${layer}.router_logits`)!.values)).toBeLessThan(1e-5);
      for (let t = 0; t < 80; t++) {
        const byExpert = (e: ArrayLike<number>, w: ArrayLike<number>) => Array.from({ length: k }, (__, j) => [e[t * k + j] as number, w[t * k + j] as number]).sort(([a], [b]) => a! - b!);
        const got = byExpert(experts, weights);
        const wanted = byExpert(wantExperts, wantWeights);
        expect(got.map(([e]) => e)).toEqual(wanted.map(([e]) => e));
        expect(relative(got.map(([, w]) => w!), wanted.map(([, w]) => w!))).toBeLessThan(1e-5);
      }
    });
  });

  it.each(trained)("%s: loss, every gradient, ten AdamW steps", async (family) => {
    const engine = make();
    const { folder, config, known, parameters, arena, parts, golden } = await open(family, engine);
    const train = JSON.parse(readFileSync(join(folder, "train.json"), "utf8")) as { loss: number; grad_norm: number; adamw: { losses: number[]; grad_norms: number[]; lr: number } };
    const grads = stored(join(folder, "grads.safetensors"));
    const inputs = golden.input_ids.flatMap((row) => row.slice(0, -1));
    const targets = golden.input_ids.flatMap((row) => row.slice(1));
    // The goldens have no auxiliary loss.
    const plain = config.moe === undefined ? parts : { ...parts, config: { ...config, moe: { ...config.moe, router: { ...config.moe.router, balance: { method: "none" } as const, zLoss: 0 } } } };
    const optimizer = new AdamW(parameters, { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, decay: "all", clipNorm: 1, routerRate: 1 });
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
          for (const { name, shape, offset } of publishedPieces(spec, config, known.names)) {
            const want = grads.get(name)!.values;
            const got = engine.read(view(parameters.get(spec.name).grad as Tensor, shape, offset));
            expect(norm(want.map((w, i) => w - (got[i] as number))), name).toBeLessThan(1e-4 * norm(want) + 1e-12);
          }
        }
      }
      optimizer.step(train.adamw.lr, n);
    }
    losses.push(pass(false));
    losses.forEach((value, i) => expect(Math.abs(value - train.adamw.losses[i]!) / train.adamw.losses[i]!, `loss ${i}`).toBeLessThan(1e-3));
    norms.forEach((value, i) => expect(Math.abs(value - train.adamw.grad_norms[i]!) / train.adamw.grad_norms[i]!, `norm ${i}`).toBeLessThan(1e-3));
  });
});
