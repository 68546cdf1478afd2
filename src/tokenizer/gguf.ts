import { z } from "zod";
import { SwitchyardError } from "../errors.js";
import { ByteLevelTokenizer } from "./byte-level.js";
import { preTokenizer } from "./pre-tokenizers.js";
import { SentencePieceTokenizer } from "./sentence-piece.js";
import type { ChatTemplates, Tokenizer } from "./tokenizer.js";
import type { VocabularyTokenizer } from "./vocabulary.js";

/** Key-values of a GGUF file, as `GgufMetadata` has them. */
export interface VocabularyMetadata {
  readonly entries: ReadonlyMap<string, { readonly value: unknown }>;
  /** What errors call the file. */
  readonly source: string;
}

const id = z.number().int().min(0);
const strings = z.custom<readonly string[]>((value) => Array.isArray(value) && value.every((text) => typeof text === "string"), "expected an array of strings");
const numbers = z.custom<ArrayLike<number>>((value) => (Array.isArray(value) || ArrayBuffer.isView(value)) && Array.prototype.every.call(value, (n) => typeof n === "number"), "expected an array of numbers");
const schema = z.object({
  model: z.string(),
  pre: z.string().optional(),
  tokens: strings,
  scores: numbers.optional(),
  token_type: numbers.optional(),
  merges: strings.optional(),
  bos_token_id: id.optional(),
  eos_token_id: id.optional(),
  padding_token_id: id.optional(),
  eot_token_id: id.optional(),
  eom_token_id: id.optional(),
  unknown_token_id: id.optional(),
  add_bos_token: z.boolean().optional(),
  add_space_prefix: z.boolean().optional(),
});

const prefix = "tokenizer.ggml.";
/** What files without a vocabulary call it. */
const none: readonly unknown[] = ["none", "no_vocab"];

/**
 * The tokenizer in the metadata of a GGUF file, or undefined if it has none. Throws ERR_SWITCHYARD_FORMAT naming the key, and
 * ERR_SWITCHYARD_UNSUPPORTED for a kind of tokenizer or a pre-tokenizer that is not known: another one would give wrong tokens.
 */
export function ggufTokenizer({ entries, source }: VocabularyMetadata): Tokenizer | undefined {
  const given: Record<string, unknown> = Object.fromEntries([...entries].filter(([key]) => key.startsWith(prefix)).map(([key, { value }]) => [key.slice(prefix.length), value]));
  if (Object.keys(given).length === 0 || none.includes(given["model"])) return undefined;
  const tokenizer = vocabularyTokenizer(given, source);
  tokenizer.chatTemplates = chatTemplates(entries);
  return tokenizer;
}

/** By `tokenizer.chat_template`, and `tokenizer.chat_template.NAME` for others than the default. */
function chatTemplates(entries: VocabularyMetadata["entries"]): ChatTemplates {
  return Object.fromEntries(
    [...entries].flatMap(([key, { value }]) => {
      const [, name = "default"] = /^tokenizer\.chat_template(?:\.(.+))?$/.exec(key) ?? [undefined, ""];
      return name === "" || typeof value !== "string" ? [] : [[name, value]];
    }),
  );
}

function vocabularyTokenizer(given: Record<string, unknown>, source: string): VocabularyTokenizer {
  const { data, error } = schema.safeParse(given);
  if (data === undefined) {
    const [issue] = error.issues;
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: metadata "${prefix}${issue?.path.join(".")}": ${issue?.message}`);
  }
  const missing = (key: string) => new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: metadata "${prefix}${key}": the key is missing; a ${data.model} tokenizer needs it`);
  const { model, pre, tokens, token_type: types, scores, merges, bos_token_id: bosId, eos_token_id: eosId, padding_token_id: padId, add_bos_token: addBos } = data;
  const endIds = [data.eot_token_id, data.eom_token_id].filter((token) => token !== undefined);
  const common = (bos: number | undefined, bosDefault: boolean) => ({ tokens, types, bosId: bos, eosId, padId, endIds, prefix: bos !== undefined && (addBos ?? bosDefault) ? [bos] : [], source });
  if (model === "gpt2") {
    if (pre === undefined) throw missing("pre");
    if (merges === undefined) throw missing("merges");
    const words = preTokenizer(pre, source);
    return new ByteLevelTokenizer({ ...common(bosId, words.addBos), preTokenizer: words, merges });
  }
  if (model === "llama") {
    if (scores === undefined) throw missing("scores");
    // Defaults of llama.cpp for files that do not say.
    const { unknown_token_id: unknownId = 0, add_space_prefix: spacePrefix = true } = data;
    return new SentencePieceTokenizer({ ...common(bosId ?? 1, true), eosId: eosId ?? 2, scores, unknownId, spacePrefix });
  }
  throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `${source}: metadata "${prefix}model": unknown tokenizer ${JSON.stringify(model)}; known are gpt2 (byte-level BPE) and llama (SentencePiece)`);
}
