import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ReferenceEngine } from "../../engine/reference.js";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../../formats/checkpoint.js";
import type { Json } from "../../formats/json.js";
import type { TensorToWrite } from "../../formats/safetensors-writer.js";
import { LanguageModel } from "../language-model.js";
import { countParameters } from "../parameter-specs.js";
import { readHfConfig, writeHfConfig } from "./hf-config.js";

const read = (json: object) => readHfConfig(JSON.parse(JSON.stringify(json)) as Json, "config.json").config;

/** What the published config.json says beyond transformers' defaults for the family. */
const published: Record<string, object> = {
  lfm2_moe: {
    model_type: "lfm2_moe", vocab_size: 65536, hidden_size: 2048, intermediate_size: 7168, num_hidden_layers: 32, num_attention_heads: 32, max_position_embeddings: 128000,
    layer_types: Array.from({ length: 32 }, (_, l) => (l % 4 === 2 ? "full_attention" : "conv")),
  },
  qwen3_next: { model_type: "qwen3_next", vocab_size: 151936, hidden_size: 2048, num_hidden_layers: 48, num_attention_heads: 16, max_position_embeddings: 262144 },
  qwen3_5_moe_text: { model_type: "qwen3_5_moe_text", vocab_size: 248320, hidden_size: 2048, num_hidden_layers: 40, num_attention_heads: 16, max_position_embeddings: 262144 },
  minimax: { model_type: "minimax", vocab_size: 32000, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32, max_position_embeddings: 131072 },
  jamba: { model_type: "jamba", vocab_size: 65536, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32, max_position_embeddings: 262144 },
  deepseek_v32: { model_type: "deepseek_v32", vocab_size: 129280, hidden_size: 7168, intermediate_size: 18432, num_hidden_layers: 61, num_attention_heads: 128, max_position_embeddings: 163840 },
};

describe("families with other mixers than attention", () => {
  // Totals: those of transformers 5.23 for these configs.
  it.each([
    ["lfm2_moe", 11_280_731_136, 2_032_290_816],
    ["qwen3_next", 79_674_391_296, 3_874_929_408],
    ["qwen3_5_moe_text", 34_660_610_688, 3_454_988_928],
    ["minimax", 47_373_946_880, 13_551_079_424],
    ["jamba", 51_570_323_328, 12_110_311_296],
    ["deepseek_v32", 671_877_929_216, 38_403_807_488],
  ])("%s has the published number of parameters, to the last one, and is saved as what it is", (family, total, active) => {
    const config = read(published[family]!);
    expect(countParameters(config)).toEqual({ total, active });
    expect(writeHfConfig(config).family.modelType).toBe(family);
  });

  it("the language model in one that sees is read, and saved alone", () => {
    const { model_type: _, ...text } = published["qwen3_5_moe_text"] as { model_type: string };
    const config = read({ model_type: "qwen3_5_moe", text_config: text, vision_config: {} });
    expect(countParameters(config)).toEqual(countParameters(read(published["qwen3_5_moe_text"]!)));
    const { json, family } = writeHfConfig(config);
    expect([family.modelType, json["model_type"], json["text_config"]]).toEqual(["qwen3_5_moe_text", "qwen3_5_moe_text", undefined]);
  });

  it("reads experts one by one, as they are saved, and stacked", async () => {
    const root = mkdtempSync(join(tmpdir(), "switchyard-stacked-"));
    const [apart, together] = [join(root, "apart"), join(root, "together")];
    const small = {
      ...published["qwen3_5_moe_text"], vocab_size: 64, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, head_dim: 8, full_attention_interval: 2, max_position_embeddings: 32,
      linear_num_key_heads: 1, linear_num_value_heads: 2, linear_key_head_dim: 8, linear_value_head_dim: 8, num_experts: 4, num_experts_per_tok: 2,
      moe_intermediate_size: 8, shared_expert_intermediate_size: 8,
    };
    const engine = new ReferenceEngine();
    using model = LanguageModel.create({ config: read(small), engine, seed: 1 });
    await model.save(apart);
    const tensors = openCheckpointTensors(apart);
    const valuesOf = (name: string) => [...readAsF32(tensors.get(name)!)].flatMap((values) => [...values]);
    const written = (name: string, shape: number[], values: number[]): TensorToWrite => ({
      name,
      dtype: "F32",
      shape,
      *chunks() {
        yield new Uint8Array(Float32Array.from(values).buffer);
      },
    });
    const experts = [0, 1, 2, 3];
    const stacks = [0, 1].flatMap((l) => {
      const at = `model.layers.${l}.mlp.experts`;
      return [
        written(`${at}.gate_up_proj`, [4, 16, 16], experts.flatMap((e) => ["gate", "up"].flatMap((part) => valuesOf(`${at}.${e}.${part}_proj.weight`)))),
        written(`${at}.down_proj`, [4, 16, 8], experts.flatMap((e) => valuesOf(`${at}.${e}.down_proj.weight`))),
      ];
    });
    const others = [...tensors].filter(([name]) => !name.includes(".experts.")).map(([name, { shape }]) => written(name, [...shape], valuesOf(name)));
    mkdirSync(together);
    copyFileSync(join(apart, "config.json"), join(together, "config.json"));
    await writeCheckpointTensors(together, [...others, ...stacks]);
    using loaded = await LanguageModel.load(together, { engine });
    for (const { name, tensor } of model.parameters.list) expect(engine.read(loaded.parameters.get(name)), name).toEqual(engine.read(tensor));
    rmSync(root, { recursive: true });
  });

  it("layers are of the kind that the switches say", () => {
    const kinds = (family: string, change: object) => read({ ...published[family], num_hidden_layers: 6, ...change }).mixers.map(({ kind }) => kind);
    expect(kinds("qwen3_next", { full_attention_interval: 3 })).toEqual(["deltaNet", "deltaNet", "attention", "deltaNet", "deltaNet", "attention"]);
    expect(kinds("minimax", {})).toEqual(["attention", "lightning", "attention", "lightning", "attention", "lightning"]);
    expect(kinds("jamba", { attn_layer_period: 3, attn_layer_offset: 1 })).toEqual(["mamba", "attention", "mamba", "mamba", "attention", "mamba"]);
    expect(read({ ...published["jamba"], expert_layer_period: 8, expert_layer_offset: 5 }).sparseLayers).toEqual([5, 13, 21, 29]);
    expect(read({ ...published["jamba"], num_experts: 1, num_experts_per_tok: 1 })).toMatchObject({ sparseLayers: [] });
    expect(read({ ...published["qwen3_next"], num_hidden_layers: 6, decoder_sparse_step: 2, mlp_only_layers: [3] }).sparseLayers).toEqual([1, 5]);
    expect(read({ ...published["lfm2_moe"], use_expert_bias: false }).moe?.router.selectionBias).toBe(false);
  });

  it.each<[string, object, RegExp]>([
    ["lfm2_moe", { layer_types: null }, /layer_types/],
    ["lfm2_moe", { layer_types: ["mamba"] }, /layer_types: "mamba" of layer 0/],
    ["qwen3_next", { linear_num_key_heads: 3 }, /linear_num_value_heads 32 beside linear_num_key_heads 3/],
    ["jamba", { attn_layer_offset: 8 }, /attn_layer_offset 8 beside attn_layer_period 8/],
    ["jamba", { expert_layer_offset: 2 }, /expert_layer_offset 2 beside expert_layer_period 2/],
    ["deepseek_v32", { q_lora_rank: null }, /q_lora_rank/],
    ["deepseek_v32", { layer_types: Array(61).fill("full_attention") }, /layer_types: "full_attention"/],
  ])("%s with %j is refused", (family, change, message) => {
    expect(() => read({ ...published[family], ...change })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(message) }));
  });
});
