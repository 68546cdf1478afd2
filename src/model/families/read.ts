import type { MoeConfig, SharedExpert } from "../../moe/layer.js";
import { routerConfig, routerPresets } from "../../routing/presets.js";
import type { RouterConfig } from "../../routing/types.js";
import type { AttentionConfig, LatentSizes, ModelConfig } from "../config.js";
import { readActivation } from "./activations.js";
import { headDimOf, type HfConfig, refuse, required } from "./fields.js";
import { readRope, ropeParameters, ropeType, type RopeUse, yarnMagnitude } from "./ropes.js";

/* What the readers of several families share: from fields of config.json to parts of our config. */

/** What most families have: RMSNorm before each branch, full attention with one rotary embedding, no biases. */
export function commonConfig(hf: HfConfig, rope: RopeUse | undefined): ModelConfig {
  return {
    vocab: hf.vocab_size,
    width: hf.hidden_size,
    layers: hf.num_hidden_layers,
    heads: hf.num_attention_heads,
    kvHeads: hf.num_key_value_heads ?? hf.num_attention_heads,
    headDim: headDimOf(hf),
    context: hf.max_position_embeddings,
    normEps: hf.rms_norm_eps ?? hf.layer_norm_eps,
    tiedEmbeddings: hf.tie_word_embeddings,
    qkvBias: false,
    outputBias: false,
    qkNorm: "none",
    ropes: rope === undefined ? [] : [readRope(hf, rope)],
    mixers: everyLayer(hf, () => ({ kind: "attention", rope: 0 })),
    activation: activationOf(hf),
    hidden: hf.intermediate_size ?? hf.moe_intermediate_size ?? hf.hidden_size,
    sparseLayers: [],
  };
}

const activationOf = (hf: HfConfig): ModelConfig["activation"] => readActivation(hf.hidden_act, "config.json: hidden_act");

/** One switch for the biases of all projections of attention. */
export const attentionBiases = ({ attention_bias: bias }: HfConfig): Pick<ModelConfig, "qkvBias" | "outputBias"> => ({ qkvBias: bias, outputBias: bias });

export const everyLayer = <T>(hf: HfConfig, of: (l: number) => T): T[] => Array.from({ length: hf.num_hidden_layers }, (_, l) => of(l));

export const layersWhere = (hf: HfConfig, condition: (l: number) => boolean): number[] => everyLayer(hf, (l) => l).filter(condition);

/** Layers from the `first` on; default all. */
export const layersFrom = (hf: HfConfig, first?: number | null): number[] => layersWhere(hf, (l) => l >= (first ?? 0));

/** Qwen's placement of sparse layers: every decoder_sparse_step-th, those in mlp_only_layers excepted. */
export const steppedLayers = (hf: HfConfig): number[] => layersWhere(hf, (l) => !(hf.mlp_only_layers ?? []).includes(l) && (l + 1) % hf.decoder_sparse_step === 0);

/** A window as long as the context hides nothing. */
export function windowOf(hf: HfConfig, window: number | null | undefined): { window?: number } {
  refuse(hf, window === 0, "a sliding_window of 0");
  return window == null || window >= hf.max_position_embeddings ? {} : { window };
}

/** The type of each layer's attention. Throws ERR_SWITCHYARD_UNSUPPORTED for a type that is not in `known`. */
export function layerTypes<T extends string>(hf: HfConfig, known: readonly T[], otherwise: (l: number) => T): T[] {
  return everyLayer(hf, (l) => {
    const type = hf.layer_types == null ? otherwise(l) : (hf.layer_types[l] as T);
    refuse(hf, !known.includes(type), `layer_types: "${type}" of layer ${l}`);
    return type;
  });
}

/** Full layers, and sliding ones of `sliding_window`; `rope` gives each the number of its rotary embedding, undefined for none. */
export function slidingMixers(hf: HfConfig, isSliding: (l: number) => boolean, rope: (sliding: boolean) => number | undefined = () => 0): AttentionConfig[] {
  const types = layerTypes(hf, ["full_attention", "sliding_attention"], (l) => (isSliding(l) ? "sliding_attention" : "full_attention"));
  return types.map((type) => {
    const sliding = type === "sliding_attention";
    const number = rope(sliding);
    return { kind: "attention", ...(number === undefined ? {} : { rope: number }), ...(sliding ? windowOf(hf, hf.sliding_window) : {}) };
  });
}

/** All layers alike, with the window if there is one. */
export const uniformMixers = (hf: HfConfig, window: number | null | undefined): AttentionConfig[] =>
  everyLayer(hf, () => ({ kind: "attention", rope: 0, ...windowOf(hf, window) }));

/** Latent attention of DeepSeek and those who took it over. */
export function latentAttention(
  hf: HfConfig,
  use: RopeUse = {},
): Pick<ModelConfig, "latent" | "headDim" | "kvHeads" | "ropes" | "mixers" | "attentionScale" | "qkvBias" | "outputBias"> {
  const rotated = required(hf, "qk_rope_head_dim");
  const unrotated = required(hf, "qk_nope_head_dim");
  const latent: LatentSizes = {
    ...(hf.q_lora_rank == null ? {} : { queryRank: hf.q_lora_rank }),
    rank: required(hf, "kv_lora_rank"),
    unrotated,
    value: required(hf, "v_head_dim"),
    normEps: 1e-6,
  };
  const headDim = rotated + unrotated;
  const kvHeads = hf.num_key_value_heads ?? hf.num_attention_heads;
  refuse(hf, kvHeads !== hf.num_attention_heads, `num_key_value_heads ${kvHeads} beside ${hf.num_attention_heads} heads of latent attention`);
  const rope = readRope(hf, { dims: rotated, interleaved: hf.rope_interleave === undefined || hf.rope_interleave === true, ...use });
  refuse(hf, rope.rotary !== rotated, `a partial_rotary_factor that rotates ${rope.rotary} of qk_rope_head_dim ${rotated}`);
  const p = ropeParameters(hf);
  const sharpened = ropeType(p) !== "default" && p.mscale_all_dim ? yarnMagnitude(p.factor ?? 1, p.mscale_all_dim) ** 2 : 1;
  return {
    latent,
    headDim,
    kvHeads,
    ropes: [rope],
    mixers: everyLayer(hf, () => ({ kind: "latent", rope: 0 })),
    ...(sharpened === 1 ? {} : { attentionScale: sharpened / Math.sqrt(headDim) }),
    ...attentionBiases(hf),
  };
}

/** Routed experts. Families differ in what they call their number and how many of them a token gets. */
export function mixture(hf: HfConfig, hidden: number, router: Partial<RouterConfig>, rest: Partial<MoeConfig> = {}): MoeConfig {
  const experts = uniform(hf, "num_experts") ?? hf.num_local_experts ?? hf.n_routed_experts ?? hf.moe_num_experts ?? required(hf, "num_experts");
  const active = hf.num_experts_per_tok ?? hf.moe_k ?? uniform(hf, "moe_topk") ?? required(hf, "num_experts_per_tok");
  return { experts, active, hidden, activation: activationOf(hf), gated: true, router: routerConfig({ normalize: undefined, ...(router.selectionBias === true ? { balance: routerPresets["deepseek-v3"].balance } : {}), ...router }), ...rest };
}

/** A number that may be stated for each layer; ours is one for all. */
function uniform(hf: HfConfig, key: "num_experts" | "moe_topk"): number | undefined {
  const value = hf[key] ?? undefined;
  if (!Array.isArray(value)) return value;
  refuse(hf, value.some((n) => n !== value[0]), `${key}: different numbers for the layers`);
  return value[0];
}

/** `count` shared experts as one network of their width together. */
export function sharedExperts(count: number | null | undefined, hidden: number, combine: SharedExpert["combine"] = "add"): Pick<MoeConfig, "shared"> {
  return count ? { shared: { hidden: count * hidden, combine } } : {};
}

/** Routed experts of moe_intermediate_size, and `shared` more that every token uses. */
export function mixtureWithShared(hf: HfConfig, router: Partial<RouterConfig>, shared: number | null | undefined): MoeConfig {
  const hidden = required(hf, "moe_intermediate_size");
  return mixture(hf, hidden, router, sharedExperts(shared, hidden));
}

/** Weights that sum to 1, where that is asked for. */
export const sumToOne = (asked: boolean | null | undefined): Partial<RouterConfig> => (asked === true ? { normalize: { eps: 0, p: 1 } } : {});

/** Weights that are normalised and scaled, perhaps chosen within the best groups. */
export function groupedRouter(hf: HfConfig): Partial<RouterConfig> {
  const { n_group: count, topk_group: keep } = hf;
  return {
    ...(hf.norm_topk_prob === true ? { normalize: { eps: 1e-20, p: 1 } } : {}),
    scale: hf.routed_scaling_factor ?? 1,
    ...(count == null || count === 1 ? {} : { groups: { count, keep: keep ?? count, score: "top2sum" } }),
  };
}

/** The router of DeepSeek-V3 and of many after it: also sigmoid scores, and a bias for the choice only. */
export const sigmoidRouter = (hf: HfConfig): Partial<RouterConfig> => ({ ...groupedRouter(hf), score: "sigmoid", selectionBias: true });

/** Sparse layers where the list says so, or from a layer on. */
export function sparseFrom(hf: HfConfig, first: number): number[] {
  const types = hf.mlp_layer_types;
  return layersWhere(hf, (l) => {
    const type = types == null ? undefined : types[l];
    refuse(hf, types != null && type !== "dense" && type !== "sparse", `mlp_layer_types: "${type}" of layer ${l}`);
    return type === undefined ? l >= first : type === "sparse";
  });
}
