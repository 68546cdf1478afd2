import { LanguageModel } from "../model/language-model.js";
import { type Chunk, generate, type GenerateOptions, type Prompt } from "./generate.js";

/** A language model as users meet it: `Model.create`, `Model.load`, `model.generate`, `model.save`. */
export class Model extends LanguageModel {
  /**
   * Continues a prompt, or several in one batch, one chunk per token; see `GenerateOptions`. Throws ERR_SWITCHYARD_USAGE for options or a prompt that
   * cannot be, ERR_SWITCHYARD_ABORTED.
   */
  generate(prompt: Prompt | readonly Prompt[], options: GenerateOptions = {}): AsyncGenerator<Chunk> {
    return generate(this, prompt, options);
  }
}
