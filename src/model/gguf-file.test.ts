import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ReferenceEngine } from "../engine/reference.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { readGgufHeader } from "../formats/gguf/reader.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { readSafetensorsHeader } from "../formats/safetensors.js";
import { decodeBlocks } from "../quant/codecs.js";
import { readModelGguf, writeModelGguf } from "./gguf-file.js";
import type { StoredModel } from "./any-model.js";
import type { MixerConfig, ModelConfig } from "./config.js";
import { readHfConfig } from "./families/hf-config.js";
import { readModelFolder, writeModelFolder } from "./folder.js";
import { initialise } from "./parameter-specs.js";
import { Parameters } from "./parameters.js";
import { modelConfig } from "./presets.js";
import type { FileType } from "./stored-types.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-model-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "m.gguf");
const engine = new ReferenceEngine({ float: "f32" });

const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;
const absent = !existsSync(goldens);
/** Folders of ../shared/goldens whose family has an architecture of GGUF; dots1 (fewer heads of keys than of queries), glm4_moe_lite and solar_open come back as the families that compute the same. */
const cases = [
  "llama", "qwen3", "mixtral", "mixtral_swa", "olmoe", "qwen2_moe", "qwen3_moe", "qwen2_moe_sparse", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_yarn",
  "glm4_moe_lite", "mistral4", "gpt_oss", "llama4", "granitemoe", "granitemoeshared", "phimoe", "dbrx", "ernie4_5_moe", "glm4_moe", "solar_open", "dots1", "minimax_m2",
  "hunyuan_v1_moe", "exaone_moe", "afmoe", "deepseek_v32", "hy_v3", "mellum", "cohere2_moe", "lfm2_moe", "qwen3_next", "qwen3_5_moe", "jamba",
];
function load(read: StoredModel<ModelConfig>): Parameters {
  return new Parameters(engine, read.config, read.sources);
}

/** The bytes of every tensor of a safetensors file, by name. */
function bytesOf(file: string): Map<string, Buffer> {
  const bytes = readFileSync(file);
  return new Map([...readSafetensorsHeader(file).tensors].map(([name, { begin, end }]) => [name, bytes.subarray(begin, end)]));
}

describe.skipIf(absent)("a checkpoint as GGUF (needs ../shared/goldens)", () => {
  it.each(cases)("%s: to F32 and back is byte-equal in every tensor, and the config is the same", async (family) => {
    const folder = join(goldens, family);
    const original = await readModelFolder(folder);
    await writeModelGguf(path, original.config, load(original), { type: "F32" });
    const read = readModelGguf(path);
    expect({ ...read.config, published: undefined }).toEqual({ ...original.config, published: undefined });
    const readAs: Record<string, string> = { dots1: "glm4_moe", glm4_moe_lite: "deepseek_v3", solar_open: "glm4_moe" };
    expect(read.family.modelType).toBe(readAs[family] ?? original.family.modelType);
    const back = join(dir, `back-${family}`);
    await writeModelFolder(back, read.config, load(read), undefined);
    const [want, got] = [bytesOf(join(folder, "model.safetensors")), bytesOf(join(back, "model.safetensors"))];
    expect([...got.keys()].toSorted()).toEqual([...want.keys()].toSorted());
    expect([...want].filter(([name, bytes]) => !bytes.equals(got.get(name)!)).map(([name]) => name)).toEqual([]);
    const again = join(dir, "again.gguf");
    await writeModelGguf(again, read.config, load(read), { type: "F32" });
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
  });

  it("minimax with the published decays is written and read", async () => {
    const original = await readModelFolder(join(goldens, "minimax"));
    const config = { ...original.config, mixers: original.config.mixers.map((m): MixerConfig => (m.kind === "lightning" ? { kind: m.kind } : m)) };
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    expect(await writeModelGguf(path, config, parameters, { type: "F32" })).toMatchObject({ architecture: "minimax-01" });
    const read = readModelGguf(path);
    expect({ ...read.config, published: undefined }).toEqual({ ...config, published: undefined });
    const after = load(read);
    for (const { name, tensor } of parameters.list) expect(engine.read(after.get(name)), name).toEqual(engine.read(tensor));
  });

  it("what rounding would change beside 1 + w is kept in the metadata, as far as it is what the tensor has", async () => {
    const original = await readModelFolder(join(goldens, "qwen3_next"));
    const before = load(original);
    await writeModelGguf(path, original.config, before, { type: "Q8_0" });
    const { metadata, tensors } = readGgufHeader(path);
    const bytes = readFileSync(path);
    const list = [...tensors].map(([name, { type, shape, begin, end }]) => ({ name, type, shape, chunks: () => [bytes.subarray(begin, end)] }));
    const changed = join(dir, "changed.gguf");
    const norm = async (kept: GgufValue | undefined) => {
      const entries = new Map([...metadata.entries].filter(([key]) => key !== "switchyard.original.output_norm.weight"));
      await writeGguf(changed, kept === undefined ? entries : entries.set("switchyard.original.output_norm.weight", kept), list);
      return Float32Array.from(engine.read(load(readModelGguf(changed)).get("norm")));
    };
    const floats = (value: Float32Array): GgufValue => ({ type: "array", of: "f32", value });
    const ours = Float32Array.from(engine.read(before.get("norm")));
    const rounded = ours.map((w) => Math.fround(1 + w) - 1);
    expect(await norm(metadata.entries.get("switchyard.original.output_norm.weight"))).toEqual(ours);
    expect(rounded).not.toEqual(ours);
    expect(await norm(undefined)).toEqual(rounded);
    expect(await norm(floats(ours.map((w, i) => (i === 0 ? w : i === 1 ? Number.NaN : w + 1))))).toEqual(rounded.map((w, i) => (i === 0 ? ours[0]! : w)));
    const refusal = { code: "ERR_SWITCHYARD_FORMAT", message: expect.stringMatching(/"switchyard.original.output_norm.weight": expected an array of 64 f32, got an array of f(32|64)/) };
    await expect(norm(floats(ours.subarray(1)))).rejects.toMatchObject(refusal);
    await expect(norm({ type: "array", of: "f64", value: Float64Array.from(ours) })).rejects.toMatchObject(refusal);
  });

  it("older files have latent attention's up projection in one tensor, newer ones gate and up: both are read", async () => {
    const original = await readModelFolder(join(goldens, "deepseek_v3"));
    const parameters = load(original);
    await writeModelGguf(path, original.config, parameters, { type: "F32" });
    const { tensors, metadata } = readGgufHeader(path);
    const bytes = Uint8Array.from(readFileSync(path));
    const whole = (name: string) => () => [new Uint8Array(Float32Array.from(engine.read(parameters.get(name))).buffer)];
    const list = [...tensors].flatMap(([name, { type, shape, begin, end }]): GgufTensorToWrite[] => {
      const layer = /^blk\.(\d+)\./.exec(name)?.[1];
      if (name.endsWith("attn_v_b.weight") || name.endsWith("ffn_up_exps.weight")) return [];
      if (name.endsWith("attn_k_b.weight")) return [{ name: `blk.${layer}.attn_kv_b.weight`, type, shape: parameters.get(`layers.${layer}.attention.kvUp`).shape, chunks: whole(`layers.${layer}.attention.kvUp`) }];
      if (name.endsWith("ffn_gate_exps.weight")) return [{ name: `blk.${layer}.ffn_gate_up_exps.weight`, type, shape: parameters.get(`layers.${layer}.experts.up`).shape, chunks: whole(`layers.${layer}.experts.up`) }];
      return [{ name, type, shape, chunks: () => [bytes.subarray(begin, end)] }];
    });
    const older = join(dir, "older.gguf");
    await writeGguf(older, metadata.entries, list);
    const read = load(readModelGguf(older));
    for (const { name, tensor } of parameters.list) expect(engine.read(read.get(name)), name).toEqual(engine.read(tensor));
  });

  it("older files of qwen3next have queries, keys, values and gates in one tensor, as published; prediction layers are set aside", async () => {
    const folder = join(goldens, "qwen3_next");
    const original = await readModelFolder(folder);
    const parameters = load(original);
    await writeModelGguf(path, original.config, parameters, { type: "F32" });
    const { tensors, metadata } = readGgufHeader(path);
    const bytes = Uint8Array.from(readFileSync(path));
    const published = bytesOf(join(folder, "model.safetensors"));
    const list = [...tensors].flatMap(([name, { type, shape, begin, end }]): GgufTensorToWrite[] => {
      const layer = /^blk\.(\d+)\.attn_gate\.weight/.exec(name)?.[1];
      if (layer !== undefined) return [{ name: `blk.${layer}.ssm_in.weight`, type, shape: [192, 64], chunks: () => [published.get(`model.layers.${layer}.linear_attn.in_proj_qkvz.weight`)!] }];
      return name.endsWith("attn_qkv.weight") ? [] : [{ name, type, shape, chunks: () => [bytes.subarray(begin, end)] }];
    });
    const older = join(dir, "older-qwen3next.gguf");
    const entries = new Map([...metadata.entries].filter(([key]) => !key.endsWith("recurrent_layers")));
    entries.set("qwen3next.nextn_predict_layers", u32(1));
    entries.set("qwen3next.block_count", u32(original.config.layers + 1));
    list.push({ name: `blk.${original.config.layers}.nextn.enorm.weight`, type: "F32", shape: [1], chunks: () => [new Uint8Array(4)] });
    await writeGguf(older, entries, list);
    const [read, whole] = [load(readModelGguf(older)), load(readModelGguf(path))];
    for (const { name, tensor } of whole.list) expect(engine.read(read.get(name)), name).toEqual(engine.read(tensor));
  });

  it.each<[FileType, number]>([["F16", 5e-4], ["Q8_0", 5e-3], ["Q4_0", 0.126]])("in %s: routers and vectors stay exact, the rest is close", async (type, tolerance) => {
    const original = await readModelFolder(join(goldens, "mixtral"));
    const before = load(original);
    await writeModelGguf(path, original.config, before, { type });
    const read = readModelGguf(path);
    expect(new Set([...read.gguf.tensors].filter(([name]) => !/norm|gate_inp|output.weight/.test(name)).map(([, t]) => t.type))).toEqual(new Set([type]));
    expect(read.gguf.tensors.get("output.weight")!.type).toBe(type === "Q4_0" ? "Q8_0" : type);
    const after = load(read);
    for (const { name, group, tensor, shape } of before.list) {
      const [x, y] = [tensor, after.get(name)].map((t) => Array.from(engine.read(t))) as [number[], number[]];
      if (group === "router" || shape.length === 1) expect(y, name).toEqual(x);
      else {
        const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
        const error = x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0);
        expect(error / largest, name).toBeLessThan(tolerance);
        expect(error, name).toBeGreaterThan(0);
      }
    }
  });

  it("stores q and k of a llama pair by pair, as llama.cpp rotates them, and those of a qwen half by half", async () => {
    for (const [family, interleaved] of [["llama", true], ["qwen3_moe", false]] as const) {
      const original = await readModelFolder(join(goldens, family));
      const { heads, kvHeads, headDim, width } = original.config;
      await writeModelGguf(path, original.config, load(original), { type: "F32" });
      for (const [theirs, ours, n] of [["attn_q", "q_proj", heads], ["attn_k", "k_proj", kvHeads], ["attn_v", "v_proj", 0]] as const) {
        const { begin, end } = readGgufHeader(path).tensors.get(`blk.1.${theirs}.weight`)!;
        const stored = decodeBlocks("F32", Uint8Array.from(readFileSync(path).subarray(begin, end)));
        const published = new Float32Array(Uint8Array.from(bytesOf(join(goldens, family, "model.safetensors")).get(`model.layers.1.self_attn.${ours}.weight`)!).buffer);
        // The converter's reshape(heads, 2, headDim / 2, width).swapaxes(1, 2), written out.
        const want = published.slice();
        if (interleaved) {
          for (let h = 0; h < n; h++) {
            for (let half = 0; half < 2; half++) {
              for (let j = 0; j < headDim / 2; j++) {
                const from = (h * headDim + half * (headDim / 2) + j) * width;
                want.set(published.subarray(from, from + width), (h * headDim + 2 * j + half) * width);
              }
            }
          }
        }
        expect(stored, `${family} ${theirs}`).toEqual(want);
      }
    }
  });
});

type Change = (metadata: Map<string, GgufValue>, tensors: GgufTensorToWrite[]) => unknown;

const tiny = modelConfig({ vocab: 32, width: 16, layers: 2, heads: 2, context: 8, moe: { experts: 4, active: 2 } });

/** A tiny mixture as a file, spoiled by `change`. */
async function spoil(change: Change, config = tiny): Promise<string> {
  const parameters = new Parameters(engine, config);
  initialise(parameters, 1);
  const whole = join(dir, "whole.gguf");
  await writeModelGguf(whole, config, parameters, { type: "F32" });
  const { metadata, tensors } = readGgufHeader(whole);
  const bytes = readFileSync(whole);
  const list = [...tensors].map(([name, { type, shape, begin, end }]) => ({ name, type, shape, chunks: () => [bytes.subarray(begin, end)] }));
  const entries = new Map(metadata.entries);
  change(entries, list);
  await writeGguf(path, entries, list);
  return path;
}

const u32 = (value: number): GgufValue => ({ type: "u32", value });
const text = (value: string): GgufValue => ({ type: "string", value });

describe("expert groups of architecture deepseek2", () => {
  /** One without groups, so that our writer has no part in their keys. */
  const latent = (modelType: string) =>
    readHfConfig({
      model_type: modelType, vocab_size: 32, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2, max_position_embeddings: 8,
      q_lora_rank: null, kv_lora_rank: 8, qk_rope_head_dim: 4, qk_nope_head_dim: 4, v_head_dim: 8, intermediate_size: 16, moe_intermediate_size: 8, first_k_dense_replace: 1,
      n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 2, n_group: 1, topk_group: 1,
    }, "config.json").config;
  const grouped = (modelType: string, count?: number, keep?: number) =>
    spoil((m) => {
      expect(m.get("general.architecture")).toEqual(text("deepseek2"));
      expect([...m.keys()].filter((key) => key.includes("group"))).toEqual([]);
      if (count !== undefined) m.set("deepseek2.expert_group_count", u32(count));
      if (keep !== undefined) m.set("deepseek2.expert_group_used_count", u32(keep));
    }, latent(modelType));

  // The score is no key: DeepSeek-V2 takes the largest of a group, V3, with its selection bias, the sum of the two largest.
  it.each([["deepseek_v2", "max"], ["deepseek_v3", "top2sum"]])("%s: groups scored by %s, and none where the file has none", async (modelType, score) => {
    const read = readModelGguf(await grouped(modelType, 4, 2));
    expect([read.family.modelType, read.config.moe?.router]).toMatchObject([modelType, { groups: { count: 4, keep: 2, score }, selectionBias: modelType === "deepseek_v3" }]);
    for (const counts of [[], [1, 1]]) expect(readModelGguf(await grouped(modelType, ...counts)).config.moe?.router.groups).toBeUndefined();
  });

  it.each<[string, number, number | undefined, string, RegExp]>([
    ["groups without how many to keep", 4, undefined, "FORMAT", /"deepseek2.expert_group_used_count": expected a non-negative integer, the key is missing/],
    ["groups of unequal size", 3, 2, "CONFIG", /group/],
    ["more groups kept than there are", 4, 5, "CONFIG", /group/],
  ])("%s", async (_, count, keep, code, message) => {
    for (const modelType of ["deepseek_v2", "deepseek_v3"]) {
      const file = await grouped(modelType, count, keep);
      expect(() => readModelGguf(file), modelType).toThrow(expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) }));
    }
  });
});

describe("a GGUF file that is no model of ours", () => {
  it("the file that the rest were made from is one", async () => {
    expect(readModelGguf(await spoil(() => undefined)).family.modelType).toBe("mixtral");
  });

  it.each<[string, Change, string, RegExp]>([
    ["another architecture", (m) => m.set("general.architecture", text("gemma3")), "UNSUPPORTED", /"general.architecture": unknown architecture "gemma3"; known are llama, qwen3, olmoe, /],
    ["no architecture", (m) => m.delete("general.architecture"), "FORMAT", /"general.architecture": expected a string, the key is missing/],
    ["no width", (m) => m.delete("llama.embedding_length"), "FORMAT", /"llama.embedding_length": expected a non-negative integer, the key is missing/],
    ["a width of another type", (m) => m.set("llama.embedding_length", text("16")), "FORMAT", /"llama.embedding_length": expected a non-negative integer, got string 16/],
    ["another width", (m) => m.set("llama.embedding_length", u32(32)), "FORMAT", /tensor "token_embd.weight": the metadata says \[32, 32\], the file has \[32, 16\]/],
    ["heads of too few layers", (m) => m.set("llama.attention.head_count_kv", { type: "array", of: "i32", value: Int32Array.of(2) }), "FORMAT", /"llama.attention.head_count_kv": expected an array of at least 2 non-negative integers or booleans, got an array of i32/],
    ["heads that are no integers", (m) => m.set("llama.attention.head_count_kv", { type: "array", of: "f32", value: Float32Array.of(2, 2) }), "FORMAT", /"llama.attention.head_count_kv": expected an array .*, got an array of f32/],
    ["more layers than a model has", (m) => m.set("llama.block_count", { type: "u32", value: 1001 }), "FORMAT", /"llama.block_count": expected at most 1000 layers, got 1001/],
    ["no layers", (m) => m.set("llama.block_count", u32(0)), "FORMAT", /num_hidden_layers/],
    ["more layers", (m) => m.set("llama.block_count", u32(3)), "FORMAT", /tensor "blk.2.attn_norm.weight" is missing/],
    ["fewer layers", (m) => m.set("llama.block_count", u32(1)), "UNSUPPORTED", /tensor "blk.1.attn_norm.weight" is not part of a mixtral model/],
    ["more experts per token than experts", (m) => m.set("llama.expert_used_count", u32(5)), "CONFIG", /4 experts, got 5/],
    ["rotary scaling without its factor", (m) => m.set("llama.rope.scaling.type", text("yarn")), "FORMAT", /"llama.rope.scaling.factor": expected a finite number, the key is missing/],
    ["unknown rotary scaling", (m) => m.set("llama.rope.scaling.type", text("su")), "UNSUPPORTED", /rotary scaling of type "su" is not supported/],
    ["soft-capped logits", (m) => m.set("llama.attn_logit_softcapping", { type: "f32", value: 50 }), "UNSUPPORTED", /"llama.attn_logit_softcapping": 50 is not supported in this model, only 0/],
    ["partial rotation", (m) => m.set("llama.rope.dimension_count", u32(4)), "UNSUPPORTED", /"llama.rope.dimension_count": 4 is not supported/],
    ["sigmoid gating", (m) => m.set("llama.expert_gating_func", u32(2)), "UNSUPPORTED", /"llama.expert_gating_func": 2 is not supported in this model, only 1/],
    ["frequency factors for long texts", (_, t) => t.push({ name: "rope_factors_long.weight", type: "F32", shape: [4], chunks: () => [new Uint8Array(16)] }), "UNSUPPORTED", /tensor "rope_factors_long.weight" is not part/],
    ["frequency factors that are none", (_, t) => t.push({ name: "rope_freqs.weight", type: "F32", shape: [4], chunks: () => [new Uint8Array(16)] }), "CONFIG", /expected 4 positive factors/],
    ["frequency factors of another type", (_, t) => t.push({ name: "rope_freqs.weight", type: "F16", shape: [4], chunks: () => [new Uint8Array(8)] }), "UNSUPPORTED", /tensor "rope_freqs.weight": expected a vector of F32/],
    ["no embedding", (_, t) => t.splice(t.findIndex(({ name }) => name === "token_embd.weight"), 1), "FORMAT", /tensor "token_embd.weight" is missing/],
    ["an expert missing", (_, t) => Object.assign(t.find(({ name }) => name === "blk.0.ffn_up_exps.weight")!, { shape: [3, 1, 16], chunks: () => [new Uint8Array(192)] }), "FORMAT", /tensor "blk.0.ffn_up_exps.weight": the metadata says \[4, \d+, 16\], the file has \[3, 1, 16\]/],
    ["integers for weights", (_, t) => Object.assign(t.find(({ name }) => name === "output_norm.weight")!, { type: "I32" }), "UNSUPPORTED", /tensor "output_norm.weight": its type I32 cannot be read/],
  ])("%s", async (_, change, code, message) => {
    const file = await spoil(change);
    expect(() => readModelGguf(file)).toThrow(expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) }));
  });

  it("a window and the factors of Llama 3's frequencies are read, and written again", async () => {
    const factors = Float32Array.of(1, 1, 2.5, 8);
    const file = await spoil((m, t) => {
      m.set("llama.attention.sliding_window", u32(4));
      t.push({ name: "rope_freqs.weight", type: "F32", shape: [4], chunks: () => [new Uint8Array(factors.buffer)] });
    });
    const read = readModelGguf(file);
    expect(read.config.mixers).toEqual([0, 1].map(() => ({ kind: "attention", rope: 0, window: 4 })));
    expect(read.config.ropes[0]?.scaling).toEqual({ factors: [...factors], magnitude: 1 });
  });

  it("where all layers are sparse, the one width that the file names is that of the experts", async () => {
    const config = modelConfig({ vocab: 32, width: 16, layers: 2, heads: 2, context: 8, hidden: 48, moe: { experts: 4, active: 2, hidden: 32 } });
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    await writeModelGguf(path, config, parameters, { type: "F32" });
    expect(readGgufHeader(path).metadata.integer("llama.feed_forward_length")).toBe(32);
    expect(readModelGguf(path).config.moe?.hidden).toBe(32);
  });
});
