import type { ModelConfig } from "../config.js";

/** Names of a family's feed-forward tensors, below "model.layers.N.". */
export interface FeedForwardNames {
  /** The sparse block: "mlp" or "block_sparse_moe". */
  block: string;
  gate: string;
  up: string;
  down: string;
}

/** One published architecture as data: how its config.json maps to ours and back, and what it calls its tensors. */
export interface Family {
  /** `model_type` in config.json. */
  modelType: string;
  /** `architectures[0]` in config.json. */
  architecture: string;
  /** Names inside the sparse block, also of its experts; dense blocks always use mlp.{gate,up,down}_proj. */
  names: FeedForwardNames;
  /** Reads what differs from the common fields. */
  read(hf: HfConfig): Partial<ModelConfig>;
  /** Writes what differs from the common fields. */
  write(config: ModelConfig): Record<string, unknown>;
}

/** The fields of a Hugging Face config.json that these families use; unknown ones are kept out of the way. */
export interface HfConfig {
  model_type: string;
  vocab_size: number;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number | null | undefined;
  head_dim?: number | null | undefined;
  max_position_embeddings: number;
  rms_norm_eps: number;
  intermediate_size?: number | undefined;
  hidden_act: string;
  tie_word_embeddings: boolean;
  attention_bias?: boolean | undefined;
  qkv_bias?: boolean | undefined;
  num_experts?: number | undefined;
  num_local_experts?: number | undefined;
  num_experts_per_tok?: number | undefined;
  moe_intermediate_size?: number | undefined;
  shared_expert_intermediate_size?: number | undefined;
  norm_topk_prob?: boolean | undefined;
  decoder_sparse_step?: number | undefined;
  mlp_only_layers?: readonly number[] | null | undefined;
}
