import { z } from "zod";
import { check } from "../../errors.js";
import { conform, isJsonObject, type Json, type JsonObject } from "../../formats/json.js";
import { routerPresets } from "../../routing/presets.js";
import { sizeOf } from "../../tensor/tensor.js";
import { checkEncoderDecoderConfig, type EncoderDecoderConfig, isSparse, type StackConfig } from "../encoder-decoder/config.js";
import type { ParameterSpec } from "../parameter-specs.js";
import { publishedActivation, readActivation } from "./activations.js";
import type { Piece } from "./names.js";

const positive = z.number().int().positive().max(2 ** 31);
const count = z.number().int().min(0).max(2 ** 31);

export const switchFamily = { modelType: "switch_transformers", architecture: "SwitchTransformersForConditionalGeneration" } as const;

const schema = z.object({
  model_type: z.literal(switchFamily.modelType),
  vocab_size: positive,
  d_model: positive,
  d_kv: positive,
  d_ff: positive,
  num_layers: positive.max(10_000),
  num_decoder_layers: positive.max(10_000).nullish(),
  num_heads: positive,
  num_experts: positive,
  expert_capacity: positive.default(64),
  num_sparse_encoder_layers: count.default(3),
  num_sparse_decoder_layers: count.default(3),
  encoder_sparse_step: count.optional(),
  decoder_sparse_step: count.optional(),
  router_bias: z.boolean().default(false),
  router_dtype: z.string().default("float32"),
  router_jitter_noise: z.number().min(0).default(0.01),
  router_z_loss_coef: z.number().min(0).default(0.001),
  router_aux_loss_coef: z.number().min(0).default(0.001),
  relative_attention_num_buckets: positive.default(32),
  relative_attention_max_distance: positive.default(128),
  dense_act_fn: z.string().default("relu"),
  layer_norm_epsilon: z.number().min(0).default(1e-6),
  tie_word_embeddings: z.boolean().default(true),
  pad_token_id: count.nullish(),
  decoder_start_token_id: count.nullish(),
  eos_token_id: z.union([count, z.array(count)]).nullish(),
});

export const isSwitchConfig = (json: Json): boolean => isJsonObject(json) && json["model_type"] === switchFamily.modelType;

/** Reads the config.json of a Switch Transformer. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming the field. */
export function readSwitchConfig(json: Json, file: string): EncoderDecoderConfig {
  const hf = conform(schema, json, file);
  const activation = readActivation(hf.dense_act_fn, `${file}: dense_act_fn`);
  check(hf.router_dtype === "float32", "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: router_dtype "${hf.router_dtype}" is not supported: choices would differ, as routers are computed in float32`);
  // Without a step of its own a stack spreads its sparse layers; none of them counts as one step over all layers.
  const stack = (layers: number, sparse: number, step: number | undefined): StackConfig => ({ layers, sparseStep: step ?? (sparse > 0 ? Math.floor(layers / sparse) : layers) });
  return checkEncoderDecoderConfig({
    vocab: hf.vocab_size,
    width: hf.d_model,
    heads: hf.num_heads,
    headDim: hf.d_kv,
    hidden: hf.d_ff,
    activation,
    normEps: hf.layer_norm_epsilon,
    tiedEmbeddings: hf.tie_word_embeddings,
    distanceBuckets: hf.relative_attention_num_buckets,
    maxDistance: hf.relative_attention_max_distance,
    encoder: stack(hf.num_layers, hf.num_sparse_encoder_layers, hf.encoder_sparse_step),
    decoder: stack(hf.num_decoder_layers ?? hf.num_layers, hf.num_sparse_decoder_layers, hf.decoder_sparse_step),
    moe: {
      experts: hf.num_experts,
      active: 1,
      hidden: hf.d_ff,
      activation,
      gated: false,
      router: {
        ...routerPresets.switch,
        capacity: undefined, // it is expert_capacity rows per sequence
        bias: hf.router_bias,
        jitter: hf.router_jitter_noise,
        balance: { method: "switch", coefficient: hf.router_aux_loss_coef },
        zLoss: hf.router_z_loss_coef,
      },
    },
    expertCapacity: hf.expert_capacity,
    startId: hf.decoder_start_token_id ?? hf.pad_token_id ?? 0,
    endIds: [hf.eos_token_id ?? []].flat(),
  });
}

/** The config.json that `readSwitchConfig` reads back. */
export function writeSwitchConfig(config: EncoderDecoderConfig): JsonObject {
  const { encoder, decoder, moe, endIds } = config;
  const sparse = (stack: StackConfig) => Array.from({ length: stack.layers }, (_, l) => l).filter((l) => isSparse(stack, l)).length;
  return {
    architectures: [switchFamily.architecture],
    model_type: switchFamily.modelType,
    is_encoder_decoder: true,
    vocab_size: config.vocab,
    d_model: config.width,
    d_kv: config.headDim,
    d_ff: config.hidden,
    num_layers: encoder.layers,
    num_decoder_layers: decoder.layers,
    num_heads: config.heads,
    num_experts: moe.experts,
    expert_capacity: config.expertCapacity,
    num_sparse_encoder_layers: sparse(encoder),
    num_sparse_decoder_layers: sparse(decoder),
    encoder_sparse_step: encoder.sparseStep,
    decoder_sparse_step: decoder.sparseStep,
    router_bias: moe.router.bias,
    router_dtype: "float32",
    router_jitter_noise: moe.router.jitter,
    router_z_loss_coef: moe.router.zLoss,
    router_aux_loss_coef: "coefficient" in moe.router.balance ? moe.router.balance.coefficient : 0,
    relative_attention_num_buckets: config.distanceBuckets,
    relative_attention_max_distance: config.maxDistance,
    dense_act_fn: publishedActivation(config.activation),
    layer_norm_epsilon: config.normEps,
    tie_word_embeddings: config.tiedEmbeddings,
    dropout_rate: 0,
    pad_token_id: config.startId,
    decoder_start_token_id: config.startId,
    eos_token_id: endIds.length === 1 ? (endIds[0] as number) : [...endIds],
    dtype: "float32",
  };
}

const shared = "shared.weight";
const projections: Readonly<Record<string, string>> = { q: "q", k: "k", v: "v", out: "o" };
const feedForward: Readonly<Record<string, string>> = { up: "wi", down: "wo" };

/** A whole tensor, which is a parameter from its element `first` on. */
function piece(name: string, shape: readonly number[], first = 0): Piece {
  const [rows = 1, cols = 1] = shape;
  return { name, shape, rows, matrixRows: rows, cols, transposed: false, at: (r) => first + r * cols };
}

/** The published tensors that make up a parameter: one, or those of every expert. The table of both sides may be stored once: `stored` are the names that there are. */
export function switchPieces({ name, shape }: ParameterSpec, stored?: { has(name: string): boolean }): Piece[] {
  const whole = (published: string): Piece[] => [piece(published, shape)];
  const [, stack, layer, part, field] = /^(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(\w+)$/.exec(name) ?? [];
  if (stack === undefined || part === undefined || field === undefined) {
    const [side] = name.split(".");
    if (name === "embedding") return whole(shared);
    if (name === "head") return whole("lm_head.weight");
    if (name.endsWith(".embedding")) {
      const own = `${side}.embed_tokens.weight`;
      return whole(stored === undefined || stored.has(own) ? own : shared);
    }
    if (name.endsWith(".positions")) return whole(`${side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`);
    return whole(`${side}.final_layer_norm.weight`);
  }
  const block = `${stack}.block.${layer}.layer`;
  const ffn = `${block}.${stack === "encoder" ? 1 : 2}`;
  switch (part) {
    case "attention":
    case "cross": {
      const [at, module] = part === "attention" ? [`${block}.0`, "SelfAttention"] : [`${block}.1`, "EncDecAttention"];
      return whole(field === "norm" ? `${at}.layer_norm.weight` : `${at}.${module}.${projections[field]}.weight`);
    }
    case "ffn":
      return whole(field === "norm" ? `${ffn}.layer_norm.weight` : `${ffn}.mlp.${feedForward[field]}.weight`);
    case "router":
      return whole(`${ffn}.mlp.router.classifier.${field}`);
    default: {
      const [experts = 0, ...one] = shape;
      return Array.from({ length: experts }, (_, e) => piece(`${ffn}.mlp.experts.expert_${e}.${feedForward[field]}.weight`, one, e * sizeOf(one)));
    }
  }
}
