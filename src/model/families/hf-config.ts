import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { check, SwitchyardError } from "../../errors.js";
import { conform, isJsonObject, type Json } from "../../formats/json.js";
import { checkModelConfig, type ModelConfig } from "../config.js";
import { families } from "./families.js";
import type { Family, HfConfig } from "./family.js";
import { ownFamily, readOwnConfig } from "./own.js";

const positive = z.number().int().positive().max(2 ** 31);
const count = z.number().int().min(0).max(2 ** 31);
const rope = z.object({ rope_theta: z.number().positive().optional(), rope_type: z.string().optional(), type: z.string().optional() });

const schema = z.object({
  model_type: z.string(),
  vocab_size: positive,
  hidden_size: positive,
  num_hidden_layers: positive.max(10_000),
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  max_position_embeddings: positive,
  rms_norm_eps: z.number().min(0).default(1e-6),
  intermediate_size: positive.optional(),
  hidden_act: z.string().default("silu"),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().optional(),
  qkv_bias: z.boolean().optional(),
  mlp_bias: z.boolean().optional(),
  clip_qkv: z.number().nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().optional(),
  rope_theta: z.number().positive().optional(),
  rope_scaling: rope.nullish(),
  rope_parameters: rope.nullish(),
  num_experts: positive.optional(),
  num_local_experts: positive.optional(),
  num_experts_per_tok: positive.optional(),
  moe_intermediate_size: positive.optional(),
  shared_expert_intermediate_size: positive.optional(),
  norm_topk_prob: z.boolean().optional(),
  decoder_sparse_step: positive.optional(),
  mlp_only_layers: z.array(count).nullish(),
});

export interface KnownModel {
  config: ModelConfig;
  family: Family;
}

/** Reads a config.json. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming the field. */
export function readHfConfig(json: Json, file: string): KnownModel {
  const modelType = isJsonObject(json) ? json["model_type"] : undefined;
  if (modelType === ownFamily.modelType) return { config: readOwnConfig(json, file), family: ownFamily };
  const family = families.find((f) => f.modelType === modelType);
  check(
    family !== undefined,
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${file}: unknown model_type ${JSON.stringify(modelType)}; known are ${[...families, ownFamily].map((f) => f.modelType).join(", ")}`,
  );
  const hf = conform(schema, json, file);
  const unsupported = (condition: boolean, what: string) => check(!condition, "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: ${what} is not supported`);
  const ropes = [hf.rope_scaling, hf.rope_parameters];
  const scaling = ropes.map((r) => r?.rope_type ?? r?.type ?? "default").find((type) => type !== "default");
  unsupported(scaling !== undefined, `rotary scaling of type "${scaling}"`);
  unsupported(hf.hidden_act !== "silu", `hidden_act "${hf.hidden_act}"`);
  unsupported(hf.mlp_bias === true, "mlp_bias");
  unsupported(hf.clip_qkv != null, "clip_qkv");
  unsupported((hf.sliding_window ?? 0) > 0 && hf.use_sliding_window !== false && (hf.sliding_window ?? 0) < hf.max_position_embeddings, "sliding_window");
  const common: ModelConfig = {
    vocab: hf.vocab_size,
    width: hf.hidden_size,
    layers: hf.num_hidden_layers,
    heads: hf.num_attention_heads,
    kvHeads: hf.num_key_value_heads ?? hf.num_attention_heads,
    headDim: hf.head_dim ?? hf.hidden_size / hf.num_attention_heads,
    context: hf.max_position_embeddings,
    normEps: hf.rms_norm_eps,
    tiedEmbeddings: hf.tie_word_embeddings,
    qkvBias: false,
    outputBias: false,
    qkNorm: "none",
    ropes: [{ theta: hf.rope_parameters?.rope_theta ?? hf.rope_theta ?? 10_000 }],
    mixers: Array.from({ length: hf.num_hidden_layers }, () => ({ kind: "attention", rope: 0 })),
    activation: "silu",
    hidden: hf.intermediate_size ?? hf.moe_intermediate_size ?? hf.hidden_size,
    sparseLayers: [],
  };
  const config = { ...common, ...family.read(hf as HfConfig) };
  if (config.sparseLayers.length === 0) delete config.moe;
  return { config: checkModelConfig(config), family };
}

function commonFields(config: ModelConfig): Record<string, unknown> {
  const theta = config.ropes[0]?.theta;
  return {
    vocab_size: config.vocab,
    hidden_size: config.width,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.context,
    rope_theta: theta,
    rope_parameters: { rope_theta: theta, rope_type: "default" },
    rms_norm_eps: config.normEps,
    hidden_act: config.activation,
    tie_word_embeddings: config.tiedEmbeddings,
    dtype: "float32",
    torch_dtype: "float32",
  };
}

/** The part of a config that decides what the saved model computes: training-only router fields set aside, unused ones too. */
function inference(config: ModelConfig): ModelConfig {
  const { moe, ...rest } = config;
  const hidden = rest.sparseLayers.length === rest.layers ? 0 : rest.hidden;
  if (moe === undefined) return { ...rest, hidden };
  const router = { ...moe.router, jitter: 0, zLoss: 0, balance: { method: "none" } as const };
  const plain = JSON.parse(JSON.stringify({ ...rest, hidden, moe: { ...moe, router } })) as ModelConfig;
  return plain;
}

/** The config.json of a model: the first published family that expresses it exactly, or our own model_type. */
export function writeHfConfig(config: ModelConfig): { json: Record<string, unknown>; family: Family } {
  for (const family of families) {
    const json = { architectures: [family.architecture], model_type: family.modelType, ...commonFields(config), ...family.write(config) };
    try {
      if (isDeepStrictEqual(inference(readHfConfig(JSON.parse(JSON.stringify(json)), family.modelType).config), inference(config))) return { json, family };
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error; // this family cannot even state it
    }
  }
  return { json: { architectures: [ownFamily.architecture], model_type: ownFamily.modelType, ...commonFields(config), switchyard: config }, family: ownFamily };
}
