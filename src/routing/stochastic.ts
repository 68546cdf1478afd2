import type { Tape } from "../autograd/tape.js";
import { uniform } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Logits [T,E] plus Gumbel noise, in training only: their k largest are k experts drawn without replacement, each next
 * one with probability softmax(logits) among those left (Gumbel top-k, Kool et al. 2019, arXiv 1903.06059). For the
 * choice only: no gradient flows through it, and the weights are those of the logits without noise.
 */
export function gumbelLogits(tape: Tape, logits: Tensor): Tensor {
  if (!tape.training) return logits;
  const { engine } = tape;
  // A Gumbel variable is -log(-log u); u = 0 would never be chosen, not even where it must be.
  const noise = uniform(tape, logits.shape, 2 ** -24, 1);
  engine.unary("log", noise, noise);
  engine.unary("neg", noise, noise);
  engine.unary("log", noise, noise);
  engine.binary("sub", noise, logits, noise);
  return noise;
}
