import { loadTokens, type Tokens } from "../data/index.js";
import { check } from "../errors.js";
import type { LanguageModel } from "../model/language-model.js";

/** Text files or folders, or a token stream. */
export type TextData = string | readonly string[] | Tokens;

/** `data` as tokens of the model's vocabulary. Throws ERR_SWITCHYARD_USAGE without a tokenizer for text, ERR_SWITCHYARD_DATA and ERR_SWITCHYARD_IO. */
export function modelTokens({ tokenizer, config }: LanguageModel, data: TextData, operation: string): Tokens {
  if (data instanceof Uint16Array || data instanceof Int32Array) {
    checkIds(data, config.vocab, operation);
    return data;
  }
  check([data].flat().every((path) => typeof path === "string"), "ERR_SWITCHYARD_USAGE", () => `${operation}: data: expected text files or folders, or a Uint16Array or Int32Array of token ids, got ${Array.isArray(data) ? "a list of other things" : typeof data}`);
  check(tokenizer !== undefined, "ERR_SWITCHYARD_USAGE", () => `${operation}: a model without a tokenizer cannot read text; pass token numbers as \`data\`, or a model with a tokenizer`);
  const tokens = loadTokens(typeof data === "string" ? [data] : data, tokenizer);
  checkIds(tokens, config.vocab, operation);
  return tokens;
}

function checkIds(tokens: Tokens, vocab: number, operation: string): void {
  const unknown = tokens.find((id) => id < 0 || id >= vocab);
  check(unknown === undefined, "ERR_SWITCHYARD_DATA", () => `${operation}: expected token ids from 0 to ${vocab - 1}, got ${unknown}; the data was tokenised for another vocabulary`);
}
