import { LanguageModel } from "../model/language-model.js";
import { type Chunk, generate, type GenerateOptions } from "./generate.js";

/** A language model as users meet it: `Model.create`, `Model.load`, `model.generate`, `model.save`. */
export class Model extends LanguageModel {
  /** Continues `prompt`; see `GenerateOptions`. */
  generate(prompt: string, options: GenerateOptions = {}): AsyncGenerator<Chunk> {
    return generate(this, prompt, options);
  }
}
