import { existsSync } from "node:fs";
import { join } from "node:path";
import { loadEngine } from "../engine/load.js";
import { readJsonFile } from "../formats/json.js";
import { readEncoderDecoderFolder } from "../model/encoder-decoder/folder.js";
import { EncoderDecoderModel } from "../model/encoder-decoder/model.js";
import { isSwitchConfig } from "../model/families/switch.js";
import { readModelFolder } from "../model/folder.js";
import { isGguf, readModelGguf } from "../model/gguf-file.js";
import { LanguageModel } from "../model/language-model.js";

/**
 * A model folder or GGUF file of either kind, without its tokenizer: what it generates does not end at the end of text. Throws as
 * `LanguageModel.load` does.
 */
export async function openModel(path: string, engine = loadEngine()): Promise<LanguageModel | EncoderDecoderModel> {
  if (!isGguf(path) && existsSync(join(path, "config.json")) && isSwitchConfig(readJsonFile(join(path, "config.json")))) {
    const { config, fill } = await readEncoderDecoderFolder(path);
    const model = new EncoderDecoderModel(engine, { ...config, endIds: [] }, undefined);
    try {
      fill(model.parameters);
      return model;
    } catch (error) {
      model[Symbol.dispose]();
      throw error;
    }
  }
  const { config, sources } = isGguf(path) ? readModelGguf(path) : await readModelFolder(path);
  return new LanguageModel(engine, config, undefined, sources);
}
