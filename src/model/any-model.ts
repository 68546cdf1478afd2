import { check } from "../errors.js";
import type { ModelConfig } from "./config.js";
import { type AnyConfig, type EncoderDecoderConfig, isEncoderDecoder } from "./encoder-decoder/config.js";
import type { FamilyName } from "./families/publication.js";
import type { ParameterSource } from "./mapped.js";

/** A model in files: its config and tensor directory, checked against each other. */
export interface StoredModel<C extends AnyConfig = AnyConfig> {
  config: C;
  family: FamilyName;
  /** By parameter: where its weights come from. */
  sources: ReadonlyMap<string, ParameterSource>;
}

/** One of a language model. Throws ERR_SWITCHYARD_UNSUPPORTED for the other kind. */
export function asLanguageModel<M extends StoredModel>(model: M, source: string): M & { config: ModelConfig } {
  const { config, family } = model;
  check(!isEncoderDecoder(config), "ERR_SWITCHYARD_UNSUPPORTED", () => `${source}: ${family.modelType} is an encoder-decoder, not a language model: EncoderDecoderModel runs it; inspect, verify, convert and quantize take it`);
  return { ...model, config };
}

/** One of an encoder-decoder. Throws ERR_SWITCHYARD_UNSUPPORTED for the other kind. */
export function asEncoderDecoder<M extends StoredModel>(model: M, source: string): M & { config: EncoderDecoderConfig } {
  const { config, family } = model;
  check(isEncoderDecoder(config), "ERR_SWITCHYARD_UNSUPPORTED", () => `${source}: ${family.modelType} is a language model, not an encoder-decoder: Model.load takes it`);
  return { ...model, config };
}
