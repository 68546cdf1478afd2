import type { Tape } from "../../autograd/tape.js";
import { mul, scale, sum, unary } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { minus, plus, tiny } from "../parametric.js";

/**
 * Entropy loss: mean_t H(p_t) - H(mean_t p_t), in nats, one element; the negative mutual information of token and
 * expert. It pushes the entropy of each token's probabilities down (decided) and that of their mean up (balanced), as the
 * local and global losses of LIMoE (Mustafa et al. 2022, arXiv 2206.02770) do together. probabilities [T,E], rows summing to 1.
 * Minimum -ln E (each token sure, all experts equally used), maximum 0 (all tokens alike, whether collapsed or undecided).
 */
export function entropyLoss(tape: Tape, probabilities: Tensor): Tensor {
  const tokens = probabilities.rows;
  const marginal = scale(tape, sum(tape, probabilities, "columns"), 1 / tokens);
  return minus(tape, negativeEntropy(tape, marginal), scale(tape, negativeEntropy(tape, probabilities), 1 / tokens));
}

/** Sum of p ln p over all elements. */
function negativeEntropy(tape: Tape, p: Tensor): Tensor {
  return sum(tape, mul(tape, p, unary(tape, "log", plus(tape, p, tiny))), "all");
}
