import { check } from "../errors.js";
import { type ChatMessage, type ChatOptions, encodeChat } from "../tokenizer/chat.js";
import type { LanguageModel } from "../model/language-model.js";

/**
 * The token ids of a chat for `generate`, by the model's own chat template: `model.generate(await chatPrompt(model, messages))`.
 * Nothing in the messages becomes a special token. Throws as `encodeChat` does.
 */
export async function chatPrompt({ tokenizer }: LanguageModel, messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
  check(tokenizer !== undefined, "ERR_SWITCHYARD_USAGE", () => "chat: the model has no tokenizer; load it from a folder with a tokenizer.json or a GGUF file with a vocabulary");
  return encodeChat(tokenizer, messages, options);
}
