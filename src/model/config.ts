import type { Activation } from "../engine/engine.js";
import { checker } from "../errors.js";
import type { JsonObject } from "../formats/json.js";
import type { MoeConfig, SharedExpert } from "../moe/layer.js";
import { show } from "../options.js";
import { checkRouterConfig } from "../routing/route.js";
import type { DeltaNetConfig } from "./delta-net.js";
import type { LightningConfig } from "./lightning-attention.js";
import type { MambaConfig } from "./mamba.js";
import { checkRope, type RopeConfig } from "./rope.js";
import type { ShortConvConfig } from "./short-conv.js";

/** What mixes the tokens of a sequence in one layer; `mixers` (mixer.ts) has the implementation of each kind. Plain data. */
export type MixerConfig = AttentionConfig | LatentAttentionConfig | DeltaNetConfig | LightningConfig | MambaConfig | ShortConvConfig;

/** Softmax attention over the keys before a query. The sizes of its heads stand in the model's config: they are those of all layers. */
export interface AttentionConfig {
  kind: "attention";
  /** Number of its rotary embedding in `ropes`; undefined: no positions (NoPE). */
  rope?: number | undefined;
  /** A query sees the last `window` keys, its own among them; undefined: all. */
  window?: number | undefined;
  /** A query sees only keys of its own run of `chunk` positions. */
  chunk?: number | undefined;
  temperature?: Temperature | undefined;
}

/** Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434): keys and values come from one short vector per token, `latent` of the model. */
export interface LatentAttentionConfig {
  kind: "latent";
  rope: number;
  /** Sparse: a query sees the `topK` keys that a small attention of its own scores best (DeepSeek-AI 2025, DeepSeek-V3.2). Needs a queryRank. */
  index?: { heads: number; headDim: number; topK: number } | undefined;
  temperature?: Temperature | undefined;
}

/** Queries far from the start count more: q times 1 + factor * log(1 + floor((position + from) / period)) (Llama 4). */
export interface Temperature {
  factor: number;
  period: number;
  from: number;
}

/** Sizes of latent attention. Heads of queries and keys are `unrotated` elements, then those that are rotated; the model's `headDim` is both. */
export interface LatentSizes {
  /** Length of the vector that queries come from; undefined: of the layer's input. */
  queryRank?: number | undefined;
  /** Length of the vector that keys and values come from. */
  rank: number;
  unrotated: number;
  /** Head size of values. */
  value: number;
  /** Of the norms of both short vectors. */
  normEps: number;
}

/** kept * x + added * f(x) */
interface Blend {
  kept: number;
  added: number;
}

/** Everything that determines the function a decoder-only transformer computes. Plain data; what is left out is not there, or 1. */
export interface ModelConfig {
  /** V */
  vocab: number;
  /** D */
  width: number;
  /** L */
  layers: number;
  /** H */
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Longest sequence, in tokens. */
  context: number;
  normEps: number;
  /** Added to the weights of the norms before branches, of queries and keys, and of the last: 1 for weights stored around zero. */
  normOffset?: number | undefined;
  /** LayerNorm instead of RMSNorm, with or without a bias. */
  layerNorm?: { bias: boolean } | undefined;
  /**
   * Where a branch f is normed: x + f(norm(x)), the default; "after": x + norm(f(x)); "around": x + norm(f(norm(x))). "parallel": both branches
   * read one norm, x + attention(norm(x)) + ffn(norm(x)). "normed": norm(x) + f(norm(x)).
   */
  branches?: "after" | "around" | "parallel" | "normed" | undefined;
  /** Factors of the two terms of each branch's sum; those of attention for each layer. */
  blend?: { attention: readonly Blend[]; ffn: Blend } | undefined;
  /** The output projection is the embedding table. */
  tiedEmbeddings: boolean;
  headBias?: boolean | undefined;
  /** Multiply the embeddings, what each branch adds, and the logits. */
  embeddingScale?: number | undefined;
  residualScale?: number | undefined;
  logitScale?: number | undefined;
  qkvBias: boolean;
  outputBias: boolean;
  /**
   * RMSNorm of queries and keys: per head, or over the whole row of heads; per head and after the rotation; or after it and without weights,
   * where there is one.
   */
  qkNorm: "none" | "head" | "row" | "rotated-head" | "rotated-unit";
  /** Queries, keys and values are limited to [-clip, clip]. */
  clipQkv?: number | undefined;
  /** Multiplies q.k; default 1/sqrt(headDim). */
  attentionScale?: number | undefined;
  /** Each head has a logit of its own that takes a share of the attention and gives nothing (gpt-oss). */
  sinks?: boolean | undefined;
  /** The heads' output times sigmoid(gate x). */
  outputGate?: { bias: boolean } | undefined;
  latent?: LatentSizes | undefined;
  /** The rotary embeddings that the layers use. */
  ropes: readonly RopeConfig[];
  /** One per layer. */
  mixers: readonly MixerConfig[];
  activation: Activation;
  /** Hidden width of the dense feed-forward layers. */
  hidden: number;
  /** Dense feed-forward layers and shared experts have biases. */
  ffnBias?: boolean | undefined;
  moe?: MoeConfig | undefined;
  /** Layers whose feed-forward part is the mixture, in rising order; empty without `moe`. */
  sparseLayers: readonly number[];
  /** The config.json that this was read from. It is saved again as it is, unless the rest of this config has been changed since. */
  published?: JsonObject | undefined;
}

const combinations: readonly SharedExpert["combine"][] = ["add", "average", "sigmoid", "softmax"];
const positive = ["vocab", "width", "layers", "heads", "kvHeads", "headDim", "context", "hidden"] as const;

/** A config with more experts is a mistake or an attack: it would make lists of that length for every layer. */
const maxExperts = 2 ** 16;

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless the parts fit together. Returns its argument. */
export function checkModelConfig(config: ModelConfig): ModelConfig {
  const require = checker("ERR_SWITCHYARD_CONFIG", "model config");
  for (const key of positive) require(Number.isSafeInteger(config[key]) && config[key] > 0, () => `${key} must be a positive integer, got ${config[key]}`);
  require(config.heads % config.kvHeads === 0, () => `heads (${config.heads}) must be a multiple of the heads of keys and values (${config.kvHeads})`);
  require(config.normEps >= 0, () => `normEps must not be negative, got ${config.normEps}`);
  const { moe, sparseLayers, mixers, ropes } = config;
  for (const rope of ropes) checkRope(rope, config.headDim);
  require(mixers.length === config.layers, () => `mixers: expected one for each of the ${config.layers} layers, got ${mixers.length}`);
  require(config.latent === undefined ? mixers.every(({ kind }) => kind !== "latent") : config.headDim > config.latent.unrotated, () => "latent attention needs its sizes, with heads longer than their unrotated part");
  require(config.latent?.queryRank !== undefined || mixers.every((mixer) => mixer.kind !== "latent" || mixer.index === undefined), () => "sparse latent attention (index) needs latent.queryRank");
  for (const mixer of mixers) {
    const rope = "rope" in mixer ? mixer.rope : undefined;
    require(rope === undefined || rope in ropes, () => `mixers: expected the number of one of ${ropes.length} ropes, got ${rope}`);
  }
  require(config.blend === undefined || config.blend.attention.length === config.layers, () => `blend: expected factors of attention for each of the ${config.layers} layers, got ${config.blend?.attention.length}`);
  require(sparseLayers.every((l, i) => Number.isInteger(l) && l >= 0 && l < config.layers && (i === 0 || l > (sparseLayers[i - 1] as number))), () => `sparseLayers must be rising layer numbers below ${config.layers}, got [${sparseLayers.join(", ")}]`);
  require((moe === undefined) === (sparseLayers.length === 0), () => "moe and sparseLayers must be given together");
  if (moe === undefined) return config;
  require(Number.isInteger(moe.experts) && moe.experts >= 1 && moe.experts <= maxExperts, () => `experts must be a positive integer up to ${maxExperts}, got ${moe.experts}`);
  require(Number.isInteger(moe.active) && moe.active >= 1 && moe.active <= moe.experts, () => `experts per token (top-k) must be between 1 and the ${moe.experts} experts, got ${moe.active}`);
  require(Number.isInteger(moe.hidden) && moe.hidden >= 1, () => `the experts' hidden width must be a positive integer, got ${moe.hidden}`);
  require(moe.shared === undefined || (Number.isInteger(moe.shared.hidden) && moe.shared.hidden >= 1), () => `the shared expert's hidden width must be a positive integer, got ${moe.shared?.hidden}`);
  require(moe.shared === undefined || combinations.includes(moe.shared.combine), () => `the shared expert's combine must be one of ${combinations.join(", ")}, got ${show(moe.shared?.combine)}`);
  checkRouterConfig(moe.router, moe.experts, moe.active);
  return config;
}
