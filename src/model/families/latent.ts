import { type Family, textPart } from "./family.js";
import { refuse, required } from "./fields.js";
import { layouts } from "./layouts.js";
import { mixerLayouts } from "./mixer-layouts.js";
import { groupedRouter, latentAttention, layersFrom, layerTypes, mixtureWithShared, sigmoidRouter, sparseFrom } from "./read.js";
import { ropeParameters, ropeType } from "./ropes.js";

/* Families with latent attention: DeepSeek's, and those who took it over. */

const sizes = { kv_lora_rank: 512, q_lora_rank: 1536, qk_rope_head_dim: 64, qk_nope_head_dim: 128, v_head_dim: 128 };

const deepseekV3: Family = {
  modelType: "deepseek_v3",
  architecture: "DeepseekV3ForCausalLM",
  names: layouts.deepseek,
  defaults: {
    ...sizes, n_routed_experts: 256, n_shared_experts: 1, num_experts_per_tok: 8, moe_intermediate_size: 2048, first_k_dense_replace: 3,
    n_group: 8, topk_group: 4, norm_topk_prob: true, routed_scaling_factor: 2.5, num_key_value_heads: 128,
  },
  rope: () => undefined,
  read(hf) {
    refuse(hf, (hf.moe_layer_freq ?? 1) !== 1, `moe_layer_freq ${JSON.stringify(hf.moe_layer_freq)}`);
    return {
      ...latentAttention(hf),
      moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts),
      sparseLayers: layersFrom(hf, hf.first_k_dense_replace),
    };
  },
};

const mistral4: Family = {
  modelType: "mistral4",
  architecture: "Mistral4ForCausalLM",
  names: layouts.mistral4,
  defaults: {
    ...sizes, kv_lora_rank: 256, q_lora_rank: 1024, qk_nope_head_dim: 64, n_routed_experts: 128, n_shared_experts: 1, num_experts_per_tok: 4, moe_intermediate_size: 2048,
    first_k_dense_replace: 0, n_group: 1, topk_group: 1, norm_topk_prob: true, routed_scaling_factor: 1, num_key_value_heads: 32,
    rope_parameters: {
      type: "yarn", rope_theta: 10_000, factor: 128, original_max_position_embeddings: 8192, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1,
    },
  },
  rope: () => undefined,
  read(hf) {
    const p = ropeParameters(hf);
    refuse(hf, ropeType(p) === "default", "a rotary embedding without scaling");
    const { llama_4_scaling_beta: factor, original_max_position_embeddings: period } = p;
    const headDim = required(hf, "qk_nope_head_dim") + required(hf, "qk_rope_head_dim");
    const { mixers, ...attention } = latentAttention(hf, { dims: headDim, partial: "applied", fraction: required(hf, "qk_rope_head_dim") / headDim });
    refuse(hf, factor == null || period == null, `llama_4_scaling_beta ${factor} with original_max_position_embeddings ${period}`);
    return {
      ...attention,
      mixers: mixers.map((mixer) => ({ ...mixer, temperature: { factor: factor as number, period: period as number, from: 0 } })),
      moe: mixtureWithShared(hf, groupedRouter(hf), hf.n_shared_experts),
      sparseLayers: layersFrom(hf, hf.first_k_dense_replace),
    };
  },
};

export const latentFamilies: readonly Family[] = [
  {
    modelType: "deepseek_v2",
    architecture: "DeepseekV2ForCausalLM",
    names: layouts.deepseek,
    defaults: {
      ...sizes, n_routed_experts: 64, n_shared_experts: 2,
      moe_intermediate_size: 1407, first_k_dense_replace: 0, topk_method: "greedy", routed_scaling_factor: 1,
    },
    rope: () => undefined,
    read(hf) {
      const { topk_method: method, n_group: count, topk_group: keep } = hf;
      refuse(hf, method !== "greedy" && method !== "group_limited_greedy", `topk_method "${method}"`);
      refuse(hf, (hf.moe_layer_freq ?? 1) !== 1, `moe_layer_freq ${JSON.stringify(hf.moe_layer_freq)}`);
      const groups = method === "greedy" ? {} : { groups: { count: count ?? required(hf, "n_group"), keep: keep ?? required(hf, "topk_group"), score: "max" as const } };
      return {
        ...latentAttention(hf, { interleaved: true }),
        ...(hf.mlp_bias ? { ffnBias: true } : {}),
        moe: mixtureWithShared(hf, { scale: hf.routed_scaling_factor ?? 1, ...groups }, hf.n_shared_experts),
        sparseLayers: layersFrom(hf, hf.first_k_dense_replace),
      };
    },
  },
  deepseekV3,
  // Kimi K2 says so, but is the same in all but its numbers.
  { ...deepseekV3, modelType: "kimi_k2" },
  {
    modelType: "deepseek_v32",
    architecture: "DeepseekV32ForCausalLM",
    names: mixerLayouts.deepseekSparse,
    defaults: { ...deepseekV3.defaults, index_topk: 2048, index_n_heads: 64, index_head_dim: 128 },
    rope: () => undefined,
    read(hf) {
      refuse(hf, hf.q_lora_rank == null, "a q_lora_rank of null");
      layerTypes(hf, ["indexed_attention"], () => "indexed_attention");
      const index = { heads: required(hf, "index_n_heads"), headDim: required(hf, "index_head_dim"), topK: required(hf, "index_topk") };
      const { mixers, ...attention } = latentAttention(hf, { interleaved: true });
      return {
        ...attention,
        mixers: mixers.map((mixer) => ({ ...mixer, index })),
        moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts),
        sparseLayers: sparseFrom(hf, hf.first_k_dense_replace ?? 0),
      };
    },
  },
  {
    modelType: "glm4_moe_lite",
    architecture: "Glm4MoeLiteForCausalLM",
    names: layouts.deepseek,
    defaults: {
      ...sizes, q_lora_rank: 768, qk_nope_head_dim: 192, v_head_dim: 256, n_routed_experts: 64, n_shared_experts: 1, num_experts_per_tok: 4, moe_intermediate_size: 1536,
      n_group: 1, topk_group: 1, norm_topk_prob: true, routed_scaling_factor: 1.8, num_key_value_heads: 20, rms_norm_eps: 1e-5,
    },
    rope: () => undefined,
    read: (hf) => ({
      ...latentAttention(hf, { partial: "refused" }),
      moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts),
      sparseLayers: sparseFrom(hf, 1),
    }),
  },
  mistral4,
  { ...mistral4, modelType: "mistral3", architecture: "Mistral3ForConditionalGeneration", names: layouts.mistral4Sees, ...textPart("mistral4", "Mistral4ForCausalLM") },
];
