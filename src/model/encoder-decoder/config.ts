import type { Activation } from "../../engine/engine.js";
import { checker } from "../../errors.js";
import type { MoeConfig } from "../../moe/layer.js";
import { checkRouterConfig } from "../../routing/route.js";
import type { ModelConfig } from "../config.js";

/** The layers of the encoder or of the decoder. */
export interface StackConfig {
  layers: number;
  /** Layers l with l % sparseStep == 1, or all if it is 1, are mixtures; 0: none. */
  sparseStep: number;
}

export const stackNames = ["encoder", "decoder"] as const;
export type StackName = (typeof stackNames)[number];

/** Everything that determines the function of an encoder-decoder transformer in the manner of T5 (Raffel et al. 2020). Plain data. */
export interface EncoderDecoderConfig extends Record<StackName, StackConfig> {
  /** V */
  vocab: number;
  /** D */
  width: number;
  /** H */
  heads: number;
  headDim: number;
  /** Hidden width of the dense feed-forward layers. */
  hidden: number;
  activation: Activation;
  normEps: number;
  /** One table embeds on both sides and projects to the vocabulary, then of hidden states divided by sqrt(D). */
  tiedEmbeddings: boolean;
  /** Distances between positions fall into this many buckets, of which the last starts at `maxDistance`. */
  distanceBuckets: number;
  maxDistance: number;
  moe: MoeConfig;
  /** Rows of one sequence that an expert takes, in training and in evaluation; tokens beyond them pass the layer by. */
  expertCapacity: number;
  /** The decoder's first token. */
  startId: number;
  /** Tokens that end a generated sequence. */
  endIds: readonly number[];
}

/** Config of a model of either kind. */
export type AnyConfig = ModelConfig | EncoderDecoderConfig;

export const isEncoderDecoder = (config: AnyConfig): config is EncoderDecoderConfig => "encoder" in config;

export const isSparse = ({ sparseStep }: StackConfig, l: number): boolean => sparseStep === 1 || (sparseStep > 0 && l % sparseStep === 1);

const positive = ["vocab", "width", "heads", "headDim", "hidden", "distanceBuckets", "maxDistance", "expertCapacity"] as const;

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless the parts fit together. Returns its argument. */
export function checkEncoderDecoderConfig(config: EncoderDecoderConfig): EncoderDecoderConfig {
  const require = checker("ERR_SWITCHYARD_CONFIG", "model config");
  const { moe, distanceBuckets, maxDistance, startId } = config;
  for (const key of positive) require(Number.isSafeInteger(config[key]) && config[key] > 0, () => `${key} must be a positive integer, got ${config[key]}`);
  for (const name of stackNames) {
    const { layers, sparseStep } = config[name];
    require(Number.isSafeInteger(layers) && layers > 0, () => `${name}.layers must be a positive integer, got ${layers}`);
    require(Number.isSafeInteger(sparseStep) && sparseStep >= 0, () => `${name}.sparseStep must be a non-negative integer, got ${sparseStep}`);
  }
  require(distanceBuckets % 4 === 0 && maxDistance > distanceBuckets / 2, () => `distanceBuckets must be a multiple of 4 and maxDistance more than half of them, got ${distanceBuckets} and ${maxDistance}`);
  require(startId >= 0 && startId < config.vocab, () => `startId must be a token below ${config.vocab}, got ${startId}`);
  require(moe.active === 1 && !moe.gated && moe.shared === undefined, () => "the mixtures must have one ungated expert per token and no shared one");
  require(Number.isInteger(moe.experts) && moe.experts >= 1, () => `experts must be a positive integer, got ${moe.experts}`);
  checkRouterConfig(moe.router, moe.experts, moe.active);
  return config;
}
