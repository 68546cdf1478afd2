import type { Json, JsonObject } from "../../src/formats/json.js";
import type { Random } from "../../src/tensor/random.js";
import { BytePairTokenizer } from "../../src/tokenizer/byte-pair.js";
import { CharacterTokenizer } from "../../src/tokenizer/characters.js";
import { tokenizerOf } from "../../src/tokenizer/load.js";
import { withTimeLimit } from "../../src/tokenizer/time-limit.js";
import { chance, edge, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const own = [new BytePairTokenizer(["a b"], "<|end|>"), new CharacterTokenizer([..."abc d"])].map((tokenizer) => JSON.parse(JSON.stringify(tokenizer)) as JsonObject);

const words = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "c", "ab", "abc", "##b", "\u2581a", "\u0120", "\u0120b", "<0x41>", "\u00e9", " "];
/** Ids of words lie below. */
const ordinary = 20;
const vocab = (random: Random): JsonObject => Object.fromEntries(words.filter(() => chance(random, 0.8)).map((word, id) => [word, id]));

/** Models by type: byte pairs in the older and the newer spelling, word pieces, unigrams. */
const models: readonly ((random: Random) => JsonObject)[] = [
  (random) => ({ type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: chance(random, 0.5), ignore_merges: chance(random, 0.5), vocab: vocab(random), merges: ["a b", "ab c", "\u2581 a"] }),
  (random) => ({ type: "BPE", unk_token: null, continuing_subword_prefix: "", end_of_word_suffix: "", vocab: vocab(random), merges: [["a", "b"], ["ab", "c"]] }),
  (random) => ({ type: "WordPiece", unk_token: "<unk>", continuing_subword_prefix: "##", max_input_chars_per_word: 100, vocab: vocab(random) }),
  (random) => ({ type: "Unigram", unk_id: random.below(3), byte_fallback: false, vocab: words.map((word, i) => [word, -i]) }),
];

const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true };
const metaspace = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "first", split: false };
const split = (regex: string): JsonObject => ({ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false });
const patterns = ["\\p{L}+", "(?i:'s|'t)| ?[^\\s\\p{N}]+", "(a|aa)+$", "[", "(?<n>a)\\k<n>", "[^\\s&&[a-c]]"];
const steps: Readonly<Record<string, readonly Json[]>> = {
  normalizer: [null, { type: "NFC" }, { type: "Lowercase" }, { type: "Replace", pattern: { String: " " }, content: "\u2581" }, { type: "Prepend", prepend: "\u2581" }, { type: "Strip", strip_left: true, strip_right: true }, { type: "BertNormalizer", lowercase: true }],
  pre_tokenizer: [null, byteLevel, metaspace, { type: "Whitespace" }, { type: "BertPreTokenizer" }, { type: "Digits", individual_digits: true }, { type: "Punctuation", behavior: "Isolated" }, ...patterns.map(split)],
  decoder: [null, byteLevel, metaspace, { type: "Fuse" }, { type: "ByteFallback" }, { type: "WordPiece", prefix: "##", cleanup: true }, { type: "Strip", content: " ", start: 1, stop: 0 }],
  post_processor: [null, byteLevel, { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }], pair: [], special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } } }],
};
const lists: Readonly<Record<string, string>> = { normalizer: "normalizers", pre_tokenizer: "pretokenizers", decoder: "decoders", post_processor: "processors" };

function file(random: Random): JsonObject {
  if (chance(random, 0.03)) return pick(random, own);
  const flags = () => ({ single_word: chance(random, 0.1), lstrip: chance(random, 0.2), rstrip: chance(random, 0.2), normalized: chance(random, 0.5), special: chance(random, 0.6) });
  const added = ["<s>", "</s>", "<|im_end|>", " x"].filter(() => chance(random, 0.5)).map((content, i) => ({ id: chance(random, 0.05) ? random.below(ordinary) : ordinary + i, content, ...flags() }));
  const step = (kind: string): Json => (chance(random, 0.3) ? { type: "Sequence", [lists[kind] as string]: [pick(random, steps[kind] as Json[]), pick(random, steps[kind] as Json[])] } : pick(random, steps[kind] as Json[]));
  return { version: "1.0", added_tokens: added, ...Object.fromEntries(Object.keys(steps).map((kind) => [kind, step(kind)])), model: pick(random, models)(random) };
}

/** `value` with something else in about one place of `1 / rate`. */
function spoil(value: Json, random: Random, rate: number): Json {
  if (chance(random, rate)) return pick<() => Json>(random, [() => null, () => true, () => Number(edge(random)), () => -1, () => "", () => "x", () => pick(random, words), () => [], () => [value], () => ({}), () => ({ type: "Sequence" }), () => pick(random, patterns)])();
  if (Array.isArray(value)) return value.filter(() => !chance(random, rate)).map((item) => spoil(item, random, rate));
  return typeof value === "object" && value !== null ? spoilMembers(value, random, rate) : value;
}

function spoilMembers(object: JsonObject, random: Random, rate: number): JsonObject {
  const kept = Object.entries(object).filter(() => !chance(random, rate));
  return Object.fromEntries(kept.map(([key, item]) => [chance(random, rate) ? pick(random, words) : key, spoil(item, random, rate)]));
}

// The library says there what it does not know.
console.warn = () => undefined;

const texts = ["", "a", "abc ab", "\u00e9\u{1f642} <s></s><|im_end|>", " x\n\n1'S", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"];

export const tokenizerJson: Target = {
  about: "tokenizer.json and tokenizer_config.json: models, normalizers, pre-tokenizers, decoders of all kinds, values changed; those accepted encode and decode texts",
  // One thread that watches for all inputs of a batch, which take a second or two.
  around: (batch) => withTimeLimit(120_000, batch),
  run(random) {
    const json = spoilMembers(file(random), random, 0.01);
    const config = spoilMembers({ bos_token: "<s>", eos_token: { content: "</s>" }, unk_token: "<unk>" }, random, 0.02);
    const read = <T>(action: () => T) => accepted(action, ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED"], "x/tokenizer");
    const tokenizer = read(() => tokenizerOf("x", json, config));
    if (tokenizer === undefined) return false;
    if (!chance(random, 0.2)) return true;
    const text = pick(random, texts);
    const ids = accepted(() => tokenizer.encode(text), ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_DATA"], "");
    if (ids === undefined) return true;
    ensure(ids.every((id) => id >= 0 && id < tokenizer.vocabSize), "ids are tokens of the vocabulary");
    for (const [token, id] of tokenizer.special) ensure(id < ordinary || !ids.includes(id), () => `a text never becomes a special token, here ${token}`);
    accepted(() => tokenizer.decode(ids), ["ERR_SWITCHYARD_FORMAT"], "x/tokenizer");
    return true;
  },
};
