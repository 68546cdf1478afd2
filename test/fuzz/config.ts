import { type Json, type JsonObject, parseJson } from "../../src/formats/json.js";
import { readHfConfig } from "../../src/model/families/hf-config.js";
import { families } from "../../src/model/families/families.js";
import { publishedShapes } from "../../src/model/families/published.js";
import { countParameters } from "../../src/model/parameter-specs.js";
import type { Random } from "../../src/tensor/random.js";
import { writeJson } from "./json-text.js";
import { chance, edge, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const rope: JsonObject = { rope_type: "yarn", rope_theta: 10_000, factor: 4, original_max_position_embeddings: 32, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, truncate: false, llama_4_scaling_beta: 0.1 };

/** What a small model of any family may say. */
const small: JsonObject = {
  vocab_size: 64, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 8, max_position_embeddings: 64, rms_norm_eps: 1e-6,
  hidden_act: "silu", tie_word_embeddings: false, intermediate_size: 48, num_experts: 4, num_local_experts: 4, n_routed_experts: 4, num_experts_per_tok: 2,
  moe_intermediate_size: 16, n_shared_experts: 1, num_shared_experts: 1, shared_expert_intermediate_size: 16, shared_intermediate_size: 16, norm_topk_prob: true,
  routed_scaling_factor: 1, n_group: 1, topk_group: 1, first_k_dense_replace: 1, kv_lora_rank: 16, q_lora_rank: 8, qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8,
  sliding_window: 8, attention_bias: false, clip_qkv: 8, decoder_sparse_step: 1, mlp_only_layers: [], rope_theta: 10_000, rope_parameters: { rope_type: "default", rope_theta: 10_000 },
};

function config(random: Random): JsonObject {
  const base = chance(random, 0.2) ? { ...pick(random, Object.values(publishedShapes)) } : { ...small, model_type: pick(random, families).modelType };
  const json: JsonObject = chance(random, 0.3) ? { ...base, rope_parameters: rope } : base;
  const keys = Object.keys(json);
  for (let left = random.below(4); left > 0; left--) {
    const key = pick(random, keys);
    const value = pick<() => Json | undefined>(random, [() => undefined, () => null, () => Number(edge(random)), () => -1, () => 0.5, () => "x", () => [Number(edge(random))], () => ({ ...rope, factor: Number(edge(random)) }), () => pick(random, Object.values(json))])();
    if (value === undefined) delete json[key];
    else json[key] = value;
  }
  return json;
}

export const configFile: Target = {
  about: "config.json of every family, fields left out, of another type or size",
  run(random) {
    const bytes = new TextEncoder().encode(writeJson(config(random), random, 0.002));
    const read = accepted(() => readHfConfig(parseJson(bytes, "config.json"), "config.json"), ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED", "ERR_SWITCHYARD_CONFIG"], "");
    if (read === undefined) return false;
    const { total, active } = countParameters(read.config);
    ensure(Number.isFinite(total) && active <= total, "parameters can be counted");
    return true;
  },
};
