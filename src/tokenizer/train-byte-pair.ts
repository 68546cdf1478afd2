import { check } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { byteCharacters } from "./byte-level.js";
import { BytePairTokenizer, wordPattern } from "./byte-pair.js";
import { Heap } from "./heap.js";
import { maxVocab, pairKey } from "./merge.js";

export interface BytePairOptions {
  /** Tokens in all: 256 bytes, the merges and the end of text. Fewer if the text has no pair left that occurs twice. */
  vocab: number;
  /** Special token that separates documents; default "<|endoftext|>". */
  endOfText?: string | undefined;
}

/** Longer words are data, not language: they would teach nothing and cost the square of their length. */
const longestWord = 256;

interface Word {
  tokens: number[];
  count: number;
}

/** Two neighbouring tokens. */
interface Pair {
  a: number;
  b: number;
  /** In all words. */
  count: number;
  /** The count with which it stands in the queue; 0 if it does not. */
  queued: number;
  /** Its string may arise again, from another merge, after its own. */
  merged: boolean;
  /** Words that hold the pair, or once held it. */
  words: Set<Word>;
}

/** A pair as it stood when it was queued. */
interface Candidate {
  pair: Pair;
  count: number;
}

/**
 * Trains byte-level BPE (Sennrich et al. 2016): merges the most frequent pair of tokens within words, of equally frequent ones
 * that with the lowest ids, again and again. `texts`: one text, or several. Throws ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_DATA.
 */
export function trainBytePairTokenizer(texts: string | Iterable<string>, options: BytePairOptions): BytePairTokenizer {
  checkOptions("train tokenizer", options, { vocab: true, endOfText: true });
  const { vocab, endOfText = "<|endoftext|>" } = options;
  check(
    Number.isInteger(vocab) && vocab >= 257 && vocab <= maxVocab,
    "ERR_SWITCHYARD_USAGE",
    () => `train tokenizer: expected a vocabulary of 257 (the bytes and the end of text) to ${maxVocab}, got ${show(vocab)}`,
  );
  const words = countWords(typeof texts === "string" ? [texts] : texts);
  check(words.length > 0, "ERR_SWITCHYARD_DATA", () => `train tokenizer: the text has no word of at most ${longestWord} bytes to learn from; give more text, or take the bytes as tokens`);
  const pairs = new PairTable();
  for (const word of words) pairs.add(word, 1);
  pairs.queueGrown();

  const merges: string[] = [];
  const names = [...byteCharacters];
  const ids = new Map(names.map((name, id) => [name, id]));
  while (names.length < vocab - 1) {
    const pair = pairs.mostFrequent();
    if (pair === undefined) break;
    const { a, b } = pair;
    if (!pair.merged) merges.push(`${names[a]} ${names[b]}`);
    pair.merged = true;
    const name = `${names[a]}${names[b]}`;
    const id = ids.get(name) ?? names.push(name) - 1;
    ids.set(name, id);
    for (const word of pair.words) {
      pairs.add(word, -1);
      word.tokens = mergePair(word.tokens, a, b, id);
      pairs.add(word, 1);
    }
    pairs.queueGrown();
  }
  return new BytePairTokenizer(merges, endOfText);
}

function countWords(texts: Iterable<string>): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) for (const [word] of text.matchAll(wordPattern)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const encoder = new TextEncoder();
  return Array.from(counts, ([word, count]) => ({ tokens: Array.from(encoder.encode(word)), count })).filter(({ tokens }) => tokens.length <= longestWord);
}

/** Left to right; a run of three of the same token merges its first two. */
function mergePair(tokens: readonly number[], a: number, b: number, id: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const isPair = tokens[i] === a && tokens[i + 1] === b;
    out.push(isPair ? id : (tokens[i] as number));
    if (isPair) i++;
  }
  return out;
}

/**
 * Counts of all pairs, and a queue of them that is put right lazily: counts that fell since are noticed when their turn
 * comes, counts that rose are queued again.
 */
class PairTable {
  private readonly pairs = new Map<number, Pair>();
  private readonly touched = new Set<Pair>();
  private readonly queue = new Heap<Candidate>((x, y) => (y.count - x.count || x.pair.a - y.pair.a || x.pair.b - y.pair.b) < 0);

  /** Counts the pairs of `word` in (sign 1) or out (sign -1). */
  add(word: Word, sign: 1 | -1): void {
    const { tokens, count } = word;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const [a, b] = [tokens[i] as number, tokens[i + 1] as number];
      const key = pairKey(a, b);
      let pair = this.pairs.get(key);
      if (pair === undefined) this.pairs.set(key, (pair = { a, b, count: 0, queued: 0, merged: false, words: new Set() }));
      pair.count += sign * count;
      if (sign > 0) {
        pair.words.add(word);
        this.touched.add(pair);
      }
    }
  }

  queueGrown(): void {
    for (const pair of this.touched) if (pair.count > pair.queued) this.enqueue(pair);
    this.touched.clear();
  }

  /** The pair to merge next; undefined when none occurs twice. */
  mostFrequent(): Pair | undefined {
    for (let next = this.queue.pop(); next !== undefined; next = this.queue.pop()) {
      const { pair, count } = next;
      if (count !== pair.queued) continue; // queued again since with more
      pair.queued = 0;
      if (pair.count === count) return pair;
      this.enqueue(pair);
    }
    return undefined;
  }

  private enqueue(pair: Pair): void {
    if (pair.count < 2) return;
    pair.queued = pair.count;
    this.queue.push({ pair, count: pair.count });
  }
}
