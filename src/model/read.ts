import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { ggufTokenizer } from "../tokenizer/gguf.js";
import { loadTokenizer } from "../tokenizer/load.js";
import type { StoredModel } from "./any-model.js";
import { readFolder } from "./folder.js";
import { isGguf, readGguf } from "./gguf-file.js";

/** A model folder or a GGUF file of either kind. Throws as `readFolder` and `readGguf`. */
export const readStored = async (path: string): Promise<StoredModel> => (isGguf(path) ? readGguf(path) : readFolder(path));

/** The same with its tokenizer if it has one. */
export async function readModel(path: string): Promise<StoredModel & { tokenizer: Tokenizer | undefined }> {
  if (!isGguf(path)) return { ...(await readFolder(path)), tokenizer: loadTokenizer(path) };
  const model = readGguf(path);
  return { ...model, tokenizer: ggufTokenizer(model.gguf.metadata) };
}
