import { check } from "../../errors.js";
import { isJsonObject, type JsonObject } from "../../formats/json.js";
import type { ModelConfig } from "../config.js";
import type { HfConfig } from "./fields.js";
import type { TensorNames } from "./names.js";
import type { RopeUse } from "./ropes.js";

/** What a model folder says it is, and what it calls its tensors. */
export interface Architecture {
  /** `model_type` in config.json. */
  modelType: string;
  /** `architectures[0]` in config.json. */
  architecture: string;
  names: TensorNames;
  /** Other names that checkpoints of it have; `names` are those that we write. */
  otherNames?: readonly TensorNames[];
  /** Adds to the config what only the tensors say; `read` gives the elements of a tensor, if there is one of that name. */
  refine?(config: ModelConfig, read: (name: string) => Float32Array | undefined): ModelConfig;
}

/** One published architecture as data: how its config.json maps to ours and back. */
export interface Family extends Architecture {
  /** Fields that transformers takes so when config.json leaves them out, where that is not what most families take (fields.ts). */
  defaults?: JsonObject;
  /** Brings a config.json of another form into that of the others. */
  flatten?(json: JsonObject): JsonObject;
  /** The config.json of the part of a larger model that we have, as which it is saved. */
  partOf?(json: JsonObject): JsonObject;
  /** How it uses its one rotary embedding; undefined: `read` reads its own. Default: all of each head, half against half. */
  rope?(hf: HfConfig): RopeUse | undefined;
  /** Reads what differs from the common fields. Throws ERR_SWITCHYARD_UNSUPPORTED for a setting that transformers has and we do not. */
  read(hf: HfConfig): Partial<ModelConfig>;
  /** Writes what differs from the common fields; a family that has it is one that new models of ours are saved as. */
  write?(config: ModelConfig): Record<string, unknown>;
}

const textConfig = (json: JsonObject): JsonObject => (isJsonObject(json["text_config"]) ? json["text_config"] : {});

/** Throws ERR_SWITCHYARD_UNSUPPORTED for a text_config of another family. */
function textConfigOf(json: JsonObject, modelType: string): JsonObject {
  const text = textConfig(json);
  const { model_type: given = modelType } = text;
  check(given === modelType, "ERR_SWITCHYARD_UNSUPPORTED", () => `config.json: text_config: model_type ${JSON.stringify(given)} is not supported in a ${String(json["model_type"])} model; expected "${modelType}"`);
  return text;
}

/** Of a larger model, as one that sees, the part that reads and writes: `text_config`, saved as the family `modelType`. */
export const textPart = (modelType: string, architecture: string): Pick<Family, "flatten" | "partOf"> => ({
  flatten: (json) => ({ ...textConfigOf(json, modelType), ...json }),
  partOf: (json) => ({ tie_word_embeddings: json["tie_word_embeddings"] ?? false, ...textConfig(json), architectures: [architecture], model_type: modelType }),
});
