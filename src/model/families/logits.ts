import type { RouterConfig } from "../../routing/types.js";
import type { ModelConfig } from "../config.js";
import { type Family, textPart } from "./family.js";
import { headDimOf, type HfConfig, refuse, required } from "./fields.js";
import { layouts } from "./layouts.js";
import { attentionBiases, layersFrom, layersWhere, layerTypes, mixture, sharedExperts, slidingMixers, sparseFrom, sumToOne, uniformMixers, windowOf } from "./read.js";
import { readRope, ropeParameters, ropeType } from "./ropes.js";

/* Families whose router chooses by the logits and makes weights of the chosen ones. */

const softmaxOfChosen: Partial<RouterConfig> = { score: "logits", weight: "softmax" };

/** A multiplier of 1 is none. */
const factor = <K extends string>(name: K, value: number | null | undefined): { [P in K]?: number } => (value == null || value === 1 ? {} : { [name]: value }) as { [P in K]?: number };

function graniteConfig(hf: HfConfig): Partial<ModelConfig> {
  return {
    ...attentionBiases(hf),
    attentionScale: hf.attention_multiplier,
    ...factor("embeddingScale", hf.embedding_multiplier),
    ...factor("residualScale", hf.residual_multiplier),
    ...factor("logitScale", 1 / (hf.logits_scaling ?? 1)),
    sparseLayers: layersFrom(hf),
  };
}

const llama4: Family = {
  modelType: "llama4_text",
  architecture: "Llama4ForCausalLM",
  names: layouts.llama4,
  defaults: {
    rms_norm_eps: 1e-5, rope_theta: 500_000, head_dim: 128, num_key_value_heads: 8, num_local_experts: 16, num_experts_per_tok: 1, attention_chunk_size: 8192, use_qk_norm: true,
    intermediate_size: 8192, intermediate_size_mlp: 16_384,
  },
  rope: () => ({ interleaved: true }),
  read(hf) {
    const hidden = required(hf, "intermediate_size");
    const step = hf.interleave_moe_layer_step;
    const listed = hf.no_rope_layers?.length ? hf.no_rope_layers : undefined;
    const hasRope = (l: number) => (listed === undefined ? (l + 1) % hf.no_rope_layer_interval !== 0 : listed[l] === 1);
    const types = layerTypes(hf, ["full_attention", "chunked_attention"], (l) => (hasRope(l) ? "chunked_attention" : "full_attention"));
    const { window: chunk } = windowOf(hf, hf.attention_chunk_size);
    refuse(hf, types.includes("chunked_attention") && hf.attention_chunk_size == null, "layer_types: chunked_attention without an attention_chunk_size");
    return {
      ...attentionBiases(hf),
      qkNorm: hf.use_qk_norm === true ? "rotated-unit" : "none",
      mixers: types.map((type, l) => ({
        kind: "attention",
        ...(hasRope(l) ? { rope: 0 } : hf.attn_temperature_tuning ? { temperature: { factor: hf.attn_scale, period: hf.floor_scale, from: 1 } } : {}),
        ...(type === "chunked_attention" && chunk !== undefined ? { chunk } : {}),
      })),
      hidden: required(hf, "intermediate_size_mlp"),
      moe: mixture(hf, hidden, { score: "logits", weight: "sigmoid" }, { weightOn: "input", ...sharedExperts(1, hidden) }),
      sparseLayers: hf.moe_layers ?? layersWhere(hf, (l) => (l + 1) % step === 0),
    };
  },
};

export const logitFamilies: readonly Family[] = [
  {
    modelType: "gpt_oss",
    architecture: "GptOssForCausalLM",
    names: layouts.gptOss,
    defaults: {
      rms_norm_eps: 1e-5, rope_theta: 150_000, head_dim: 64, num_key_value_heads: 8, num_local_experts: 128, num_experts_per_tok: 4, sliding_window: 128, attention_bias: true,
      rope_parameters: { rope_type: "yarn", factor: 32, beta_fast: 32, beta_slow: 1, truncate: false, original_max_position_embeddings: 4096 },
    },
    read(hf) {
      refuse(hf, hf.swiglu_alpha !== 1.702, `swiglu_alpha ${hf.swiglu_alpha}`);
      return {
        ...attentionBiases(hf),
        sinks: true,
        mixers: slidingMixers(hf, (l) => l % 2 === 0),
        moe: mixture(hf, required(hf, "intermediate_size"), { ...softmaxOfChosen, bias: true }, { activation: "quick-gelu", limit: hf.swiglu_limit, upOffset: 1, bias: true }),
        sparseLayers: layersFrom(hf),
      };
    },
  },
  llama4,
  { ...llama4, modelType: "llama4", architecture: "Llama4ForConditionalGeneration", names: layouts.llama4Sees, ...textPart("llama4_text", "Llama4ForCausalLM") },
  {
    modelType: "granitemoe",
    architecture: "GraniteMoeForCausalLM",
    names: layouts.granite,
    defaults: { num_local_experts: 8, num_experts_per_tok: 2 },
    read: (hf) => ({ ...graniteConfig(hf), moe: mixture(hf, required(hf, "intermediate_size"), softmaxOfChosen) }),
  },
  {
    modelType: "granitemoeshared",
    architecture: "GraniteMoeSharedForCausalLM",
    names: layouts.granite,
    defaults: { num_local_experts: 8, num_experts_per_tok: 2 },
    read: (hf) => ({ ...graniteConfig(hf), moe: mixture(hf, required(hf, "intermediate_size"), softmaxOfChosen, sharedExperts(hf.shared_intermediate_size === 0 ? 0 : 1, hf.shared_intermediate_size)) }),
  },
  {
    modelType: "phimoe",
    architecture: "PhimoeForCausalLM",
    names: layouts.mixtral,
    defaults: { rms_norm_eps: 1e-5, rope_theta: 1e6, num_key_value_heads: 8, num_local_experts: 16, num_experts_per_tok: 2, router_jitter_noise: 0.01 },
    read(hf) {
      refuse(hf, hf.num_experts_per_tok !== 2, `num_experts_per_tok ${hf.num_experts_per_tok}, where sparsemixer chooses 2,`);
      return {
        layerNorm: { bias: true },
        ...attentionBiases(hf),
        ...(hf.lm_head_bias ? { headBias: true } : {}),
        ropes: phiRopes(hf),
        mixers: uniformMixers(hf, hf.sliding_window),
        moe: mixture(hf, required(hf, "intermediate_size"), { score: "logits", weight: "sparsemixer", closeness: hf.router_jitter_noise }),
        sparseLayers: layersFrom(hf),
      };
    },
    rope: () => undefined,
  },
  {
    modelType: "cohere2_moe",
    architecture: "Cohere2MoeForCausalLM",
    names: layouts.deepseek,
    // transformers 5.23 keeps rope_scaling and computes without it.
    flatten: (json) => ({ ...json, rope_scaling: null }),
    defaults: {
      head_dim: 128, rms_norm_eps: null, tie_word_embeddings: true, sliding_window: 4096,
      sliding_window_pattern: 4, num_experts: 8, num_experts_per_tok: 2, norm_topk_prob: true,
    },
    rope: () => ({ interleaved: true }),
    read(hf) {
      const hidden = required(hf, "intermediate_size");
      const { expert_selection_fn: select, shared_expert_combination_strategy: combine, prefix_dense_sliding_window_pattern: prefixPattern } = hf;
      refuse(hf, select !== "softmax" && select !== "sigmoid", `expert_selection_fn "${select}"`);
      refuse(hf, combine !== "sum" && combine !== "average", `shared_expert_combination_strategy "${combine}"`);
      const pattern = required(hf, "sliding_window_pattern");
      const prefix = hf.first_k_dense_replace ?? 0;
      const sparse = sparseFrom(hf, prefix);
      const sliding = (l: number) => (l < prefix ? (l + 1) % prefixPattern !== 0 : (l - prefix + 1) % pattern !== 0);
      // Without a window nothing slides, so that only the dense layers may still have positions.
      const mixers = slidingMixers(hf, sliding, (isSliding) => (isSliding && hf.sliding_window != null ? 0 : undefined));
      return {
        branches: "parallel",
        ...(hf.rms_norm_eps === null ? { layerNorm: { bias: false } } : {}),
        ...attentionBiases(hf),
        hidden: hf.prefix_dense_intermediate_size ?? hidden,
        logitScale: hf.logit_scale,
        mixers: mixers.map((mixer, l) => (!sparse.includes(l) && prefixPattern === 1 ? { ...mixer, rope: 0 } : mixer)),
        moe: mixture(
          hf,
          hidden,
          { score: "logits", ...(select === "sigmoid" ? { weight: "sigmoid", ...sumToOne(hf.norm_topk_prob) } : { weight: "softmax" }) },
          sharedExperts(hf.num_shared_experts, hidden, combine === "sum" ? "add" : "average"),
        ),
        sparseLayers: sparse,
      };
    },
  },
];

/**
 * Phi-3.5-MoE scales by length: its frequencies are always those of short sequences, as transformers 5.23 computes them, but cosines and
 * sines are multiplied by short_mscale or, beyond the original context, by long_mscale.
 */
function phiRopes(hf: HfConfig): ModelConfig["ropes"] {
  const rope = readRope(hf);
  const p = ropeParameters(hf);
  if (ropeType(p) === "default") return [rope];
  const { short_mscale: short, long_mscale: long } = p;
  refuse(hf, typeof short !== "number" || typeof long !== "number", `rotary scaling without short_mscale and long_mscale, ${short} and ${long},`);
  const { factors } = rope.scaling ?? { factors: new Array<number>(headDimOf(hf) / 2).fill(1) };
  const beyond = hf.original_max_position_embeddings ?? p.original_max_position_embeddings ?? hf.max_position_embeddings;
  return [{ ...rope, scaling: { factors, magnitude: short as number }, long: { beyond, factors, magnitude: long as number } }];
}
