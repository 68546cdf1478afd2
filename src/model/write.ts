import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { ggufVocabulary } from "../tokenizer/gguf-writer.js";
import type { ModelConfig } from "./config.js";
import { writeModelFolder } from "./folder.js";
import { isGguf, writeModelGguf } from "./gguf-file.js";
import type { Importance } from "./published.js";
import type { Weights } from "./staged.js";
import type { FileType } from "./stored-types.js";

/**
 * Writes a model to `target`, a GGUF file or a folder by its name, in one step: it is there whole or not at all. Returns whether its tokenizer is part
 * of it: not every one can be told in GGUF. Throws as `writeModelGguf` and `writeModelFolder`.
 */
export async function writeModel(target: string, config: ModelConfig, weights: Weights, tokenizer: Tokenizer | undefined, options: { type: FileType; importance?: Importance | undefined }): Promise<boolean> {
  if (!isGguf(target)) {
    await writeModelFolder(target, config, weights, tokenizer, options);
    return tokenizer !== undefined;
  }
  const vocabulary = tokenizer === undefined ? undefined : ggufVocabulary(tokenizer, config.vocab);
  await writeModelGguf(target, config, weights, { ...options, vocabulary });
  return vocabulary !== undefined;
}
