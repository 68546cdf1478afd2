import { z } from "zod";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { preTokenizerName } from "./pre-tokenizers.js";
import { spaceMark } from "./sentence-piece.js";
import type { Tokenizer } from "./tokenizer.js";

const part = z.looseObject({ type: z.string() });
const schema = z.object({
  model: z.object({
    type: z.literal("BPE"),
    vocab: z.record(z.string(), z.number()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    byte_fallback: z.boolean().default(false),
    ignore_merges: z.boolean().default(false),
    unk_token: z.string().nullish(),
  }),
  normalizer: part.nullish(),
  pre_tokenizer: part.nullish(),
  added_tokens: z.array(z.object({ id: z.number(), content: z.string() })).default([]),
});
type Json = z.infer<typeof schema>;

/** What is no token. */
const unused = 5;

/** Parts of a normalizer or pre_tokenizer, of a Sequence each of its own. */
function partsOf(whole: z.infer<typeof part> | null | undefined, list: string): Record<string, unknown>[] {
  if (whole === null || whole === undefined) return [];
  return whole.type === "Sequence" ? (whole[list] as Record<string, unknown>[]) : [whole];
}

/** The name of how byte-level BPE cuts words; undefined for another kind of tokenizer, or another way to cut. */
function byteLevelName({ model, normalizer, pre_tokenizer: cutting }: Json): string | undefined {
  const parts = partsOf(cutting, "pretokenizers");
  const last = parts.at(-1);
  // Files with NFC are those of Qwen; llama.cpp leaves it out.
  if (last?.["type"] !== "ByteLevel" || last["add_prefix_space"] === true || !partsOf(normalizer, "normalizers").every(({ type }) => type === "NFC")) return undefined;
  const sources = parts.flatMap((p) => {
    if (p["type"] === "Split" && p["behavior"] === "Isolated" && p["invert"] !== true) return [(p["pattern"] as { Regex?: string }).Regex];
    if (p["type"] === "Digits" && p["individual_digits"] === true) return ["\\p{N}"];
    return p === last ? (p["use_regex"] === false ? [] : ["gpt-2"]) : [undefined];
  });
  return sources.every((source) => source !== undefined) ? preTokenizerName(sources, model.ignore_merges) : undefined;
}

/** Whether texts get a space before them, of a SentencePiece tokenizer; undefined for another kind. */
function spacePrefix({ model, normalizer, pre_tokenizer: cutting }: Json): boolean | undefined {
  const normalizers = partsOf(normalizer, "normalizers");
  const cuts = partsOf(cutting, "pretokenizers");
  const known = normalizers.every(({ type, prepend, content }) => (type === "Prepend" && prepend === spaceMark) || (type === "Replace" && content === spaceMark));
  const metaspace = cuts.every(({ type, split }) => type === "Metaspace" && split === false);
  if (!model.byte_fallback || !known || !metaspace) return undefined;
  return normalizers.some(({ type }) => type === "Prepend") || cuts.some(({ prepend_scheme: scheme }) => scheme !== "never");
}

/** Scores by which SentencePiece merges as BPE does by ranks: a piece is worth less the later it is made. */
function scoresOf(tokens: readonly string[], merges: Json["model"]["merges"]): Float32Array {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const made = typeof merge === "string" ? merge.replace(" ", "") : merge.join("");
    if (!ranks.has(made)) ranks.set(made, rank);
  }
  return Float32Array.from(tokens, (token) => -(ranks.get(token) ?? 0));
}

/**
 * The vocabulary of a tokenizer as a GGUF file has it, filled up to the `vocabSize` rows of the model's tables. Undefined for what GGUF
 * cannot express: it knows byte-level BPE that cuts words in a way that has a name there, and SentencePiece's BPE.
 */
export function ggufVocabulary(tokenizer: Tokenizer, vocabSize: number): Map<string, GgufValue> | undefined {
  const { data: json } = schema.safeParse(tokenizer.toJSON());
  if (json === undefined) return undefined;
  const { vocab, merges, unk_token: unknown } = json.model;
  const pre = byteLevelName(json);
  const prefixed = pre === undefined ? spacePrefix(json) : undefined;
  if (pre === undefined && prefixed === undefined) return undefined;

  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(vocabSize).fill(unused);
  const set = (id: number, text: string, type: number) => {
    if (id < vocabSize) [tokens[id], types[id]] = [text, type];
  };
  for (const [text, id] of Object.entries(vocab)) set(id, text, pre === undefined && /^<0x[0-9A-F]{2}>$/.test(text) ? 6 : 1);
  for (const { id, content } of json.added_tokens) set(id, content, 4);
  for (const [text, id] of tokenizer.special) set(id, text, text === unknown ? 2 : 3);

  const string = (value: string): GgufValue => ({ type: "string", value });
  const strings = (value: readonly string[]): GgufValue => ({ type: "array", of: "string", value });
  const bool = (value: boolean): GgufValue => ({ type: "bool", value });
  const id = (value: number | undefined): GgufValue | undefined => (value === undefined ? undefined : { type: "u32", value });
  const { bosId, eosId, padId, endIds = [], prefix, special, chatTemplates = {} } = tokenizer;
  const ends = endIds.filter((end) => end !== eosId);
  const entries: Record<string, GgufValue | undefined> = {
    "ggml.model": string(pre === undefined ? "llama" : "gpt2"),
    "ggml.pre": string(pre ?? "default"),
    "ggml.tokens": strings(tokens),
    "ggml.token_type": { type: "array", of: "i32", value: types },
    "ggml.merges": pre === undefined ? undefined : strings(merges.map((merge) => (typeof merge === "string" ? merge : merge.join(" ")))),
    "ggml.scores": pre === undefined ? { type: "array", of: "f32", value: scoresOf(tokens, merges) } : undefined,
    "ggml.add_space_prefix": pre === undefined ? bool(prefixed === true) : undefined,
    "ggml.bos_token_id": id(bosId),
    "ggml.eos_token_id": id(eosId),
    "ggml.padding_token_id": id(padId),
    "ggml.unknown_token_id": id(special.get(unknown ?? "") ?? vocab[unknown ?? ""]),
    "ggml.eot_token_id": id(ends[0]),
    "ggml.eom_token_id": id(ends[1]),
    "ggml.add_bos_token": bool(prefix.length > 0),
    ...Object.fromEntries(Object.entries(chatTemplates).map(([name, template]) => [name === "default" ? "chat_template" : `chat_template.${name}`, string(template)])),
  };
  return new Map(Object.entries(entries).flatMap(([key, value]) => (value === undefined ? [] : [[`tokenizer.${key}`, value]])));
}
