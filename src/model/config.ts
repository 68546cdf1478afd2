import type { Activation } from "../engine/engine.js";
import { check } from "../errors.js";
import type { MoeConfig } from "../moe/layer.js";
import { checkRouterConfig } from "../routing/route.js";

/** Everything that determines the function a decoder-only transformer computes. Plain data. */
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
  ropeTheta: number;
  normEps: number;
  /** The output projection is the embedding table. */
  tiedEmbeddings: boolean;
  qkvBias: boolean;
  outputBias: boolean;
  /** RMSNorm of queries and keys: per head, or over the whole row of heads. */
  qkNorm: "none" | "head" | "row";
  activation: Activation;
  /** Hidden width of the dense feed-forward layers. */
  hidden: number;
  moe?: MoeConfig | undefined;
  /** Layers whose feed-forward part is the mixture, in rising order; empty without `moe`. */
  sparseLayers: readonly number[];
}

const positive = ["vocab", "width", "layers", "heads", "kvHeads", "headDim", "context", "hidden"] as const;

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless the parts fit together. Returns its argument. */
export function checkModelConfig(config: ModelConfig): ModelConfig {
  const require = (condition: boolean, message: () => string) => check(condition, "ERR_SWITCHYARD_CONFIG", () => `model config: ${message()}`);
  for (const key of positive) require(Number.isSafeInteger(config[key]) && config[key] > 0, () => `${key} must be a positive integer, got ${config[key]}`);
  require(config.heads % config.kvHeads === 0, () => `heads (${config.heads}) must be a multiple of kvHeads (${config.kvHeads})`);
  require(config.headDim % 2 === 0, () => `headDim must be even for rotary embeddings, got ${config.headDim}`);
  require(config.ropeTheta > 0 && config.normEps >= 0, () => `ropeTheta must be positive and normEps not negative, got ${config.ropeTheta} and ${config.normEps}`);
  const { moe, sparseLayers } = config;
  require(sparseLayers.every((l, i) => Number.isInteger(l) && l >= 0 && l < config.layers && (i === 0 || l > (sparseLayers[i - 1] as number))), () => `sparseLayers must be rising layer numbers below ${config.layers}, got [${sparseLayers.join(", ")}]`);
  require((moe === undefined) === (sparseLayers.length === 0), () => "moe and sparseLayers must be given together");
  if (moe === undefined) return config;
  require(Number.isInteger(moe.experts) && moe.experts >= 1, () => `experts must be a positive integer, got ${moe.experts}`);
  require(Number.isInteger(moe.active) && moe.active >= 1 && moe.active <= moe.experts, () => `experts per token (top-k) must be between 1 and the ${moe.experts} experts, got ${moe.active}`);
  require(Number.isInteger(moe.hidden) && moe.hidden >= 1, () => `the experts' hidden width must be a positive integer, got ${moe.hidden}`);
  require(moe.shared === undefined || (Number.isInteger(moe.shared.hidden) && moe.shared.hidden >= 1), () => `the shared expert's hidden width must be a positive integer, got ${moe.shared?.hidden}`);
  checkRouterConfig(moe.router, moe.experts, moe.active);
  return config;
}
