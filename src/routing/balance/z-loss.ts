import type { Tape } from "../../autograd/tape.js";
import { logSumExp, mean, unary } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";

/**
 * Router z-loss of one layer: mean over tokens of logsumexp(logits)^2, one element (ST-MoE, Zoph et al. 2022,
 * arXiv 2202.08906, eq. 5; coefficient 1e-3 there). Keeps logits small. Minimum 0, unbounded above; (ln E)^2 for zero logits.
 */
export function zLoss(tape: Tape, logits: Tensor): Tensor {
  return mean(tape, unary(tape, "square", logSumExp(tape, logits)));
}
