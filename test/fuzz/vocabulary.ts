import type { Random } from "../../src/tensor/random.js";
import { byteCharacters } from "../../src/tokenizer/byte-level.js";
import { ggufTokenizer } from "../../src/tokenizer/gguf.js";
import { chance, edge, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

type Entry = [string, { value: unknown }];

/** Now and then all bytes, as vocabularies have them; else a few, with which a run is ten times as fast. */
const bytesOf = (random: Random, all: readonly string[]): readonly string[] => (chance(random, 0.03) ? all : all.slice(95, 95 + random.below(12)));
const byteTokens = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);

/** Bytes, then merges of them, and special tokens. */
function byteLevel(random: Random): Entry[] {
  const merges = Array.from({ length: random.below(6) }, () => `${byteCharacters[97 + random.below(6)]} ${byteCharacters[97 + random.below(6)]}`);
  const tokens = [...bytesOf(random, byteCharacters), ...merges.map((merge) => merge.replace(" ", "")), "<|end|>"];
  const types = Int32Array.from(tokens, (_, i) => (i === tokens.length - 1 ? 3 : 1));
  const pre = pick(random, ["gpt-2", "llama-bpe", "qwen2", "deepseek-v3", "deepseek-llm", "gpt-4o"]);
  return [["model", { value: "gpt2" }], ["pre", { value: pre }], ["tokens", { value: tokens }], ["token_type", { value: types }], ["merges", { value: merges }], ["eos_token_id", { value: tokens.length - 1 }]];
}

function sentencePiece(random: Random): Entry[] {
  const bytes = bytesOf(random, byteTokens);
  const words = Array.from({ length: 2 + random.below(8) }, () => Array.from({ length: 1 + random.below(3) }, () => pick(random, ["\u2581", "a", "b", "\u00e9"])).join(""));
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...words];
  const types = Int32Array.from(tokens, (_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 3 + bytes.length ? 6 : 1));
  const scores = Float32Array.from(tokens, (_, i) => -i);
  return [["model", { value: "llama" }], ["tokens", { value: tokens }], ["scores", { value: scores }], ["token_type", { value: types }]];
}

function spoil(random: Random, entries: Entry[]): Entry[] {
  return entries.flatMap(([key, { value }]): Entry[] => {
    if (!chance(random, 0.08)) return [[key, { value }]];
    const list = Array.isArray(value) ? (value as unknown[]) : [];
    return pick<() => Entry[]>(random, [
      () => [],
      () => [[key, { value: Number(edge(random)) }]],
      () => [[key, { value: "x" }]],
      () => [[key, { value: list.slice(0, random.below(list.length + 1)) }]],
      () => [[key, { value: list.map((item) => (chance(random, 0.01) ? pick(random, ["", " ", "a a", "\ud800", "<0xZZ>", item]) : item)) }]],
      () => [[key, { value: ArrayBuffer.isView(value) ? (value as Int32Array).map((n) => (chance(random, 0.01) ? random.below(9) : n)) : value }]],
    ])();
  });
}

const texts = ["", "a", "abc def", "caf\u00e9 \u{1f642}\n\n 123 <|end|></s>", "aaaaaaaaaaaaaaaa", "\u0000\ufffd\u0085"];

export const vocabulary: Target = {
  about: "vocabularies in GGUF metadata, with keys left out and values changed; those accepted encode and decode texts",
  run(random) {
    const entries = spoil(random, chance(random, 0.5) ? byteLevel(random) : sentencePiece(random)).map(([key, entry]) => [`tokenizer.ggml.${key}`, entry] as const);
    const map = new Map(entries);
    const tokenizer = accepted(() => ggufTokenizer({ entries: map, source: "x.gguf" }), ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED"], "x.gguf: ");
    if (tokenizer === undefined) return false;
    const text = pick(random, texts);
    const ids = accepted(() => tokenizer.encode(text), ["ERR_SWITCHYARD_DATA"], "encode: ");
    if (ids === undefined) return true;
    ensure(ids.every((id) => id >= 0 && id < tokenizer.vocabSize), "ids are tokens of the vocabulary");
    // SentencePiece says the first token, which is special, for what it does not know.
    const unknown = map.get("tokenizer.ggml.model")?.value === "llama" ? 0 : -1;
    for (const [token, id] of tokenizer.special) ensure(id === unknown || !text.includes(token) || !ids.includes(id), () => `a text never becomes a special token, here ${token}`);
    tokenizer.decode(ids);
    return true;
  },
};
