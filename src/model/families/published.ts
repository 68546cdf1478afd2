import type { JsonObject } from "../../formats/json.js";

/** What the config.json of some published mixtures says about the shape of the model. */
export const publishedShapes = {
  /** allenai/OLMoE-1B-7B-0924 */
  "olmoe-1b-7b": {
    model_type: "olmoe", vocab_size: 50_304, hidden_size: 2048, num_hidden_layers: 16, num_attention_heads: 16, num_key_value_heads: 16,
    max_position_embeddings: 4096, rms_norm_eps: 1e-5, rope_theta: 10_000, intermediate_size: 1024, num_experts: 64, num_experts_per_tok: 8,
    norm_topk_prob: false,
  },
  /** Qwen/Qwen3-30B-A3B */
  "qwen3-30b-a3b": {
    model_type: "qwen3_moe", vocab_size: 151_936, hidden_size: 2048, num_hidden_layers: 48, num_attention_heads: 32, num_key_value_heads: 4,
    head_dim: 128, max_position_embeddings: 40_960, rms_norm_eps: 1e-6, rope_theta: 1_000_000, intermediate_size: 6144, moe_intermediate_size: 768,
    num_experts: 128, num_experts_per_tok: 8, norm_topk_prob: true, decoder_sparse_step: 1, mlp_only_layers: [],
  },
  /** mistralai/Mixtral-8x7B-v0.1 */
  "mixtral-8x7b": {
    model_type: "mixtral", vocab_size: 32_000, hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8,
    max_position_embeddings: 32_768, rms_norm_eps: 1e-5, rope_theta: 1_000_000, intermediate_size: 14_336, num_local_experts: 8,
    num_experts_per_tok: 2,
  },
} as const satisfies Record<string, JsonObject>;

export type PublishedShape = keyof typeof publishedShapes;

/** The config.json of a published shape, with another number of layers if that is given. */
export function publishedConfig(shape: PublishedShape, layers?: number): JsonObject {
  return { ...publishedShapes[shape], ...(layers === undefined ? {} : { num_hidden_layers: layers }) };
}
