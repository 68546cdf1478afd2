import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { SwitchyardError } from "../errors.js";
import { readFileUpTo } from "../formats/io.js";
import { conform, isJsonObject, type Json, type JsonObject, readJsonFile } from "../formats/json.js";
import { bytePairTokens, BytePairTokenizer } from "./byte-pair.js";
import { CharacterTokenizer } from "./characters.js";
import { HuggingFaceTokenizer, maxTokenizerBytes, namedTemplates } from "./hugging-face.js";
import type { ChatTemplates, Tokenizer } from "./tokenizer.js";

/** Larger than the largest published template (17 kB). */
const maxTemplateBytes = 2 ** 20;

/**
 * The tokenizer of a model folder, or undefined if it has no `tokenizer.json`. Files that Switchyard wrote are run by its own
 * fast tokenizers, others by @huggingface/tokenizers. Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_IO naming the file.
 */
export function loadTokenizer(folder: string): Tokenizer | undefined {
  const file = join(folder, "tokenizer.json");
  if (!existsSync(file)) return undefined;
  const json = readObject(file);
  const configFile = join(folder, "tokenizer_config.json");
  const config = existsSync(configFile) ? readObject(configFile) : {};
  const tokenizer = tokenizerOf(folder, json, config);
  tokenizer.chatTemplates = readChatTemplates(folder, config["chat_template"], configFile);
  tokenizer.endIds = readEndIds(folder);
  return tokenizer;
}

/** The tokenizer of the parsed files of `folder`. Throws ERR_SWITCHYARD_FORMAT naming file and field. */
export function tokenizerOf(folder: string, json: JsonObject, config: JsonObject): Tokenizer {
  return ownTokenizer(json) ?? new HuggingFaceTokenizer(folder, json, config);
}

const named = z.array(z.object({ name: z.string(), template: z.string() }));

/** A template, or a list of named ones, in tokenizer_config.json; files of their own, as transformers writes them, go before these. */
function readChatTemplates(folder: string, configured: Json | undefined, configFile: string): ChatTemplates {
  const path = join(folder, "chat_template.jinja");
  const list = typeof configured === "string" ? [{ name: "default", template: configured }] : conform(named, configured ?? [], `${configFile}: chat_template`);
  const templates: Record<string, string> = Object.fromEntries(list.map(({ name, template }) => [name, template]));
  const read = (name: string, file: string) => (templates[name] = readFileUpTo(file, maxTemplateBytes).toString());
  if (existsSync(path)) read("default", path);
  for (const file of namedTemplates(folder)) read(basename(file, ".jinja"), join(folder, file));
  return templates;
}

const id = z.number().int().min(0);
const ids = z.object({ eos_token_id: z.union([id, z.array(id)]).nullish() });

/** What else than the end of a text ends an answer: by generation_config.json, and by config.json where there is none, as in transformers. */
function readEndIds(folder: string): number[] {
  const file = ["generation_config.json", "config.json"].map((name) => join(folder, name)).find(existsSync);
  const { eos_token_id: end } = file === undefined ? {} : conform(ids, readObject(file), file);
  return [end ?? []].flat();
}

function readObject(file: string): JsonObject {
  const json = readJsonFile(file, { maxBytes: maxTokenizerBytes });
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
  return bytePairTokens(merges) && new BytePairTokenizer(merges, typeof content === "string" ? content : undefined);
}

function characters(vocab: JsonObject, merges: readonly Json[]): CharacterTokenizer | undefined {
  const tokens = Object.keys(vocab);
  if (merges.length > 0 || tokens.length === 0 || tokens.some((token) => [...token].length !== 1)) return undefined;
  return new CharacterTokenizer(tokens.sort((a, b) => Number(vocab[a]) - Number(vocab[b])));
}
