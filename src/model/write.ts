import { statSync } from "node:fs";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { openGguf } from "../formats/gguf/open.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { ggufVocabulary } from "../tokenizer/gguf-writer.js";
import type { ModelConfig } from "./config.js";
import { writeModelFolder } from "./folder.js";
import { isGguf, writeModelGguf } from "./gguf-file.js";
import type { EncodingOptions, WrittenTensor } from "./published.js";
import type { Weights } from "./staged.js";
import type { FileType } from "./stored-types.js";

export interface WrittenModel {
  tensors: WrittenTensor[];
  /** Whether the tokenizer is part of it: not every one can be told in GGUF. */
  tokenizer: boolean;
}

/** Writes a model to `target`, a GGUF file or a folder by its name, in one step: it is there whole or not at all. Throws as `writeModelGguf` and `writeModelFolder`. */
export async function writeModel(target: string, config: ModelConfig, weights: Weights, tokenizer: Tokenizer | undefined, options: EncodingOptions & { type: FileType }): Promise<WrittenModel> {
  if (!isGguf(target)) return { tensors: await writeModelFolder(target, config, weights, tokenizer, options), tokenizer: tokenizer !== undefined };
  const vocabulary = tokenizer === undefined ? undefined : ggufVocabulary(tokenizer, config.vocab);
  return { tensors: await writeModelGguf(target, config, weights, { ...options, vocabulary }), tokenizer: vocabulary !== undefined };
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
