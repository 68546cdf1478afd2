import { check } from "../errors.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { ggufTokenizer } from "../tokenizer/gguf.js";
import { loadTokenizer } from "../tokenizer/load.js";
import type { StoredModel } from "./any-model.js";
import { readFolder } from "./folder.js";
import { isGguf, readGguf } from "./gguf-file.js";

/** A model folder or a GGUF file of either kind. Throws as `readFolder` and `readGguf`. */
export async function readStored(path: string): Promise<StoredModel> {
  checkPath(path);
  return isGguf(path) ? readGguf(path) : readFolder(path);
}

/** The same with its tokenizer if it has one. */
export async function readModel(path: string): Promise<StoredModel & { tokenizer: Tokenizer | undefined }> {
  checkPath(path);
  if (!isGguf(path)) return { ...(await readFolder(path)), tokenizer: loadTokenizer(path) };
  const model = readGguf(path);
  return { ...model, tokenizer: ggufTokenizer(model.gguf.metadata) };
}

/** Programs without types may give a URL, or nothing; an empty text would be the working directory. */
function checkPath(path: string): void {
  check(typeof path === "string" && path !== "", "ERR_SWITCHYARD_USAGE", () => `load: expected the path of a model folder or a .gguf file, got ${path === "" ? "an empty text" : String(path)}`);
}
