import type { Tape } from "../../autograd/tape.js";
import { div, gatherColumns, scale, scatterColumns, sum, topK, unary } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { minus } from "../parametric.js";

/** Squared coefficient of variation, variance / mean^2, of x [E]: one element. 0 when all are equal, E - 1 when one has everything. */
function squaredVariation(tape: Tape, x: Tensor): Tensor {
  const total = sum(tape, x, "all");
  const deviation = minus(tape, x, scale(tape, total, 1 / x.size));
  return scale(tape, div(tape, sum(tape, unary(tape, "square", deviation), "all"), unary(tape, "square", total)), x.size);
}

/**
 * Importance loss (Shazeer et al. 2017, arXiv 1701.06538, eq. 6-7): CV^2 over experts of the summed gate values.
 * weights [T,K] and experts i32 [T,K] are the decision before any drop. Minimum 0, maximum E - 1 (all weight on one
 * expert; E/k - 1 when k experts share it equally). Weights that are constant, such as a single normalised one, have no gradient.
 */
export function importanceLoss(tape: Tape, weights: Tensor, experts: Tensor, numExperts: number): Tensor {
  return squaredVariation(tape, sum(tape, scatterColumns(tape, weights, experts, numExperts), "columns"));
}

export interface LoadEstimate {
  /** Logits without noise [T,E]. */
  clean: Tensor;
  /** Logits that the choice was made by [T,E]; may be `clean`. */
  logits: Tensor;
  /** Standard deviation of the noise: [T,E], or a constant for routers without one; Riquelme et al. 2021 take 1/E. */
  deviation: Tensor | number;
}

/**
 * Load loss (Shazeer et al. 2017, appendix A): CV^2 over experts of the smooth load, Load_i = sum over tokens of the
 * probability that i is among the k best if only its own noise were drawn again,
 * P = Phi((clean_i - kth largest of the other logits) / deviation_i). Needs k < E.
 * Minimum 0, maximum E/k - 1 with k experts that are surely chosen by all tokens. A router without noise is given a constant
 * deviation as if it had one; selection bias and group limits are ignored.
 */
export function loadLoss(tape: Tape, { clean, logits, deviation }: LoadEstimate, k: number): Tensor {
  const E = logits.cols;
  const best_TK1 = tape.engine.read(topK(tape, logits, k + 1));
  // The k-th largest without i is the (k+1)-th of all when i is one of the k best, otherwise the k-th.
  const rival_TE = Int32Array.from({ length: logits.size }, (_, i) => best_TK1[Math.floor(i / E) * (k + 1) + k - 1] as number);
  best_TK1.forEach((e, i) => {
    const t = Math.floor(i / (k + 1));
    if (i % (k + 1) < k) rival_TE[t * E + e] = best_TK1[t * (k + 1) + k] as number;
  });
  const lead = minus(tape, clean, gatherColumns(tape, logits, tape.constant(logits.shape, rival_TE, "i32")));
  const scaled = typeof deviation === "number" ? scale(tape, lead, 1 / deviation) : div(tape, lead, deviation);
  return squaredVariation(tape, sum(tape, unary(tape, "normal-cdf", scaled), "columns"));
}
