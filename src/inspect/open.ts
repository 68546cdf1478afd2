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
import { isQuantised } from "../tensor/dtype.js";

/**
 * A model folder or GGUF file of either kind, without its tokenizer: what it generates does not end at the end of text. Throws as
 * `LanguageModel.load` does. MXFP4 of a folder takes the memory of f32.
 */
export async function openModel(path: string, engine = loadEngine()): Promise<LanguageModel | EncoderDecoderModel> {
  if (!isGguf(path) && existsSync(join(path, "config.json")) && isSwitchConfig(readJsonFile(join(path, "config.json")))) {
    const { config, fill } = await readEncoderDecoderFolder(path);
    return new EncoderDecoderModel(engine, { ...config, endIds: [] }, undefined, fill);
  }
  const { config, sources } = isGguf(path) ? readModelGguf(path) : await readModelFolder(path);
  // Products of MXFP4 round activations to 8 bits, where a reference multiplies the numbers that the blocks stand for.
  const exact = new Map([...sources].map(([name, source]) => [name, source.repacked && isQuantised(source.repacked.dtype) ? { ...source, repacked: undefined } : source]));
  return new LanguageModel(engine, config, undefined, exact);
}
