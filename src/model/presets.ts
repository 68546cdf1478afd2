import { check, SwitchyardError } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { type RouterPreset, routerConfig } from "../routing/presets.js";
import type { Balance, RouterConfig } from "../routing/types.js";
import type { MoeConfig, SharedExpert } from "../moe/layer.js";
import { checkModelConfig, type ModelConfig } from "./config.js";

/** One dial of complexity: shapes that train in about 1, 10 and 60 minutes on two cores. */
export const sizes = {
  xs: { width: 128, layers: 4, heads: 4, context: 128, hidden: 256, experts: 8, active: 2, expertHidden: 128 },
  s: { width: 256, layers: 6, heads: 8, context: 256, hidden: 1024, experts: 16, active: 4, expertHidden: 256 },
  m: { width: 384, layers: 8, heads: 6, context: 512, hidden: 1536, experts: 32, active: 4, expertHidden: 384 },
} as const;

export type Size = keyof typeof sizes;

/** What of a new model may differ from its size; everything optional. */
export interface ModelOptions {
  size?: Size | undefined;
  /** V; usually the tokenizer's. */
  vocab: number;
  context?: number | undefined;
  width?: number | undefined;
  layers?: number | undefined;
  heads?: number | undefined;
  kvHeads?: number | undefined;
  /** Hidden width of dense feed-forward layers. */
  hidden?: number | undefined;
  tiedEmbeddings?: boolean | undefined;
  /** false: a dense model. */
  moe?: MoeOptions | false | undefined;
}

export interface MoeOptions {
  /** E: experts of a sparse layer. */
  experts?: number | undefined;
  /** K: experts that each token uses. */
  active?: number | undefined;
  /** Hidden width of one expert. */
  hidden?: number | undefined;
  /** Hidden width of the shared expert, in experts; 0: none. */
  shared?: number | undefined;
  /** Default sigmoid, as Qwen2-MoE, and with a router of sigmoids add, as DeepSeek-V3. */
  sharedCombine?: SharedExpert["combine"] | undefined;
  /** A named router, or what differs from softmax-top-k. Default mixtral: softmax, top-k, weights summing to 1. */
  router?: RouterPreset | Partial<RouterConfig> | undefined;
  /** How the experts' load is kept even. Default: the router's way. */
  balance?: Balance | undefined;
  /** Coefficient of the router z-loss; 0: off. Default: the router's. */
  zLoss?: number | undefined;
  /** Which layers are sparse. Default all; "every-other" starts with the second. */
  layers?: "all" | "every-other" | { firstDense: number } | undefined;
}

export const modelOptions: Record<keyof ModelOptions, true> = { size: true, vocab: true, context: true, width: true, layers: true, heads: true, kvHeads: true, hidden: true, tiedEmbeddings: true, moe: true };
const moeOptionNames: Record<keyof MoeOptions, true> = { experts: true, active: true, hidden: true, shared: true, sharedCombine: true, router: true, balance: true, zLoss: true, layers: true };

function sparseLayers(layers: number, placement: MoeOptions["layers"] = "all"): number[] {
  const all = Array.from({ length: layers }, (_, l) => l);
  if (placement === "all") return all;
  check(placement === "every-other" || Number.isInteger(placement.firstDense), "ERR_SWITCHYARD_USAGE", () => `model config: moe.layers: expected "all", "every-other" or { firstDense: number of layers }, got ${show(placement)}`);
  return all.filter((l) => (placement === "every-other" ? l % 2 === 1 : l >= placement.firstDense));
}

/** The details of attention with which a published family expresses the mixture, so that other programs load the saved model. */
function attentionStyle(moe: MoeConfig, everywhere: boolean): Pick<ModelConfig, "qkNorm" | "qkvBias"> {
  if (moe.router.score === "sigmoid") return { qkNorm: "head", qkvBias: false }; // dots.llm1
  if (moe.shared !== undefined) return { qkNorm: "none", qkvBias: true }; // Qwen2-MoE
  if (!everywhere) return { qkNorm: "head", qkvBias: false }; // Qwen3-MoE
  return { qkNorm: moe.router.normalize === undefined ? "row" : "none", qkvBias: false }; // OLMoE, Mixtral
}

/** The config of a new model. Throws ERR_SWITCHYARD_CONFIG, ERR_SWITCHYARD_USAGE for an unknown size. */
export function modelConfig(options: ModelOptions): ModelConfig {
  checkOptions("model config", options, modelOptions);
  const { size = "xs", moe: moeOptions = {} } = options;
  if (moeOptions !== false) checkOptions("model config: moe", moeOptions, moeOptionNames);
  if (!Object.hasOwn(sizes, size)) throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `size: expected ${Object.keys(sizes).join(", ")}, got "${size}"`);
  const preset = sizes[size];
  const layers = options.layers ?? preset.layers;
  const width = options.width ?? preset.width;
  const heads = options.heads ?? preset.heads;
  // Rotary embeddings turn pairs. What is no number of heads is refused with the rest.
  check(!(width % (2 * heads) > 0), "ERR_SWITCHYARD_CONFIG", () => `model config: the width (${width}) must be an even multiple of the heads (${heads})`);
  const config: ModelConfig = {
    vocab: options.vocab,
    width,
    layers,
    heads,
    kvHeads: options.kvHeads ?? heads,
    headDim: width / heads,
    context: options.context ?? preset.context,
    normEps: 1e-5,
    tiedEmbeddings: options.tiedEmbeddings ?? false,
    qkvBias: false,
    outputBias: false,
    qkNorm: "none",
    ropes: [{ theta: 10_000, rotary: width / heads, interleaved: false }],
    mixers: Array.from({ length: layers }, () => ({ kind: "attention", rope: 0 })),
    activation: "silu",
    hidden: options.hidden ?? preset.hidden,
    sparseLayers: [],
  };
  if (moeOptions === false) return checkModelConfig(config);
  const hidden = moeOptions.hidden ?? preset.expertHidden;
  const experts = moeOptions.experts ?? preset.experts;
  const active = moeOptions.active ?? preset.active;
  const { groups, ...router } = routerConfig(moeOptions.router ?? "mixtral");
  // Groups of one expert choose nothing, and other programs look for the best two in each.
  const isGrouped = groups !== undefined && (groups.count !== experts || groups.keep < active);
  const balance = moeOptions.balance ?? router.balance;
  const moe: MoeConfig = {
    experts,
    active,
    hidden,
    activation: "silu",
    gated: true,
    router: { ...router, ...(isGrouped ? { groups } : {}), balance, zLoss: moeOptions.zLoss ?? router.zLoss, selectionBias: router.selectionBias || balance.method === "loss-free" },
    ...(moeOptions.shared ? { shared: { hidden: moeOptions.shared * hidden, combine: moeOptions.sharedCombine ?? (router.score === "sigmoid" ? "add" : "sigmoid") } } : {}),
  };
  const sparse = sparseLayers(layers, moeOptions.layers);
  check(sparse.length > 0, "ERR_SWITCHYARD_CONFIG", () => `model config: none of the ${layers} layers is sparse; choose others, or a dense model`);
  return checkModelConfig({ ...config, ...attentionStyle(moe, sparse.length === layers), moe, sparseLayers: sparse });
}
