import type { Tensor } from "../../tensor/tensor.js";
import type { IndexerDims } from "../mixer-ops.js";
import { floats } from "./arrays.js";

export function lightningIndexer(bias: Tensor, q: Tensor, k: Tensor, weights: Tensor, dims: IndexerDims): void {
  const O = floats(bias).fill(-Infinity);
  const [Q, K, W] = [floats(q), floats(k), floats(weights)];
  const { batch, queries, keys, keyStride, heads, headDim, topK } = dims;
  const scores = new Float64Array(keys);
  for (let row = 0; row < batch * queries; row++) {
    const seen = keys - queries + (row % queries) + 1;
    const atK = Math.floor(row / queries) * keyStride * headDim;
    scores.fill(-Infinity);
    for (let j = 0; j < seen; j++) {
      let score = 0;
      for (let h = 0; h < heads; h++) {
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += Q[(row * heads + h) * headDim + i] * K[atK + j * headDim + i];
        score += W[row * heads + h] * Math.max(dot, 0);
      }
      scores[j] = score >= -Number.MAX_VALUE ? score : -Number.MAX_VALUE; // NaN counts as the least
    }
    const chosen = seen <= topK ? Array.from({ length: seen }, (_, j) => j) : bestFirst(scores, topK).slice(0, topK);
    for (const j of chosen) O[row * keys + j] = 0;
  }
}

/**
 * The indices of `scores`, the k best in front, as C++'s nth_element orders them (introselect, Musser 1997, without its limit of depth): of
 * equals it leaves in front those that PyTorch's topk chooses on a CPU.
 */
function bestFirst(scores: Float64Array, k: number): number[] {
  const x = Array.from(scores, (_, i) => i);
  const better = (a: number, b: number) => scores[x[a]] > scores[x[b]];
  const swap = (a: number, b: number) => ([x[a], x[b]] = [x[b], x[a]]);
  let first = 0;
  let last = x.length;
  while (last - first > 3) {
    // The median of three becomes the pivot, which stands at `first`.
    const [a, b, c] = [first + 1, first + Math.floor((last - first) / 2), last - 1];
    if (better(a, b)) swap(first, better(b, c) ? b : better(a, c) ? c : a);
    else swap(first, better(a, c) ? a : better(b, c) ? c : b);
    let low = first + 1;
    let high = last;
    for (;;) {
      while (better(low, first)) low++;
      do high--;
      while (better(first, high));
      if (low >= high) break;
      swap(low++, high);
    }
    if (low < k) first = low;
    else last = low;
  }
  for (let i = first + 1; i < last; i++) for (let j = i; j > first && better(j, j - 1); j--) swap(j, j - 1);
  return x;
}
