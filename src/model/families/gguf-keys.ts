import type { JsonObject } from "../../formats/json.js";
import type { ModelConfig } from "../config.js";
import type { GgufKeys } from "./gguf-architecture.js";

/** The shortest decimal that is this f32: a file's 1e-6 is 9.99999997e-7, config.json's is not. */
export function shortest(x: number): number {
  for (let digits = 1; digits < 10; digits++) {
    const candidate = Number(x.toPrecision(digits));
    if (Math.fround(candidate) === Math.fround(x)) return candidate;
  }
  return x;
}

/**
 * The keys that architectures share, below the architecture's name. `hf` is the model's config.json, which says how a rotary embedding is
 * scaled; `saysNormalised`: the architecture has a key for whether weights are renormalised; `isSliding`: the layers that usually slide.
 */
export function ggufKeys(config: ModelConfig, hf: JsonObject | undefined, saysNormalised: boolean, isSliding?: (l: number) => boolean): GgufKeys {
  const { latent, heads, kvHeads, headDim, layerNorm, normEps, ropes, sparseLayers, hidden, moe, clipQkv } = config;
  const [rope] = ropes;
  const sliding = config.mixers.map((mixer) => (mixer.kind === "attention" ? mixer.window : undefined));
  const window = sliding.find((w) => w !== undefined);
  const isUsual = sliding.every((w, l) => (w !== undefined) === (isSliding?.(l) ?? true));
  return {
    block_count: config.layers,
    context_length: config.context,
    embedding_length: config.width,
    feed_forward_length: hidden,
    vocab_size: config.vocab,
    "attention.head_count": heads,
    // Latent attention as llama.cpp runs it: one key and value for all heads, the short vector.
    "attention.head_count_kv": latent === undefined ? kvHeads : 1,
    "attention.key_length": latent === undefined ? headDim : latent.rank + headDim - latent.unrotated,
    "attention.value_length": latent === undefined ? headDim : latent.rank,
    "attention.q_lora_rank": latent?.queryRank,
    "attention.kv_lora_rank": latent?.rank,
    "attention.key_length_mla": latent === undefined ? undefined : headDim,
    "attention.value_length_mla": latent?.value,
    [`attention.layer_norm_${layerNorm === undefined ? "rms_" : ""}epsilon`]: normEps,
    "attention.clamp_kqv": clipQkv,
    "attention.sliding_window": window,
    "attention.sliding_window_pattern": window === undefined || isUsual ? undefined : sliding.map((w) => w !== undefined),
    "rope.freq_base": rope?.theta,
    "rope.freq_base_swa": ropes[1]?.theta,
    "rope.dimension_count": latent === undefined ? rope?.rotary : headDim - latent.unrotated,
    ...(hf === undefined ? {} : ropeScaling(hf)),
    ...(moe === undefined ? {} : mixtureKeys(moe, sparseLayers[0] ?? 0, saysNormalised)),
  };
}

function mixtureKeys({ experts, active, hidden, router, shared }: NonNullable<ModelConfig["moe"]>, firstSparse: number, saysNormalised: boolean): GgufKeys {
  const sharedCount = (shared?.hidden ?? 0) / hidden;
  return {
    expert_count: experts,
    expert_used_count: active,
    expert_feed_forward_length: hidden,
    expert_shared_count: Number.isInteger(sharedCount) && sharedCount > 0 ? sharedCount : undefined,
    expert_shared_feed_forward_length: shared?.hidden,
    leading_dense_block_count: firstSparse > 0 ? firstSparse : undefined,
    expert_weights_norm: saysNormalised ? router.normalize !== undefined : undefined,
    expert_weights_scale: router.scale === 1 ? undefined : router.scale,
    expert_gating_func: router.score === "sigmoid" ? 2 : router.score === "softmax" ? 1 : undefined,
    expert_group_count: router.groups?.count,
    expert_group_used_count: router.groups?.keep,
  };
}

/** Scaling by one factor, or by YaRN; Llama 3's factors are a tensor. */
function ropeScaling(hf: JsonObject): GgufKeys {
  const parameters = (hf["rope_scaling"] ?? hf["rope_parameters"] ?? {}) as JsonObject;
  const given = (parameters["full_attention"] ?? parameters) as JsonObject;
  const type = given["rope_type"] ?? given["type"];
  const number = (key: string): number | undefined => (typeof given[key] === "number" ? given[key] : undefined);
  if (type === "linear") return { "rope.scaling.type": type, "rope.scaling.factor": number("factor") };
  if (type !== "yarn") return {};
  const sharpness = number("mscale_all_dim");
  return {
    "rope.scaling.type": type,
    "rope.scaling.factor": number("factor"),
    "rope.scaling.original_context_length": number("original_max_position_embeddings"),
    "rope.scaling.yarn_beta_fast": number("beta_fast"),
    "rope.scaling.yarn_beta_slow": number("beta_slow"),
    "rope.scaling.yarn_log_multiplier": sharpness === undefined ? undefined : 0.1 * sharpness,
  };
}
