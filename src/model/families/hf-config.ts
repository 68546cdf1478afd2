import { isDeepStrictEqual } from "node:util";
import { check, SwitchyardError } from "../../errors.js";
import { conform, isJsonObject, type Json, type JsonObject, withFloats } from "../../formats/json.js";
import { checkModelConfig, type ModelConfig } from "../config.js";
import { publishedActivation } from "./activations.js";
import { families } from "./families.js";
import type { Architecture } from "./family.js";
import { hfFields } from "./fields.js";
import { ownFamily, readOwnConfig } from "./own.js";
import { commonConfig } from "./read.js";
import { isSwitchConfig, switchFamily } from "./switch.js";

export interface KnownModel {
  config: ModelConfig;
  family: Architecture;
}

/** Reads a config.json. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming the field. */
export function readHfConfig(json: Json, file: string): KnownModel {
  const object = isJsonObject(json) ? json : {};
  const modelType = object["model_type"];
  if (modelType === ownFamily.modelType) return { config: readOwnConfig(object, file), family: ownFamily };
  check(!isSwitchConfig(json), "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: ${switchFamily.modelType} is an encoder-decoder, not a language model: EncoderDecoderModel runs it; inspect, verify, convert and quantize take it`);
  const family = families.find((f) => f.modelType === modelType);
  check(
    family !== undefined,
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${file}: ${modelType === undefined ? "no model_type" : `unknown model_type ${JSON.stringify(modelType)}`}; known are ${[...families, switchFamily, ownFamily].map((f) => f.modelType).join(", ")}`,
  );
  const hf = conform(hfFields, { ...family.defaults, ...(family.flatten?.(object) ?? object) }, file);
  const config: ModelConfig = { ...commonConfig(hf, family.rope === undefined ? {} : family.rope(hf)), ...family.read(hf), published: family.partOf?.(object) ?? object };
  if (config.sparseLayers.length === 0) delete config.moe;
  return { config: checkModelConfig(config), family };
}

function commonFields(config: ModelConfig): JsonObject {
  const theta = config.ropes[0]?.theta ?? 10_000;
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
    hidden_act: publishedActivation(config.activation),
    tie_word_embeddings: config.tiedEmbeddings,
    ...storedType,
  };
}

/** What transformers refuses as whole numbers without a point. */
export const floatFields: readonly string[] = ["clip_qkv", "logit_scale", "route_scale", "routed_scaling_factor", "router_scaling_factor"];

/** What we write is F32. */
const storedType = { dtype: "float32", torch_dtype: "float32" };

/** The part of a config that decides what the saved model computes: training-only router fields set aside, unused ones too. */
function inference({ moe, ...config }: ModelConfig): Json {
  const rest = { ...config, published: undefined };
  const hidden = rest.sparseLayers.length === rest.layers ? 0 : rest.hidden;
  const mixers = rest.mixers.map((mixer) => (mixer.kind === "lightning" ? { kind: mixer.kind } : mixer)); // the rest of it is in the tensors
  const router = { ...moe?.router, jitter: 0, zLoss: 0, balance: { method: "none" } };
  return JSON.parse(JSON.stringify({ ...rest, mixers, hidden, ...(moe === undefined ? {} : { moe: { ...moe, router } }) })) as Json;
}

/** Whether two configs compute the same function, apart from the rounding of their numbers to f32. */
export function computesSame(a: ModelConfig, b: ModelConfig): boolean {
  const rounded = (config: ModelConfig) => JSON.stringify(inference(config), (_, value: unknown) => (typeof value === "number" ? Math.fround(value) : value));
  return isDeepStrictEqual(JSON.parse(rounded(a)), JSON.parse(rounded(b)));
}

/** Whether a config.json says what `config` computes. */
function expresses(json: JsonObject, config: ModelConfig): boolean {
  try {
    return isDeepStrictEqual(inference(readHfConfig(json, "config.json").config), inference(config));
  } catch (error) {
    if (error instanceof SwitchyardError) return false; // it cannot even state it
    throw error;
  }
}

/** The config.json of a model: the one it was read from, the first published family that expresses it exactly, or our own model_type. */
export function writeHfConfig(config: ModelConfig): { json: JsonObject; family: Architecture } {
  const { published } = config;
  const origin = families.find(({ modelType }) => modelType === published?.["model_type"]);
  if (published !== undefined && origin !== undefined && expresses(published, config)) {
    const fields = { ...published, ...storedType };
    delete (fields as JsonObject)["quantization_config"]; // the weights are floats by now
    return { json: fields, family: origin };
  }
  for (const family of families) {
    if (family.write === undefined) continue;
    const json = JSON.parse(JSON.stringify({ architectures: [family.architecture], model_type: family.modelType, ...commonFields(config), ...family.write(config) })) as JsonObject;
    if (expresses(json, config)) return { json: withFloats(json, floatFields), family };
  }
  const own = { ...config, published: undefined };
  const json = { architectures: [ownFamily.architecture], model_type: ownFamily.modelType, ...commonFields(config), switchyard: JSON.parse(JSON.stringify(own)) as JsonObject };
  return { json, family: ownFamily };
}
