import { check } from "../errors.js";
import { Heap } from "./heap.js";
import { bpeModel, byteStream, type DecodeStream, saveTokenizer, type Tokenizer, tokenizerJson } from "./tokenizer.js";

/** Words as GPT-2 cuts them (Radford et al. 2019); no token crosses their borders. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Tokens at most: ids and pairs of ids stay exact integers. */
export const maxVocab = 2 ** 20;
const pairKey = (a: number, b: number): number => a * maxVocab + b;

/** The printable character that stands for each byte in a tokenizer.json (GPT-2's table): itself, or the next free one from U+0100 on. */
const byteCharacters = (() => {
  let next = 256;
  const isPrintable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b !== 173);
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : next++));
})();

/** Words kept with their tokens; text repeats itself. */
const cacheSize = 1e5;
const cachedLength = 64;

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
  /** As in tokenizer.json: the bytes of a token as `byteCharacters`. */
  private readonly names: string[] = [...byteCharacters];
  private readonly bytes: Uint8Array[] = byteCharacters.map((_, b) => Uint8Array.of(b));
  /** Pair -> rank of its merge. */
  private readonly ranks = new Map<number, number>();
  /** Rank -> id of the merged token. */
  private readonly merged: number[] = [];
  private readonly words = new Map<string, Int32Array>();
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
    this.vocabSize = this.names.length + (endOfText === undefined ? 0 : 1);
  }

  encode(text: string): Int32Array {
    if (this.merges.length === 0) return Int32Array.from(this.encoder.encode(text));
    let ids = new Int32Array(16 + (text.length >> 1));
    let length = 0;
    for (const [word] of text.matchAll(wordPattern)) {
      const tokens = this.words.get(word) ?? this.encodeWord(word);
      if (length + tokens.length > ids.length) {
        const grown = new Int32Array(2 * ids.length + tokens.length);
        grown.set(ids);
        ids = grown;
      }
      for (const token of tokens) ids[length++] = token;
    }
    return ids.slice(0, length);
  }

  /** Applies the merge of lowest rank, the leftmost of equals, until none is left. */
  private encodeWord(word: string): Int32Array {
    const ids = Int32Array.from(this.encoder.encode(word));
    const n = ids.length;
    // A merged token lives where its first byte was; next and previous skip the bytes that it swallowed, whose ids become -1.
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const rankAt = (at: number) => (at < 0 || next[at] >= n ? undefined : this.ranks.get(pairKey(ids[at], ids[next[at]])));
    const queue = new Heap<number>((a, b) => a < b);
    const enqueue = (at: number) => {
      const rank = rankAt(at);
      if (rank !== undefined) queue.push(rank * 2 ** 32 + at);
    };
    for (let at = 0; at < n; at++) enqueue(at);
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const at = key % 2 ** 32;
      const rank = Math.floor(key / 2 ** 32);
      if (ids[at] < 0 || rankAt(at) !== rank) continue; // one of the two was merged since
      const swallowed = next[at];
      ids[at] = this.merged[rank] as number;
      ids[swallowed] = -1;
      next[at] = next[swallowed];
      if (next[at] < n) previous[next[at]] = at;
      enqueue(previous[at]);
      enqueue(at);
    }
    const tokens = ids.filter((id) => id >= 0);
    if (word.length <= cachedLength) {
      if (this.words.size >= cacheSize) this.words.clear();
      this.words.set(word, tokens);
    }
    return tokens;
  }

  decode(ids: ArrayLike<number>): string {
    const stream = this.decodeStream();
    return Array.from(ids, (id) => stream.push(id)).join("") + stream.end();
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
    saveTokenizer(folder, this, this.endOfText);
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
