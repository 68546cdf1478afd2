import type { GgufMetadata } from "../../formats/gguf/metadata.js";
import type { JsonObject } from "../../formats/json.js";
import type { ModelConfig } from "../config.js";
import type { TensorNames } from "./names.js";

/** What a GGUF file says, below the name of its architecture. */
export interface GgufFields {
  metadata: GgufMetadata;
  integer(key: string, fallback?: number): number;
  number(key: string, fallback?: number): number;
  /** A list for the layers, or undefined without it; booleans as 0 and 1. */
  list(key: string): number[] | undefined;
  has(key: string): boolean;
  /** Whether there is a tensor of this name, "blk.N." left out, in any layer. */
  hasTensor(name: string): boolean;
  /** The layers that have such a tensor. */
  layersWith(name: string): number[];
  /** What all architectures share, as fields of config.json. */
  common: JsonObject;
}

export type GgufKeys = Readonly<Record<string, number | boolean | string | readonly boolean[] | readonly number[] | undefined>>;

/** An architecture of GGUF as data: how its keys become the config.json of a published family, and what its tensors hold. */
export interface GgufArchitecture {
  /** `general.architecture`, and the prefix of its keys. */
  arch: string;
  /** The family that its files are read as. */
  modelType: string;
  /** Families that compute the same and are written so too. */
  also?: readonly string[];
  /** Whether llama.cpp loads such a model of this architecture; default: always. */
  loads?(config: ModelConfig): boolean;
  /** Tells files of this family from others of the same name. */
  matches?(file: GgufFields): boolean;
  /** Rotary embedding turns the elements of a head in pairs (llama.cpp's LLAMA_ROPE_TYPE_NORM), not half against half. */
  paired: boolean;
  names: TensorNames;
  /** What older files have instead. */
  others?: TensorNames["tensors"];
  /** Whether the chosen experts' weights are renormalised where the file does not say; undefined: always, no key says it. */
  normalised?: boolean;
  /** It has no dense layers: the one width of feed-forward layers is that of the experts. */
  onlyExperts?: true;
  /** Layers with a sliding window, where the file has no list. */
  isSliding?(layer: number): boolean;
  /** Fields of config.json beyond the common ones, or other than them. */
  fields?(file: GgufFields): JsonObject;
  /** Keys beyond the common ones, or other than them. */
  keys?(config: ModelConfig): GgufKeys;
}
