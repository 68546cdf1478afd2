import { statSync } from "node:fs";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { openGguf } from "../formats/gguf/open.js";
import { EncoderPool } from "../quant/encoder-pool.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { ggufVocabulary } from "../tokenizer/gguf-writer.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import { writeModelFolder } from "./folder.js";
import { isGguf, writeModelGguf } from "./gguf-file.js";
import type { EncodingOptions, TypeOptions, WrittenTensor } from "./published.js";
import type { Weights } from "./staged.js";

interface WrittenModel {
  tensors: WrittenTensor[];
  /** Whether the tokenizer is part of it: not every one can be told in GGUF. */
  tokenizer: boolean;
  /** `general.architecture` of a GGUF file; null for a folder. */
  architecture: string | null;
}

/** Writes a model to `target`, a GGUF file or a folder by its name, in one step: it is there whole or not at all. Throws as `writeModelGguf` and `writeModelFolder`. */
export async function writeModel(
  target: string,
  config: AnyConfig,
  weights: Weights,
  tokenizer: Tokenizer | undefined,
  options: Omit<EncodingOptions, "pool"> & TypeOptions,
): Promise<WrittenModel> {
  await using pool = new EncoderPool(weights.engine.threads);
  if (!isGguf(target)) return { tensors: await writeModelFolder(target, config, weights, tokenizer, { ...options, pool }), tokenizer: tokenizer !== undefined, architecture: null };
  const vocabulary = tokenizer === undefined ? undefined : ggufVocabulary(tokenizer, config.vocab);
  return { ...(await writeModelGguf(target, config, weights, { ...options, pool, vocabulary })), tokenizer: vocabulary !== undefined };
}

/** Tensors and bytes of the files that hold a model's weights, by their headers. */
export function weightFiles(path: string): { tensors: number; bytes: number } {
  if (isGguf(path)) {
    const { tensors, fileBytes } = openGguf(path);
    return { tensors: tensors.size, bytes: fileBytes };
  }
  const tensors = openCheckpointTensors(path);
  const files = new Set([...tensors.values()].map(({ file }) => file));
  return { tensors: tensors.size, bytes: [...files].reduce((sum, file) => sum + statSync(file).size, 0) };
}
