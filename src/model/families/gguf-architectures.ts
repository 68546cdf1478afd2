import type { JsonObject } from "../../formats/json.js";
import type { AttentionConfig, ModelConfig } from "../config.js";
import type { GgufArchitecture, GgufFields, GgufKeys } from "./gguf-architecture.js";
import { ggufMixers } from "./gguf-mixers.js";
import { ggufNames, namedGguf } from "./gguf-names.js";
import { fused } from "./layouts.js";

const isMixture = ({ common }: GgufFields): boolean => common["num_experts"] !== undefined;
const interleaving = ({ sparseLayers: [first = 0, second = first + 1] }: ModelConfig): GgufKeys => ({ interleave_moe_layer_step: second - first });

const isSigmoid = (file: GgufFields): boolean => file.integer("expert_gating_func", 1) === 2;
const isAllSparse = ({ layers, sparseLayers }: ModelConfig): boolean => sparseLayers.length === layers;
/** `expert_gating_func` of a softmax of the chosen logits. */
const softmaxOfChosen = 3;

const latentFields = (file: GgufFields): JsonObject => {
  const rotated = file.integer("rope.dimension_count");
  const headDim = file.integer("attention.key_length_mla", file.integer("attention.key_length", 0));
  return {
    q_lora_rank: file.has("attention.q_lora_rank") ? file.integer("attention.q_lora_rank") : null,
    kv_lora_rank: file.integer("attention.kv_lora_rank"),
    qk_rope_head_dim: rotated,
    qk_nope_head_dim: headDim - rotated,
    v_head_dim: file.integer("attention.value_length_mla", file.integer("attention.value_length", 0)),
    num_key_value_heads: file.integer("attention.head_count"),
    head_dim: rotated,
    attention_bias: false,
  };
};

const granite = (modelType: string, shared: boolean): GgufArchitecture => ({
  arch: "granitemoe",
  modelType,
  matches: (file) => isMixture(file) && file.hasTensor("ffn_up_shexp.weight") === shared,
  paired: true,
  names: ggufNames,
  onlyExperts: true,
  fields: (file) => ({
    attention_multiplier: file.number("attention.scale"),
    embedding_multiplier: file.number("embedding_scale", 1),
    residual_multiplier: file.number("residual_scale", 1),
    logits_scaling: file.number("logit_scale", 1),
  }),
  keys: ({ logitScale = 1, residualScale = 1, embeddingScale = 1, attentionScale }) => ({ logit_scale: 1 / logitScale, residual_scale: residualScale, embedding_scale: embeddingScale, "attention.scale": attentionScale }),
});

/** In order of preference for what has one name. */
export const ggufArchitectures: readonly GgufArchitecture[] = [
  { arch: "llama", modelType: "llama", matches: (file) => !isMixture(file), paired: true, names: ggufNames },
  { arch: "llama", modelType: "mixtral", matches: isMixture, paired: true, names: ggufNames, isSliding: () => true, onlyExperts: true },
  { arch: "qwen3", modelType: "qwen3", paired: false, names: ggufNames },
  { arch: "olmoe", modelType: "olmoe", paired: false, names: ggufNames, normalised: false, onlyExperts: true },
  { arch: "qwen2moe", modelType: "qwen2_moe", paired: false, names: ggufNames, normalised: false, loads: isAllSparse },
  { arch: "qwen3moe", modelType: "qwen3_moe", paired: false, names: ggufNames, normalised: true, loads: isAllSparse },
  {
    arch: "deepseek2", modelType: "deepseek_v2", matches: (file) => !isSigmoid(file), paired: true, names: ggufNames, normalised: false,
    // llama.cpp has no groups of the largest score: a file that needs them is read right here only.
    fields: (file) => ({ ...latentFields(file), topk_method: file.integer("expert_group_count", 1) > 1 ? "group_limited_greedy" : "greedy" }),
  },
  { arch: "deepseek2", modelType: "deepseek_v3", matches: isSigmoid, also: ["glm4_moe_lite"], paired: true, names: ggufNames, normalised: false, fields: (file) => ({ ...latentFields(file), rope_interleave: true }) },
  {
    arch: "deepseek32", modelType: "deepseek_v32", paired: true, normalised: false,
    names: namedGguf({
      "attention.indexQ": "indexer.attn_q_b.weight", "attention.indexK": "indexer.attn_k.weight", "attention.indexKNorm": "indexer.k_norm.weight",
      "attention.indexKNormBias": "indexer.k_norm.bias", "attention.indexWeights": "indexer.proj.weight",
    }),
    fields: (file) => ({
      ...latentFields(file),
      index_n_heads: file.integer("attention.indexer.head_count"),
      index_head_dim: file.integer("attention.indexer.key_length"),
      index_topk: file.integer("attention.indexer.top_k"),
    }),
    keys: ({ mixers: [mixer] }) => {
      const index = mixer?.kind === "latent" ? mixer.index : undefined;
      return { "attention.indexer.head_count": index?.heads, "attention.indexer.key_length": index?.headDim, "attention.indexer.top_k": index?.topK };
    },
  },
  {
    arch: "mistral4", modelType: "mistral4", paired: true, names: ggufNames, normalised: true,
    fields: (file) => {
      const fields = latentFields(file);
      const [rotated, unrotated] = [fields["qk_rope_head_dim"] as number, fields["qk_nope_head_dim"] as number];
      const rope = file.common["rope_parameters"] as JsonObject;
      return { ...fields, head_dim: rotated + unrotated, rope_interleave: true, partial_rotary_factor: rotated / (rotated + unrotated), rope_parameters: { ...rope, llama_4_scaling_beta: file.number("attention.temperature_scale") } };
    },
    keys: ({ mixers: [mixer] }) => {
      const temperature = mixer?.kind === "latent" ? mixer.temperature : undefined;
      return { "attention.temperature_scale": temperature?.factor, "attention.temperature_length": temperature?.period };
    },
  },
  {
    arch: "gpt-oss", modelType: "gpt_oss", paired: false, names: namedGguf({ "ffn.norm": "post_attention_norm.weight" }), isSliding: (l) => l % 2 === 0, onlyExperts: true,
    // The published model does not round the borders of YaRN, and no key says so.
    fields: (file) => ({ rope_parameters: { ...(file.common["rope_parameters"] as JsonObject), truncate: false } }),
  },
  {
    arch: "llama4", modelType: "llama4_text", paired: true, names: ggufNames,
    fields: (file) => ({
      intermediate_size: file.common["moe_intermediate_size"] as number,
      intermediate_size_mlp: file.integer("feed_forward_length"),
      interleave_moe_layer_step: file.integer("interleave_moe_layer_step"),
      attention_chunk_size: file.integer("attention.sliding_window", 8192),
      // As llama.cpp has it: the model of 128 experts is the one without the norm.
      use_qk_norm: file.common["num_experts"] !== 128,
    }),
    keys: (config) => ({ ...interleaving(config), "attention.sliding_window": config.mixers.map((mixer) => (mixer as AttentionConfig).chunk).find((chunk) => chunk !== undefined) }),
  },
  granite("granitemoe", false),
  granite("granitemoeshared", true),
  {
    arch: "phimoe", modelType: "phimoe", paired: false, names: ggufNames, onlyExperts: true,
    // Ours: GGUF has no key for how close two scores must be to share a weight, and llama.cpp takes a softmax of the two instead.
    fields: (file) => ({ lm_head_bias: file.hasTensor("output.bias"), router_jitter_noise: file.number("router_jitter_noise", 0.01) }),
    keys: ({ moe, normEps }) => ({ router_jitter_noise: moe?.router.closeness, "attention.layer_norm_rms_epsilon": normEps }),
  },
  {
    arch: "dbrx", modelType: "dbrx", paired: false, onlyExperts: true,
    names: namedGguf({ "ffn.norm": "attn_output_norm.weight", "attention.q": fused("attn_qkv.weight", 0), "attention.k": fused("attn_qkv.weight", 1), "attention.v": fused("attn_qkv.weight", 2) }),
    fields: ({ common }) => ({
      d_model: common["hidden_size"] as number,
      n_layers: common["num_hidden_layers"] as number,
      n_heads: common["num_attention_heads"] as number,
      max_seq_len: common["max_position_embeddings"] as number,
      attn_config: { kv_n_heads: common["num_key_value_heads"] as number, clip_qkv: common["clip_qkv"] as number, rope_theta: common["rope_theta"] as number },
      ffn_config: { ffn_hidden_size: common["moe_intermediate_size"] as number, moe_num_experts: common["num_experts"] as number, moe_top_k: common["num_experts_per_tok"] as number },
    }),
  },
  {
    arch: "ernie4_5-moe", modelType: "ernie4_5_moe", paired: true, names: ggufNames,
    fields: (file) => ({ moe_layer_start_index: file.integer("leading_dense_block_count", 0), moe_layer_interval: file.integer("interleave_moe_layer_step", 1), use_bias: false }),
    keys: interleaving,
  },
  { arch: "dots1", modelType: "dots1", paired: false, names: ggufNames, normalised: false, loads: ({ moe, heads, kvHeads }) => moe?.shared !== undefined && heads === kvHeads },
  {
    arch: "glm4moe", modelType: "glm4_moe", also: ["solar_open", "dots1"], paired: false, names: namedGguf({ "ffn.norm": "post_attention_norm.weight" }), normalised: true,
    fields: (file) => ({ partial_rotary_factor: file.integer("rope.dimension_count") / (file.common["head_dim"] as number), use_qk_norm: file.hasTensor("attn_q_norm.weight") }),
    keys: ({ moe }) => (moe?.shared === undefined ? { expert_shared_count: 0 } : {}), // which llama.cpp must be told
  },
  { arch: "minimax-m2", modelType: "minimax_m2", paired: false, names: ggufNames, onlyExperts: true, fields: (file) => ({ rotary_dim: file.integer("rope.dimension_count") }) },
  { arch: "hy_v3", modelType: "hy_v3", paired: false, names: namedGguf({ "router.selectionBias": "exp_probs_b" }), normalised: true },
  {
    arch: "mellum", modelType: "mellum", paired: false, names: ggufNames, isSliding: (l) => (l + 1) % 4 !== 0,
    fields: (file) => {
      const theta = file.common["rope_theta"] as number;
      return { rope_parameters: { full_attention: file.common["rope_parameters"] as JsonObject, sliding_attention: { rope_type: "default", rope_theta: file.number("rope.freq_base_swa", theta) } } };
    },
  },
  {
    arch: "cohere2moe", modelType: "cohere2_moe", paired: true, names: ggufNames, normalised: true, isSliding: (l) => l % 4 !== 0,
    // Dense layers have positions, sliding or not; llama.cpp knows only the average with shared experts.
    fields: (file) => ({
      rms_norm_eps: file.has("attention.layer_norm_rms_epsilon") ? file.number("attention.layer_norm_rms_epsilon") : null,
      layer_norm_eps: file.number("attention.layer_norm_epsilon", 1e-5),
      logit_scale: file.number("logit_scale"),
      expert_selection_fn: file.integer("expert_gating_func", 2) === softmaxOfChosen ? "softmax" : "sigmoid",
      intermediate_size: file.common["moe_intermediate_size"] as number,
      prefix_dense_intermediate_size: file.common["intermediate_size"] as number,
    }),
    keys: ({ moe, sparseLayers, logitScale }) => ({
      logit_scale: logitScale, leading_dense_block_count: sparseLayers[0] ?? 0, expert_gating_func: moe?.router.weight === "softmax" ? softmaxOfChosen : 2,
    }),
  },
  { arch: "hunyuan-moe", modelType: "hunyuan_v1_moe", paired: false, names: ggufNames, onlyExperts: true },
  { arch: "exaone-moe", modelType: "exaone_moe", paired: false, names: ggufNames, normalised: true, isSliding: (l) => (l + 1) % 4 !== 0 },
  {
    arch: "afmoe", modelType: "afmoe", paired: false, names: ggufNames, normalised: true, isSliding: (l) => (l + 1) % 4 !== 0,
    fields: (file) => ({ route_scale: file.common["routed_scaling_factor"] as number, num_dense_layers: file.common["first_k_dense_replace"] as number, mup_enabled: file.number("embedding_scale", 0) !== 1 }),
    // llama.cpp knows the scale sqrt(D) only, for which it needs no key.
    keys: ({ embeddingScale }) => ({ embedding_scale: embeddingScale === undefined ? 1 : undefined }),
  },
  ...ggufMixers,
];
