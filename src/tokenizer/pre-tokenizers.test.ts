import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ggufTokenizer } from "./gguf.js";
import { ggufVocabulary } from "./gguf-writer.js";
import { preTokenizer, preTokenizerNames, splitWords } from "./pre-tokenizers.js";
import { trainBytePairTokenizer } from "./train-byte-pair.js";

const split = (name: string, text: string) => splitWords(text, preTokenizer(name, "test").patterns);
const pieces = fc.array(fc.oneof(fc.constantFrom(" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "Hello", "iPhone", "12345", "1", "!?", "...", "/", "\u4f60\u597d", "\u304b", "\u00e9", "e\u0301", "\ud55c", "\u{1f600}", "\ufeff", "\u0085", "\u00b2"), fc.string({ unit: "grapheme", maxLength: 3 })), { maxLength: 15 });

describe("pre-tokenizers", () => {
  // Worked out by hand from the patterns in the models' tokenizer.json files.
  it.each<[string, string, string[]]>([
    ["gpt-2", "I'll pay $1234,  OK\n\nso", ["I", "'ll", " pay", " $", "1234", ",", " ", " OK", "\n", "\n", "so"]],
    ["gpt-2", "I'LL", ["I", "'", "LL"]],
    ["starcoder", "a 123", ["a", " ", "1", "2", "3"]],
    ["falcon", "a<b 12345", ["a", "<", "b", " ", "123", "45"]],
    ["llama-bpe", "I'LL pay 1234 !\n\nso", ["I", "'LL", " pay", " ", "123", "4", " !\n\n", "so"]],
    ["qwen2", "12 a.b", ["1", "2", " a", ".b"]],
    ["qwen35", "e\u0301a", ["e\u0301a"]],
    ["qwen2", "e\u0301a", ["e", "\u0301a"]],
    ["tekken", "HelloWorld iPhone's 12/\n", ["Hello", "World", " i", "Phone", "'s", " ", "1", "2", "/\n"]],
    ["gpt-4o", "HelloWorld's 1234", ["Hello", "World's", " ", "123", "4"]],
    ["deepseek-llm", "a b\nc 123 \u4f60\u597d,d ", ["a", " b", "\n", "c", " ", "123", " ", "\u4f60\u597d", ",", "d", " "]],
    ["deepseek-coder", "x=12", ["x", "=", "1", "2"]],
    ["kimi-k2", "HelloWorld\u4f60\u597dabc 1234/\n", ["Hello", "World", "\u4f60\u597d", "abc", " ", "123", "4", "/\n"]],
    ["deepseek-v3", "x.map(1234)\u4f60\u597da", ["x", ".map", "(", "123", "4", ")", "\u4f60\u597d", "a"]],
    ["mellum2", "let x2 = 10", ["let", " x", "2", " =", " ", "1", "0"]],
    ["exaone-moe", "I'll go on. 12\n\n a e\u0301 /\n", ["I", "'ll", " go on", ".", " ", "1", "2", "\n\n", " a e\u0301", " /\n"]],
    ["afmoe", "1234567 ab12 \u4f60\u597d\u0e01\u0e02.x \u00b2", ["1", "234", "567", " ab", "12", " ", "\u4f60\u597d", "\u0e01\u0e02", ".x", " ", "\u00b2"]],
    ["tiny_aya", "HelloWorld's 1234567, 12345", ["Hello", "World's", " ", "1", "234", "567", ",", " ", "12", "345"]],
    // No border of a word behind these digits, so that they are cut from the left; what a border is was tried out with Hugging Face's tokenizers.
    ["tiny_aya", "1234_ 1234a 1234\u00b2 1234\u00b0", ["123", "4", "_", " ", "123", "4", "a", " ", "123", "4\u00b2", " ", "1", "234", "\u00b0"]],
  ])("%s cuts %j", (name, text, words) => {
    expect(split(name, text)).toEqual(words);
  });

  it("our own byte pairs are cut as gpt-2's, in the libraries of all languages: U+0085 is white space, U+FEFF is not", () => {
    const text = "!\u0085\u2014\ufeff!\ufeff\u2014 \u0085!".repeat(20);
    const tokenizer = trainBytePairTokenizer(text, { vocab: 300 });
    const words = split("gpt-2", text);
    expect(words.slice(0, 3)).toEqual(["!", "\u0085", "\u2014\ufeff!\ufeff\u2014"]);
    expect([...tokenizer.encode(text)]).toEqual(words.flatMap((word) => [...tokenizer.encode(word)]));
    const library = new (Library as new (json: object, config: object) => { encode(text: string): { ids: number[] } })(tokenizer.toJSON(), {});
    expect(library.encode(text).ids).toEqual([...tokenizer.encode(text)]);
    expect([...ggufTokenizer({ source: "test", entries: ggufVocabulary(tokenizer, tokenizer.vocabSize)! })!.encode(text)]).toEqual([...tokenizer.encode(text)]);
  });

  it.each(preTokenizerNames)("%s loses nothing, and takes linear time on hostile texts", (name) => {
    fc.assert(fc.property(pieces, (parts) => void expect(split(name, parts.join("")).join("")).toBe(parts.join(""))), { numRuns: 40 });
    for (const unit of [" ", "\n", " \n", "A", "a", "aA", "1", "'", ".", "\u4f60", "\u0301", "A\u0301", "\u00b2"]) {
      const text = `${unit.repeat(5e4)}x ${unit.repeat(5e4)}`;
      const start = process.cpuUsage().user;
      expect(split(name, text).join("")).toBe(text);
      expect(process.cpuUsage().user - start, unit).toBeLessThan(2e6);
    }
  });
});
