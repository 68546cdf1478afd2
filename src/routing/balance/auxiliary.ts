import type { Tape } from "../../autograd/tape.js";
import { mul, scale, sum } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";

/**
 * The auxiliary load-balancing loss of one layer, E * sum_i f_i P_i, one element.
 *
 * switch (Fedus et al. 2021, arXiv 2101.03961, eq. 4, extended to k choices): f = counts of all choices / (kT).
 * Minimum 1 with a balanced router, maximum E/k when all tokens surely choose the same k experts.
 *
 * gshard (Lepikhin et al. 2020, arXiv 2006.16668): f = counts of first choices / T. Minimum 1, maximum E; it cannot
 * see a second choice that collapses.
 *
 * f is a constant (integer counts before any drop), so the gradient comes through P [E], the mean over tokens of
 * probabilities [T,E]. The value alone cannot tell a collapse: with a nearly uniform router it is near 1 whatever f is.
 * `counts` are those of one layer; pooling layers would let opposite collapses cancel.
 */
export function auxiliaryLoss(tape: Tape, probabilities: Tensor, counts: ArrayLike<number>): Tensor {
  const count_E = Array.from(counts);
  const total = count_E.reduce((a, b) => a + b, 0);
  const factor = count_E.length / (total * probabilities.rows);
  return scale(tape, sum(tape, mul(tape, sum(tape, probabilities, "columns"), tape.constant([count_E.length], count_E)), "all"), factor);
}
