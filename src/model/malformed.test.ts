import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import type { JsonObject } from "../formats/json.js";
import { families } from "./families/families.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { readQuantization } from "./families/quantization.js";
import { readModelFolder } from "./folder.js";
import { modelConfig } from "./presets.js";
import { readModel, readStored } from "./read.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-malformed-"));
afterAll(() => rmSync(root, { recursive: true }));

const codes = ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED", "ERR_SWITCHYARD_CONFIG"] as const;
const read = (json: JsonObject) => refusal(() => readHfConfig(json, "config.json"), codes);

/** Fields that most families know. */
const common: JsonObject = {
  vocab_size: 64, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 8, max_position_embeddings: 64, rms_norm_eps: 1e-6, hidden_act: "silu", tie_word_embeddings: false,
  intermediate_size: 48, num_experts: 4, num_local_experts: 4, n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 16, n_shared_experts: 1, num_shared_experts: 1,
  shared_expert_intermediate_size: 16, shared_intermediate_size: 16, norm_topk_prob: true, n_group: 1, topk_group: 1, first_k_dense_replace: 1, kv_lora_rank: 16, q_lora_rank: 8, qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8,
  sliding_window: 8, attention_bias: false, clip_qkv: 8, decoder_sparse_step: 1, mlp_only_layers: [], rope_parameters: { rope_type: "default", rope_theta: 10_000 },
};
/** They read some of these fields from elsewhere, or not at all. */
const others = ["dbrx", "hunyuan_v1_moe"];
const plain = families.filter(({ modelType }) => !others.includes(modelType) && read({ ...common, model_type: modelType }) === undefined).map(({ modelType }) => modelType);

it.each<[unknown, string]>([["", "an empty text"], [undefined, "undefined"], [new URL("file:///models/first"), "file:///models/first"]])("a path of %o is refused", async (path, shown) => {
  const refused = { code: "ERR_SWITCHYARD_USAGE", message: `load: expected the path of a model folder or a .gguf file, got ${shown}` };
  for (const load of [readModel, readStored]) await expect(load(path as string)).rejects.toMatchObject(refused);
});

describe("config.json", () => {
  it("most families read a config of the fields that most of them know", () => expect(plain.length).toBeGreaterThan(30));

  it.each(plain)("%s: a value of another kind in any field is named", (modelType) => {
    const wrong = withWrongValues({ model_type: modelType, ...common });
    expect(wrong.length).toBeGreaterThan(150);
    for (const { path, value, json } of wrong) expect(read(json), `${path}: ${JSON.stringify(value)}`).toContain(path === "model_type" ? "model_type" : `config.json: ${path.split(".")[0]}`);
  });

  it("dbrx, whose fields are in groups: a value of another kind in any field is named", () => {
    const dbrx: JsonObject = {
      model_type: "dbrx", vocab_size: 64, d_model: 32, n_layers: 2, n_heads: 4, max_seq_len: 64, attn_config: { kv_n_heads: 2, clip_qkv: 8, rope_theta: 10_000 },
      ffn_config: { ffn_act_fn: { name: "silu" }, ffn_hidden_size: 16, moe_num_experts: 4, moe_top_k: 2, moe_normalize_expert_weights: 1 },
    };
    expect(read(dbrx)).toBeUndefined();
    for (const { path, value, json } of withWrongValues(dbrx)) expect(read(json), `${path}: ${JSON.stringify(value)}`).toMatch(/^config\.json: \w+/);
  });

  it("an own config: a value of another kind in any field is named", () => {
    const { json: written } = writeHfConfig(modelConfig({ vocab: 100, moe: { shared: 1, sharedCombine: "add", balance: { method: "loss-free", rate: 1e-3, update: "sign" } } }));
    expect(written["model_type"]).toBe("switchyard");
    expect(read(written)).toBeUndefined();
    // Of other numbers than counts a negative one may be right.
    const wrong = withWrongValues({ switchyard: written["switchyard"] as JsonObject }).filter(({ value }) => value !== -1.5);
    expect(wrong.length).toBeGreaterThan(150);
    const taken = wrong.filter(({ json }) => read({ ...written, ...json }) === undefined).map(({ path, value }) => `${path}: ${JSON.stringify(value)}`);
    expect(taken).toEqual([]);
    for (const { path, value, json } of wrong) expect(read({ ...written, ...json }), `${path}: ${JSON.stringify(value)}`).toMatch(new RegExp(path.split(".").filter((name) => !/^\d+$/.test(name)).slice(-2).join("|")));
  });

  it("cut anywhere it is refused by name", async () => {
    const text = JSON.stringify({ model_type: "mixtral", ...common });
    for (let length = 0; length < text.length; length += 17) {
      writeFileSync(join(root, "config.json"), text.slice(0, length));
      await expect(readModelFolder(root), `${length} bytes`).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringContaining("config.json: ") }));
    }
  });
});

describe("quantization_config", () => {
  const methods: readonly JsonObject[] = [
    { quant_method: "fp8", weight_block_size: [128, 128] },
    { quant_method: "mxfp4" },
    { quant_method: "switchyard" },
  ];
  it.each(methods)("of $quant_method: a value of another kind is named", (method) => {
    const quantization = (json: JsonObject) => refusal(() => readQuantization(json, "config.json"), codes);
    expect(quantization({ quantization_config: method })).toBeUndefined();
    for (const { path, value, json } of withWrongValues({ quantization_config: method })) {
      if (/config(\.quant_method|\.weight_block_size.*)?$/.test(path)) expect(quantization(json), `${path}: ${JSON.stringify(value)}`).toContain("config.json: quantization_config: ");
    }
  });
});
