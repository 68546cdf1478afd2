import type { Tape } from "../autograd/tape.js";
import { add, gatherColumns, gatherRows, reshape, softmax } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Weights [T,K] of sparsemixer (Liu et al. 2024, arXiv 2409.12136) as Phi-3.5-MoE computes them when it is not trained: with m the logit of
 * the j-th expert, the best of those not chosen before, its weight is its share in the softmax over the experts i left whose
 * (m - l_i) / max(|l_i|, m) is at most 2 * closeness. Differentiable in the logits [T,E]; `experts` i32 [T,K], best first.
 */
export function sparseMixer(tape: Tape, logits: Tensor, experts: Tensor, closeness: number): Tensor {
  const { engine } = tape;
  const [T, K, E] = [experts.rows, experts.cols, logits.cols];
  const values = engine.read(logits);
  const chosen = engine.read(experts);
  const mask = new Float64Array(T * K * E);
  for (let t = 0; t < T; t++) {
    for (let j = 0; j < K; j++) {
      const best = values[t * E + (chosen[t * K + j] as number)] as number;
      for (let e = 0; e < E; e++) {
        const logit = values[t * E + e] as number;
        const far = (best - logit) / Math.max(Math.abs(logit), best) > 2 * closeness;
        if (far || chosen.subarray(t * K, t * K + j).includes(e)) mask[(t * K + j) * E + e] = -Infinity;
      }
    }
  }
  const repeated = gatherRows(tape, logits, tape.constant([T * K], Int32Array.from({ length: T * K }, (_, i) => Math.floor(i / K)), "i32"));
  const shares = softmax(tape, add(tape, repeated, tape.constant([T * K, E], mask)));
  return reshape(tape, gatherColumns(tape, shares, reshape(tape, experts, [T * K, 1])), [T, K]);
}
