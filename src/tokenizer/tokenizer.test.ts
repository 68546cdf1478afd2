import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { BytePairTokenizer, wordPattern } from "./byte-pair.js";
import { byteTokenizer } from "./bytes.js";
import { CharacterTokenizer, characterTokenizer } from "./characters.js";
import { HuggingFaceTokenizer } from "./hugging-face.js";
import { loadTokenizer } from "./load.js";
import type { Tokenizer } from "./tokenizer.js";
import { trainBytePairTokenizer } from "./train-byte-pair.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-tokenizer-"));
afterAll(() => rmSync(root, { recursive: true }));
const json = (folder: string, name: string) => JSON.parse(readFileSync(join(folder, name), "utf8")) as Record<string, unknown>;
const saved = (tokenizer: Tokenizer) => {
  const folder = mkdtempSync(join(root, "t-"));
  tokenizer.save(folder);
  return folder;
};
type Ids = { encode(text: string, options: object): { ids: number[] }; decode(ids: number[], options: object): string };
/** The published library over the files in `folder`. */
const library = (folder: string) => new Library(json(folder, "tokenizer.json"), json(folder, "tokenizer_config.json")) as unknown as Ids;
/** A lone surrogate has no UTF-8. */
const wellFormed = (text: string) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(text));
const pieces = (tokenizer: Tokenizer, ids: ArrayLike<number>) => {
  const stream = tokenizer.decodeStream();
  return [...Array.from(ids, (id) => stream.push(id)), stream.end()];
};

// Real text with code, other scripts, emoji of several code points and odd spaces.
const source = ["byte-pair", "train-byte-pair"].map((name) => readFileSync(new URL(`./${name}.ts`, import.meta.url), "utf8")).join("");
const sample = `${source}\n\u00dcber stra\u00dfe na\u00efve \u4e2d\u6587\u5b57 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67 1234567  \t \u00a0x\u2028y\n\n\n  'll we're aaaaaaa ${"=".repeat(300)}`;
const trained = trainBytePairTokenizer([sample], { vocab: 700 });
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.array(fc.constantFrom(...sample.slice(-700).split(/(?=[ \n=a])/), "the", " const", "\n  ", "\ud83d\udc68", "\ud800", "<|endoftext|>", "'s", "==="), { maxLength: 20 }).map((a) => a.join("")),
);

describe.each<[string, Tokenizer]>([
  ["bytes", byteTokenizer()],
  ["trained byte pairs", trained],
])("%s", (_, tokenizer) => {
  const folder = saved(tokenizer);
  const peer = library(folder);

  it("encodes and decodes as @huggingface/tokenizers does from the saved file", () => {
    const check = (text: string) => {
      const ids = [...tokenizer.encode(text)];
      // The library takes the special token out of a text, we never do.
      if (!text.includes("<|endoftext|>")) expect(ids).toEqual(peer.encode(text, { add_special_tokens: false }).ids);
      expect(tokenizer.decode(ids)).toBe(wellFormed(text));
      if (ids.length > 0) expect(peer.decode(ids, { clean_up_tokenization_spaces: false })).toBe(wellFormed(text));
    };
    check(sample);
    check("");
    fc.assert(fc.property(texts, check), { numRuns: 500 });
  });

  it("streams every token's text without half a character", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const parts = pieces(tokenizer, tokenizer.encode(text));
        expect(parts.join("")).toBe(wellFormed(text));
        if (!wellFormed(text).includes("\ufffd")) for (const part of parts) expect(part).not.toMatch(/\ufffd|\p{Surrogate}/u);
      }),
    );
    expect(pieces(tokenizer, [0xf0, 0x9f, 0x98, 65, 0xf0]).join("|")).toBe("|||\ufffdA||\ufffd");
  });

  it("loads from its folder as itself", () => {
    const loaded = loadTokenizer(folder);
    expect(loaded).toBeInstanceOf(BytePairTokenizer);
    expect(loaded).toMatchObject({ vocabSize: tokenizer.vocabSize, eosId: tokenizer.eosId });
    expect(loaded?.encode(sample)).toEqual(tokenizer.encode(sample));
  });
});

/** Merges of ASCII text by recounting everything, as tokenizer.json writes them; `tokens` at most beyond the bytes. */
function learnSlowly(text: string, tokens: number): string[] {
  let words = [...text.matchAll(wordPattern)].map(([word]) => word.split(""));
  const ids = Array.from({ length: 256 }, (_, b) => String.fromCharCode(b));
  const merges = new Set<string>();
  while (ids.length < 256 + tokens) {
    const counts = new Map<string, { a: string; b: string; n: number }>();
    for (const word of words)
      for (const [i, a] of word.slice(0, -1).entries()) {
        const b = word[i + 1]!;
        counts.set(`${a}|${b}`, { a, b, n: (counts.get(`${a}|${b}`)?.n ?? 0) + 1 });
      }
    const [best] = [...counts.values()].filter(({ n }) => n > 1).sort((x, y) => y.n - x.n || ids.indexOf(x.a) - ids.indexOf(y.a) || ids.indexOf(x.b) - ids.indexOf(y.b));
    if (best === undefined) break;
    const { a, b } = best;
    merges.add([a, b].map((token) => token.replaceAll(" ", "\u0120")).join(" "));
    if (!ids.includes(a + b)) ids.push(a + b);
    words = words.map((word) => {
      const out: string[] = [];
      for (let i = 0; i < word.length; i++) out.push(word[i] === a && word[i + 1] === b ? word[i]! + word[++i]! : word[i]!);
      return out;
    });
  }
  return [...merges];
}

describe("byte pairs", () => {
  it("learns the merges that counting by hand gives, ties by the lower ids", () => {
    // Words: "ab" x3, " ab" x2, " cd" x2, "abc" x1. "ab" occurs 6 times and becomes 256. Then there are two each of (32, 99),
    // (32, 256) and (99, 100): " c" becomes 257, " ab" 258, and (257, 100) " cd" 259.
    const tokenizer = trainBytePairTokenizer(["ab", "ab", "ab ab cd", "abc", " ab cd"], { vocab: 1000 });
    expect(tokenizer.vocabSize).toBe(261);
    expect(tokenizer.toJSON()).toMatchObject({ model: { merges: ["a b", "\u0120 c", "\u0120 ab", "\u0120c d"] } });
  });

  it("learns what counting everything again after each merge gives", () => {
    const text = fc.array(fc.constantFrom("a", "b", "ab", "ba", "aa", "abc", " ", " a"), { minLength: 1, maxLength: 80 }).map((a) => a.join(""));
    fc.assert(
      fc.property(text, fc.integer({ min: 257, max: 275 }), (corpus, vocab) => {
        const { model } = trainBytePairTokenizer([corpus], { vocab }).toJSON() as { model: { merges: string[] } };
        expect(model.merges).toEqual(learnSlowly(corpus, vocab - 257));
      }),
      { numRuns: 300 },
    );
  });

  it("depends on counts alone, not on the order of the texts", () => {
    const lines = sample.split(/(?<=\n)(?=\S)/);
    expect(trainBytePairTokenizer(lines.toReversed(), { vocab: 500 }).toJSON()).toEqual(trainBytePairTokenizer(lines, { vocab: 500 }).toJSON());
  });

  it("has the vocabulary asked for, the end of text last; shortens text", () => {
    expect([trained.vocabSize, trained.eosId]).toEqual([700, 699]);
    expect(trained.encode(source).length).toBeLessThan(source.length / 2);
    expect(trained.decode([104, 699, 105, 5000])).toBe("hi");
    expect([...trained.encode("<|endoftext|>")]).not.toContain(699);
  });

  it("applies merges by rank, leftmost first, on long words too", () => {
    const tokenizer = new BytePairTokenizer(["a b", "a a", "ab aa", "b a"]);
    expect([...tokenizer.encode("aaabab")]).toEqual([257, 256, 256]);
    expect([...tokenizer.encode("abaa")]).toEqual([258]);
    const start = performance.now();
    expect(tokenizer.encode("a".repeat(300_001))).toHaveLength(150_001);
    expect(performance.now() - start).toBeLessThan(20_000); // half a second on an idle core; looking for each merge from the beginning takes minutes
  });

  it.each([256, 0, -1, 300.5, NaN, 2 ** 21])("refuses a vocabulary of %s", (vocab) => {
    expect(() => trainBytePairTokenizer(["x"], { vocab })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE" }));
  });
  it("says that words are too long", () => expect(() => trainBytePairTokenizer("x".repeat(257), { vocab: 300 })).toThrow(/no word of at most 256 bytes/));

  it("refuses to learn from nothing", () => {
    expect(() => trainBytePairTokenizer([""], { vocab: 300 })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA" }));
  });
});

describe("characters", () => {
  const tokenizer = characterTokenizer(["b\u00e9a\n", "1\ud83d\ude00 b"]);
  const folder = saved(tokenizer);

  it("numbers characters by code point", () => {
    expect(tokenizer.vocabSize).toBe(7);
    expect([...tokenizer.encode("\n 1ab\u00e9\ud83d\ude00")]).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it("agrees with @huggingface/tokenizers and with itself loaded", () => {
    const peer = library(folder);
    const loaded = loadTokenizer(folder);
    expect(loaded).toBeInstanceOf(CharacterTokenizer);
    const known = fc.array(fc.constantFrom("b", "\u00e9", "a", "\n", "1", "\ud83d\ude00", " "), { minLength: 1, maxLength: 50 }).map((a) => a.join(""));
    fc.assert(
      fc.property(known, (text) => {
        const ids = [...tokenizer.encode(text)];
        expect(ids).toEqual(peer.encode(text, { add_special_tokens: false }).ids);
        expect([...(loaded?.encode(text) ?? [])]).toEqual(ids);
        expect(peer.decode(ids, { clean_up_tokenization_spaces: false })).toBe(text);
        expect(pieces(tokenizer, ids).join("")).toBe(text);
      }),
    );
  });

  it("names a character that it does not know", () => {
    expect(() => tokenizer.encode("abz")).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringContaining('"z" is not among') }));
  });
});

describe("published tokenizer files", () => {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  /** Written by hand in Mixtral's manner: spaces as U+2581, unknown characters as bytes, a beginning-of-sequence token. */
  const bytesInHex = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);
  const vocab = Object.fromEntries(["<unk>", "<s>", "</s>", ...bytesInHex, "\u2581", "a", "b", "\u2581a", "ab", "<", "s", ">"].map((token, i) => [token, i]));
  const file = {
    version: "1.0",
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, ...flags, special: true })).concat([{ id: 267, content: "<tool>", ...flags, special: false }]),
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "\u2581" }, { type: "Replace", pattern: { String: " " }, content: "\u2581" }] },
    pre_tokenizer: null,
    post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }], pair: [], special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } } },
    decoder: { type: "Sequence", decoders: [{ type: "Replace", pattern: { String: "\u2581" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }, { type: "Strip", content: " ", start: 1, stop: 0 }] },
    model: { type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: true, vocab, merges: ["\u2581 a", "a b"] },
  };
  const write = (content: unknown, config: unknown = { bos_token: "<s>", eos_token: { content: "</s>" }, unk_token: "<unk>" }) => {
    const folder = mkdtempSync(join(root, "hf-"));
    writeFileSync(join(folder, "tokenizer.json"), typeof content === "string" ? content : JSON.stringify(content));
    writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
    return folder;
  };
  const folder = write(file);
  const tokenizer = loadTokenizer(folder);

  it("knows special ids and what comes before a text", () => {
    expect(tokenizer).toBeInstanceOf(HuggingFaceTokenizer);
    expect(tokenizer).toMatchObject({ vocabSize: 268, bosId: 1, eosId: 2, padId: undefined, prefix: [1] });
  });

  it("never makes a special token of a text, but an ordinary added one", () => {
    const [space, lt, s, gt] = ["\u2581", "<", "s", ">"].map((token) => vocab[token]);
    expect([...(tokenizer?.encode("<s>") ?? [])]).toEqual([space, lt, s, gt]);
    expect([...(tokenizer?.encode("<tool>") ?? [])]).toEqual([267]);
    expect(tokenizer?.decode([1, space!, lt!, s!, gt!, 2, 99_999])).toBe("<s>");
  });

  it("refuses a text that the vocabulary itself turns into a special token", () => {
    const bad = loadTokenizer(write({ ...file, normalizer: null, model: { ...file.model, ignore_merges: true } }));
    expect(() => bad?.encode("<s>")).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringContaining("<s>") }));
  });

  it("streams what decode gives, whatever the tokens", () => {
    const text = "a ab \u4e2d\ud83d\ude00 b<s>a";
    const ids = tokenizer?.encode(text) ?? [];
    expect(tokenizer?.decode(ids)).toBe(text);
    const parts = pieces(tokenizer!, ids);
    expect(parts.join("")).toBe(text);
    for (const part of parts) expect(part).not.toMatch(/\ufffd|\p{Surrogate}/u);
    const printable = fc.array(fc.oneof(fc.integer({ min: 259, max: 266 }), fc.constantFrom(...[0xe4, 0xb8, 0xad, 0xff, 0x41].map((b) => b + 3))), { maxLength: 60 });
    fc.assert(fc.property(printable, (tokens) => { expect(pieces(tokenizer!, tokens).join("")).toBe(tokenizer?.decode(tokens)); }));
  });

  it("streams bytes that are no text in linear time, as decode has them", () => {
    const bytes = fc.array(fc.constantFrom(...[0xff, 0xe4, 0xb8, 0xf0, 0x9f, 0x80].map((b) => b + 3)), { minLength: 40, maxLength: 120 });
    fc.assert(fc.property(bytes, (tokens) => { expect(pieces(tokenizer!, tokens).join("")).toBe(tokenizer?.decode(tokens)); }));
    const start = process.cpuUsage().user;
    expect(pieces(tokenizer!, Array.from({ length: 2000 }, () => 0xff + 3)).join("")).toBe("\ufffd".repeat(2000));
    expect(process.cpuUsage().user - start).toBeLessThan(5e6);
  });

  it("is saved as it was", () => {
    const copy = join(root, "copy");
    mkdirSync(copy);
    tokenizer?.save(copy);
    expect(json(copy, "tokenizer.json")).toEqual(file);
    expect(readdirSync(copy).toSorted()).toEqual(["tokenizer.json", "tokenizer_config.json"]);
  });

  it("stops a pattern that would take exponential time", () => {
    const hostile = loadTokenizer(write({ ...file, normalizer: null, pre_tokenizer: { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated", invert: false } }));
    expect(() => hostile?.encode(`${"a".repeat(60)}b`)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED" })); // or would not end while the test may run
  });

  it.each<[string, unknown, string]>([
    ["cut", JSON.stringify(file).slice(0, -9), "tokenizer.json"],
    ["an array", [], "expected an object"],
    ["without model", { ...file, model: undefined }, "model"],
    ["with a vocabulary of strings", { ...file, model: { ...file.model, vocab: { a: "1" } } }, "model.vocab"],
    ["with a negative id", { ...file, model: { ...file.model, vocab: { a: -1 } } }, "model.vocab"],
    ["with a negative unknown id", { ...file, model: { type: "Unigram", unk_id: -1, vocab: [["<unk>", 0], ["a", -1]] } }, "model.unk_id"],
    ["with a huge id", { ...file, added_tokens: [{ id: 2 ** 40, content: "x" }] }, "added_tokens.0.id"],
    ["with an empty added token", { ...file, added_tokens: [{ id: 1, content: "" }] }, "added_tokens.0.content"],
    ["with an unknown normaliser", { ...file, normalizer: { type: "Nonsense" } }, "Nonsense"],
    ["with merges of numbers", { ...file, model: { ...file.model, merges: [1] } }, "tokenizer.json"],
    ["with a duplicate token", JSON.stringify(file).replace('"ab":263', '"a":263'), "model.vocab.a: duplicate key"],
  ])("refuses a file %s", (_, content, message) => {
    const bad = write(content);
    expect(() => loadTokenizer(bad)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringContaining(message) }));
  });

  it("is undefined where there is no tokenizer.json", () => {
    expect(loadTokenizer(root)).toBeUndefined();
  });
});

const shared = new URL("../../../shared/data/", import.meta.url).pathname;
describe.skipIf(!existsSync(shared))("files of ../shared/data (skipped where it is absent)", () => {
  const olmo = mkdtempSync(join(root, "olmo-"));
  cpSync(join(shared, "tokenizers/olmoe/allenai_gpt-neox-olmo-dolma-v1_5.json"), join(olmo, "tokenizer.json"), { recursive: true });
  it.each([
    ["tinystories-656k-hf", join(shared, "tinystories-656k-hf")],
    ["olmoe", olmo],
  ])("%s reads its own text back, at once and token by token", (_, folder) => {
    const tokenizer = loadTokenizer(folder);
    const text = "Once upon a time, there was a <|endoftext|> dog.\n  It said: \"Hi!\" na\u00efve \ud83d\ude00 </s>";
    const ids = tokenizer?.encode(text) ?? [];
    expect(ids.length).toBeGreaterThan(10);
    expect(Math.max(...Array.from(ids))).toBeLessThan(tokenizer?.vocabSize ?? 0);
    expect(pieces(tokenizer!, ids).join("")).toBe(tokenizer?.decode(ids));
    if (folder === olmo) expect(tokenizer?.decode(ids)).toBe(text);
  });
});
