import { check } from "../errors.js";
import { IdList, maxVocab, mergePairs, type Merges, pairKey, remembering } from "./merge.js";
import { bpeModel, byteStream, type ChatTemplates, type DecodeStream, saveTokenizer, textOf, type Tokenizer, tokenizerJson } from "./tokenizer.js";

/** Words as GPT-2 cuts them (Radford et al. 2019); no token crosses their borders. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The printable character that stands for each byte in a tokenizer.json (GPT-2's table): itself, or the next free one from U+0100 on. */
export const byteCharacters: readonly string[] = (() => {
  let next = 256;
  const isPrintable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b !== 173);
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : next++));
})();

/**
 * Byte-level BPE: ids 0 to 255 are the bytes, then one id per merge that makes a new string of bytes, then `endOfText`.
 * Without merges every byte is a token. `merges` are pairs of ids, the first applied first (Sennrich et al. 2016).
 */
export class BytePairTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId = undefined;
  readonly eosId: number | undefined;
  readonly padId = undefined;
  readonly prefix = [];
  readonly special: ReadonlyMap<string, number>;
  chatTemplates: ChatTemplates | undefined;
  /** As in tokenizer.json: the bytes of a token as `byteCharacters`. */
  private readonly names: string[] = [...byteCharacters];
  private readonly bytes: Uint8Array[] = byteCharacters.map((_, b) => Uint8Array.of(b));
  /** Pair -> rank of its merge. */
  private readonly ranks = new Map<number, number>();
  /** Rank -> id of the merged token. */
  private readonly merged: number[] = [];
  private readonly pairMerges: Merges = {
    find: (a, b) => this.ranks.get(pairKey(a, b)),
    rank: (merge) => merge,
    token: (merge) => this.merged[merge] as number,
  };
  private readonly word = remembering((word) => mergePairs(Int32Array.from(this.encoder.encode(word)), this.pairMerges));
  private readonly encoder = new TextEncoder();

  constructor(
    private readonly merges: readonly (readonly [number, number])[],
    private readonly endOfText?: string,
  ) {
    const ids = new Map(this.names.map((name, id) => [name, id]));
    for (const [a, b] of merges) {
      const [left, right] = [this.names[a], this.names[b]];
      check(left !== undefined && right !== undefined, "ERR_SWITCHYARD_FORMAT", () => `tokenizer: merge of ${a} and ${b}: expected ids below ${this.names.length}`);
      const name = left + right;
      // Two merges may make the same string: "ab" + "c" and "a" + "bc".
      const id = ids.get(name) ?? this.names.push(name) - 1;
      ids.set(name, id);
      this.bytes[id] ??= Buffer.concat([this.bytes[a] as Uint8Array, this.bytes[b] as Uint8Array]);
      this.ranks.set(pairKey(a, b), this.merged.push(id) - 1);
    }
    check(this.names.length < maxVocab, "ERR_SWITCHYARD_FORMAT", () => `tokenizer: expected fewer than ${maxVocab} tokens, got ${this.names.length}`);
    this.eosId = endOfText === undefined ? undefined : this.names.length;
    this.special = new Map(endOfText === undefined ? [] : [[endOfText, this.names.length]]);
    this.vocabSize = this.names.length + (endOfText === undefined ? 0 : 1);
  }

  encode(text: string): Int32Array {
    if (this.merges.length === 0) return Int32Array.from(this.encoder.encode(text));
    const ids = new IdList();
    for (const [word] of text.matchAll(wordPattern)) ids.push(this.word(word));
    return ids.all();
  }

  decode(ids: ArrayLike<number>): string {
    return textOf(this.decodeStream(), ids);
  }

  decodeStream(): DecodeStream {
    return byteStream((id) => this.bytes[id]);
  }

  /** The tokenizer.json. */
  toJSON(): Record<string, unknown> {
    const { names, endOfText, eosId } = this;
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
    const merges = this.merges.map(([a, b]) => `${names[a]} ${names[b]}`);
    const vocab = Object.fromEntries(names.map((name, id) => [name, id]));
    const added = endOfText === undefined || eosId === undefined ? [] : [{ id: eosId, content: endOfText }];
    return tokenizerJson(added, { pre_tokenizer: byteLevel, decoder: byteLevel, model: bpeModel(vocab, merges) });
  }

  save(folder: string): void {
    saveTokenizer(folder, this, this.endOfText === undefined ? {} : { eos_token: this.endOfText }, this.chatTemplates);
  }

  /** The tokenizer that wrote a tokenizer.json of these merges, or undefined if none of ours can have. */
  static fromMerges(merges: readonly string[], endOfText: string | undefined): BytePairTokenizer | undefined {
    const ids = new Map(byteCharacters.map((name, id) => [name, id]));
    const pairs: [number, number][] = [];
    for (const merge of merges) {
      const [left = "", right = ""] = merge.split(" ");
      const [a, b] = [ids.get(left), ids.get(right)];
      if (a === undefined || b === undefined) return undefined;
      pairs.push([a, b]);
      if (!ids.has(left + right)) ids.set(left + right, ids.size);
    }
    return new BytePairTokenizer(pairs, endOfText);
  }
}
