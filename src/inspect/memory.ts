import { keptTensors, type KvType } from "../model/cache.js";
import type { ModelConfig } from "../model/config.js";
import type { EncoderDecoderConfig } from "../model/encoder-decoder/config.js";
import type { ParameterSource } from "../model/mapped.js";
import { parameterSpecs } from "../model/parameter-specs.js";
import { bytesInPlace } from "../model/stored-weights.js";
import { byteLength, dtypeBytes, isQuantised } from "../tensor/dtype.js";
import { sizeOf } from "../tensor/tensor.js";

/** Bytes that a model takes when it runs; activations, of a few hundred tokens at a time, come on top. */
export interface MemoryEstimate {
  /** Of the parameters: matrices in the types of their files, if products read those, everything else, and all without files, in f32. */
  weights: number;
  /** By which the cache of a sequence grows with each token: keys and values. */
  cachePerToken: number;
  /** Of the cache of one sequence of `cacheTokens` tokens, recurrent states included. */
  cache: number;
  cacheTokens: number;
  /** weights + cache */
  total: number;
}

/** Tokens for which the cache is estimated, if the context is longer. */
const usualTokens = 4096;

/** What a config, and where its weights come from, say about memory. `kv`: type of the keys and values; by default as `LanguageModel.kv` has it. */
export function estimateMemory(config: ModelConfig, sources?: ReadonlyMap<string, ParameterSource>, kv: KvType = hasQuantised(sources) ? "f16" : "f32"): MemoryEstimate {
  const weights = parameterSpecs(config).reduce((sum, spec) => sum + bytesInPlace(spec, sources?.get(spec.name)), 0);
  const cacheOf = (tokens: number) => Array.from({ length: config.layers }, (_, l) => keptTensors(config, l, tokens, kv)).flat().reduce((sum, { dtype, shape }) => sum + byteLength(dtype, sizeOf(shape)), 0);
  const cacheTokens = Math.min(config.context, usualTokens);
  const cache = cacheOf(cacheTokens);
  return { weights, cachePerToken: cacheOf(2) - cacheOf(1), cache, cacheTokens, total: weights + cache };
}

const hasQuantised = (sources: ReadonlyMap<string, ParameterSource> = new Map()): boolean =>
  [...sources.values()].some(({ rows, repacked }) => (rows ?? [repacked]).some((part) => part !== undefined && isQuantised(part.dtype)));

/** The same of an encoder-decoder, for a source and an answer of `cacheTokens` tokens each. Its attention takes floats. */
export function estimateEncoderDecoderMemory(config: EncoderDecoderConfig, sources?: ReadonlyMap<string, ParameterSource>): MemoryEstimate {
  const inFile = (name: string) => (/\.(ffn|experts)\.(up|down)$/.test(name) ? sources?.get(name) : undefined);
  const weights = parameterSpecs(config).reduce((sum, spec) => sum + bytesInPlace(spec, inFile(spec.name)), 0);
  const cachePerToken = 2 * config.decoder.layers * config.heads * config.headDim * dtypeBytes.f32;
  const cache = 2 * usualTokens * cachePerToken;
  return { weights, cachePerToken, cache, cacheTokens: usualTokens, total: weights + cache };
}
