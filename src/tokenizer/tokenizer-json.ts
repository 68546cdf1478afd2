import { z } from "zod";

/** What a tokenizer.json may say, as far as @huggingface/tokenizers reads it: kinds of values, so that what it would stumble over is named here. */

const flag = z.boolean().nullish();
const text = z.string().nullish();
const size = z.number().int().min(0);
const id = size.max(2 ** 24);

/** Fields of all normalizers, pre-tokenizers, post-processors and decoders; which of them a `type` has is the library's matter. */
const step = z.looseObject({
  type: z.string(),
  get normalizers() { return z.array(step).nullish(); },
  get pretokenizers() { return z.array(step).nullish(); },
  get processors() { return z.array(step).nullish(); },
  get decoders() { return z.array(step).nullish(); },
  pattern: z.union([z.strictObject({ String: z.string() }), z.strictObject({ Regex: z.string() })]).nullish(),
  content: text, prepend: text, replacement: text, str_rep: text, prefix: text, suffix: text, behavior: text, prepend_scheme: text, word_delimiter_token: text, pad_token: text, precompiled_charsmap: text,
  invert: flag, add_prefix_space: flag, trim_offsets: flag, use_regex: flag, split: flag, individual_digits: flag, cleanup: flag,
  lowercase: flag, clean_text: flag, handle_chinese_chars: flag, strip_accents: flag, strip_left: flag, strip_right: flag,
  start: size.nullish(), stop: size.nullish(), length: size.nullish(),
  get single() { return z.array(piece).nullish(); },
  get pair() { return z.array(piece).nullish(); },
  special_tokens: z.record(z.string(), z.looseObject({ id: z.string(), ids: z.array(id), tokens: z.array(z.string()) })).nullish(),
  cls: z.tuple([z.string(), id]).nullish(),
  sep: z.tuple([z.string(), id]).nullish(),
});
const named = z.object({ id: z.string(), type_id: size });
/** Of a template: a special token, or a text. */
const piece = z.union([z.strictObject({ SpecialToken: named }), z.strictObject({ Sequence: named })]);

const isPair = (merge: unknown): boolean => Array.isArray(merge) && merge.length === 2 && merge.every((token) => typeof token === "string");
const isMerge = (merge: unknown): boolean => (typeof merge === "string" ? merge.indexOf(" ", 1) > 0 : isPair(merge));

export const tokenizerJsonSchema = z.object({
  model: z.object({
    type: text,
    vocab: z.union([z.record(z.string(), id), z.array(z.tuple([z.string(), z.number()])).min(1)]),
    merges: z.custom((merges) => Array.isArray(merges) && merges.every(isMerge), 'expected an array of merges, "a b" or ["a", "b"]').nullish(),
    unk_token: text, unk_id: id.nullish(), fuse_unk: flag, byte_fallback: flag, ignore_merges: flag, dropout: z.number().nullish(),
    continuing_subword_prefix: text, end_of_word_suffix: text, max_input_chars_per_word: size.nullish(),
  }),
  added_tokens: z.array(z.looseObject({
    id, content: z.string().min(1), special: z.boolean().default(false), lstrip: z.boolean().default(false), rstrip: z.boolean().default(false), single_word: flag, normalized: flag,
  })).default([]),
  normalizer: step.nullish(),
  pre_tokenizer: step.nullish(),
  post_processor: step.nullish(),
  decoder: step.nullish(),
});

/** A token is written as a string, or as an object with `content`. */
const token = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]).nullish().transform((content) => content ?? undefined);

export const tokenizerConfigSchema = z.looseObject({ bos_token: token, eos_token: token, pad_token: token, unk_token: token });
