import { Heap } from "./heap.js";

/** Tokens at most: ids, and pairs of ids, stay exact integers. */
export const maxVocab = 2 ** 20;
export const pairKey = (a: number, b: number): number => a * maxVocab + b;

/** Which neighbouring tokens become one. */
export interface Merges {
  /** The merge of `a` and `b`, if there is one. */
  find(a: number, b: number): number | undefined;
  /** Merges of lower rank come first: an integer below 2^21. */
  rank(merge: number): number;
  /** The token that it makes. */
  token(merge: number): number;
}

/** Applies to `ids` the merge of lowest rank, the leftmost of equals, until none is left (Sennrich et al. 2016). O(n log n). */
export function mergePairs(ids: Int32Array, merges: Merges): Int32Array {
  const n = ids.length;
  // A merged token lives where its first part was; next and previous skip the parts that it swallowed, whose `next` becomes 0.
  const next = Int32Array.from(ids, (_, i) => i + 1);
  const previous = Int32Array.from(ids, (_, i) => i - 1);
  const mergeAt = (at: number) => (at < 0 || next[at] >= n ? undefined : merges.find(ids[at], ids[next[at]]));
  const queue = new Heap<number>((a, b) => a < b);
  const enqueue = (at: number) => {
    const merge = mergeAt(at);
    if (merge !== undefined) queue.push(merges.rank(merge) * 2 ** 32 + at);
  };
  for (let at = 0; at < n; at++) enqueue(at);
  for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
    const at = key % 2 ** 32;
    const merge = next[at] === 0 ? undefined : mergeAt(at);
    if (merge === undefined || merges.rank(merge) !== Math.floor(key / 2 ** 32)) continue; // one of the two was merged since
    const swallowed = next[at];
    ids[at] = merges.token(merge);
    next[at] = next[swallowed];
    next[swallowed] = 0;
    if (next[at] < n) previous[next[at]] = at;
    enqueue(previous[at]);
    enqueue(at);
  }
  return ids.filter((_, at) => next[at] > 0);
}

/** Words kept with their tokens; text repeats itself. */
const cacheSize = 1e5;
const cachedLength = 64;

/** `encode`, remembering short words. */
export function remembering(encode: (word: string) => Int32Array): (word: string) => Int32Array {
  const known = new Map<string, Int32Array>();
  return (word) => {
    const found = known.get(word);
    if (found !== undefined) return found;
    const tokens = encode(word);
    if (word.length > cachedLength) return tokens;
    if (known.size >= cacheSize) known.clear();
    known.set(word, tokens);
    return tokens;
  };
}

/** Token ids as they come. */
export class IdList {
  private ids = new Int32Array(64);
  private length = 0;

  push(tokens: ArrayLike<number>): void {
    if (this.length + tokens.length > this.ids.length) {
      const grown = new Int32Array(2 * this.ids.length + tokens.length);
      grown.set(this.ids);
      this.ids = grown;
    }
    this.ids.set(tokens, this.length);
    this.length += tokens.length;
  }

  all(): Int32Array {
    return this.ids.slice(0, this.length);
  }
}
