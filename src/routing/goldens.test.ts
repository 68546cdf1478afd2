import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { routerConfig, type RouterPreset } from "./presets.js";
import { checkRouterConfig, decide, route } from "./route.js";
import type { RouterConfig } from "./types.js";

/* The decisions of published families, from their logits: same experts for every token, same weights in f64. */

const goldens = join(import.meta.dirname, "../../../shared/goldens");

type Tensors = Map<string, { values: number[]; shape: number[] }>;

/** Just enough of safetensors for these files. */
function readTensors(path: string, wanted: RegExp): Tensors {
  const bytes = readFileSync(path);
  const header = 8 + Number(bytes.readBigUInt64LE(0));
  const entries = JSON.parse(bytes.toString("utf8", 8, header)) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const tensors: Tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries).filter(([key]) => wanted.test(key))) {
    const data = new Uint8Array(bytes.subarray(header + from, header + to)).buffer;
    const values = dtype === "F64" ? new Float64Array(data) : dtype === "F32" ? new Float32Array(data) : Array.from(new BigInt64Array(data), Number);
    tensors.set(name, { values: Array.from(values), shape });
  }
  return tensors;
}

const normalize = (eps: number) => ({ eps, p: 1 });
const sigmoidBias = (eps: number, scale: number): Partial<RouterConfig> => ({ score: "sigmoid", normalize: normalize(eps), scale, selectionBias: true });
const topKThenSoftmax: Partial<RouterConfig> = { score: "logits", weight: "softmax", normalize: undefined };

/** As the config.json of each case states it. */
const families: Record<string, [RouterPreset, Partial<RouterConfig>?]> = {
  afmoe: ["softmax-top-k", sigmoidBias(1e-20, 1)],
  cohere2_moe: ["softmax-top-k", topKThenSoftmax],
  dbrx: ["mixtral"],
  deepseek_v2: ["olmoe", { groups: { count: 4, keep: 2, score: "max" }, scale: 1.5 }],
  deepseek_v2_lite: ["olmoe"],
  deepseek_v3: ["deepseek-v3", { groups: { count: 4, keep: 2, score: "top2sum" } }],
  deepseek_v32: ["deepseek-v3", { groups: undefined }],
  deepseek_v3_yarn: ["deepseek-v3", { groups: { count: 2, keep: 1, score: "top2sum" } }],
  dots1: ["deepseek-v3", { groups: undefined }],
  ernie4_5_moe: ["mixtral", { selectionBias: true, normalize: { eps: 0, p: 1, least: 1e-12 } }],
  exaone_moe: ["deepseek-v3", { groups: undefined }],
  flex_olmo: ["olmoe"],
  glm4_moe: ["deepseek-v3", { groups: undefined, scale: 1 }],
  glm4_moe_lite: ["deepseek-v3", { groups: undefined, scale: 1.8 }],
  gpt_oss: ["softmax-top-k", topKThenSoftmax], // its logits hold the bias already
  granitemoe: ["softmax-top-k", topKThenSoftmax],
  granitemoeshared: ["softmax-top-k", topKThenSoftmax],
  hunyuan_v1_moe: ["mixtral"],
  hy_v3: ["softmax-top-k", sigmoidBias(1e-20, 2.826)],
  jamba: ["olmoe"],
  lfm2_moe: ["softmax-top-k", sigmoidBias(1e-6, 1)],
  llama4: ["softmax-top-k", { score: "logits", weight: "sigmoid", normalize: undefined }],
  mellum: ["mixtral"],
  minimax: ["mixtral"],
  minimax_m2: ["softmax-top-k", sigmoidBias(0, 1)],
  mistral4: ["mixtral", { groups: { count: 2, keep: 1, score: "top2sum" } }],
  mixtral: ["mixtral"],
  mixtral_swa: ["mixtral"],
  olmoe: ["olmoe"],
  phimoe: ["softmax-top-k", { score: "logits", weight: "sparsemixer", closeness: 0.25, normalize: undefined }],
  qwen2_moe: ["olmoe"],
  qwen2_moe_sparse: ["qwen3"],
  qwen3_5_moe: ["qwen3"],
  qwen3_moe: ["qwen3"],
  qwen3_next: ["qwen3"],
  solar_open: ["deepseek-v3", { groups: undefined, scale: 1 }],
  switch: ["switch", { capacity: undefined }],
};

/** Cases whose scores were not rounded to f32 on the way. */
const f64Scores = ["dbrx", "lfm2_moe", "mistral4", "phimoe"];

const skip = !existsSync(goldens) && "needs ../shared/goldens";

it.skipIf(skip !== false).each(Object.entries(families))(`%s${skip ? ` (${skip})` : ""}`, (name, [preset, overrides]) => {
  const config = routerConfig(preset, overrides);
  const golden = readTensors(join(goldens, name, "golden.safetensors"), /\.(router_logits|experts|weights)$/);
  const biases = readTensors(join(goldens, name, "model.safetensors"), /e_score_correction_bias$|expert_bias$/);
  const layers = [...golden.keys()].filter((key) => key.endsWith(".router_logits")).map((key) => key.slice(0, -".router_logits".length));
  expect(layers.length).toBeGreaterThan(0);
  const engine = new ReferenceEngine({ float: "f64" });
  using arena = new Arena(engine, 2 ** 20);
  for (const layer of layers) {
    const tape = new Tape(engine, arena);
    const { values, shape } = golden.get(`${layer}.router_logits`)!;
    const [T, E] = shape as [number, number];
    const { values: experts, shape: [, K = 0] } = golden.get(`${layer}.experts`)!;
    const weights = golden.get(`${layer}.weights`)!.values;
    checkRouterConfig(config, E, K);
    const bias = biases.get([...biases.keys()].find((key) => key.includes(`${layer}.`)) ?? "")?.values;
    expect(bias !== undefined, "selection bias").toBe(config.selectionBias);
    const routing = decide(config, { tape, logits: tape.constant([T, E], values), k: K, selectionBias: bias && tape.constant([E], bias) });

    const got = { experts: engine.read(routing.experts), weights: engine.read(routing.weights) };
    const byExpert = (e: ArrayLike<number>, w: ArrayLike<number>, t: number) =>
      Array.from({ length: K }, (_, j) => [e[t * K + j]!, w[t * K + j]!] as const).toSorted((a, b) => a[0] - b[0]);
    let worst = 0;
    for (let t = 0; t < T; t++) {
      const expected = byExpert(experts, weights, t);
      const actual = byExpert(got.experts, got.weights, t);
      expect(actual.map(([e]) => e), `${layer} token ${t}`).toEqual(expected.map(([e]) => e));
      actual.forEach(([, w], j) => (worst = Math.max(worst, Math.abs(w - expected[j]![1]) / Math.abs(expected[j]![1]))));
    }
    // Most families compute scores in f32 even when the rest is in f64.
    expect(worst).toBeLessThan(f64Scores.includes(name) ? 1e-14 : 1e-6);
  }
});

it.skipIf(skip !== false)(`gpt_oss from the block's input: projection with a router bias${skip ? ` (${skip})` : ""}`, () => {
  const golden = readTensors(join(goldens, "gpt_oss/golden.safetensors"), /^layers\.0\.(moe_input|router_logits)$/);
  const router = readTensors(join(goldens, "gpt_oss/model.safetensors"), /layers\.0\.mlp\.router\.(weight|bias)$/);
  const engine = new ReferenceEngine({ float: "f64" });
  using arena = new Arena(engine, 2 ** 20);
  const tape = new Tape(engine, arena);
  const tensor = (from: Tensors, name: string) => tape.constant(from.get(name)!.shape, from.get(name)!.values);
  const parameters = { weight: tensor(router, "model.layers.0.mlp.router.weight"), bias: tensor(router, "model.layers.0.mlp.router.bias") };
  const { logits } = route(routerConfig("softmax-top-k", { ...topKThenSoftmax, bias: true }), { tape, x: tensor(golden, "layers.0.moe_input"), parameters, k: 3 });
  const expected = golden.get("layers.0.router_logits")!.values;
  engine.read(logits).forEach((l, i) => expect(l).toBeCloseTo(expected[i]!, 12));
});
