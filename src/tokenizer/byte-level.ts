import { check } from "../errors.js";
import { IdList, mergePairs, type Merges, pairKey, remembering } from "./merge.js";
import { type PreTokenizer, spelledOut, splitWords } from "./pre-tokenizers.js";
import { bpeModel } from "./tokenizer.js";
import { type VocabularyOptions, VocabularyTokenizer } from "./vocabulary.js";

interface ByteLevelOptions extends VocabularyOptions {
  preTokenizer: PreTokenizer;
  /** Pairs "a b" of token texts, the first applied first; undefined: the id of what a merge makes is its rank, as in tiktoken. */
  merges?: readonly string[] | undefined;
}

/** The printable character that stands for each byte in a tokenizer.json (GPT-2's table): itself, or the next free one from U+0100 on. */
export const byteCharacters: readonly string[] = (() => {
  let next = 256;
  const isPrintable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b !== 173);
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : next++));
})();

const byteOf = new Map(byteCharacters.map((character, byte) => [character, byte]));

/** Byte-level BPE over a published vocabulary (GPT-2, Llama 3, Qwen, DeepSeek, ...); its texts are in GPT-2's byte characters. */
export class ByteLevelTokenizer extends VocabularyTokenizer {
  private readonly byteIds: Int32Array;
  private readonly pairMerges: Merges;
  protected readonly word = remembering((word) => this.encodeWord(word));

  /** Throws ERR_SWITCHYARD_FORMAT. */
  constructor(private readonly options: ByteLevelOptions) {
    super(options);
    this.byteIds = Int32Array.from(byteCharacters, (character) => this.ids.get(character) ?? -1);
    this.pairMerges = options.merges === undefined ? this.mergesById() : this.mergesByRank(options.merges);
  }

  private mergesByRank(merges: readonly string[]): Merges {
    const { ids, vocabulary } = this;
    const ranks = new Map<number, number>();
    const tokens = new Int32Array(merges.length);
    for (const [rank, merge] of merges.entries()) {
      const space = merge.indexOf(" ", 1);
      const [left, right] = [merge.slice(0, space), merge.slice(space + 1)];
      const [a, b, token] = [ids.get(left), ids.get(right), ids.get(left + right)];
      check(space > 0 && a !== undefined && b !== undefined && token !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${vocabulary.source}: merge ${rank}, ${JSON.stringify(merge)}: expected two tokens that make a third`);
      if (!ranks.has(pairKey(a, b))) ranks.set(pairKey(a, b), rank);
      tokens[rank] = token;
    }
    return { find: (a, b) => ranks.get(pairKey(a, b)), rank: (merge) => merge, token: (merge) => tokens[merge] };
  }

  private mergesById(): Merges {
    return { find: (a, b) => this.ids.get(this.token(a) + this.token(b)), rank: (token) => token, token: (token) => token };
  }

  encode(text: string): Int32Array {
    const ids = new IdList();
    const part = (words: string) => splitWords(words, this.options.preTokenizer.patterns).forEach((word) => ids.push(this.word(word)));
    this.partition(text, part, (id) => ids.push([id]));
    return ids.all();
  }

  private encodeWord(word: string): Int32Array {
    const bytes = this.encoder.encode(word);
    if (this.options.preTokenizer.ignoreMerges || this.options.merges === undefined) {
      const whole = this.ids.get(Array.from(bytes, (byte) => byteCharacters[byte]).join(""));
      if (whole !== undefined) return Int32Array.of(whole);
    }
    const ids = Int32Array.from(bytes, (byte) => this.byteIds[byte]);
    const unknown = ids.indexOf(-1);
    check(unknown < 0, "ERR_SWITCHYARD_DATA", () => `encode: the vocabulary of ${this.vocabulary.source} has no token for byte ${bytes[unknown]}`);
    return mergePairs(ids, this.pairMerges);
  }

  protected bytes(_: number, token: string): Uint8Array {
    return Uint8Array.from(Array.from(token, (character) => byteOf.get(character) ?? 63));
  }

  protected json(vocab: Record<string, number>): Record<string, unknown> {
    const { preTokenizer, merges } = this.options;
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
    const splits = preTokenizer.sources.map((source) => ({ type: "Split", pattern: { Regex: spelledOut(source) }, behavior: "Isolated", invert: false }));
    const model = { ...bpeModel(vocab, merges ?? this.derivedMerges()), ignore_merges: preTokenizer.ignoreMerges || merges === undefined };
    return { pre_tokenizer: { type: "Sequence", pretokenizers: [...splits, byteLevel] }, decoder: byteLevel, model };
  }

  /** The merges behind ids that are ranks: what a token's bytes become when only merges before its own are applied. */
  private derivedMerges(): string[] {
    return [...this.ids].sort(([, a], [, b]) => a - b).flatMap(([token, id]) => {
      const merges = { ...this.pairMerges, find: (a: number, b: number) => { const merge = this.pairMerges.find(a, b); return merge !== undefined && merge < id ? merge : undefined; } };
      const parts = mergePairs(Int32Array.from(this.bytes(id, token), (byte) => this.byteIds[byte]), merges);
      return parts.length === 2 ? [Array.from(parts, (part) => this.token(part)).join(" ")] : [];
    });
  }
}
