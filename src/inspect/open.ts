import { loadEngine } from "../engine/load.js";
import { isEncoderDecoder } from "../model/encoder-decoder/config.js";
import { EncoderDecoderModel } from "../model/encoder-decoder/model.js";
import { LanguageModel } from "../model/language-model.js";
import { readStored } from "../model/read.js";
import { isQuantised } from "../tensor/dtype.js";

/**
 * A model folder or GGUF file of either kind, without its tokenizer: what it generates does not end at the end of text. Throws as
 * `LanguageModel.load` does. MXFP4 of a folder takes the memory of f32.
 */
export async function openModel(path: string, engine = loadEngine()): Promise<LanguageModel | EncoderDecoderModel> {
  const { config, sources } = await readStored(path);
  if (isEncoderDecoder(config)) return new EncoderDecoderModel(engine, { ...config, endIds: [] }, undefined, sources);
  // Products of MXFP4 round activations to 8 bits, where a reference multiplies the numbers that the blocks stand for.
  const exact = new Map([...sources].map(([name, source]) => [name, source.repacked && isQuantised(source.repacked.dtype) ? { ...source, repacked: undefined } : source]));
  return new LanguageModel(engine, config, undefined, exact);
}
