import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import { loadEngine } from "../src/engine/load.js";
import { readAsF32 } from "../src/formats/checkpoint.js";
import { readSafetensorsHeader } from "../src/formats/safetensors.js";
import { type TensorToWrite, writeSafetensors } from "../src/formats/safetensors-writer.js";
import { relativeError } from "../src/inspect/compare.js";
import { readGolden } from "../src/inspect/golden.js";
import type { Verification } from "../src/inspect/verify.js";
import { type MoeConfig, moeLayer } from "../src/moe/layer.js";
import { routerConfig, type RouterPreset } from "../src/routing/presets.js";
import type { RouterConfig } from "../src/routing/types.js";
import type { Tensor } from "../src/tensor/tensor.js";
import { cliJson } from "./cli.js";

/** Models, single blocks and logits of real weights that another project computed with transformers in float64 (AteniaEngine, Apache-2.0). */
const data = new URL("../../shared/data/hf-moe-golden/", import.meta.url).pathname;
const absent = !existsSync(data);
const tolerance = 1e-5;

const folder = mkdtempSync(join(tmpdir(), "switchyard-hf-moe-golden-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const json = <T>(name: string): T => JSON.parse(readFileSync(join(data, name), "utf8")) as T;

interface Values {
  shape: readonly number[];
  values: Float32Array;
}

function tensors(name: string): Map<string, Values> {
  const file = join(data, `${name}.safetensors`);
  return new Map([...readSafetensorsHeader(file).tensors].map(([key, stored]) => [key, { shape: stored.shape, values: Float32Array.from([...readAsF32({ ...stored, file })].flatMap((piece) => [...piece])) }]));
}

const toWrite = (name: string, shape: readonly number[], values: Float32Array): TensorToWrite => ({ name, dtype: "F32", shape, chunks: () => [new Uint8Array(values.slice().buffer)] });

/** Names of a family's published experts: these files have those of the classes of transformers 5, all experts in one tensor. */
interface Published {
  block: string;
  gate: string;
  up: string;
  down: string;
}
const plain: Published = { block: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };
const mixtral: Published = { block: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" };

function publish(name: string, { shape, values }: Values, { block, gate, up, down }: Published): TensorToWrite[] {
  const renamed = name.replace(".mlp.gate.", `.${block}.gate.`);
  const [, prefix, stack] = /^(.*)\.mlp\.experts\.(gate_up_proj|down_proj)$/.exec(name) ?? [];
  if (stack === undefined) return [toWrite(renamed, shape, values)];
  const [E = 0, rows = 0, cols = 0] = shape;
  const parts = stack === "down_proj" ? [down] : [gate, up];
  const part = [rows / parts.length, cols];
  const size = (rows / parts.length) * cols;
  return Array.from({ length: E * parts.length }, (_, i) => {
    const tensor = `${prefix}.${block}.experts.${Math.floor(i / parts.length)}.${parts[i % parts.length]}.weight`;
    return toWrite(tensor, part, values.subarray(i * size, (i + 1) * size));
  });
}

interface Reference {
  input_ids: number[];
  vocab_size: number;
  hf_logits: number[];
  greedy_ids?: number[];
}

describe.skipIf(absent)("whole models against logits of transformers (needs ../shared/data)", () => {
  it.each<[weights: string, config: string, reference: string, names: Published]>([
    ["full_mixtral", "mixtral_tiny_config", "full_mixtral", mixtral],
    ["mixtral_classic", "mixtral_classic_config", "full_mixtral", mixtral],
    ["mixtral_scale", "mixtral_scale_config", "mixtral_scale", mixtral],
    ["qwen_moe_tiny", "qwen_moe_tiny_config", "qwen_moe_tiny", plain],
    ["deepseek_full", "deepseek_full_config", "deepseek_full", plain],
  ])("%s", async (weights, config, reference, names) => {
    const model = join(folder, weights);
    const golden = join(folder, `${weights}-golden`);
    for (const path of [model, golden]) mkdirSync(path);
    // Some of the configs leave this field to its default.
    writeFileSync(join(model, "config.json"), JSON.stringify({ max_position_embeddings: 64, ...json<object>(`${config}.json`) }));
    await writeSafetensors(join(model, "model.safetensors"), [...tensors(weights)].flatMap(([key, value]) => publish(key, value, names)));
    const { input_ids: ids, vocab_size: vocab, hf_logits: logits, greedy_ids: greedy } = json<Reference>(`${reference}.json`);
    writeFileSync(join(golden, "golden.json"), JSON.stringify({ input_ids: [ids], ...(greedy === undefined ? {} : { greedy_prompt_ids: ids, greedy_ids: greedy }) }));
    await writeSafetensors(join(golden, "golden.safetensors"), [toWrite("logits", [1, ids.length, vocab], Float32Array.from(logits))]);
    const result = await cliJson<Verification>("verify", model, "--golden", golden);
    expect(result).toMatchObject({ pass: true, tolerance, greedy: { match: greedy === undefined ? null : true } });
  });
});

/** One sparse block, by the fields of a MoE config that its file has. */
function runBlock(weights: Map<string, Values>, input: number[], config: Omit<MoeConfig, "experts" | "hidden" | "activation" | "gated">, prefix: string) {
  const engine = loadEngine();
  using arena = new Arena(engine);
  const tape = new Tape(engine, arena);
  const find = (...names: string[]): Tensor | undefined => {
    const found = names.map((name) => weights.get(`${prefix}${name}`)).find((value) => value !== undefined);
    return found && tape.constant(found.shape, found.values);
  };
  const need = (...names: string[]): Tensor => {
    const found = find(...names);
    if (found === undefined) throw new Error(`no ${names.join(" or ")}`);
    return found;
  };
  const down = need("experts.down_proj");
  const [experts = 0, width = 0, hidden = 0] = down.shape;
  const sharedName = [...weights.keys()].find((name) => /shared_experts?\.gate_proj/.test(name))?.slice(prefix.length).split(".")[0];
  const shared = sharedName && {
    up: tape.constant([2 * (config.shared?.hidden ?? 0), width], [...weights.get(`${prefix}${sharedName}.gate_proj.weight`)!.values, ...weights.get(`${prefix}${sharedName}.up_proj.weight`)!.values]),
    down: need(`${sharedName}.down_proj.weight`),
  };
  const parameters = {
    router: { weight: need("gate.weight", "router.weight"), selectionBias: find("gate.e_score_correction_bias") },
    experts: { up: need("experts.gate_up_proj"), down },
    ...(shared ? { shared } : {}),
    sharedGate: find("shared_expert_gate.weight"),
  };
  const x = tape.constant([input.length / width, width], input);
  const { out, routing } = moeLayer(tape, x, parameters, { ...config, experts, hidden, activation: "silu", gated: true });
  return { out: engine.read(out), experts: engine.read(routing.experts), weights: engine.read(routing.weights), k: routing.experts.cols };
}

describe.skipIf(absent)("single blocks against transformers (needs ../shared/data)", () => {
  const sigmoid = (hidden: number) => ({ hidden, combine: "sigmoid" as const });
  it.each<[string, RouterPreset, MoeConfig["shared"]?]>([
    ["mixtral_layer0", "mixtral"],
    ["qwen15_moe_layer0", "olmoe", sigmoid(22)],
    ["qwen2_moe_layer0", "olmoe", sigmoid(64)],
    ["qwen3_moe_layer0", "qwen3"],
  ])("%s", (name, preset, shared) => {
    const { input, hf_ref: want, experts_per_token: active, tensor_prefix: prefix } = json<{ input: number[]; hf_ref: number[]; experts_per_token: number; tensor_prefix: string }>(`${name}.json`);
    const { out } = runBlock(tensors(name), input, { active, router: routerConfig(preset), shared }, `${prefix}.`);
    expect(relativeError(out, want)).toBeLessThan(tolerance);
  });

  it("deepseek_block", () => {
    const { probe, mlp_output: want } = json<{ probe: number[]; mlp_output: number[] }>("deepseek_block.json");
    const { out } = runBlock(tensors("deepseek_block"), probe, { active: 2, router: routerConfig("olmoe"), shared: { hidden: 16, combine: "add" } }, "model.layers.0.mlp.");
    expect(relativeError(out, want)).toBeLessThan(tolerance);
  });

  it("v3_route_ref: sigmoid, selection bias, 2 of 4 groups, scale", () => {
    const stored = tensors("v3_route_ref");
    const { selected_experts: chosen, dense_combine_weights: dense, block_out: want } = json<{ selected_experts: number[][]; dense_combine_weights: number[]; block_out: number[] }>("v3_route_ref.json");
    const stack = (part: string, rows: number, cols: number): Values => ({
      shape: [8, rows, cols],
      values: Float32Array.from(Array.from({ length: 8 }, (_, e) => part.split("+").flatMap((p) => [...stored.get(`expert.${e}.${p}`)!.values])).flat()),
    });
    const weights = new Map<string, Values>([
      ["gate.weight", stored.get("router.weight")!],
      ["gate.e_score_correction_bias", stored.get("router.bias")!],
      ["experts.gate_up_proj", stack("w_gate+w_up", 16, 16)],
      ["experts.down_proj", stack("w_down", 16, 8)],
      ["shared_experts.gate_proj.weight", stored.get("shared.w_gate")!],
      ["shared_experts.up_proj.weight", stored.get("shared.w_up")!],
      ["shared_experts.down_proj.weight", stored.get("shared.w_down")!],
    ]);
    const router: RouterConfig = routerConfig("deepseek-v3", { groups: { count: 4, keep: 2, score: "top2sum" } });
    const got = runBlock(weights, [...stored.get("hidden")!.values], { active: 2, router, shared: { hidden: 8, combine: "add" } }, "");
    chosen.forEach((experts, t) => {
      const mine = [0, 1].map((j) => [got.experts[2 * t + j]!, got.weights[2 * t + j]!] as const).sort(([a], [b]) => a - b);
      expect(mine.map(([e]) => e)).toEqual(experts);
      expect(relativeError(mine.map(([, w]) => w), experts.map((e) => dense[8 * t + e]!))).toBeLessThan(tolerance);
    });
    expect(relativeError(got.out, want)).toBeLessThan(tolerance);
  });
});

describe.skipIf(absent)("logits of real weights (needs ../shared/data; the weights themselves are what a user has)", () => {
  it.each([
    ["mixtral_c5_ref", 32_000],
    ["qwen_moe_c5_ref", 151_936],
    ["deepseek_v2lite_c5_ref", 102_400],
  ])("%s is a golden that verify takes", async (name, vocab) => {
    const { ids, logits } = readGolden(join(data, `${name}.json`));
    expect([ids, logits?.shape]).toEqual([[[1, 100, 200, 300]], [4, vocab]]);
    const rows = [0, 1, 2, 3].map((t) => logits!.values.subarray(t * vocab, (t + 1) * vocab));
    expect(rows.map((row) => row.indexOf(row.reduce((a, b) => Math.max(a, b))))).toEqual(json<{ argmax_per_position: number[] }>(`${name}.json`).argmax_per_position);
  });
});
