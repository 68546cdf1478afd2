import type { MoeConfig } from "../../moe/layer.js";
import { routerPresets } from "../../routing/presets.js";
import type { ModelConfig } from "../config.js";
import type { Family } from "./family.js";
import { type HfConfig, required } from "./fields.js";
import { layouts } from "./layouts.js";
import { attentionBiases, layersFrom, mixture, slidingMixers, steppedLayers, uniformMixers } from "./read.js";

/* Llama, Mixtral, OLMoE and the Qwens: softmax scores; the families that new models of ours are saved as. */

const topKSoftmax = (hf: HfConfig, hidden: number, normalised: boolean, rest: Partial<MoeConfig> = {}): MoeConfig =>
  mixture(hf, hidden, normalised ? routerPresets.mixtral : { ...routerPresets.mixtral, normalize: undefined }, rest);

/** Dense layers of a Qwen mixture: the complement of the sparse ones. */
function qwenFields(config: ModelConfig): Record<string, unknown> {
  const dense = Array.from({ length: config.layers }, (_, l) => l).filter((l) => !config.sparseLayers.includes(l));
  return {
    intermediate_size: config.hidden,
    moe_intermediate_size: config.moe?.hidden,
    num_experts: config.moe?.experts,
    num_experts_per_tok: config.moe?.active,
    norm_topk_prob: config.moe?.router.normalize !== undefined,
    decoder_sparse_step: 1,
    mlp_only_layers: dense,
  };
}

export const classicFamilies: readonly Family[] = [
  {
    modelType: "llama",
    architecture: "LlamaForCausalLM",
    names: layouts.llama,
    read: (hf) => ({ ...attentionBiases(hf), ...(hf.mlp_bias ? { ffnBias: true } : {}) }),
    write: (config) => ({ intermediate_size: config.hidden, attention_bias: config.qkvBias, mlp_bias: false }),
  },
  {
    modelType: "qwen3",
    architecture: "Qwen3ForCausalLM",
    names: layouts.llama,
    defaults: { head_dim: 128, sliding_window: 4096, max_window_layers: 28 },
    read: (hf) => ({
      qkNorm: "head",
      ...attentionBiases(hf),
      mixers: slidingMixers({ ...hf, sliding_window: hf.use_sliding_window ? hf.sliding_window : null }, (l) => hf.use_sliding_window && hf.sliding_window != null && l >= (hf.max_window_layers ?? 0)),
    }),
    write: (config) => ({ intermediate_size: config.hidden, attention_bias: config.qkvBias }),
  },
  {
    modelType: "mixtral",
    architecture: "MixtralForCausalLM",
    names: layouts.mixtral,
    defaults: { rope_theta: 1e6, rms_norm_eps: 1e-5, num_key_value_heads: 8, num_local_experts: 8, num_experts_per_tok: 2 },
    read: (hf) => ({
      moe: topKSoftmax(hf, required(hf, "intermediate_size"), true),
      sparseLayers: layersFrom(hf),
      mixers: uniformMixers(hf, hf.sliding_window),
    }),
    write: ({ moe }) => ({ intermediate_size: moe?.hidden, num_local_experts: moe?.experts, num_experts_per_tok: moe?.active, sliding_window: null }),
  },
  {
    modelType: "olmoe",
    architecture: "OlmoeForCausalLM",
    names: layouts.qwen,
    defaults: { rms_norm_eps: 1e-5, num_experts: 64, num_experts_per_tok: 8 },
    read: (hf) => ({
      qkNorm: "row",
      ...attentionBiases(hf),
      ...(hf.clip_qkv == null ? {} : { clipQkv: hf.clip_qkv }),
      moe: hf.norm_topk_prob === true ? topKSoftmax(hf, required(hf, "intermediate_size"), true) : mixture(hf, required(hf, "intermediate_size"), routerPresets.olmoe),
      sparseLayers: layersFrom(hf),
    }),
    write: ({ moe, qkvBias }) => ({
      intermediate_size: moe?.hidden,
      num_experts: moe?.experts,
      num_experts_per_tok: moe?.active,
      norm_topk_prob: moe?.router.normalize !== undefined,
      attention_bias: qkvBias,
    }),
  },
  {
    modelType: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    names: layouts.qwen,
    defaults: { sliding_window: 4096, num_key_value_heads: 4, num_experts_per_tok: 8, moe_intermediate_size: 768 },
    read: (hf) => ({
      qkNorm: "head",
      ...attentionBiases(hf),
      moe: topKSoftmax(hf, required(hf, "moe_intermediate_size"), hf.norm_topk_prob === true),
      sparseLayers: steppedLayers(hf),
      mixers: uniformMixers(hf, hf.use_sliding_window ? hf.sliding_window : null),
    }),
    write: (config) => ({ ...qwenFields(config), attention_bias: config.qkvBias }),
  },
  {
    modelType: "qwen2_moe",
    architecture: "Qwen2MoeForCausalLM",
    names: layouts.qwen,
    defaults: {
      sliding_window: 4096, max_window_layers: 28, num_key_value_heads: 16,
      num_experts: 60, num_experts_per_tok: 4, moe_intermediate_size: 1408, shared_expert_intermediate_size: 5632,
    },
    read: (hf) => ({
      qkvBias: hf.qkv_bias,
      moe: topKSoftmax(
        hf,
        required(hf, "moe_intermediate_size"),
        hf.norm_topk_prob === true,
        { shared: { hidden: required(hf, "shared_expert_intermediate_size"), combine: "sigmoid" } },
      ),
      sparseLayers: steppedLayers(hf),
      mixers: slidingMixers({ ...hf, sliding_window: hf.use_sliding_window ? hf.sliding_window : 0 }, (l) => hf.use_sliding_window && (l + 1) % 2 === 1 && l < (hf.max_window_layers ?? 0)),
    }),
    write: (config) => ({ ...qwenFields(config), qkv_bias: config.qkvBias, shared_expert_intermediate_size: config.moe?.shared?.hidden }),
  },
];
