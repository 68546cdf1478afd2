import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ReferenceEngine } from "../../engine/reference.js";
import { readGgufHeader } from "../../formats/gguf/reader.js";
import { decodeBlocks } from "../../quant/codecs.js";
import { readModelGguf, writeModelGguf } from "../gguf-file.js";
import { initialise } from "../parameter-specs.js";
import { Parameters } from "../parameters.js";
import { readHfConfig } from "./hf-config.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-gguf-mixers-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "m.gguf");
const engine = new ReferenceEngine({ float: "f32" });

const sizes = {
  vocab_size: 32, hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 16, intermediate_size: 24, moe_intermediate_size: 24,
  num_experts: 4, num_experts_per_tok: 2,
};
const delta = { head_dim: 16, shared_expert_intermediate_size: 8, linear_num_key_heads: 2, linear_num_value_heads: 4, linear_key_head_dim: 8, linear_value_head_dim: 8 };

describe("other mixers than attention", () => {
  it.each<[string, object]>([
    ["lfm2_moe", { layer_types: ["conv", "full_attention", "conv", "conv"], num_dense_layers: 1, tie_word_embeddings: true }],
    ["qwen3_next", delta],
    ["qwen3_5_moe_text", { ...delta, layer_types: ["linear_attention", "full_attention", "full_attention", "linear_attention"] }],
    ["jamba", { attn_layer_period: 3, attn_layer_offset: 2, expert_layer_period: 2, expert_layer_offset: 1, mamba_d_state: 4, mamba_dt_rank: 3 }],
    ["jamba", { attn_layer_period: 8, attn_layer_offset: 1, num_experts: 1 }],
    ["minimax", { mlp_alpha_factor: 2.5, full_attn_alpha_factor: 2.5, linear_attn_alpha_factor: 2.5, num_local_experts: 4 }],
  ])("a new %s, %j, comes back the same", async (modelType, fields) => {
    const { config } = readHfConfig({ ...sizes, ...fields, model_type: modelType }, "config.json");
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    await writeModelGguf(path, config, parameters, { type: "F32" });
    const read = readModelGguf(path);
    expect({ ...read.config, published: undefined }).toEqual({ ...config, published: undefined });
    const after = new Parameters(engine, read.config, read.sources);
    for (const { name, tensor } of parameters.list) expect(engine.read(after.get(name)), name).toEqual(engine.read(tensor));
  });

  it("in Q8_0 the rates of Mamba stay F32, as long as their rows may be", async () => {
    const { config } = readHfConfig({ ...sizes, model_type: "jamba", attn_layer_period: 2, attn_layer_offset: 1, mamba_d_state: 32 }, "config.json");
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    await writeModelGguf(path, config, parameters, { type: "Q8_0" });
    const types = [...readGgufHeader(path).tensors].filter(([name]) => /blk\.0\.ssm_(a|out|conv1d)/.test(name)).map(([name, { type }]) => [name, type]);
    expect(Object.fromEntries(types)).toEqual({ "blk.0.ssm_a": "F32", "blk.0.ssm_out.weight": "Q8_0", "blk.0.ssm_conv1d.weight": "F32", "blk.0.ssm_conv1d.bias": "F32" });
  });

  it("qwen35moe has the first value head of each key head before the second ones: rows of projections, columns of the last", async () => {
    const { config } = readHfConfig({ ...sizes, ...delta, model_type: "qwen3_5_moe_text" }, "config.json");
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    for (const name of ["norm", "layers.0.attention.delta.logRate"]) engine.write(parameters.get(name), new Float32Array(parameters.get(name).size).fill(0.5));
    await writeModelGguf(path, config, parameters, { type: "F32" });
    const { tensors } = readGgufHeader(path);
    const stored = (name: string) => {
      const { begin, end } = tensors.get(name)!;
      return Array.from(decodeBlocks("F32", Uint8Array.from(readFileSync(path).subarray(begin, end))));
    };
    const ours = (name: string) => Array.from(engine.read(parameters.get(name)));
    const heads = [0, 2, 1, 3];
    const [gate, out] = [ours("layers.0.attention.delta.gate"), ours("layers.0.attention.delta.out")];
    expect(stored("blk.0.attn_gate.weight")).toEqual(heads.flatMap((h) => gate.slice(h * 8 * 32, (h + 1) * 8 * 32)));
    expect(stored("blk.0.ssm_out.weight")).toEqual(Array.from({ length: 32 }, (_, row) => heads.flatMap((h) => out.slice(row * 32 + h * 8, row * 32 + (h + 1) * 8))).flat());
    expect(stored("output_norm.weight")).toEqual(new Array(32).fill(1.5));
    expect(stored("blk.0.ssm_a")).toEqual(new Array(4).fill(Math.fround(-Math.exp(0.5))));
  });
});
