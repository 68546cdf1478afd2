import { SwitchyardError } from "../../errors.js";
import { isJsonObject, type JsonObject } from "../../formats/json.js";
import type { Family } from "./family.js";
import { required } from "./fields.js";
import { layouts } from "./layouts.js";
import { attentionBiases, layersFrom, layersWhere, mixture, mixtureWithShared, sharedExperts, slidingMixers, sparseFrom, sumToOne } from "./read.js";
import { readRope } from "./ropes.js";

/* Families whose router takes a softmax over all experts, each with attention of its own kind. */

/** The fields under `key`; none if it is missing. */
function group(json: JsonObject, key: string): JsonObject {
  const value = json[key] ?? {};
  if (isJsonObject(value)) return value;
  throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `config.json: ${key}: expected an object, got ${JSON.stringify(value)}`);
}

export const softmaxFamilies: readonly Family[] = [
  {
    modelType: "dbrx",
    architecture: "DbrxForCausalLM",
    names: layouts.dbrx,
    flatten(json) {
      const { clip_qkv: clip = null, kv_n_heads: kvHeads = 1, rope_theta: theta } = group(json, "attn_config");
      const ffn = group(json, "ffn_config");
      const { name: activation = "silu" } = group(ffn, "ffn_act_fn");
      return {
        // The published file has its base in attn_config alone, where transformers 5.23 does not look; what it saves itself has it in both places.
        ...(theta === undefined ? {} : { rope_theta: theta }),
        ...json,
        hidden_size: json["d_model"] ?? 2048,
        num_hidden_layers: json["n_layers"] ?? 24,
        num_attention_heads: json["n_heads"] ?? 16,
        num_key_value_heads: kvHeads,
        max_position_embeddings: json["max_seq_len"] ?? 2048,
        clip_qkv: clip,
        intermediate_size: ffn["ffn_hidden_size"] ?? 3584,
        moe_num_experts: ffn["moe_num_experts"] ?? 4,
        num_experts_per_tok: ffn["moe_top_k"] ?? 1,
        moe_normalize_expert_weights: ffn["moe_normalize_expert_weights"] === undefined ? 1 : ffn["moe_normalize_expert_weights"],
        hidden_act: activation,
      };
    },
    read: (hf) => ({
      normEps: 1e-5,
      layerNorm: { bias: false },
      ...(hf.clip_qkv == null ? {} : { clipQkv: hf.clip_qkv }),
      moe: mixture(hf, required(hf, "intermediate_size"), hf.moe_normalize_expert_weights == null ? {} : { normalize: { eps: 0, p: hf.moe_normalize_expert_weights } }),
      sparseLayers: layersFrom(hf),
    }),
  },
  {
    modelType: "ernie4_5_moe",
    architecture: "Ernie4_5_MoeForCausalLM",
    names: layouts.ernie,
    defaults: {
      rms_norm_eps: 1e-5, rope_theta: 500_000, num_key_value_heads: 4, tie_word_embeddings: true, moe_intermediate_size: 1536, moe_k: 6, moe_num_experts: 64, moe_num_shared_experts: 2,
      moe_layer_start_index: 1, moe_layer_end_index: -1, moe_layer_interval: 1, moe_norm_min: 1e-12,
    },
    rope: () => ({ interleaved: true }),
    read(hf) {
      const bias = hf.use_bias === true;
      const [first, last, interval] = [required(hf, "moe_layer_start_index"), required(hf, "moe_layer_end_index"), required(hf, "moe_layer_interval")];
      return {
        qkvBias: bias,
        outputBias: bias,
        ...(bias ? { ffnBias: true, headBias: true } : {}),
        moe: mixtureWithShared(hf, { selectionBias: true, normalize: { eps: 0, p: 1, least: required(hf, "moe_norm_min") } }, hf.moe_num_shared_experts),
        sparseLayers: layersWhere(hf, (l) => (l + 1) % interval === 0 && l >= first && (last === -1 || l <= last)),
      };
    },
  },
  {
    modelType: "hunyuan_v1_moe",
    architecture: "HunYuanMoEV1ForCausalLM",
    names: layouts.hunyuan,
    // The published file has a list of widths of experts, of which transformers takes intermediate_size.
    flatten: (json) => ({ ...json, moe_intermediate_size: null }),
    defaults: { rms_norm_eps: 1e-5, num_experts: 1, moe_topk: 1 },
    read(hf) {
      const hidden = required(hf, "intermediate_size");
      return {
        qkNorm: "rotated-head",
        ...attentionBiases(hf),
        moe: mixture(hf, hidden, sumToOne(true), sharedExperts(1, hidden)),
        sparseLayers: layersFrom(hf),
      };
    },
  },
  {
    modelType: "flex_olmo",
    architecture: "FlexOlmoForCausalLM",
    names: layouts.flexOlmo,
    defaults: { rope_theta: 500_000, num_experts: 7, num_experts_per_tok: 5 },
    read: (hf) => ({
      branches: "after",
      qkNorm: "row",
      ...attentionBiases(hf),
      moe: mixture(hf, required(hf, "intermediate_size"), sumToOne(hf.norm_topk_prob)),
      sparseLayers: layersFrom(hf),
    }),
  },
  {
    modelType: "mellum",
    architecture: "MellumForCausalLM",
    names: layouts.qwen,
    defaults: {
      head_dim: 128, num_key_value_heads: 4, sliding_window: 1024, moe_intermediate_size: 896, num_experts_per_tok: 8, norm_topk_prob: true,
      rope_parameters: { full_attention: { rope_type: "default", rope_theta: 500_000 }, sliding_attention: { rope_type: "default", rope_theta: 10_000 } },
    },
    rope: () => undefined,
    read: (hf) => ({
      qkNorm: "head",
      ...attentionBiases(hf),
      ropes: ["full_attention", "sliding_attention"].map((type) => readRope(hf, { partial: "refused" }, type)),
      mixers: slidingMixers(hf, () => false, (sliding) => (sliding ? 1 : 0)),
      moe: mixture(hf, required(hf, "moe_intermediate_size"), sumToOne(hf.norm_topk_prob)),
      sparseLayers: sparseFrom(hf, 0),
    }),
  },
];
