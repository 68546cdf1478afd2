import { existsSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { SwitchyardError } from "../errors.js";
import { isJsonObject, type Json, type JsonObject, readJsonFile } from "../formats/json.js";
import { BytePairTokenizer } from "./byte-pair.js";
import { CharacterTokenizer } from "./characters.js";
import { HuggingFaceTokenizer } from "./hugging-face.js";
import type { Tokenizer } from "./tokenizer.js";

/** Larger than the largest published tokenizer.json (34 MB). */
const maxBytes = 2 ** 26;

/**
 * The tokenizer of a model folder, or undefined if it has no `tokenizer.json`. Files that Switchyard wrote are run by its own
 * fast tokenizers, others by @huggingface/tokenizers. Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_IO naming the file.
 */
export function loadTokenizer(folder: string): Tokenizer | undefined {
  const file = join(folder, "tokenizer.json");
  if (!existsSync(file)) return undefined;
  const json = readObject(file);
  const configFile = join(folder, "tokenizer_config.json");
  return ownTokenizer(json) ?? new HuggingFaceTokenizer(folder, json, existsSync(configFile) ? readObject(configFile) : {});
}

function readObject(file: string): JsonObject {
  const json = readJsonFile(file, { maxBytes });
  if (isJsonObject(json)) return json;
  throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${file}: expected an object`);
}

/** The tokenizer of ours that writes exactly this file, if there is one. */
function ownTokenizer(json: JsonObject): Tokenizer | undefined {
  const { model, added_tokens: added } = json;
  if (!isJsonObject(model) || !isJsonObject(model["vocab"]) || !Array.isArray(model["merges"]) || !Array.isArray(added)) return undefined;
  const { vocab, merges } = model as { vocab: JsonObject; merges: Json[] };
  // Byte 0, which GPT-2's table writes as U+0100, comes first in our byte-level tokenizers, hardly ever in others.
  const tokenizer = vocab["\u0100"] === 0 && Object.keys(vocab).length >= 256 ? bytePairs(merges, added) : characters(vocab, merges);
  return tokenizer !== undefined && isDeepStrictEqual(tokenizer.toJSON(), json) ? tokenizer : undefined;
}

function bytePairs(merges: readonly Json[], [endOfText]: readonly Json[]): BytePairTokenizer | undefined {
  const content = isJsonObject(endOfText) ? endOfText["content"] : undefined;
  if (!merges.every((merge) => typeof merge === "string")) return undefined;
  return BytePairTokenizer.fromMerges(merges, typeof content === "string" ? content : undefined);
}

function characters(vocab: JsonObject, merges: readonly Json[]): CharacterTokenizer | undefined {
  const tokens = Object.keys(vocab);
  if (merges.length > 0 || tokens.length === 0 || tokens.some((token) => [...token].length !== 1)) return undefined;
  return new CharacterTokenizer(tokens.sort((a, b) => Number(vocab[a]) - Number(vocab[b])));
}
