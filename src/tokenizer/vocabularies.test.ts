import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { readGgufHeader } from "../formats/gguf/reader.js";
import { ggufVocabulary } from "./gguf-writer.js";
import { ggufTokenizer as readVocabulary, type VocabularyMetadata } from "./gguf.js";
import { loadTokenizer } from "./load.js";
import { readTiktoken } from "./tiktoken.js";
import { characterTokenizer } from "./characters.js";
import type { Tokenizer } from "./tokenizer.js";
import { trainBytePairTokenizer } from "./train-byte-pair.js";

const data = join(import.meta.dirname, "../../../shared/data");
const shared = existsSync(data);
const root = mkdtempSync(join(tmpdir(), "switchyard-vocabularies-"));
afterAll(() => rmSync(root, { recursive: true }));

const ggufTokenizer = (metadata: VocabularyMetadata) => {
  const tokenizer = readVocabulary(metadata);
  if (tokenizer === undefined) throw new Error("no vocabulary");
  return tokenizer;
};
const metadata = (fields: Record<string, unknown>) => ({ source: "test.gguf", entries: new Map(Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, { value }])) });
const fromGguf = (name: string) => ggufTokenizer(readGgufHeader(join(data, `gguf-vocab/ggml-vocab-${name}.gguf`)).metadata);
const llama3 = () => {
  const folder = join(data, "tokenizers/llama3.2");
  const vocab = JSON.parse(readFileSync(join(folder, "encoder.json"), "utf8")) as Record<string, number>;
  const merges = readFileSync(join(folder, "vocab.bpe"), "utf8").split("\n").filter((line) => line !== "" && !line.startsWith("#version"));
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  return ggufTokenizer(metadata({ model: "gpt2", pre: "llama-bpe", tokens, merges }));
};
const qwen2 = () =>
  readTiktoken(join(data, "tokenizers/qwen/qwen.tiktoken"), { pre: "qwen2", special: { "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645 }, eos: "<|endoftext|>" });

/** OLMoE's tokenizer.json: the vocabulary of GPT-NeoX, which MPT has too. */
const mpt = () => {
  const folder = mkdtempSync(join(root, "mpt-"));
  copyFileSync(join(data, "tokenizers/olmoe/allenai_gpt-neox-olmo-dolma-v1_5.json"), join(folder, "tokenizer.json"));
  return loadTokenizer(folder)!;
};

/** Texts and ids of llama.cpp's own test, made by Hugging Face's tokenizers. */
function vectors(name: string): { text: string; ids: number[] }[] {
  const read = (end: string) => readFileSync(join(data, `gguf-vocab/ggml-vocab-${name}.gguf.${end}`), "utf8");
  const texts = read("inp").split("\n__ggml_vocab_test__\n");
  const ids = read("out").split("\n");
  return texts.map((text, i) => ({ text, ids: ids[i]!.split(" ").filter((id) => id !== "").map(Number) }));
}

describe.skipIf(!shared)("published vectors (skipped without ../shared)", () => {
  it.each<[string, () => Tokenizer]>([
    ["gpt-2", () => fromGguf("gpt-2")],
    ["llama-bpe", llama3],
    ["qwen2", qwen2],
    ["deepseek-llm", () => fromGguf("deepseek-llm")],
    ["deepseek-coder", () => fromGguf("deepseek-coder")],
    ["llama-spm", () => fromGguf("llama-spm")],
    ["phi-3", () => fromGguf("phi-3")],
    ["mpt", mpt],
  ])("%s: all 47 of the text's ids, and back", (name, make) => {
    const tokenizer = make();
    const all = vectors(name);
    expect(all.length).toBe(47);
    expect(all.map(({ text }) => [...tokenizer.encode(text)])).toEqual(all.map(({ ids }) => ids));
    expect(all.map(({ ids }) => tokenizer.decode(ids))).toEqual(all.map(({ text }) => text));
    for (const { text, ids } of all) {
      const stream = tokenizer.decodeStream();
      const pieces = ids.map((id) => stream.push(id));
      expect(pieces.join("") + stream.end()).toBe(text);
      for (const piece of pieces) expect(piece).not.toMatch(/\ufffd/);
    }
  });
});

describe.skipIf(!shared)("saved as tokenizer.json (skipped without ../shared)", () => {
  it.each<[string, () => Tokenizer]>([
    ["gpt-2", () => fromGguf("gpt-2")],
    ["qwen2", qwen2],
    ["deepseek-coder", () => fromGguf("deepseek-coder")],
    ["llama-spm", () => fromGguf("llama-spm")],
  ])("%s gives the same ids in @huggingface/tokenizers", (name, make) => {
    const tokenizer = make();
    const folder = mkdtempSync(join(root, "t-"));
    tokenizer.save(folder);
    const loaded = loadTokenizer(folder)!;
    expect(loaded).toMatchObject({ bosId: tokenizer.bosId, eosId: tokenizer.eosId, prefix: tokenizer.prefix, special: tokenizer.special });
    const texts = vectors(name).map(({ text }) => text);
    const words = texts.flatMap((text) => text.split(/(?= )/)).filter((word) => word.length < 40);
    const check = (text: string) => {
      expect([...loaded.encode(text)], JSON.stringify(text)).toEqual([...tokenizer.encode(text)]);
      expect(loaded.decode(tokenizer.encode(text))).toBe(tokenizer.decode(tokenizer.encode(text)));
    };
    texts.forEach(check);
    // From there to GGUF: one more id than there are tokens, as models have.
    const again = ggufTokenizer({ source: name, entries: ggufVocabulary(loaded, tokenizer.vocabSize + 1)! });
    expect(again).toMatchObject({ vocabSize: tokenizer.vocabSize + 1, bosId: tokenizer.bosId, eosId: tokenizer.eosId, prefix: tokenizer.prefix, special: tokenizer.special });
    for (const text of texts) expect([...again.encode(text)]).toEqual([...tokenizer.encode(text)]);
    fc.assert(fc.property(fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 12 }).map((all) => all.join("")), check), { numRuns: 30 });
  }, 120_000); // qwen2 has 150,000 tokens, which are read and written several times
});

const byteTokens = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);
const pieces = ["\u2581", "a", "b", "ab", "\u2581ab", "\u2581a", "ba"];
const sentencePiece = (fields: Record<string, unknown> = {}) => {
  const tokens = ["<unk>", "<s>", "</s>", ...byteTokens, ...pieces, "<tool>"];
  const types = [2, 3, 4, ...byteTokens.map(() => 6), ...pieces.map(() => 1), 4];
  return ggufTokenizer(metadata({ model: "llama", tokens, scores: tokens.map((_, id) => -id), token_type: types, ...fields }));
};
/** Ids of pieces. */
const at = (...texts: string[]) => texts.map((text) => (text.startsWith("<0x") ? 3 + byteTokens.indexOf(text) : 259 + pieces.indexOf(text)));

describe("SentencePiece", () => {
  it("merges the pair of the highest score first, the leftmost of equals", () => {
    expect([...sentencePiece().encode("ab")]).toEqual(at("\u2581ab"));
    expect([...sentencePiece().encode("abab ba")]).toEqual(at("\u2581ab", "ab", "\u2581", "ba"));
    // Of equal scores: "ab" three times from the left, though "ba" would do as well.
    expect([...sentencePiece({ scores: new Float32Array(267), add_space_prefix: false }).encode("ababa")]).toEqual(at("ab", "ab", "a"));
  });

  it("writes what is no token as bytes, or as the unknown token where there are none", () => {
    expect([...sentencePiece().encode("a\u00e9")]).toEqual(at("\u2581a", "<0xC3>", "<0xA9>"));
    const tokens = ["<unk>", "<s>", "</s>", "\u2581", "a"];
    expect([...ggufTokenizer(metadata({ model: "llama", tokens, scores: [0, 0, 0, 0, 0], token_type: [2, 3, 3, 1, 1] })).encode("a\u00e9a")]).toEqual([3, 4, 0, 4]);
  });

  it("takes user-defined tokens whole, control tokens and names of bytes never", () => {
    const tokenizer = sentencePiece();
    expect([...tokenizer.encode("a<tool>b")]).toEqual([...at("\u2581a"), 266, ...at("b")]);
    for (const text of ["</s>", "<s>", "<unk>", "<0x41>"]) expect([...tokenizer.encode(text)].filter((id) => id < 3 || id === 3 + 0x41)).toEqual([]);
    expect(tokenizer.special).toEqual(new Map([["<unk>", 0], ["<s>", 1], ["</s>", 2]]));
  });

  it("puts a space and the beginning of the text before it, as the file says", () => {
    expect(sentencePiece().prefix).toEqual([1]);
    expect(sentencePiece({ add_bos_token: false }).prefix).toEqual([]);
    expect([...sentencePiece({ add_space_prefix: false }).encode("ab")]).toEqual(at("ab"));
    expect([...sentencePiece().encode("")]).toEqual([]);
  });

  it("reads any text back, at once and in pieces", () => {
    const tokenizer = sentencePiece();
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: fc.constantFrom("a", "b", " ", "\u00e9", "\n", "\u{1f600}") }), fc.string({ unit: "grapheme" })), (text) => {
        const ids = tokenizer.encode(text);
        expect(tokenizer.decode(ids)).toBe(text);
        const stream = tokenizer.decodeStream();
        expect(Array.from(ids, (id) => stream.push(id)).join("") + stream.end()).toBe(text);
        const bare = sentencePiece({ add_space_prefix: false });
        expect(bare.decode(bare.encode(text))).toBe(text);
      }),
    );
  });
});

describe("a GGUF vocabulary", () => {
  const tokens = ["a", "b", "ab", "<|end|>", "<tool>"];
  const good = { model: "gpt2", pre: "gpt-2", tokens, merges: ["a b"], token_type: [1, 1, 1, 3, 4], eos_token_id: 3 };

  it("has its special tokens, its user-defined ones and its prefix", () => {
    const tokenizer = ggufTokenizer(metadata({ ...good, bos_token_id: 3, add_bos_token: true }));
    expect(tokenizer).toMatchObject({ vocabSize: 5, eosId: 3, bosId: 3, prefix: [3], special: new Map([["<|end|>", 3]]) });
    expect([...tokenizer.encode("abba<tool>b")]).toEqual([2, 1, 0, 4, 1]);
    expect(tokenizer.decode([2, 3, 4, 99, -1])).toBe("ab<tool>");
    expect(() => tokenizer.encode("abc")).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringContaining("byte 99") }));
  });

  it("counts as special what looks like the mark of a turn, and ends answers with the end of a turn", () => {
    const tokenizer = ggufTokenizer(metadata({ ...good, tokens: ["a", "b", "ab", "<|end|>", "<|user|>"], eot_token_id: 4 }));
    expect(tokenizer.special).toEqual(new Map([["<|end|>", 3], ["<|user|>", 4]]));
    expect(tokenizer.endIds).toEqual([4]);
  });

  it("may be absent", () => {
    expect(readVocabulary(metadata({}))).toBeUndefined();
    expect(readVocabulary(metadata({ model: "no_vocab" }))).toBeUndefined();
  });

  it.each<[string, Record<string, unknown>, string, RegExp]>([
    ["no model", { model: undefined }, "FORMAT", /"tokenizer\.ggml\.model"/],
    ["an unknown model", { model: "t5" }, "UNSUPPORTED", /"t5"; known are gpt2/],
    ["no pre-tokenizer", { pre: undefined }, "FORMAT", /ggml\.pre"/],
    ["an unknown pre-tokenizer", { pre: "default" }, "UNSUPPORTED", /"default"; known are .*qwen2/],
    ["no merges", { merges: undefined }, "FORMAT", /ggml\.merges"/],
    ["a merge of unknown tokens", { merges: ["a c"] }, "FORMAT", /merge 0, "a c"/],
    ["a merge without a space", { merges: ["ab"] }, "FORMAT", /merge 0/],
    ["no tokens", { tokens: [] }, "FORMAT", /tokens: expected 1 to/],
    ["tokens that are no strings", { tokens: [1] }, "FORMAT", /ggml\.tokens": expected an array of strings/],
    ["too few types", { token_type: [1] }, "FORMAT", /as many as the 5 tokens, got 1/],
    ["an unknown type", { token_type: [1, 1, 1, 3, 7] }, "FORMAT", /type of token 4: expected 0 to 6, got 7/],
    ["an end of text beyond the vocabulary", { eos_token_id: 5 }, "FORMAT", /eos token id: expected one below 5/],
    ["an end of turn beyond the vocabulary", { eot_token_id: 9 }, "FORMAT", /end of turn token id: expected one below 5, got 9/],
    ["an end of text that is no number", { eos_token_id: "x" }, "FORMAT", /eos_token_id/],
    ["SentencePiece without scores", { model: "llama" }, "FORMAT", /ggml\.scores"/],
    ["SentencePiece with too few scores", { model: "llama", scores: [1] }, "FORMAT", /scores: expected as many as the 5/],
    ["SentencePiece with an unknown token beyond the vocabulary", { model: "llama", scores: [0, 0, 0, 0, 0], unknown_token_id: 5 }, "FORMAT", /unknown token id/],
  ])("with %s is refused", (_, change, code, message) => {
    const fields = Object.fromEntries(Object.entries({ ...good, ...change }).filter(([, value]) => value !== undefined));
    expect(() => ggufTokenizer(metadata(fields))).toThrow(expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) }));
  });
});

describe("written as a GGUF vocabulary", () => {
  const roundTrip = (tokenizer: Tokenizer) => {
    const written = ggufVocabulary(tokenizer, tokenizer.vocabSize + 2);
    return written === undefined ? undefined : ggufTokenizer({ source: "test", entries: written });
  };

  it("a trained tokenizer encodes as before, chat templates and all", () => {
    const text = "the quick brown fox, the quicker fox\n\nand 123 na\u00efve foxes ".repeat(3);
    const tokenizer = trainBytePairTokenizer([text], { vocab: 300 });
    tokenizer.chatTemplates = { default: "a", rag: "b" };
    const read = roundTrip(tokenizer)!;
    expect(read).toMatchObject({ vocabSize: tokenizer.vocabSize + 2, eosId: tokenizer.eosId, special: tokenizer.special, chatTemplates: { default: "a", rag: "b" } });
    expect(read.encode(text)).toEqual(tokenizer.encode(text));
    expect(read.decode([0x61, tokenizer.vocabSize])).toBe("a");
  });

  it("a SentencePiece one too", () => {
    const tokenizer = sentencePiece();
    const read = roundTrip(tokenizer)!;
    for (const text of ["abab ba", "a\u00e9", "a<tool>b</s>"]) expect([...read.encode(text)]).toEqual([...tokenizer.encode(text)]);
  });

  it("one of characters cannot be: GGUF has no such kind", () => {
    expect(roundTrip(characterTokenizer(["abc"]))).toBeUndefined();
  });
});

describe("a tiktoken file", () => {
  const write = (text: string) => {
    const file = join(mkdtempSync(join(root, "k-")), "x.tiktoken");
    writeFileSync(file, text);
    return file;
  };
  const lines = [..."abc", "ab", "bc", "abc"].map((token, rank) => `${Buffer.from(token).toString("base64")} ${rank}`).join("\n");

  it("merges by rank, takes a whole word first, and knows its special tokens", () => {
    const tokenizer = readTiktoken(write(lines), { pre: "qwen2", special: { "<|b|>": 6, "<|e|>": 8 }, bos: "<|b|>", eos: "<|e|>" });
    expect(tokenizer).toMatchObject({ vocabSize: 9, bosId: 6, eosId: 8, prefix: [6] });
    expect([...tokenizer.encode("abc")]).toEqual([5]);
    expect([...tokenizer.encode("abcb")]).toEqual([5, 1]);
    expect([...tokenizer.encode("bcbca")]).toEqual([4, 4, 0]);
    expect(tokenizer.decode([6, 5, 7, 8, 1])).toBe("abcb");
  });

  it.each([
    ["a line that is none", "YQ== 0\nnonsense", {}, /line 2: expected base64/],
    ["a rank that is taken", "YQ== 0\nYg== 0", {}, /line 2: expected a rank .* got 0/],
    ["a huge rank", "YQ== 99999999999", {}, /line 1: expected a rank below 258/],
    ["a special token in a taken place", "YQ== 0", { x: 0 }, /got 0/],
  ])("with %s is refused", (_, text, special, message) => {
    expect(() => readTiktoken(write(text), { pre: "qwen2", special })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringMatching(message) }));
  });
});
