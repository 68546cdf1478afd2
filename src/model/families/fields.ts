import { z } from "zod";
import { check, SwitchyardError } from "../../errors.js";

const positive = z.number().int().positive().max(2 ** 31);
const count = z.number().int().min(0).max(2 ** 31);
const factor = z.number().finite();
const types = z.array(z.string()).nullish();

/** More layers are a mistake or an attack: a description of 10,000 takes 200 ms to count. */
export const maxLayers = 1000;

/** Rotary scaling in its older (`rope_scaling`) or newer (`rope_parameters`) place. */
const rope = z.object({
  rope_theta: z.number().positive().nullish(),
  rope_type: z.string().optional(),
  type: z.string().optional(),
  partial_rotary_factor: factor.nullish(),
  factor: factor.nullish(),
  alpha: factor.nullish(),
  attention_factor: factor.nullish(),
  original_max_position_embeddings: positive.nullish(),
  beta_fast: factor.nullish(),
  beta_slow: factor.nullish(),
  mscale: factor.nullish(),
  mscale_all_dim: factor.nullish(),
  truncate: z.boolean().nullish(),
  low_freq_factor: factor.nullish(),
  high_freq_factor: factor.nullish(),
  short_factor: z.array(factor).nullish(),
  long_factor: z.array(factor).nullish(),
  short_mscale: factor.nullish(),
  long_mscale: factor.nullish(),
  llama_4_scaling_beta: factor.nullish(),
});

export type HfRope = z.output<typeof rope>;

/** One for all layers, or one for each type of layer. */
const ropes = z.union([z.object({ full_attention: rope.nullish(), sliding_attention: rope.nullish() }).refine((r) => r.full_attention != null || r.sliding_attention != null), rope]);

/** The fields of config.json that the families use, with the defaults of most of them; others are kept out of the way. */
export const hfFields = z.object({
  model_type: z.string(),
  vocab_size: positive,
  hidden_size: positive,
  num_hidden_layers: positive.max(maxLayers),
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  max_position_embeddings: positive,
  rms_norm_eps: z.number().min(0).nullable().default(1e-6),
  norm_eps: z.number().min(0).default(1e-5),
  layer_norm_eps: z.number().min(0).default(1e-5),
  hidden_act: z.string().default("silu"),
  tie_word_embeddings: z.boolean().default(false),
  tie_embedding: z.boolean().optional(),
  intermediate_size: positive.optional(),
  // Attention
  attention_bias: z.boolean().default(false),
  qkv_bias: z.boolean().default(true),
  use_qk_norm: z.boolean().optional(),
  clip_qkv: z.number().min(0).nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: count.nullish(),
  layer_types: types,
  sliding_window_pattern: z.union([count, z.string()]).nullish(),
  prefix_dense_sliding_window_pattern: positive.default(1),
  global_attn_every_n_layers: positive.default(4),
  attention_chunk_size: positive.nullish(),
  no_rope_layers: z.array(count).nullish(),
  no_rope_layer_interval: positive.default(4),
  attn_temperature_tuning: z.union([z.boolean(), z.number()]).default(true), // Scout has 4
  attn_scale: factor.default(0.1),
  floor_scale: positive.default(8192),
  attention_multiplier: factor.default(1),
  kv_lora_rank: positive.optional(),
  q_lora_rank: positive.nullish(),
  qk_nope_head_dim: positive.optional(),
  qk_rope_head_dim: positive.optional(),
  v_head_dim: positive.nullish(),
  index_topk: positive.optional(),
  index_n_heads: positive.optional(),
  index_head_dim: positive.optional(),
  // Other mixers of a sequence
  conv_L_cache: positive.default(3),
  conv_bias: z.boolean().default(false),
  full_attention_interval: positive.default(4),
  linear_conv_kernel_dim: positive.default(4),
  linear_num_key_heads: positive.default(16),
  linear_num_value_heads: positive.default(32),
  linear_key_head_dim: positive.default(128),
  linear_value_head_dim: positive.default(128),
  attn_layer_period: positive.default(8),
  attn_layer_offset: count.default(4),
  mamba_d_state: positive.default(16),
  mamba_d_conv: positive.default(4),
  mamba_expand: positive.default(2),
  mamba_dt_rank: z.union([positive, z.literal("auto")]).default("auto"),
  mamba_conv_bias: z.boolean().default(true),
  mamba_proj_bias: z.boolean().default(false),
  // Positions
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropes.nullish(),
  rope_parameters: ropes.nullish(),
  rope_interleave: z.boolean().nullish(),
  partial_rotary_factor: factor.nullish(),
  rotary_dim: positive.nullish(),
  original_max_position_embeddings: positive.nullish(),
  // Scales and biases
  embedding_multiplier: factor.nullish(),
  residual_multiplier: factor.nullish(),
  logits_scaling: factor.nullish(),
  full_attn_alpha_factor: factor.default(1),
  full_attn_beta_factor: factor.default(1),
  linear_attn_alpha_factor: factor.default(1),
  linear_attn_beta_factor: factor.default(1),
  mlp_alpha_factor: factor.default(1),
  mlp_beta_factor: factor.default(1),
  block_size: positive.max(2 ** 14).optional(),
  logit_scale: factor.default(0.0625),
  mup_enabled: z.boolean().nullish(),
  mlp_bias: z.boolean().default(false),
  use_bias: z.boolean().nullish(),
  lm_head_bias: z.boolean().default(false),
  // The mixture
  num_experts: z.union([positive, z.array(positive).min(1)]).optional(),
  num_local_experts: positive.nullish(),
  n_routed_experts: positive.nullish(),
  moe_num_experts: positive.nullish(),
  num_experts_per_tok: positive.nullish(),
  moe_k: positive.nullish(),
  moe_topk: z.union([positive, z.array(positive)]).nullish(),
  moe_intermediate_size: positive.nullish(),
  n_shared_experts: count.nullish(),
  num_shared_experts: count.nullish(),
  moe_num_shared_experts: count.nullish(),
  shared_expert_intermediate_size: count.optional(),
  shared_intermediate_size: count.default(0),
  shared_expert_combination_strategy: z.string().default("average"),
  intermediate_size_mlp: positive.optional(),
  prefix_dense_intermediate_size: positive.nullish(),
  norm_topk_prob: z.boolean().nullish(),
  moe_normalize_expert_weights: z.number().min(1).nullish(),
  moe_norm_min: z.number().min(0).nullish(),
  routed_scaling_factor: factor.nullish(),
  router_scaling_factor: factor.nullish(),
  route_scale: factor.nullish(),
  router_jitter_noise: factor.default(0),
  use_expert_bias: z.boolean().default(true),
  expert_selection_fn: z.string().default("softmax"),
  topk_method: z.string().nullish(),
  n_group: positive.nullish(),
  topk_group: positive.nullish(),
  swiglu_alpha: factor.default(1.702),
  swiglu_limit: factor.default(7),
  // Which layers are sparse
  decoder_sparse_step: positive.default(1),
  mlp_only_layers: z.array(count).nullish(),
  first_k_dense_replace: count.nullish(),
  moe_layer_freq: z.union([count, z.array(count)]).nullish(),
  num_dense_layers: count.nullish(),
  mlp_layer_types: types,
  moe_layer_start_index: count.nullish(),
  moe_layer_end_index: z.number().int().min(-1).nullish(),
  moe_layer_interval: positive.nullish(),
  moe_layers: z.array(count).nullish(),
  interleave_moe_layer_step: positive.default(1),
  expert_layer_period: positive.default(2),
  expert_layer_offset: count.default(1),
});

export type HfConfig = z.output<typeof hfFields>;

/** Throws ERR_SWITCHYARD_UNSUPPORTED naming a setting that transformers has and we do not. */
export function refuse(hf: HfConfig, condition: boolean, setting: string): void {
  check(!condition, "ERR_SWITCHYARD_UNSUPPORTED", () => `config.json: ${setting} is not supported in a ${hf.model_type} model`);
}

/** Throws ERR_SWITCHYARD_FORMAT naming a number that is missing. */
export function required(hf: HfConfig, key: keyof HfConfig): number {
  const value = hf[key];
  if (typeof value === "number") return value;
  throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `config.json: a ${hf.model_type} model needs ${key}, got ${JSON.stringify(value)}`);
}

export const headDimOf = (hf: HfConfig): number => hf.head_dim ?? Math.floor(hf.hidden_size / hf.num_attention_heads);
